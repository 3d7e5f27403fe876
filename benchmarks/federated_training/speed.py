"""Steps per second of the native vector under three protocols, and what a reset takes."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.measure import Measure, Report, interleave, rate
from mec_gym import MecVectorEnv
from mec_gym.core import arrays
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.federated_training.scenario import Scenario

CLIENTS = 50
PROTOCOLS = {
    "synchronous, 10 updates": Scenario(clients=CLIENTS, quorum=10, late="drop"),
    "semi-asynchronous, 3 updates": Scenario(clients=CLIENTS, quorum=3),
    "asynchronous, 1 update": Scenario(clients=CLIENTS, quorum=1),
}
BATCHES = (1, 16, 64)
ACTION_SETS = 16
WARM_UP = 3  # the first steps send off more clients than later ones


def _steps(scenario: Scenario, batch: int, seconds: float) -> Measure:
    env = MecVectorEnv(FederatedTraining(scenario), batch)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    actions = rng.random((ACTION_SETS, batch, scenario.clients), dtype=np.float32)
    turn = 0

    def step() -> None:
        nonlocal turn
        env.step(actions[turn % ACTION_SETS])
        turn += 1

    for _ in range(WARM_UP):
        step()
    return lambda: rate(step, batch, seconds)


def _reset(problem: FederatedTraining, rng: np.random.Generator) -> None:
    slot = arrays.slot_at(problem.sample(rng, 1), 0)
    problem.observe(slot, problem.start(slot))


def measure(seconds: float, repeats: int) -> Report:
    """Measure random selection among 50 clients, 10 at once, 10 minibatches of 16 images each.

    Args:
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """
    cases = {
        f"{name}, native vector of {batch}: steps/s": _steps(scenario, batch, seconds)
        for name, scenario in PROTOCOLS.items()
        for batch in BATCHES
    }
    problem = FederatedTraining(Scenario(clients=CLIENTS))
    reset = partial(_reset, problem, np.random.default_rng(0))
    cases["reset of one environment: ms"] = lambda: 1e3 / rate(reset, 1, seconds)
    found = interleave(cases, repeats)
    rows = [
        {"what": what, "figure": figures.median, "spread": figures.spread}
        for what, figures in found.items()
    ]
    return Report("Federated training", rows, [f"Medians of {repeats} interleaved runs, one core."])
