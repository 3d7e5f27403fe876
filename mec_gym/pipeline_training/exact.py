"""The optimum of one slot, and of an episode that is known, over all plans.

Up to ``plans.MOST_PLANS`` plans are all tried, in one call per slot. Beyond that only the bound
is left, which then comes from :mod:`mec_gym.pipeline_training.subsets`.
"""

from __future__ import annotations

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.pipeline_training.clock import minibatch_seconds
from mec_gym.pipeline_training.model import (
    NOWHERE,
    Decision,
    Stages,
    State,
    held_by,
    lost_seconds,
    pace,
    stage_times,
    transfer_seconds,
)
from mec_gym.pipeline_training.plans import Plans, all_plans, can_try_all
from mec_gym.pipeline_training.scenario import Scenario, Slot
from mec_gym.pipeline_training.subsets import MOST_DEVICES, least_period

_AT_ONCE = 8192
"""Plans, of several slots, that are computed in one call: more do not fit into a cache."""


def plan_shares(slot: Slot, scenario: Scenario) -> FloatArray:
    """Compute the pace of every plan as a share of that of perfect sharing.

    Args:
        slot: The slots, fields (...).
        scenario: The parameters.

    Returns:
        The shares, (..., P); -inf for plans with devices that are absent.
    """
    plans = all_plans(scenario.blocks, scenario.devices)
    batch = slot.present.shape[:-1]
    slots = arrays.join_axes(slot, len(batch))
    count, at_once = len(slots.present), max(1, _AT_ONCE // len(plans.place))
    shares = np.empty((count, len(plans.place)))
    for begin in range(0, count, at_once):
        part = slice(begin, begin + at_once)
        shares[part] = _shares(arrays.at(slots, part), plans, scenario)
    return shares.reshape(*batch, -1)


def _shares(slots: Slot, plans: Plans, scenario: Scenario) -> FloatArray:
    """The paces of all plans in few slots, (slots, P)."""

    def pick(array: FloatArray, index: IntArray) -> FloatArray:
        return np.moveaxis(array.take(index[:, 0], axis=-1), -2, 0)  # (R, slots, P)

    stages = arrays.map_arrays(lambda a: a[:, None], plans.stages)
    times, _ = stage_times(stages, slots, scenario, pick)
    seconds = minibatch_seconds(times, scenario.microbatches, scenario.schedule)
    share = pace(arrays.map_arrays(lambda a: a[:, None], slots), seconds, scenario)
    return np.where(_absent(slots, plans), -np.inf, share)


def _absent(slot: Slot, plans: Plans) -> BoolArray:
    """Whether a plan uses a device that is absent, (..., P)."""
    return np.asarray((~slot.present).astype(np.float64) @ plans.uses.T.astype(np.float64) > 0)


def plan_moving(slot: Slot, place: IntArray, scenario: Scenario) -> FloatArray:
    """Compute the time for moving and starting again, for every plan.

    Args:
        slot: The slots, fields (...).
        place: Who holds each block, (..., L).
        scenario: The parameters.

    Returns:
        The times, (..., P) s; of no meaning for plans with devices that are absent.
    """
    plans = all_plans(scenario.blocks, scenario.devices)
    arrival = _arrival(transfer_seconds(slot, place, scenario), plans.stages)
    moved = np.asarray(held_by(slot.present, place)[..., None, :] != plans.place).any(axis=-1)
    return np.where(moved, arrival + scenario.restart_s, 0.0)


def _arrival(seconds: FloatArray, stages: Stages) -> FloatArray:
    """When the last block has arrived, for every plan, (..., P) s.

    Args:
        seconds: How long it takes to bring each block to each device, (..., L, M) s.
        stages: The stages of the plans, fields (R, P).
    """
    devices = seconds.shape[-1]
    until = np.zeros((*seconds.shape[:-2], seconds.shape[-2] + 1, devices))
    np.cumsum(seconds, axis=-2, out=until[..., 1:, :])
    flat = until.reshape(*until.shape[:-2], -1)
    # A stage's blocks are consecutive, so what they take together is a difference; for a stage
    # that does not exist, it is that of nothing.
    begin = stages.first * devices + stages.device
    end = (stages.last + stages.exists) * devices + stages.device
    latest = np.zeros((*seconds.shape[:-2], end.shape[-1]))
    for first, last in zip(begin, end, strict=True):
        np.maximum(latest, flat.take(last, axis=-1) - flat.take(first, axis=-1), out=latest)
    return latest


def plan_rewards(slot: Slot, place: IntArray, scenario: Scenario) -> FloatArray:
    """Compute what every plan earns in a slot, moving included.

    Args:
        slot: The slots, fields (...).
        place: Who holds each block, (..., L).
        scenario: The parameters.

    Returns:
        The rewards, (..., P); -inf for plans with devices that are absent, but 0 for all plans
        where nobody is present.
    """
    share, moving_s = plan_shares(slot, scenario), plan_moving(slot, place, scenario)
    lost = lost_seconds(np.maximum(share, 0.0), moving_s, scenario)
    nobody = ~np.any(slot.present, axis=-1, keepdims=True)
    return np.where(nobody, 0.0, np.where(np.isfinite(share), -lost / scenario.slot_s, -np.inf))


def slot_optimum(slot: Slot, state: State, scenario: Scenario) -> tuple[Decision, FloatArray]:
    """Find the plan that earns most in a slot, moving included.

    Args:
        slot: The slots, fields (...).
        state: The states, fields (...).
        scenario: The parameters.

    Returns:
        The decision, and its reward (...).
    """
    rewards = plan_rewards(slot, state.place, scenario)
    best = rewards.argmax(axis=-1)
    plans = all_plans(scenario.blocks, scenario.devices)
    return Decision(place=plans.place[best]), rewards.max(axis=-1)


def episode_optimum(trace: Slot, scenario: Scenario) -> tuple[FloatArray, IntArray]:
    """Find the best that was possible in episodes that are known, over all plans.

    This is Viterbi's algorithm: the best way to each plan in a slot comes from a plan in the
    slot before, and what moving between the two takes is known.

    Args:
        trace: The episodes, fields (n, T, ...).
        scenario: The parameters.

    Returns:
        The returns (n,), and the device of each block in each slot, (n, T, L).
    """
    nowhere = np.full(scenario.blocks, NOWHERE)
    found = [best_way(arrays.at(trace, i), nowhere, scenario) for i in range(len(trace.present))]
    return np.array([value for value, _ in found]), np.stack([way for _, way in found])


def best_way(
    slots: Slot, place: IntArray, scenario: Scenario, paid: FloatArray | None = None
) -> tuple[float, IntArray]:
    """Find the plans that earn most in consecutive slots that are known, over all plans.

    Args:
        slots: The slots, fields (T, ...).
        place: Who holds each block at first, (L,).
        scenario: The parameters.
        paid: What is taken off for beginning a slot with each plan, or, at last, with all blocks
            in the store, (T, P + 1); nothing is taken off in the first slot. None for nothing.

    Returns:
        What they earn, and the device of each block in each slot, (T, L).
    """
    plans = all_plans(scenario.blocks, scenario.devices)
    held, value = place[None], np.zeros(1)  # what a slot may begin with, and what it has earned
    possible = np.empty(0, dtype=np.int64)
    steps = []
    for t, share in enumerate(plan_shares(slots, scenario)):
        if paid is not None and t:
            value = value - (paid[t, possible] if len(possible) else paid[t, -1:])
        possible = np.flatnonzero(np.isfinite(share))
        if len(possible):
            slot = arrays.at(slots, t)
            # Whoever is behind by more than moving from the best one takes is not needed.
            best = int(value.argmax())
            longest = _moving_between(slot, held[best : best + 1], possible, scenario).max()
            begin = np.flatnonzero(value >= value[best] - longest / scenario.slot_s)
            moving_s = _moving_between(slot, held[begin], possible, scenario)
            lost = lost_seconds(share[possible], moving_s, scenario)
            total = value[begin, None] - lost / scenario.slot_s
            held = plans.place[possible]
        else:
            begin, total = np.arange(len(value)), value[:, None]
            held = np.full((1, scenario.blocks), NOWHERE)
        steps.append((held, begin[total.argmax(axis=0)]))
        value = total.max(axis=0)
    at = int(value.argmax())
    way = []
    for places, came_from in reversed(steps):
        way.append(places[at])
        at = int(came_from[at])
    return float(value.max()), np.stack(way[::-1])


def _moving_between(
    slot: Slot, place: IntArray, possible: IntArray, scenario: Scenario
) -> FloatArray:
    """The time for moving from each of K places (K, L) to each possible plan, (K, P) s."""
    plans = all_plans(scenario.blocks, scenario.devices)
    wide = arrays.map_arrays(lambda a: a[None], slot)
    stages = arrays.map_arrays(lambda a: a[:, possible], plans.stages)
    arrival = _arrival(transfer_seconds(wide, place, scenario), stages)
    same = np.ones(arrival.shape, dtype=np.bool_)
    for mine, others in zip(place.T, plans.place[possible].T, strict=True):
        same &= mine[:, None] == others
    return np.where(same, 0.0, arrival + scenario.restart_s)


def _period_at_least(slot: Slot, scenario: Scenario) -> FloatArray:
    """A time that any pipeline takes per microbatch at least, (...) s; inf with nobody."""
    work, bits = scenario.microbatch_work, scenario.microbatch_bits
    if scenario.devices <= MOST_DEVICES:
        return least_period(work, bits, slot.speed, slot.link, slot.present)[0]
    # No more devices work at once than there are blocks.
    speed = np.sort(np.where(slot.present, slot.speed, 0.0), axis=-1)
    with np.errstate(divide="ignore"):
        return np.asarray(work.sum() / speed[..., -scenario.blocks :].sum(axis=-1))


def episode_bound(trace: Slot, scenario: Scenario) -> FloatArray:
    """Compute an upper bound on the return of any policy, clairvoyant or not.

    Each slot has its best plan, and moving costs nothing, but in the first slot, in which all
    blocks come from the store. Where there are too many plans to try, a minibatch takes at least
    Q times the least period of any pipeline, and the first slot is like the others. Where there
    are too many devices for that as well, the fastest of them, one per block, share the work.

    Args:
        trace: The episodes, fields (n, T, ...).
        scenario: The parameters.

    Returns:
        One bound per episode, (n,).
    """
    n, horizon = trace.present.shape[:2]
    if not can_try_all(scenario.blocks, scenario.devices):
        nobody = ~trace.present.any(axis=-1)
        # With nobody present there is no period, and nothing is lost.
        period = np.where(nobody, 1.0, _period_at_least(trace, scenario))
        shortest = scenario.microbatches * period
        share = pace(trace, shortest, scenario)
        return np.asarray(np.where(nobody, 0.0, share - 1.0).sum(axis=1))
    best = np.empty((n, horizon))
    for t in range(1, horizon):
        share = plan_shares(arrays.slot_at(trace, t), scenario).max(axis=-1)
        best[:, t] = np.where(np.isfinite(share), share - 1.0, 0.0)
    first = arrays.slot_at(trace, 0)
    nowhere = np.full((n, scenario.blocks), NOWHERE)
    best[:, 0] = plan_rewards(first, nowhere, scenario).max(axis=-1)
    return np.asarray(best.sum(axis=1))
