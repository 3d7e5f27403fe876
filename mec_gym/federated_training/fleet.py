"""What nature draws for a fleet of clients: who is present, how fast it is, what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.learning.partition import class_shares
from mec_gym.network.gaussian import MOST_SPREAD, bounded_noise, correlate, white_noise

if TYPE_CHECKING:
    from mec_gym.federated_training.scenario import Scenario


def presence(
    scenario: Scenario, rng: np.random.Generator, own: IntArray, samples: IntArray
) -> BoolArray:
    """Draw who can be reached in each bin of time, (n, N, K).

    Each client can be reached at least once per episode.

    Args:
        scenario: The parameters.
        rng: The source of every draw.
        own: The images of the clients, (n, N, most); regular hours may depend on them.
        samples: How many they are, (n, N).
    """
    n, clients = samples.shape
    begin = np.arange(scenario.bins, dtype=np.float64) * scenario.bin_s
    if scenario.availability == "always":
        return np.ones((n, clients, scenario.bins), dtype=np.bool_)
    if scenario.availability == "hours":
        period = scenario.on_s + scenario.off_s
        phase = rng.random((n, clients))
        if scenario.phase_by_class:
            classes = scenario.network.sizes[-1]
            shares = class_shares(scenario.data.learn.labels, own, samples, classes)
            phase = shares.argmax(axis=-1) / classes
        since = (begin + period * phase[..., None]) % period
        present = since < scenario.on_s
    else:
        present = _stays(scenario, rng, (n, clients), begin)
    episodes, absent = np.nonzero(~present.any(axis=-1))
    present[episodes, absent, rng.integers(scenario.bins, size=len(episodes))] = True
    return present


def _stays(
    scenario: Scenario, rng: np.random.Generator, shape: tuple[int, int], begin: FloatArray
) -> BoolArray:
    """Draw exponential stays and absences in turn, stationary from the start."""
    on, off = scenario.on_s, scenario.off_s
    turns = 2 * int(np.ceil(3 * scenario.budget_s / (on + off) + 10))
    here = rng.random(shape) < on / (on + off)
    # Exponential times have no memory, so the first one is as long as any other.
    even = rng.exponential(size=(*shape, turns))
    mine = (np.arange(turns) % 2 == 0) == here[..., None]
    ends = np.cumsum(even * np.where(mine, on, off), axis=-1)
    passed = np.zeros((*shape, len(begin)), dtype=np.int64)
    for turn in range(turns):
        passed += ends[..., turn, None] <= begin
    return np.asarray(here[..., None] ^ (passed % 2 == 1))


def speeds(scenario: Scenario, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw the speeds of the clients, (n, N, K) FLOP/s."""
    shape = (n, scenario.clients, scenario.bins)
    exponent = np.zeros(shape) + scenario.speed_spread * bounded_noise(rng, (*shape[:2], 1))
    if scenario.load_spread:
        noise = white_noise(rng, (scenario.bins, *shape[:2]))
        noise = np.clip(correlate(noise, scenario.load_memory), -MOST_SPREAD, MOST_SPREAD)
        exponent += scenario.load_spread * np.moveaxis(noise, 0, -1)
    return np.asarray(scenario.speed * np.exp(exponent))


def uplinks(scenario: Scenario, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw the rates towards the server, (n, N, K) bit/s."""
    shape = (n, scenario.clients, scenario.bins)
    exponent = np.zeros(shape) + scenario.rate_spread * bounded_noise(rng, (*shape[:2], 1))
    if scenario.fading:
        exponent += scenario.fading * bounded_noise(rng, shape)
    return np.asarray(scenario.uplink * np.exp(exponent))


def downlinks(scenario: Scenario, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw the rates from the server, (n, N) bit/s."""
    exponent = scenario.rate_spread * bounded_noise(rng, (n, scenario.clients))
    return np.asarray(scenario.downlink * np.exp(exponent))


def demand(scenario: Scenario, rng: np.random.Generator, n: int) -> FloatArray:
    """Draw which share of requests is of each class, (n, K, classes); (n, 1, classes) if fixed."""
    usual, classes = scenario.usual_demand, scenario.network.sizes[-1]
    if scenario.drift_s is None:
        return np.broadcast_to(usual, (n, 1, classes)).copy()
    # An edge of a bin that is meant to be one of a period may lie a little before it.
    passed = np.arange(scenario.bins) * scenario.bin_s / scenario.drift_s
    period = np.floor(passed + 1e-9).astype(np.int64)
    dice = rng.random((n, int(period[-1]) + 1, classes))
    rank = dice.argsort(axis=-1).argsort(axis=-1)
    asked = np.where(rank < scenario.drift_classes, usual, 0.0)
    asked = asked / asked.sum(axis=-1, keepdims=True)
    return np.asarray(asked[:, period])
