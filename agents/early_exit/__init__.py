"""What plays early-exit partition: exact rules, published schemes, and the head of learners."""

from __future__ import annotations

from agents.early_exit.backlog_price import BacklogPriceSolver, tune_prices
from agents.early_exit.dapdee import DADSSolver, DAPDEEAgent
from agents.early_exit.head import BacklogPriceHead
from agents.early_exit.mincut import MinCutSolver, WeightedSearchSolver
from agents.early_exit.rules import (
    ExactLoadSolver,
    FixedCutSolver,
    NeurosurgeonSolver,
    SlotOptimumSolver,
)
from agents.entries import AgentEntry, solver_entry
from agents.heads.protocol import HeadEntry
from agents.solver_agent import SolverAgent

AGENTS = {
    "price": AgentEntry(
        "least cost + prices * backlog and battery left to later frames, with tuned prices",
        lambda problem, seed: SolverAgent(
            problem, BacklogPriceSolver(problem.scenario, tune_prices(problem))
        ),
    ),
    "exact": solver_entry(
        "exact optimum of the frame at hand, blind to later ones", SlotOptimumSolver
    ),
    "dapdee": AgentEntry(
        "DAPDEE's algorithm 4: deepest exit that meets the deadline, light or heavy cut",
        lambda problem, seed: DAPDEEAgent(problem),
    ),
    "dads": solver_entry(
        "DADS: last exit, light cut, heavy cut when that cannot keep up", DADSSolver
    ),
    "neurosurgeon": solver_entry(
        "Neurosurgeon: last exit, one split in the order of the layers", NeurosurgeonSolver
    ),
    "mincut": solver_entry("last exit, min cut by max-flow: least Td + Tt + Te", MinCutSolver),
    "weighted-search": solver_entry(
        "last exit, DAPDEE's search for the least max(Td, Tt, Te)", WeightedSearchSolver
    ),
    "exact-light": solver_entry(
        "last exit, least Td + Tt + Te", lambda scenario: ExactLoadSolver(scenario, "light")
    ),
    "exact-heavy": solver_entry(
        "last exit, least max(Td, Tt, Te)", lambda scenario: ExactLoadSolver(scenario, "heavy")
    ),
    "device-only": solver_entry(
        "last exit, everything stays on the device",
        lambda scenario: FixedCutSolver(scenario, on_edge=False),
    ),
    "edge-only": solver_entry(
        "last exit, everything goes to the edge server",
        lambda scenario: FixedCutSolver(scenario, on_edge=True),
    ),
}
"""The agents by name, better ones first by and large."""

HEADS = {
    "congestion": HeadEntry(
        "prices of backlog at the stages and of energy; one step of look-ahead decides",
        BacklogPriceHead,
    ),
}
