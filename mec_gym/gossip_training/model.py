"""One round of gossip: train, send, and average what one listens to.

Every function broadcasts over all leading axes that it is given; inside, they are one axis of Z
environments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, Float32Array, FloatArray
from mec_gym.gossip_training.scenario import Scenario, Slot
from mec_gym.learning.compression import top_k
from mec_gym.learning.hashing import draw_indices
from mec_gym.learning.images import Labelled
from mec_gym.learning.sgd import train


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed; N devices, P weights.

    Fields that only some scenarios need have no rows in the others.
    """

    clock: FloatArray  # (..., N) s on each device's own clock
    rounds_left: FloatArray  # (...) rounds still to come, the one at hand included
    over: BoolArray  # (...) whether the episode has ended
    weights: Float32Array  # (..., N, P)
    accuracy: FloatArray  # (..., N) on validation images
    mass: FloatArray  # (..., N or 0) what push-sum divides by
    before: Float32Array  # (..., N or 0, P) models of the round before, which are sent
    copies: Float32Array  # (..., N or 0, P) what others hold of each model


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who listens to whom."""

    reduce: BoolArray  # (...) whether all average all, whatever else is decided
    listen: BoolArray  # (..., E) whether each edge is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one round."""

    error_s: FloatArray  # (...) s, mean over devices of error times time
    seconds: FloatArray  # (...) s, mean over devices of how long the round took
    waiting_s: FloatArray  # (...) s, mean over devices of what was neither training nor hidden
    sent_bits: FloatArray  # (...) bit
    heard: FloatArray  # (...) mean number of others that a device listened to
    accuracy: FloatArray  # (...) mean over devices, after the round
    consensus: FloatArray  # (...) root mean square distance of weights from their mean
    test_accuracy: FloatArray  # (...) mean over devices when the episode has ended; 0 before
    diverged: FloatArray  # (...) 1 if a model has numbers that are not finite, else 0


def arrivals(
    clock: FloatArray,
    compute_s: FloatArray,
    rate: FloatArray,
    heard: BoolArray,
    bits: float,
    overlap: bool,
) -> FloatArray:
    """Compute when each device has trained and has all that it listens to, (..., N) s.

    sent_i = t_i + c_i, and t_i <- max(sent_i, max over j heard by i of sent_j + d_j b / rate_j),
    where d_j listeners share the uplink of j. Where sending overlaps with training, the model of
    the round before is on its way from t_j on.

    Args:
        clock: The devices' clocks, t_i, (..., N) s.
        compute_s: How long they train, c_i, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        heard: Whether i listens to j, (..., N, N).
        bits: What is sent to a listener, b.
        overlap: Whether sending overlaps with training.
    """
    trained = clock + compute_s
    listeners = heard.sum(axis=-2)
    sent = (clock if overlap else trained) + listeners * bits / rate
    latest = np.where(heard, sent[..., None, :], -np.inf).max(axis=-1)
    return np.maximum(trained, latest)


def reduced(
    clock: FloatArray, compute_s: FloatArray, rate: FloatArray, active: BoolArray, bits: float
) -> FloatArray:
    """Compute when a ring all-reduce of all active devices ends, (...) s [Luehr2016].

    All begin when the last one has trained; each of N sends 2 (N - 1) / N of the model, at the
    rate of the slowest.

    Args:
        clock: The devices' clocks, (..., N) s.
        compute_s: How long they train, (..., N) s.
        rate: At what rate they send, (..., N) bit/s.
        active: Who takes part, (..., N).
        bits: Size of the model.
    """
    trained = np.where(active, clock + compute_s, -np.inf).max(axis=-1)
    slowest = np.where(active, rate, np.inf).min(axis=-1)
    count = active.sum(axis=-1)
    return np.asarray(trained + 2.0 * (count - 1) / np.maximum(count, 1) * bits / slowest)


def mixing_weights(heard: BoolArray, mixing: str) -> FloatArray:
    """Return how much of model j goes into model i, (..., N, N).

    ``"uniform"``: 1 / (1 + number heard). ``"metropolis"``: 1 / (1 + the larger number of two), and
    the rest to itself. ``"push-sum"``: j gives 1 / (1 + its listeners) to each of them and to
    itself, so that columns add up to 1 [Nedic2016].

    Args:
        heard: Whether i listens to j, (..., N, N).
        mixing: The kind.
    """
    size = heard.shape[-1]
    itself = np.eye(size, dtype=np.bool_)
    number = heard.sum(axis=-1)
    if mixing == "push-sum":
        given = 1.0 / (1.0 + heard.sum(axis=-2))
        return np.where(heard | itself, given[..., None, :], 0.0)
    if mixing == "uniform":
        taken = 1.0 / (1.0 + number)
        return np.where(heard | itself, taken[..., :, None], 0.0)
    larger = np.maximum(number[..., :, None], number[..., None, :])
    others = np.where(heard, 1.0 / (1.0 + larger), 0.0)
    rest = 1.0 - others.sum(axis=-1)
    return np.asarray(others + np.where(itself, rest[..., :, None], 0.0))


def mixed(shares: FloatArray, models: Float32Array) -> Float32Array:
    """Return sum over j of shares (..., N, N) times models (..., N, P), added one by one."""
    total = np.zeros_like(models)
    for j in range(models.shape[-2]):
        total += shares[..., :, j, None].astype(models.dtype) * models[..., j, None, :]
    return total


def accuracy_of(weights: Float32Array, data: Labelled, scenario: Scenario) -> FloatArray:
    """Compute the accuracy of models (..., P), (...)."""
    flat = weights.reshape(-1, weights.shape[-1])
    found = np.empty(len(flat))
    for row, one in enumerate(flat):  # activations of one model fit into the cache
        with np.errstate(over="ignore", invalid="ignore"):
            found[row] = scenario.network.accuracy(one, data.images, data.labels)
    return found.reshape(weights.shape[:-1])


def start(slot: Slot, scenario: Scenario) -> State:
    """Return the state before the first round, fields (...)."""
    batch, n = np.shape(slot.key), scenario.devices
    initial = np.asarray(slot.initial, dtype=np.float32)
    weights = np.broadcast_to(initial[..., None, :], (*batch, n, initial.shape[-1])).copy()
    first = accuracy_of(initial, scenario.data.validate, scenario)
    none = weights[..., :0, :]
    return State(
        clock=np.zeros((*batch, n)),
        rounds_left=np.full(batch, float(scenario.rounds)),
        over=np.zeros(batch, dtype=np.bool_),
        weights=weights,
        accuracy=np.repeat(first[..., None], n, axis=-1),
        mass=np.ones((*batch, n if scenario.mixing == "push-sum" else 0)),
        before=weights if scenario.overlap else none,
        copies=np.zeros_like(weights) if scenario.payload == "choco" else none,
    )


def _trained(
    slot: Slot, row: npt.NDArray[np.int64], weights: Float32Array, active: BoolArray,
    scenario: Scenario,
) -> Float32Array:
    """Train the models of all active devices, (Z, N, P)."""
    s = scenario
    z, device = np.nonzero(active)
    own = slot.own.reshape(-1, *slot.own.shape[-2:])[row[z], device]
    samples = slot.samples.reshape(-1, s.devices)[row[z], device]
    drawn = draw_indices(slot.key.reshape(-1)[row[z]], device, s.local_steps * s.batch, samples)
    index = np.take_along_axis(own, drawn, axis=-1).astype(np.int64)
    index = index.reshape(-1, s.local_steps, s.batch)
    result = weights.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        result[z, device] = train(
            s.network, weights[z, device], s.data.learn, index, rate=s.learning_rate
        )[0]
    return result
