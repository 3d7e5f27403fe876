"""What happened in an episode of distributed inference, as records to draw pictures from.

The bars of a task add up to its delay in :mod:`mec_gym.distributed_inference.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mec_gym.core import arrays
from mec_gym.core.problem import Episode
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.distributed_inference import model
from mec_gym.distributed_inference.model import Decision, Outcome, State
from mec_gym.distributed_inference.scenario import Scenario, Slot

History = Episode[Slot, State, Decision, Outcome]
LinkKind = Literal["upload", "download", "between servers", "stays"]
BarKind = Literal["transfer", "computing"]


@dataclass(frozen=True, slots=True)
class Link:
    """One line of the map; bits move from ``start`` to ``end`` unless the block stays.

    Attributes:
        kind: What moves.
        device: The device, from 0.
        start: The place that the line begins at: 0 is the device, m is server m.
        end: The place that the line ends at.
    """

    kind: LinkKind
    device: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of a task's time.

    Attributes:
        kind: What the time was spent on.
        device: The device, from 0.
        place: The place of the computing, or the place that the bits go to; of a result, the
            place that it comes from.
        start: When it began, s since the task began.
        end: When it ended, s since the task began.
    """

    kind: BarKind
    device: int
    place: int
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One round that was played, as :func:`model.evaluate` saw it."""

    slot: Slot
    state: State  # before the round
    place: IntArray  # (N,)
    works: BoolArray  # (N,) whether the device had a block to place
    runs: BoolArray  # (N,) whether it ran the block, too: the battery could pay
    parts: model.Delays  # fields (N,)

    @property
    def last(self) -> bool:
        """Whether this was the last block of the tasks."""
        return float(self.slot.blocks_left) == 1.0

    @property
    def seconds(self) -> FloatArray:
        """Delay of the round, (N,) s."""
        p = self.parts
        # Added up in the model's order: rounding must not make a task late here only.
        return np.where(self.runs, p.local + p.edge + (p.upload + p.other), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The last round that was played; before the first one, the round that is to come."""

    round: int  # its number, from 0
    block: int  # the block that is placed in it, from 0
    place: IntArray  # (N,) where the device's block ran; 0 before the first round
    active: BoolArray  # (N,) whether the device has a task
    failed: BoolArray  # (N,) whether the task has been given up
    tenants: FloatArray  # (M,) other tenants of the server
    blocks: IntArray  # (M,) blocks of ours that asked for their share of the server
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Where the time went of the tasks that the last round belongs to."""

    task: int  # the number of the tasks, from 0
    rounds: int  # rounds that were played of them
    active: BoolArray  # (N,) whether the device has a task
    deadline: FloatArray  # (N,) s of the task; of all blocks together if each has one
    delay: FloatArray  # (N,) s that the task has taken so far
    failed: BoolArray  # (N,) whether the task has been given up
    late: BoolArray  # (N,) whether it, or a block of it, is late, and it was not given up
    bars: tuple[Bar, ...]


def played(scenario: Scenario, episode: History, t: int) -> Played:
    """Return a round that was played.

    Args:
        scenario: What was played.
        episode: Fields of the trace (T, ...).
        t: The number of the round, from 0.
    """
    slot, state = arrays.at(episode.trace, t), episode.states[t]
    place = episode.decisions[t].place
    works = slot.active & ~state.failed
    parts = model.block_delays(slot, state.place, place, works, scenario)
    needed = model.energy(slot, place, works, parts.upload, scenario)
    return Played(
        slot=slot,
        state=state,
        place=place,
        works=works,
        runs=works & (needed <= state.battery),
        parts=parts,
    )


def links(scenario: Scenario, r: Played) -> tuple[Link, ...]:
    """Return the lines between devices and servers in a round.

    A device that nothing leaves or comes to has none. A block that moved between servers has
    two: the move, and its device's tie to the server.
    """
    found: list[Link] = []
    for n in np.flatnonzero(r.runs).tolist():
        before, place = int(r.state.place[n]), int(r.place[n])
        if place == 0:
            found += [Link("download", n, before, 0)] if before else []
            continue
        if before == 0:
            found.append(Link("upload", n, 0, place))
        elif before != place:
            found.append(Link("between servers", n, before, place))
        if r.last and scenario.return_result:
            found.append(Link("download", n, place, 0))
        elif before:
            found.append(Link("stays", n, 0, place))
    return tuple(found)


def bars(scenario: Scenario, rounds: Sequence[Played]) -> tuple[Bar, ...]:
    """Return the bars of the tasks of some rounds; those without length are left out.

    The bars of a device lie end to end: in each round the bits come first, then the block
    runs, then a result goes back. The last bar ends at the delay after the last round.

    Args:
        scenario: What was played.
        rounds: Rounds of the same tasks, from their first one on.
    """
    found: list[Bar] = []
    end = np.zeros(scenario.devices)
    for r in rounds:
        on_edge = r.place > 0
        moves = on_edge & (r.state.place > 0) & (r.state.place != r.place)
        moving = np.where(moves, r.slot.bits[..., 0].astype(np.float64) / scenario.backhaul, 0.0)
        # On a server, ``other`` holds the move and the result; at home only the way back.
        returns = on_edge & r.last & scenario.return_result
        result = np.where(returns, r.parts.other - moving, 0.0)
        steps: tuple[tuple[BarKind, FloatArray], ...] = (
            ("transfer", r.parts.upload + r.parts.other - result),
            ("computing", r.parts.local + r.parts.edge),
            ("transfer", result),
        )
        for kind, seconds in steps:
            start, end = end, end + np.where(r.runs, seconds, 0.0)
            found += [
                Bar(kind, n, int(r.place[n]), float(start[n]), float(end[n]))
                for n in np.flatnonzero(end > start).tolist()
            ]
    return tuple(found)


def snapshot(scenario: Scenario, episode: History) -> Snapshot:
    """Return the last round that was played, or the first one to come if none was."""
    done = len(episode.decisions)
    t = max(done - 1, 0)
    slot = arrays.at(episode.trace, t)
    place = np.zeros(scenario.devices, dtype=np.int64)
    failed = np.zeros(scenario.devices, dtype=np.bool_)
    blocks = np.zeros(scenario.servers, dtype=np.int64)
    lines: tuple[Link, ...] = ()
    if done:
        r = played(scenario, episode, t)
        place, failed, lines = r.place, slot.active & ~r.runs, links(scenario, r)
        blocks = np.bincount(r.place[r.works], minlength=scenario.servers + 1)[1:]
    return Snapshot(
        round=t,
        block=scenario.blocks - int(slot.blocks_left),
        place=place,
        active=slot.active,
        failed=failed,
        tenants=slot.load,
        blocks=blocks,
        links=lines,
    )


def timeline(scenario: Scenario, episode: History) -> Timeline:
    """Return where the time went of the tasks that the last round belongs to."""
    done = len(episode.decisions)
    task = max(done - 1, 0) // scenario.blocks
    first = task * scenario.blocks
    rounds = [played(scenario, episode, t) for t in range(first, done)]
    slot = arrays.at(episode.trace, first)
    delay = sum((r.seconds for r in rounds), np.zeros(scenario.devices))
    failed = np.zeros(scenario.devices, dtype=np.bool_)
    for r in rounds:
        failed |= r.works & ~r.runs
    if scenario.deadline_of == "block":
        deadline = slot.deadline * scenario.blocks
        late = np.any([r.seconds > r.slot.deadline for r in rounds], axis=0)
    else:
        deadline, late = slot.deadline, delay > slot.deadline
    return Timeline(
        task=task,
        rounds=len(rounds),
        active=slot.active,
        deadline=deadline,
        delay=delay,
        failed=failed,
        late=slot.active & ~failed & late,
        bars=bars(scenario, rounds),
    )


def latency_parts(episode: History) -> dict[str, FloatArray]:
    """Split the latency of every round, all devices together, by where it was spent.

    Args:
        episode: An episode of which at least one round was played.

    Returns:
        The parts by name, (rounds,) s each; in each round they add up to its latency.
    """
    o = arrays.stack(episode.outcomes)
    rest = o.latency_s - o.local_s - o.edge_s - o.transfer_s
    return {
        "on devices": o.local_s,
        "on servers": o.edge_s,
        "transfer": o.transfer_s,
        "charged for giving up": np.maximum(rest, 0.0),
    }
