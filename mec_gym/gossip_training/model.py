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
    slot: Slot,
    row: npt.NDArray[np.int64],
    weights: Float32Array,
    active: BoolArray,
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


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """Let every device train, send, and average what it listens to.

    Devices whose clock has passed the budget are out: they neither train nor are they heard.

    Args:
        slot: The slot, fields (...).
        state: The state, fields (...).
        decision: The decision, fields (...).
        scenario: The parameters.

    Returns:
        The state after the round, and what became of it.
    """
    s, n = scenario, scenario.devices
    own = np.shape(slot.key)
    batch = np.broadcast_shapes(own, np.shape(state.over), np.shape(decision.reduce))
    count = math.prod(batch)
    row = np.broadcast_to(np.arange(math.prod(own)).reshape(own), batch).reshape(-1)

    def flat(record: Any, axes: int) -> Any:
        def one(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            rest = array.shape[axes:]
            return np.broadcast_to(array, (*batch, *rest)).reshape(count, *rest)

        return arrays.map_arrays(one, record)

    before: State = flat(state, np.ndim(state.over))
    asked: Decision = flat(decision, np.ndim(decision.reduce))
    compute_s = slot.compute_s.reshape(-1, n)[row]
    rate = slot.rate.reshape(-1, n)[row]
    active = ~before.over[:, None] & (before.clock < s.budget_s)
    heard = np.zeros((count, n, n), dtype=np.bool_)
    listener, speaker = s.edges.T
    heard[:, listener, speaker] = asked.listen
    heard &= active[:, :, None] & active[:, None, :] & ~asked.reduce[:, None, None]

    alone = before.clock + compute_s
    gossip = arrivals(before.clock, compute_s, rate, heard, s.sent_bits, s.overlap)
    together = reduced(before.clock, compute_s, rate, active, s.model_bits)
    end = np.where(asked.reduce[:, None], together[:, None], gossip)
    clock = np.where(active, end, before.clock)

    trained = _trained(slot, row, before.weights, active, s)
    weights, mass, copies = _averaged(before, trained, heard, active, asked.reduce, s)
    broken = ~np.isfinite(weights).all(axis=(-1, -2))
    weights = np.where(broken[:, None, None], before.weights, weights)
    fresh = active & ~broken[:, None]
    accuracy = before.accuracy.copy()
    accuracy[fresh] = accuracy_of(weights[fresh], s.data.validate, s)
    left = before.rounds_left - 1.0
    over = before.over | broken | (left <= 0) | (clock >= s.budget_s).all(axis=-1)

    length = np.minimum(clock, s.budget_s) - np.minimum(before.clock, s.budget_s)
    rest = np.where(over[:, None], s.budget_s - np.minimum(clock, s.budget_s), 0.0)
    final = np.where(broken[:, None], 0.0, accuracy)
    error_s = (1.0 - before.accuracy) * length + (1.0 - final) * rest
    links = heard.sum(axis=(-1, -2)) * s.sent_bits
    everybody = active.sum(axis=-1)
    whole = np.where(asked.reduce, 2.0 * np.maximum(everybody - 1, 0) * s.model_bits, links)
    mean = weights.mean(axis=-2, keepdims=True)
    distance = np.sqrt(np.square(weights - mean).sum(axis=-1).mean(axis=-1))
    test = np.zeros(count)
    ended = over & ~before.over & ~broken
    test[ended] = accuracy_of(weights[ended], s.data.test, s).mean(axis=-1)
    number = np.where(asked.reduce, np.maximum(everybody - 1, 0), heard.sum(axis=(-1, -2)) / n)
    after = State(
        clock=clock,
        rounds_left=left,
        over=over,
        weights=weights,
        accuracy=accuracy,
        mass=mass,
        before=trained if s.overlap else before.before,
        copies=copies,
    )
    outcome = Outcome(
        error_s=error_s.mean(axis=-1),
        seconds=length.mean(axis=-1),
        waiting_s=np.where(active, end - alone, 0.0).mean(axis=-1),
        sent_bits=whole,
        heard=number.astype(np.float64),
        accuracy=final.mean(axis=-1),
        consensus=distance.astype(np.float64),
        test_accuracy=test,
        diverged=broken.astype(np.float64),
    )

    def back(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array.reshape((*batch, *array.shape[1:]))

    return arrays.map_arrays(back, after), arrays.map_arrays(back, outcome)


def _averaged(
    before: State,
    trained: Float32Array,
    heard: BoolArray,
    active: BoolArray,
    reduce: BoolArray,
    scenario: Scenario,
) -> tuple[Float32Array, FloatArray, Float32Array]:
    """Return models, masses and copies after devices have averaged, (Z, N, ...) each."""
    s = scenario
    shares = mixing_weights(heard, s.mixing)
    mass, copies = before.mass, before.copies
    sent = before.before if s.overlap else trained
    if s.payload == "choco":
        difference = top_k(trained - copies, s.payload_share)
        spoke = heard.any(axis=-2)[..., None]
        copies = np.where(spoke, copies + difference, copies)
        others = shares * ~np.eye(s.devices, dtype=np.bool_)
        moves = mixed(others, copies)
        moves -= others.sum(axis=-1)[..., None].astype(np.float32) * copies
        weights = trained + np.float32(s.choco_step) * moves
    elif s.payload == "segments":
        weights = _by_segments(trained, sent, heard, s)
    elif s.mixing == "push-sum":
        given = mixed(shares, sent * mass[..., None].astype(np.float32))
        mass = (shares * mass[:, None, :]).sum(axis=-1)
        weights = given / mass[..., None].astype(np.float32)
    else:
        itself = np.diagonal(shares, axis1=-2, axis2=-1)[..., None].astype(np.float32)
        others = shares * ~np.eye(s.devices, dtype=np.bool_)
        weights = itself * trained + mixed(others, sent)
    weights = np.where(heard.any(axis=-1)[..., None], weights, trained)
    share = active / np.maximum(active.sum(axis=-1, keepdims=True), 1)
    mean = mixed(np.repeat(share[:, None, :], s.devices, axis=1), trained)
    reduced_now = reduce[:, None, None] & active[..., None]
    return np.where(reduced_now, mean, weights), mass, copies


def _by_segments(
    trained: Float32Array, sent: Float32Array, heard: BoolArray, scenario: Scenario
) -> Float32Array:
    """Average each segment with those speakers that it is taken from, (Z, N, P) [HuC2019].

    The k-th of those whom a device listens to gives it segment k, counted round.
    """
    turn = (np.cumsum(heard, axis=-1) - 1) % scenario.segments
    edges = np.linspace(0, trained.shape[-1], scenario.segments + 1).astype(np.int64)
    result = trained.copy()
    for segment in range(scenario.segments):
        gives = heard & (turn == segment)
        part = slice(edges[segment], edges[segment + 1])
        number = 1.0 + gives.sum(axis=-1)
        shares = gives / number[..., None]
        itself = (1.0 / number)[..., None].astype(np.float32)
        result[..., part] = itself * trained[..., part] + mixed(shares, sent[..., part])
    return result
