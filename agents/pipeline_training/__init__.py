"""What plays pipeline training: planners, rules, and the head of those that learn."""

from __future__ import annotations

from functools import partial

import numpy as np

from agents.entries import AgentEntry, solver_entry
from agents.heads.protocol import HeadEntry
from agents.pipeline_training.head import PlanHead
from agents.pipeline_training.lookahead import LookAheadSolver
from agents.pipeline_training.patience import (
    HysteresisSolver,
    PatienceSolver,
    tune_margin,
    tune_patience,
)
from agents.pipeline_training.pipedream import PipeDreamSolver
from agents.pipeline_training.rules import (
    BalancedSolver,
    KeepSolver,
    MyopicSolver,
    ReplanSolver,
    SingleDeviceSolver,
)
from agents.planned_agent import PlannedAgent
from agents.solver_agent import SolverAgent
from mec_gym.core.types import IntArray
from mec_gym.pipeline_training.exact import episode_optimum
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Slot

AGENTS = {
    "patience": AgentEntry(
        "worth most if the fleet stays so for H slots, H and the price of risk tuned",
        lambda problem, seed: SolverAgent(
            problem, PatienceSolver(problem.scenario, *tune_patience(problem))
        ),
    ),
    "hysteresis": AgentEntry(
        "keeps its plan until another one is faster by a tuned margin",
        lambda problem, seed: SolverAgent(
            problem, HysteresisSolver(problem.scenario, tune_margin(problem))
        ),
    ),
    "look-ahead-2": solver_entry(
        "plans two slots, with the departures that are announced",
        lambda scenario: LookAheadSolver(scenario, horizon=2),
    ),
    "look-ahead-6": solver_entry(
        "plans six slots, with the departures that are announced",
        lambda scenario: LookAheadSolver(scenario, horizon=6),
    ),
    "myopic": solver_entry("earns most in the slot at hand, moving included", MyopicSolver),
    "replan": solver_entry("fastest plan of every slot, whatever moving costs", ReplanSolver),
    "balanced": solver_entry(
        "plan of least period of every slot, by the program over subsets of devices",
        BalancedSolver,
    ),
    "pipedream": solver_entry(
        "PipeDream: least period of every slot, as if all devices were equal", PipeDreamSolver
    ),
    "keep": solver_entry("never moves a block unless its device has left", KeepSolver),
    "single-device": solver_entry("everything on the fastest device", SingleDeviceSolver),
}
"""The agents by name, better ones first by and large."""


def _best_actions(problem: PipelineTraining, trace: Slot) -> IntArray:
    return np.maximum(episode_optimum(trace, problem.scenario)[1], 0)


REFERENCES = {
    "clairvoyant": AgentEntry(
        "knows the whole episode beforehand: the exact optimum over all plans, by Viterbi",
        lambda problem, seed: PlannedAgent(partial(_best_actions, problem)),
    ),
}

HEADS = {
    "plans": HeadEntry(
        "how long a plan lasts and how often each device leaves; the best of all plans decides",
        PlanHead,
    ),
}
