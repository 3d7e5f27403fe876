"""One step of federated training: send clients off, wait, merge what has arrived, count errors.

Every function broadcasts over all leading axes that it is given; inside, they are one axis of Z
environments. What clients learn stands in :mod:`mec_gym.federated_training.jobs`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, Float32Array, FloatArray, IntArray
from mec_gym.federated_training import jobs
from mec_gym.federated_training.scenario import Scenario, Slot
from mec_gym.federated_training.server import Merged, merge, stops
from mec_gym.federated_training.world import World
from mec_gym.learning.images import Labelled

NEVER = -1
"""The version into which a client was merged last, if it never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed.

    m rows hold the jobs that are on their way. N is the number of clients, P that of weights.
    Fields that only some scenarios need have no rows in the others.
    """

    clock: FloatArray  # (...) s since the beginning
    version: IntArray  # (...) how often the server has merged
    decisions_left: FloatArray  # (...) decisions still to come, the one at hand included
    over: BoolArray  # (...) whether the episode has ended
    weights: Float32Array  # (..., P) the server's model
    recall: FloatArray  # (..., classes) share of validation images of a class that it gets right
    recent: FloatArray  # (..., 2) the two accuracies before, NaN-free: 0 if there were none
    client: IntArray  # (..., m) who uses the row; -1: nobody
    begin: FloatArray  # (..., m) s, when it was sent off
    end: FloatArray  # (..., m) s, when its update arrives, or when it is lost
    arrives: BoolArray  # (..., m) whether it arrives; the server does not know it before
    based_on: IntArray  # (..., m) the version that it began from
    steps: FloatArray  # (..., m) minibatches that it trains on
    loss: FloatArray  # (..., m) root mean square of its images' losses
    sent: Float32Array  # (..., m, P) its update; its weights unless updates are averaged
    own_next: Float32Array  # (..., m or 0, P) what it will remember once it has been merged
    own: Float32Array  # (..., N or 0, P) what each client remembers: control variates or weights
    control: Float32Array  # (..., 1 or 0, P) SCAFFOLD's control variates of the server
    momentum: Float32Array  # (..., 1 or 0, P) the server's momentum
    last_loss: FloatArray  # (..., N) the loss that a client reported last
    last_duration: FloatArray  # (..., N) s that its last update took from when it was sent off
    merged_into: IntArray  # (..., N) the version that its last update became part of; -1: never
    taken: FloatArray  # (..., N) how often it has been sent off


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who is to be sent off."""

    score: FloatArray  # (..., N) the best ones above 0 go, as many as there is room for
    effort: FloatArray  # (..., N or 0) from -1, a single step, to 1, all local steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one step."""

    cost_s: FloatArray  # (...) s: error times time, or just time until the target
    seconds: FloatArray  # (...) s that the step took, within the budget
    sent_off: FloatArray  # (...) clients that were sent off
    merged: FloatArray  # (...) updates that were merged
    lost: FloatArray  # (...) updates of clients that left
    dropped: FloatArray  # (...) updates that nobody waited for, that were too stale, or too late
    staleness: FloatArray  # (...) mean staleness of what was merged; 0 if nothing was
    compute_j: FloatArray  # (...) J that the clients sent off will spend on computing
    send_j: FloatArray  # (...) J that they will spend on sending
    sent_bits: FloatArray  # (...) bit that they receive and send
    accuracy: FloatArray  # (...) on validation images, weighted by demand, after the step
    test_accuracy: FloatArray  # (...) on test images when the episode has ended; 0 before
    diverged: FloatArray  # (...) 1 if the model has numbers that are not finite, else 0


def start(slot: Slot, scenario: Scenario) -> State:
    """Return the state before the first decision, fields (...)."""
    batch = np.shape(slot.key)
    n, m, rows = scenario.clients, scenario.at_once, scenario.memory_rows
    initial = np.asarray(slot.initial, dtype=np.float32)
    size = initial.shape[-1]

    def empty(*shape: int) -> Float32Array:
        return np.zeros((*batch, *shape), dtype=np.float32)

    own = empty(rows, size)
    if scenario.merge == "elastic":
        own += initial[..., None, :]
    return State(
        clock=np.zeros(batch),
        version=np.zeros(batch, dtype=np.int64),
        decisions_left=np.full(batch, float(scenario.decisions)),
        over=np.zeros(batch, dtype=np.bool_),
        weights=initial,
        recall=recall_of(initial, scenario.data.validate, scenario),
        recent=np.zeros((*batch, 2)),
        client=np.full((*batch, m), jobs.FREE),
        begin=np.zeros((*batch, m)),
        end=np.zeros((*batch, m)),
        arrives=np.zeros((*batch, m), dtype=np.bool_),
        based_on=np.zeros((*batch, m), dtype=np.int64),
        steps=np.zeros((*batch, m)),
        loss=np.zeros((*batch, m)),
        sent=empty(m, size),
        own_next=empty(m if rows else 0, size),
        own=own,
        control=empty(int(scenario.control_variates), size),
        momentum=empty(int(scenario.server_momentum > 0), size),
        last_loss=np.zeros((*batch, n)),
        last_duration=np.zeros((*batch, n)),
        merged_into=np.full((*batch, n), NEVER),
        taken=np.zeros((*batch, n)),
    )


def steps_of(effort: FloatArray, most: int) -> IntArray:
    """Return how many minibatches efforts (...) stand for: 1 at -1 to ``most`` at 1."""
    return np.asarray(1 + np.rint((most - 1) * (effort + 1.0) / 2.0).astype(np.int64))


def effort_of(steps: FloatArray, most: int) -> FloatArray:
    """Return the efforts (...) that stand for so many minibatches, at least 1 and at most all."""
    if most == 1:
        return np.ones(np.shape(steps))
    return np.asarray(2.0 * (np.clip(steps, 1, most) - 1.0) / (most - 1) - 1.0)


def recall_of(weights: Float32Array, data: Labelled, scenario: Scenario) -> FloatArray:
    """Compute the share of each class's images that a model gets right, (..., classes).

    A class without images counts as 0.

    Args:
        weights: The models, (..., P).
        data: The images.
        scenario: The parameters.
    """
    classes = scenario.network.sizes[-1]
    right_of = (data.labels[:, None] == np.arange(classes)).astype(np.float64)
    counts = right_of.sum(axis=0)
    flat = weights.reshape(-1, weights.shape[-1])
    recall = np.empty((len(flat), classes))
    for row, one in enumerate(flat):  # activations of one model fit into the cache
        with np.errstate(over="ignore", invalid="ignore"):
            best = scenario.network.forward(one, data.images)[-1].argmax(axis=-1)
        recall[row] = (best == data.labels) @ right_of / np.maximum(counts, 1)
    return recall.reshape(*weights.shape[:-1], classes)


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """Send clients off, wait for the quorum or the deadline, and merge what has arrived.

    Args:
        slot: The slot, fields (...).
        state: The state, fields (...).
        decision: The decision, fields (...).
        scenario: The parameters.

    Returns:
        The state after the step, and what became of it.
    """
    batch = np.broadcast_shapes(
        np.shape(slot.key), np.shape(state.clock), np.shape(decision.score)[:-1]
    )
    world = World(slot, batch, scenario)
    before = arrays.spread(state, np.ndim(state.clock), batch)
    asked = arrays.spread(decision, np.ndim(decision.score) - 1, batch)
    after, outcome = _step(world, before, asked, scenario)
    return arrays.split_first(after, batch), arrays.split_first(outcome, batch)


def _step(
    world: World, before: State, asked: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """Do what :func:`evaluate` does, with one batch axis of Z environments."""
    sent_off = choose(world, before, asked, scenario)
    flight, spent, stop = _send_off(world, before, sent_off, scenario)
    now = merge(world, flight, stop, ~before.over, scenario)
    return _account(world, before, now, spent, scenario)


def choose(world: World, before: State, asked: Decision, scenario: Scenario) -> jobs.Jobs:
    """Return the jobs of those that are sent off.

    Args:
        world: Nature's tables.
        before: The states, fields (Z, ...).
        asked: The decisions, fields (Z, ...).
        scenario: The parameters.
    """
    s = scenario
    running = ~before.over
    ready = world.now("present", before.clock) & ~jobs.busy(before.client, s.clients)
    picked = jobs.pick(before.client, ready & running[:, None], asked.score)
    environment, row = np.nonzero(picked != jobs.FREE)
    client = picked[environment, row]
    steps = np.full(len(client), s.local_steps)
    if s.control_steps:
        steps = steps_of(asked.effort[environment, client], s.local_steps)
    return jobs.Jobs(
        environment=environment,
        row=row,
        client=client,
        begin=before.clock[environment],
        steps=steps,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    """What the clients that were sent off spend, (Z,) each."""

    sent_off: FloatArray
    compute_j: FloatArray
    send_j: FloatArray
    sent_bits: FloatArray


def _send_off(
    world: World, before: State, sent_off: jobs.Jobs, scenario: Scenario
) -> tuple[State, _Spent, FloatArray]:
    """Put jobs into their rows, and find out when the server stops waiting.

    What never becomes part of the model is not trained. Only with significant entries the clock
    depends on what is learnt.

    Returns:
        The state with the jobs on their way, what they spend, and when the server stops, (Z,) s.
    """
    s, z = scenario, sent_off.environment
    times = jobs.times(sent_off, world, scenario)
    size = before.weights.shape[-1]
    learnt = jobs.Learnt(
        sent=np.zeros((len(z), size), dtype=np.float32),
        own=np.zeros((len(z) if s.control_variates else 0, size), dtype=np.float32),
        loss=np.zeros(len(z)),
        bits=np.full(len(z), s.upload_bits),
    )
    if s.payload == "significant":
        useful = (times.computed < times.leaves) & (times.computed < s.budget_s)
        _learn(learnt, useful, world, before, sent_off, scenario)
    done = jobs.arrival(sent_off, times.computed, learnt.bits, world, scenario)
    end, arrives = np.minimum(done, times.leaves), done <= times.leaves
    at = z, sent_off.row

    def with_jobs(field: npt.NDArray[Any], values: npt.ArrayLike) -> npt.NDArray[Any]:
        field = field.copy()
        field[at] = values
        return field

    taken = before.taken.copy()
    taken[z, sent_off.client] += 1
    rows = {
        "client": with_jobs(before.client, sent_off.client),
        "begin": with_jobs(before.begin, sent_off.begin),
        "end": with_jobs(before.end, end),
        "arrives": with_jobs(before.arrives, arrives),
        "based_on": with_jobs(before.based_on, before.version[z]),
        "steps": with_jobs(before.steps, sent_off.steps),
    }
    stop = stops(rows["client"], rows["end"], rows["arrives"], before.clock, scenario)
    if s.payload != "significant":
        useful = arrives & (end + s.server_s <= s.budget_s)
        if s.late == "drop":
            useful &= end <= stop[z]
        _learn(learnt, useful, world, before, sent_off, scenario)
    flight = replace(
        before,
        **rows,
        taken=taken,
        loss=with_jobs(before.loss, learnt.loss),
        sent=with_jobs(before.sent, learnt.sent),
        own_next=with_jobs(before.own_next, learnt.own) if s.control_variates else before.own_next,
    )
    computing = np.maximum(np.minimum(times.computed, end) - times.received, 0.0)
    sending = np.maximum(end - times.computed, 0.0)
    bits = s.download_bits + np.where(end > times.computed, learnt.bits, 0.0)

    def per_environment(values: FloatArray) -> FloatArray:
        return np.bincount(z, values, minlength=len(before.clock)).astype(np.float64)

    spent = _Spent(
        sent_off=per_environment(np.ones(len(z))),
        compute_j=s.compute_w * per_environment(computing),
        send_j=s.send_w * per_environment(sending),
        sent_bits=per_environment(bits),
    )
    return flight, spent, stop


def _learn(
    into: jobs.Learnt,
    useful: BoolArray,
    world: World,
    before: State,
    sent_off: jobs.Jobs,
    scenario: Scenario,
) -> None:
    """Train those jobs for which it is of use, (J,), and write what comes of it into a record."""
    s = scenario
    chosen = sent_off.where(useful)
    z, who = chosen.environment, chosen.client
    if not len(z):
        return
    begin_from, nothing = before.weights[z], before.weights[:0]
    if s.merge == "elastic":
        begin_from = before.own[z, who]
    elif s.look_ahead:
        ahead = np.float32(s.server_rate * s.server_momentum)
        begin_from = begin_from + ahead * before.momentum[z, 0]
    learnt = jobs.learn(
        chosen,
        begin_from,
        before.own[z, who] if s.control_variates else nothing,
        before.control[z, 0] if s.control_variates else nothing,
        world,
        scenario,
    )
    into.sent[useful], into.loss[useful], into.bits[useful] = learnt.sent, learnt.loss, learnt.bits
    if s.control_variates:
        into.own[useful] = learnt.own


def _account(
    world: World, before: State, now: Merged, spent: _Spent, scenario: Scenario
) -> tuple[State, Outcome]:
    """Count the errors of a step, and find out whether the episode is over."""
    s, state = scenario, now.state
    merged = state.version > before.version
    recall = before.recall.copy()
    fresh = merged & ~now.broken
    recall[fresh] = recall_of(state.weights[fresh], s.data.validate, scenario)
    left = before.decisions_left - 1.0
    accuracy = (world.demand_now(state.clock) * recall).sum(axis=-1)
    lately = np.concatenate([before.recent, accuracy[:, None]], axis=-1)
    reached = np.zeros_like(merged)
    if s.goal == "target":
        reached = merged & (state.version >= 3) & (lately.mean(axis=-1) >= s.target)
    over = before.over | now.broken | reached | (left <= 0) | (state.clock >= s.budget_s)
    seconds = state.clock - before.clock
    rest = np.where(over & ~reached, s.budget_s - state.clock, 0.0)
    if s.goal == "target":
        cost = seconds + rest
    else:
        cost = world.error_seconds(before.recall, before.clock, state.clock)
        final = np.where(now.broken[:, None], 0.0, recall)
        cost = cost + world.error_seconds(final, state.clock, state.clock + rest)
    test_accuracy = np.zeros_like(accuracy)
    ends = over & ~before.over
    tested = ends & ~now.broken
    right = recall_of(state.weights[tested], s.data.test, scenario)
    test_accuracy[tested] = (world.demand_now(state.clock)[tested] * right).sum(axis=-1)
    on_their_way = (state.client != jobs.FREE).sum(axis=-1)
    recent = np.where(merged[:, None], lately[:, 1:], before.recent)
    after = replace(state, recall=recall, decisions_left=left, over=over, recent=recent)
    outcome = Outcome(
        cost_s=cost,
        seconds=seconds,
        sent_off=spent.sent_off,
        merged=now.merged,
        lost=now.lost,
        dropped=now.dropped + np.where(ends, on_their_way, 0),
        staleness=now.staleness,
        compute_j=spent.compute_j,
        send_j=spent.send_j,
        sent_bits=spent.sent_bits,
        accuracy=np.where(now.broken, 0.0, accuracy),
        test_accuracy=test_accuracy,
        diverged=now.broken.astype(np.float64),
    )
    return after, outcome
