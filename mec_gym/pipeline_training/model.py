"""Moving blocks, training in a pipeline, and what a slot loses against perfect sharing.

Every function broadcasts over all leading axes that it is given. The order of a pipeline's
operations stands in :mod:`mec_gym.pipeline_training.clock`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.pipeline_training.clock import StageTimes, minibatch_seconds, warm_up
from mec_gym.pipeline_training.scenario import Scenario, Slot

D = TypeVar("D", bound=np.generic)

NOWHERE = -1
"""The place of a block that lies in the store only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the agent's own decisions have changed."""

    place: IntArray  # (..., L) the device that holds each block, -1: only the store does
    slots_left: FloatArray  # (...) slots still to come, the one at hand included


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where each block is to be trained."""

    place: IntArray  # (..., L) a device; what cannot be so is changed by ``valid_plan``


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one slot."""

    lost_s: FloatArray  # (...) s of the slot that perfect sharing would have saved
    trained: FloatArray  # (...) samples, also in parts
    minibatch_s: FloatArray  # (...) s per minibatch; 0 if nobody is present
    moving_s: FloatArray  # (...) s for moving blocks and starting again
    moved_bits: FloatArray  # (...) bit moved
    stages: FloatArray  # (...) the number of stages
    fetching_s: FloatArray  # (...) s per microbatch and pass for what memory cannot hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of a plan, counted from the last one; stages that it lacks have no work."""

    device: IntArray  # (R, ...) 0 where there is no stage
    first: IntArray  # (R, ...) its first block
    last: IntArray  # (R, ...) its last block
    exists: BoolArray  # (R, ...)


def valid_plan(present: BoolArray, speed: FloatArray, place: IntArray) -> IntArray:
    """Return the plan that a decision stands for, in which each device has at most one stage.

    A block whose device is absent, or has ended a stage before, stays with the block before
    it. The first block goes to the fastest device that is present.

    Args:
        present: (..., M).
        speed: (..., M) FLOP/s.
        place: The decision, (..., L).

    Returns:
        The device of each block, (..., L); -1 if nobody is present.
    """
    batch = np.broadcast_shapes(present.shape[:-1], place.shape[:-1])
    # Whether each device is free, as one flat array; the last entry of a row stands for NOWHERE.
    free = np.zeros((*batch, present.shape[-1] + 1), dtype=np.bool_)
    free[..., :-1] = present
    width = free.shape[-1]
    row = _row_numbers(batch) * width
    free = free.reshape(-1)
    now = np.broadcast_to(np.where(present, speed, -1.0).argmax(axis=-1), batch)
    plan = np.empty((*batch, place.shape[-1]), dtype=np.int64)
    for block in range(place.shape[-1]):
        wanted = place[..., block]
        now = np.where(free.take(row + wanted % width), wanted, now)
        plan[..., block] = now
        # Whoever has a stage gets no other one; the current one goes on as "the block before".
        free[row + now] = False
    plan[~np.broadcast_to(present.any(axis=-1), batch)] = NOWHERE
    return plan


def stages_of(plan: IntArray, most: int) -> Stages:
    """Return the stages of plans (..., L) in which each device has at most one stage.

    Args:
        plan: The device of each block.
        most: The number of stages to return, R; at least as many as a plan has.
    """
    blocks = np.arange(plan.shape[-1])
    changes = np.zeros(plan.shape, dtype=np.int64)
    changes[..., :-1] = plan[..., 1:] != plan[..., :-1]
    from_last = np.cumsum(changes[..., ::-1], axis=-1)[..., ::-1]
    member = from_last == np.arange(most).reshape(-1, *[1] * plan.ndim)
    exists = member.any(axis=-1)
    first = np.where(exists, member.argmax(axis=-1), 0)
    last = np.where(member, blocks, 0).max(axis=-1)
    return Stages(
        device=np.where(exists, np.maximum(pick_each(plan, first), 0), 0),
        first=first,
        last=last,
        exists=exists,
    )


Pick = Callable[[FloatArray, IntArray], FloatArray]
"""Takes an entry of the last axis of an array (..., K) for every index (R, ...)."""


def pick_each(array: npt.NDArray[D], index: IntArray) -> npt.NDArray[D]:
    """Take one entry of the last axis (..., K) for every index (R, ...)."""
    # One flat index and ``take``: several times faster than take_along_axis.
    return np.asarray(
        array.reshape(-1).take(_row_numbers(array.shape[:-1]) * array.shape[-1] + index)
    )


def _row_numbers(shape: tuple[int, ...]) -> IntArray:
    """The numbers 0, 1, ... in an array of a shape."""
    return np.arange(math.prod(shape)).reshape(shape)


def stage_times(
    stages: Stages, slot: Slot, scenario: Scenario, pick: Pick = pick_each
) -> tuple[StageTimes, FloatArray]:
    """Compute what the stages of a plan take per microbatch.

    The backward pass costs twice the forward pass, and the gradient of a stage's input is as
    large as the input. A stage whose weights, momentum, gradients and activations exceed the
    device's memory fetches the excess from the store in each pass.

    Args:
        stages: The stages, fields (R, ...).
        slot: The slot, fields (...).
        scenario: The parameters.
        pick: How the entries of a slot's fields are found.

    Returns:
        What each stage takes, and how long each fetches what memory cannot hold, (R, ...) s.
    """
    work, bits = scenario.work_before, scenario.microbatch_bits
    # Who is absent has no rates; what is computed with its 1 is not used.
    speed = np.where(slot.speed > 0, slot.speed, 1.0)
    link = np.where(slot.link > 0, slot.link, 1.0).reshape(*slot.link.shape[:-2], -1)
    own = scenario.samples * (work[stages.last + 1] - work[stages.first])
    forward = own * stages.exists / pick(speed, stages.device)
    fetching = _fetching(stages, slot, scenario, pick)
    sent = (bits[stages.first] * stages.exists)[:-1] * stages.exists[1:]
    here, before = stages.device[:-1], stages.device[1:]
    times = StageTimes(
        forward=forward + fetching,
        backward=2.0 * forward + fetching,
        up=sent / pick(link, before * scenario.devices + here),
        down=sent / pick(link, here * scenario.devices + before),
    )
    return times, np.broadcast_to(fetching, forward.shape)


def needed_memory(stages: Stages, scenario: Scenario) -> FloatArray:
    """Compute the bits that each stage needs: weights, what belongs to them, activations.

    Args:
        stages: The stages, fields (R, ...).
        scenario: The parameters.

    Returns:
        The needs, (R, ...) bit; 0 where there is no stage.
    """
    weights, outputs = scenario.weights_before, scenario.outputs_before
    q, order = scenario.microbatches, scenario.schedule
    kept = np.array([warm_up(r, q, order) for r in range(len(stages.device))]) * scenario.samples
    held = (scenario.state_copies + 1.0) * (weights[stages.last + 1] - weights[stages.first])
    activations = outputs[stages.last + 1] - outputs[stages.first]
    kept = kept.reshape(-1, *[1] * (activations.ndim - 1))
    return np.asarray((held + kept * activations) * stages.exists)


def _fetching(stages: Stages, slot: Slot, scenario: Scenario, pick: Pick) -> FloatArray:
    if scenario.memory is None:
        return np.zeros(())
    excess = needed_memory(stages, scenario) - scenario.memory_limits[stages.device]
    store = np.where(slot.store > 0, slot.store, 1.0)
    return np.asarray(np.maximum(excess, 0.0) / pick(store, stages.device))


def transfer_seconds(slot: Slot, place: IntArray, scenario: Scenario) -> FloatArray:
    """Compute how long it takes to bring each block to each device, (..., L, M) s.

    A device gets a block from the device that holds it, or from the store if that has gone.
    0 where the device holds it already.

    Args:
        slot: The slot, fields (...).
        place: Who holds each block, (..., L).
        scenario: The parameters.
    """
    rate = np.concatenate([slot.link, slot.store[..., None, :]], axis=-2)  # (..., M + 1, M)
    holder = held_by(slot.present, place)
    row = _row_numbers(rate.shape[:-2])[..., None] * (scenario.devices + 1)
    row = row + np.where(holder == NOWHERE, scenario.devices, holder)
    from_holder = rate.reshape(-1, scenario.devices).take(row, axis=0)
    size = scenario.state_copies * scenario.chain.weights[:, None]
    seconds = size / np.where(from_holder > 0, from_holder, np.inf)  # who is absent has no rates
    return np.where(holder[..., None] == np.arange(scenario.devices), 0.0, seconds)


def held_by(present: BoolArray, place: IntArray) -> IntArray:
    """Return which device that is present holds each block, (..., L); -1 if none does."""
    holds = place[..., None] == np.arange(present.shape[-1])
    return np.where((holds & present[..., None, :]).any(axis=-1), place, NOWHERE)


def perfect_seconds(slot: Slot, scenario: Scenario) -> FloatArray:
    """Compute how long a minibatch would take with perfect sharing, (...) s; inf with nobody.

    Perfect sharing keeps all devices that are present busy, without transfers.

    Args:
        slot: The slot, fields (...).
        scenario: The parameters.
    """
    speed = np.where(slot.present, slot.speed, 0.0).sum(axis=-1)
    minibatch = scenario.microbatches * scenario.samples * scenario.sample_work
    with np.errstate(divide="ignore"):
        return np.asarray(minibatch / speed)


def pace(slot: Slot, minibatch_s: FloatArray, scenario: Scenario) -> FloatArray:
    """Compute the pace of a pipeline as a share of that of perfect sharing, (...), in [0, 1].

    Args:
        slot: The slot, fields (...).
        minibatch_s: What the pipeline takes per minibatch, (...) s.
        scenario: The parameters.
    """
    # A single device has perfect sharing; by rounding, it might seem to have more.
    return np.minimum(perfect_seconds(slot, scenario) / minibatch_s, 1.0)


def lost_seconds(share: FloatArray, moving_s: FloatArray, scenario: Scenario) -> FloatArray:
    """Compute what a slot loses against perfect sharing, (...) s.

    Moving takes from the time for training. Moving that takes longer than the slot is charged
    here to its end; the next slot begins with everything in its place.

    Args:
        share: The pace as a share of that of perfect sharing, (...), in [0, 1].
        moving_s: The time for moving and starting again, (...) s.
        scenario: The parameters.
    """
    length = scenario.slot_s
    training = np.maximum(length - moving_s, 0.0)
    return np.asarray(np.maximum(length, moving_s) - training * share)


def evaluate(
    slot: Slot, state: State, decision: Decision, scenario: Scenario
) -> tuple[State, Outcome]:
    """Move the blocks to where the decision wants them, and train for the rest of the slot.

    Blocks for the same device arrive one after the other, and devices receive side by side. A
    slot in which nobody is present costs nothing.

    Args:
        slot: The slot, fields (...).
        state: The state, fields (...).
        decision: The decision, fields (...).
        scenario: The parameters.

    Returns:
        The state after the slot, and what became of it.
    """
    plan = valid_plan(slot.present, slot.speed, decision.place)
    nobody = ~np.broadcast_to(slot.present.any(axis=-1), plan.shape[:-1])
    stages = stages_of(plan, min(scenario.devices, scenario.blocks))
    times, fetching = stage_times(stages, slot, scenario)
    minibatch_s = minibatch_seconds(times, scenario.microbatches, scenario.schedule)
    seconds = pick_each(transfer_seconds(slot, state.place, scenario), np.maximum(plan, 0))
    mine = plan[..., None] == np.arange(scenario.devices)
    arrival = np.where(mine, seconds[..., None], 0.0).sum(axis=-2).max(axis=-1)
    moved = plan != held_by(slot.present, state.place)
    moving_s = np.where(moved.any(axis=-1), arrival + scenario.restart_s, 0.0)
    moving_s = np.where(nobody, 0.0, moving_s)
    minibatch_s = np.where(nobody, 1.0, minibatch_s)  # a stand-in that can be divided by
    share = np.where(nobody, 1.0, pace(slot, minibatch_s, scenario))
    size = scenario.state_copies * scenario.chain.weights
    training = np.where(nobody, 0.0, np.maximum(scenario.slot_s - moving_s, 0.0))
    minibatches = training / minibatch_s
    outcome = Outcome(
        lost_s=lost_seconds(share, moving_s, scenario),
        trained=minibatches * scenario.microbatches * scenario.samples,
        minibatch_s=np.where(nobody, 0.0, minibatch_s),
        moving_s=moving_s,
        moved_bits=np.where(nobody, 0.0, np.where(moved, size, 0.0).sum(axis=-1)),
        stages=np.where(nobody, 0.0, stages.exists.sum(axis=0)),
        fetching_s=np.where(nobody, 0.0, fetching.max(axis=0)),
    )
    return State(place=plan, slots_left=state.slots_left - 1.0), outcome
