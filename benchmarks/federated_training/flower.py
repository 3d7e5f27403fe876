"""A round of federated averaging: a step of the environment beside Flower's simulation."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np

from benchmarks.environments import vector_step
from benchmarks.federated_training.speed import CLIENTS, PROTOCOLS
from benchmarks.measure import Report, Row, rate
from mec_gym import MecVectorEnv
from mec_gym.core.types import RealArray
from mec_gym.federated_training.problem import FederatedTraining
from mec_gym.learning.sgd import train
from mec_gym.learning.task import task_images, task_network

SCENARIO = PROTOCOLS["synchronous, 10 updates"]
WARM_UP = 2  # Flower starts its workers in the first round


def measure(seconds: float, repeats: int) -> Report:
    """Measure rounds in which 10 of 50 clients train on 10 minibatches of 16 digits each.

    Args:
        seconds: Wall time that the environment is measured for at least.
        repeats: A tenth of the number of rounds that Flower plays.
    """
    ours = _environment(seconds)
    rows: list[Row] = [{"a round of 10 clients": "a step of the environment", "ms": 1e3 / ours}]
    notes = [
        "Both train the same network on the same number of digits with the same numpy code, and "
        "average the models. Flower simulates the clients in Ray actors, one per core, and sends "
        "them the models; the environment trains the clients of a round as one stack. Its step "
        "also computes the clock and the errors on unseen digits."
    ]
    try:
        rounds = _flower(10 * repeats)
    except ImportError as error:
        notes.append(f"Flower is not installed ({error}): pip install 'flwr[simulation]'")
    else:
        rows.append({"a round of 10 clients": "a round of Flower", "ms": 1e3 * median(rounds)})
        notes.append(f"Flower: median of {len(rounds)} rounds after {WARM_UP} rounds of warm-up.")
    return Report("A round of federated averaging", rows, notes)


def _environment(seconds: float) -> float:
    """Return the rounds per second of one environment."""
    env = MecVectorEnv(FederatedTraining(SCENARIO), 1)
    env.action_space.seed(0)
    return rate(vector_step(env), 1, seconds)


def train_client(client: int, weights: RealArray) -> RealArray:
    """Return the weights, (P,), that a client has after its minibatches.

    Args:
        client: Its number; it holds every 50th digit.
        weights: Those that it starts from, (P,).
    """
    split = task_images("digits")
    own = np.arange(client, len(split.learn.labels), CLIENTS)
    index = np.random.default_rng(client).choice(own, (1, SCENARIO.local_steps, SCENARIO.batch))
    network = task_network(split, SCENARIO.hidden)
    (trained,), _ = train(network, weights[None], split.learn, index, rate=SCENARIO.rate)
    return np.asarray(trained)


def _flower(rounds: int) -> list[float]:
    """Return the seconds of each round of Flower's simulation after the first ones.

    Raises:
        ImportError: Flower or its simulation is not installed.
    """
    import ray  # noqa: F401 - without it, Flower fails only when it starts
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server = ClientApp(), ServerApp()
    ends: list[float] = []

    def fit(message: Message, context: Context) -> Message:
        (weights,) = message.content["arrays"].to_numpy_ndarrays()
        trained = train_client(int(context.node_config["partition-id"]), weights)
        content = {
            "arrays": ArrayRecord([trained]),
            "metrics": MetricRecord({"num-examples": SCENARIO.local_steps * SCENARIO.batch}),
        }
        return Message(RecordDict(content), reply_to=message)

    def note(*_: Any) -> None:
        ends.append(time.perf_counter())

    def main(grid: Grid, context: Context) -> None:
        network = task_network(task_images("digits"), SCENARIO.hidden)
        first = network.initial(np.random.default_rng(0)).astype(np.float32)
        strategy = FedAvg(fraction_train=SCENARIO.quorum / CLIENTS, fraction_evaluate=0.0)
        strategy.start(grid, ArrayRecord([first]), num_rounds=WARM_UP + rounds, evaluate_fn=note)

    client.train()(fit)
    server.main()(main)
    run_simulation(server, client, num_supernodes=CLIENTS)
    return list(np.diff(ends[WARM_UP:]))
