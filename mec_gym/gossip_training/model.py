"""One round of gossip: train, send, and average what one listens to.

Every function broadcasts over all leading axes that it is given; inside, they are one axis of Z
environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray
from mec_gym.gossip_training.clock import arrivals, reduced, uplinks_free
from mec_gym.gossip_training.mixing import (
    by_segments,
    mixed,
    mixing_weights,
    own_part,
    without_own,
)
from mec_gym.gossip_training.scenario import Scenario, Slot
from mec_gym.learning.compression import top_k
from mec_gym.learning.distillation import mean_logits, targets
from mec_gym.learning.hashing import draw_indices
from mec_gym.learning.images import Labelled
from mec_gym.learning.merge import weighted_sum
from mec_gym.learning.sgd import train

LEAST_MASS = 1e-100
"""What is left of the mass of a device that listens to nobody for hundreds of rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed; N devices, P weights, E edges.

    Fields that only some scenarios need have no rows in the others.
    """

    clock: FloatArray  # (..., N) s on each device's own clock
    uplink_free: FloatArray  # (..., N) s, when each device's uplink has sent all that it has to
    rounds_left: FloatArray  # (...) rounds still to come, the one at hand included
    over: BoolArray  # (...) whether the episode has ended
    weights: Float32Array  # (..., N, P)
    accuracy: FloatArray  # (..., N) on validation images
    mass: FloatArray  # (..., N or 0) what push-sum divides by
    copies: Float32Array  # (..., N or 0, P) what others hold of each model
    missed: FloatArray  # (..., E or 0) updates of the speaker's copy that the listener lacks
    taught: Float32Array  # (..., N or 0, rows, classes) distributions that others teach; or zeros


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
    waiting_s: FloatArray  # (...) s, mean over devices of what was not training
    sent_bits: FloatArray  # (...) bit, all devices together
    heard: FloatArray  # (...) mean number of others that a device listened to
    accuracy: FloatArray  # (...) mean over devices, after the round
    consensus: FloatArray  # (...) root mean square distance of the models from their mean
    test_accuracy: FloatArray  # (...) mean over devices when the episode has ended; 0 before
    diverged: FloatArray  # (...) 1 if a model has numbers that are not finite, else 0


def accuracy_of(weights: Float32Array, data: Labelled, scenario: Scenario) -> FloatArray:
    """Compute the accuracy of models (..., P), (...)."""
    flat = weights.reshape(-1, weights.shape[-1])
    found = np.empty(len(flat))
    for row, one in enumerate(flat):  # activations of one model fit into the cache
        with np.errstate(over="ignore", invalid="ignore"):
            found[row] = scenario.network.accuracy(one, data.images, data.labels)
    return found.reshape(weights.shape[:-1])


def turn_of(state: State, scenario: Scenario) -> IntArray:
    """Return the number of the round, from 0, (...)."""
    return np.rint(scenario.rounds - state.rounds_left).astype(np.int64)


def start(slot: Slot, scenario: Scenario) -> State:
    """Return the state before the first round, fields (...)."""
    s, batch, n = scenario, np.shape(slot.key), scenario.devices
    initial = np.asarray(slot.initial, dtype=np.float32)
    weights = np.broadcast_to(initial[..., None, :], (*batch, n, initial.shape[-1])).copy()
    first = accuracy_of(initial, s.data.validate, s)
    none = weights[..., :0, :]
    return State(
        clock=np.zeros((*batch, n)),
        uplink_free=np.zeros((*batch, n)),
        rounds_left=np.full(batch, float(s.rounds)),
        over=np.zeros(batch, dtype=np.bool_),
        weights=weights,
        accuracy=np.repeat(first[..., None], n, axis=-1),
        mass=np.ones((*batch, s.masses)),
        copies=np.zeros_like(weights) if s.payload == "choco" else none,
        missed=np.zeros((*batch, s.copied_edges)),
        taught=np.zeros((*batch, *s.taught_shape), dtype=np.float32),
    )


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of Z environments: what nature gives, and who takes part."""

    scenario: Scenario
    own: npt.NDArray[Any]  # (Z, N, most)
    samples: IntArray  # (Z, N)
    key: npt.NDArray[np.uint64]  # (Z,)
    compute_s: FloatArray  # (Z, N)
    rate: FloatArray  # (Z, N)
    active: BoolArray  # (Z, N) whose clocks have not passed the budget
    reduce: BoolArray  # (Z,)
    turn: IntArray  # (Z,) the number of the round, from 0
    heard: BoolArray  # (Z, N, N) whether i listens to j; nobody where all average all


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
    batch = np.broadcast_shapes(np.shape(slot.key), np.shape(state.over), np.shape(decision.reduce))
    before = arrays.spread(state, np.ndim(state.over), batch)
    asked = arrays.spread(decision, np.ndim(decision.reduce), batch)
    nature = arrays.spread(slot, np.ndim(slot.key), batch)
    active = ~before.over[:, None] & (before.clock < s.budget_s)
    heard = np.zeros((len(active), n, n), dtype=np.bool_)
    listener, speaker = s.edges.T
    heard[:, listener, speaker] = asked.listen
    heard &= active[:, :, None] & active[:, None, :] & ~asked.reduce[:, None, None]
    now = _Round(
        scenario=s,
        own=nature.own,
        samples=nature.samples,
        key=nature.key,
        compute_s=nature.compute_s,
        rate=nature.rate,
        active=active,
        reduce=asked.reduce,
        turn=turn_of(before, s),
        heard=heard,
    )
    bits, missed = _link_bits(before, now)
    clock, uplink_free = _clock(before, now, bits)
    with np.errstate(over="ignore", invalid="ignore"):  # a model that diverges is found below
        trained = _trained(before, now)
        weights, mass, copies, taught = _talked(before, trained, now)
        distance = _distance(weights)
    # The distance of weights that are not finite is not finite either.
    finite = np.isfinite(distance) & np.isfinite(taught).all(axis=(-1, -2, -3))
    broken = np.asarray(~(finite & np.isfinite(copies).all(axis=(-1, -2))))
    held = broken[:, None, None]
    weights = np.where(held, before.weights, weights)
    accuracy = before.accuracy.copy()
    fresh = active & ~broken[:, None]
    accuracy[fresh] = accuracy_of(weights[fresh], s.data.validate, s)
    left = before.rounds_left - 1.0
    over = before.over | broken | (left <= 0) | (clock >= s.budget_s).all(axis=-1)

    length = np.minimum(clock, s.budget_s) - np.minimum(before.clock, s.budget_s)
    rest = np.where(over[:, None], s.budget_s - np.minimum(clock, s.budget_s), 0.0)
    final = np.where(broken[:, None], 0.0, accuracy)
    error_s = (1.0 - before.accuracy) * length + (1.0 - final) * rest
    everybody = np.maximum(active.sum(axis=-1) - 1, 0)
    links = np.where(heard, bits, 0.0).sum(axis=(-1, -2))
    test = np.zeros(len(over))
    ended = over & ~before.over & ~broken
    test[ended] = accuracy_of(weights[ended], s.data.test, s).mean(axis=-1)
    number = np.where(asked.reduce, everybody, heard.sum(axis=(-1, -2)) / n)
    training = np.where(active, now.compute_s, 0.0)
    after = State(
        clock=clock,
        uplink_free=uplink_free,
        rounds_left=left,
        over=over,
        weights=weights,
        accuracy=accuracy,
        mass=mass,
        copies=np.where(held, before.copies, copies),
        missed=missed,
        taught=np.where(held[..., None], before.taught, taught),
    )
    outcome = Outcome(
        error_s=error_s.mean(axis=-1),
        seconds=length.mean(axis=-1),
        waiting_s=(clock - before.clock - training).mean(axis=-1),
        sent_bits=np.where(asked.reduce, 2.0 * everybody * s.reduced_bits, links),
        heard=number.astype(np.float64),
        accuracy=final.mean(axis=-1),
        consensus=np.where(broken, 0.0, distance),
        test_accuracy=test,
        diverged=broken.astype(np.float64),
    )
    return arrays.split_first(after, batch), arrays.split_first(outcome, batch)


def _distance(weights: Float32Array) -> FloatArray:
    """Compute the root mean square distance of models (Z, N, P) from their mean, (Z,).

    Squares of weights that are huge, but finite, fit only into double precision.
    """

    def found(models: npt.NDArray[Any]) -> FloatArray:
        apart = models - models.mean(axis=-2, keepdims=True)
        return np.asarray(np.sqrt(np.square(apart).sum(axis=-1).mean(axis=-1)), dtype=np.float64)

    distance = found(weights)
    huge = ~np.isfinite(distance)
    if huge.any():
        distance[huge] = found(weights[huge].astype(np.float64))
    return distance


def _link_bits(before: State, now: _Round) -> tuple[FloatArray | float, FloatArray]:
    """Return what j sends to i, (Z, N, N) bit, and which updates listeners lack afterwards.

    Every device that trains makes a compressed difference, whether anybody listens or not. So a
    listener needs all that it has missed, but never more than the whole copy.
    """
    s = now.scenario
    if s.payload != "choco":
        return s.sent_bits, before.missed
    listener, speaker = s.edges.T
    hears = now.heard[:, listener, speaker]
    needed = np.minimum((before.missed + 1.0) * s.sent_bits, s.model_bits)
    bits = np.zeros(now.heard.shape)
    bits[:, listener, speaker] = needed
    return bits, np.where(hears, 0.0, before.missed + now.active[:, speaker])


def _clock(before: State, now: _Round, bits: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """Return the devices' clocks, and when their uplinks are free, after the round, (Z, N) s."""
    s, clock, compute_s = now.scenario, before.clock, now.compute_s
    free = before.uplink_free
    sent = uplinks_free(clock, compute_s, now.rate, now.heard, bits, s.overlap, free)
    gossip = arrivals(clock, compute_s, now.heard, sent)
    together = reduced(clock, compute_s, now.rate, now.active, s.reduced_bits, free)[:, None]
    all_of_them = now.reduce[:, None] & now.active
    after = np.where(now.active, np.where(all_of_them, together, gossip), clock)
    return after, np.where(all_of_them, together, sent)


def _trained(before: State, now: _Round) -> Float32Array:
    """Train the models of all active devices, (Z, N, P)."""
    s = now.scenario
    z, device = np.nonzero(now.active)
    samples = now.samples[z, device]
    drawn = draw_indices(now.key[z], device, s.local_steps * s.batch, samples)
    index = np.take_along_axis(now.own[z, device], drawn, axis=-1).astype(np.int64)
    index = index.reshape(-1, s.local_steps, s.batch)
    soft = soft_row = None
    if s.payload == "class-logits":
        soft, soft_row = before.taught[z, device], s.data.learn.labels.take(index)
    elif s.payload == "shared-logits":
        number = drawn - (samples - s.shared)[:, None]  # those that all hold come last
        soft, soft_row = before.taught[z, device], np.maximum(number, -1).reshape(index.shape)
    result = before.weights.copy()
    result[z, device] = train(
        s.network,
        before.weights[z, device],
        s.data.learn,
        index,
        rate=s.learning_rate,
        soft=soft,
        soft_row=soft_row,
    )[0]
    return result


def _talked(
    before: State, trained: Float32Array, now: _Round
) -> tuple[Float32Array, FloatArray, Float32Array, Float32Array]:
    """Return models, masses, copies and what is taught after devices have talked, (Z, N, ...)."""
    s = now.scenario
    if s.logits:
        return trained, before.mass, before.copies, _taught(before, trained, now)
    mass = np.maximum(before.mass, LEAST_MASS) if s.masses else np.ones(now.active.shape)
    copies, taught = before.copies, before.taught
    shares = mixing_weights(now.heard, s.mixing)
    # What overlaps with training can only be the model that the round begins with; a device adds
    # what it has learnt meanwhile [Lian2017] algorithm 1.
    sent = before.weights if s.overlap else trained
    if s.payload == "choco":
        copies, weights = _choco(copies, trained, shares, now)
    elif s.payload == "segments":
        weights = by_segments(sent, now.heard, s.segments, now.turn)
    else:
        if s.masses:
            given = shares * mass[:, None, :]
            mass = given.sum(axis=-1)
            shares = given / mass[..., None]
        weights = own_part(shares) * sent + mixed(without_own(shares), sent)
    if s.overlap:
        weights += trained - sent
    if now.reduce.any():
        taking_part = now.active * mass
        total = taking_part.sum(axis=-1, keepdims=True)
        mean = weighted_sum(trained, taking_part / np.where(total > 0, total, 1.0))
        together = now.reduce[:, None] & now.active
        weights = np.where(together[..., None], mean[:, None], weights)
        equal = total / np.maximum(now.active.sum(axis=-1, keepdims=True), 1)
        mass = np.where(together, equal, mass)
    return weights, mass if s.masses else before.mass, copies, taught


def _choco(
    copies: Float32Array, trained: Float32Array, shares: FloatArray, now: _Round
) -> tuple[Float32Array, Float32Array]:
    """Return copies and models after what changed by most has been sent.

    A copy moves by the compressed difference to its model, and a model moves by the differences of
    the copies that it listens to and of its own [Koloskova2019] algorithm 2. So the copies of those
    whom nobody hears move as well: their own models would run away from one that stands still.
    """
    s = now.scenario
    copies = np.where(
        now.active[..., None], copies + top_k(trained - copies, s.payload_share), copies
    )
    others = without_own(shares)
    moves = mixed(others, copies) - others.sum(axis=-1)[..., None].astype(np.float32) * copies
    return copies, trained + np.float32(s.choco_step) * moves


def _taught(before: State, trained: Float32Array, now: _Round) -> Float32Array:
    """Return what devices are taught in the next round, (Z, N, rows, classes).

    It is the softmax of the mean logits of all others that are heard and know of the row; of rows
    that none of them knows of, a device keeps what it was taught before.
    """
    s, learn = now.scenario, now.scenario.data.learn
    classes = s.network.sizes[-1]
    if s.payload == "class-logits":
        own = np.maximum(now.own, 0).astype(np.int64)
        logits = s.network.forward(trained, learn.images.take(own, axis=0))[-1]
        counts = np.arange(own.shape[-1]) < now.samples[..., None]
        said, known = mean_logits(logits, learn.labels.take(own), counts, classes)
    else:
        place = now.samples[:, :1] - s.shared + np.arange(s.shared)
        image = np.take_along_axis(now.own[:, 0], place, axis=-1).astype(np.int64)
        said = s.network.forward(trained, learn.images.take(image, axis=0)[:, None])[-1]
        known = np.ones(said.shape[:-1], dtype=np.bool_)
    pairs = now.reduce[:, None, None] & now.active[:, :, None] & now.active[:, None, :]
    heard = (now.heard | pairs) & ~np.eye(s.devices, dtype=np.bool_)
    total = mixed(heard.astype(np.float64), said * known[..., None])
    number = np.matmul(heard.astype(np.float64), known.astype(np.float64))  # whole: exact
    mean = total / np.maximum(number, 1.0)[..., None].astype(np.float32)
    new = targets(mean, number > 0)
    return np.where((number > 0)[..., None], new, before.taught)
