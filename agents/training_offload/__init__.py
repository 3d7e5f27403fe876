"""Who plays training offload: solvers, rules, search, and the head of those that learn."""

from __future__ import annotations

from agents.entries import AgentEntry, solver_entry
from agents.heads.protocol import HeadEntry
from agents.solver_agent import SolverAgent
from agents.training_offload.energy_price import EnergyPriceSolver, tune_energy_price
from agents.training_offload.equal_budget import EqualBudgetSolver
from agents.training_offload.exact import ExactSolver
from agents.training_offload.head import BatteryValueHead, EnergyPriceHead
from agents.training_offload.random_split import RandomSplitSolver
from agents.training_offload.sdp import StochasticProgramSolver
from agents.training_offload.sparrow import SparrowSolver, TextbookSparrowSolver
from mec_gym.training_offload.exact import Resources

AGENTS = {
    "sdp": solver_entry(
        "best for reward + value of the battery left, by a stochastic dynamic program",
        StochasticProgramSolver,
    ),
    "price": AgentEntry(
        "best for delay + price * energy, one tuned price of energy for all tasks",
        lambda problem, seed: SolverAgent(
            problem, EnergyPriceSolver(problem.scenario, tune_energy_price(problem))
        ),
    ),
    "budget": solver_entry("exact optimum within battery / tasks left", EqualBudgetSolver),
    "exact": solver_entry("exact optimum of the task at hand, blind to later ones", ExactSolver),
    "sparrow": AgentEntry(
        "our sparrow search: a flock per pair of servers, 1 120 evaluations per task",
        lambda problem, seed: SolverAgent(problem, SparrowSolver(problem.scenario, seed=seed)),
    ),
    "sparrow-textbook": AgentEntry(
        "sparrow search as published: one flock, 1 120 evaluations per task",
        lambda problem, seed: SolverAgent(
            problem, TextbookSparrowSolver(problem.scenario, seed=seed)
        ),
    ),
    "end-cloud": solver_entry(
        "the paper's end-cloud scheme: optimal without edge servers",
        lambda scenario: ExactSolver(scenario, Resources(edge=False)),
    ),
    "end-edge": solver_entry(
        "the paper's end-edge scheme: optimal without the cloud",
        lambda scenario: ExactSolver(scenario, Resources(cloud=False)),
    ),
    "device-only": solver_entry(
        "everything stays on the device",
        lambda scenario: ExactSolver(scenario, Resources(edge=False, cloud=False)),
    ),
    "random-split": AgentEntry(
        "the paper's random scheme: Dirichlet split, random pair of servers",
        lambda problem, seed: SolverAgent(
            problem, RandomSplitSolver(problem.scenario.servers, seed)
        ),
    ),
}
"""Better ones first by and large."""

HEADS = {
    "price": HeadEntry(
        "a price of energy and the trust in the estimated connection time; the closed form splits",
        EnergyPriceHead,
    ),
    "battery-value": HeadEntry(
        "corrections of the stochastic program: what the battery is worth, and of the believed "
        "connection times",
        BatteryValueHead,
    ),
}
