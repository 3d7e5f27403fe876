"""The agents of distributed inference: rules, planners, and the head of those that learn."""

from __future__ import annotations

from functools import partial

from agents.distributed_inference.clairvoyant import clairvoyant_plan
from agents.distributed_inference.pairs.head import PairsHead
from agents.distributed_inference.planners import CoordinateDescentSolver, ViterbiSolver
from agents.distributed_inference.rules import (
    FixedPlaceSolver,
    GreedyBlockSolver,
    SequentialGreedySolver,
    SplitSolver,
)
from agents.entries import AgentEntry, solver_entry
from agents.heads.protocol import HeadEntry
from agents.planned_agent import PlannedAgent

AGENTS = {
    "deadline-descent": solver_entry(
        "plans all devices together in every round for the reward, as if the network stayed so",
        lambda scenario: CoordinateDescentSolver(scenario, sweeps=2, deadlines=True),
    ),
    "coordinate-descent": solver_entry(
        "plans all devices together in every round for the sum of delays, blind to deadlines",
        CoordinateDescentSolver,
    ),
    "sequential-greedy": solver_entry(
        "places one device after the other where its block costs all devices together least",
        SequentialGreedySolver,
    ),
    "viterbi": solver_entry(
        "plays each device's best plan as if it were alone: optimal without contention",
        ViterbiSolver,
    ),
    "greedy": solver_entry(
        "places each block where it is done soonest, blind to other devices and later blocks",
        GreedyBlockSolver,
    ),
    "neurosurgeon": solver_entry(
        "Neurosurgeon: splits once in the order of the layers, to the best server", SplitSolver
    ),
    "device-only": solver_entry(
        "leaves everything on the devices", lambda scenario: FixedPlaceSolver(on_edge=False)
    ),
    "edge-only": solver_entry(
        "sends everything to the nearest edge server",
        lambda scenario: FixedPlaceSolver(on_edge=True),
    ),
}
"""The agents, by and large from the best one to the worst one."""

REFERENCES = {
    "clairvoyant": AgentEntry(
        "knows the whole episode beforehand: plans by coordinate descent on what will be",
        lambda problem, seed: PlannedAgent(partial(clairvoyant_plan, problem)),
    ),
}

HEADS = {
    "pairs": HeadEntry("places, seen pair by pair, looking ahead to the task's end", PairsHead),
    "pairs-2": HeadEntry(
        "places, seen pair by pair, looking two blocks ahead", partial(PairsHead, foresight=2)
    ),
    "pairs-0": HeadEntry(
        "places, seen pair by pair, not looking ahead", partial(PairsHead, foresight=0)
    ),
}
