"""The time that a pipeline takes for one minibatch, by the order of its operations.

Each stage does the forward and the backward passes of Q microbatches in a fixed order. An
operation starts when its stage has ended the one before and its input has arrived. Links are
full duplex and transfer one microbatch after the other. So every end is a maximum of ends plus
a duration: a recursion in the (max, +) algebra, each step of which is an array operation over
all plans and environments.

Stages are counted from the last one, r = 0. Then a stage's order depends on r alone, and
pipelines of different lengths are computed side by side: what a short one lacks are stages
before its first that take no time, and these delay nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mec_gym.core.types import FloatArray
from mec_gym.pipeline_training.scenario import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """What each stage takes per microbatch. The first axis counts R stages from the last one."""

    forward: FloatArray  # (R, ...) s
    backward: FloatArray  # (R, ...) s
    up: FloatArray  # (R - 1, ...) s to send the output of stage r + 1 to stage r
    down: FloatArray  # (R - 1, ...) s to send the gradient of that back from stage r


class Operation(NamedTuple):
    """The forward or backward pass of one microbatch in one stage."""

    stage: int  # counted from the last one
    backward: bool
    microbatch: int


def warm_up(stage: int, microbatches: int, schedule: Schedule) -> int:
    """Return how many forward passes a stage does before its first backward pass.

    It is also the largest number of microbatches whose activations the stage keeps: Q for
    GPipe [Huang2019], and min(r + 1, Q) for 1F1B [Narayanan2021].

    Args:
        stage: The stage, r, counted from the last one.
        microbatches: Q.
        schedule: The order of operations.
    """
    return microbatches if schedule == "gpipe" else min(stage + 1, microbatches)


@lru_cache(maxsize=64)
def order_of(stages: int, microbatches: int, schedule: Schedule) -> tuple[Operation, ...]:
    """Return all operations in an order in which each comes after what it waits for.

    Args:
        stages: The number of stages, R.
        microbatches: Q.
        schedule: The order of operations of each stage.
    """
    waiting = []
    for r in range(stages):
        first = warm_up(r, microbatches, schedule)
        own = [Operation(r, False, q) for q in range(first)]
        for q in range(microbatches):
            own.append(Operation(r, True, q))
            if first + q < microbatches:
                own.append(Operation(r, False, first + q))
        waiting.append(own[::-1])
    done: set[Operation] = set()
    order = []
    while any(waiting):
        for own in waiting:
            if own and (_input(own[-1], stages) in done or not _input(own[-1], stages)):
                done.add(own[-1])
                order.append(own.pop())
    return tuple(order)


def _input(operation: Operation, stages: int) -> Operation | None:
    """The operation of another stage that an operation waits for."""
    r, backward, q = operation
    neighbour = r - 1 if backward else r + 1
    return Operation(neighbour, backward, q) if 0 <= neighbour < stages else None


def minibatch_seconds(times: StageTimes, microbatches: int, schedule: Schedule) -> FloatArray:
    """Compute when the last operation of a minibatch ends, (...) s.

    Args:
        times: What each stage takes.
        microbatches: Q.
        schedule: The order of operations.
    """
    return _run(times, microbatches, schedule, {})


def timeline(
    times: StageTimes, microbatches: int, schedule: Schedule
) -> dict[Operation, FloatArray]:
    """Compute when every operation ends, (...) s; it starts a forward or backward time before.

    Args:
        times: What each stage takes.
        microbatches: Q.
        schedule: The order of operations.
    """
    order = order_of(len(times.forward), microbatches, schedule)
    ends = {operation: np.empty(0) for operation in order}
    _run(times, microbatches, schedule, ends)
    return ends


@lru_cache(maxsize=64)
def _receivers(stages: int, microbatches: int, schedule: Schedule) -> tuple[int, ...]:
    """The place in the order of the operation that each one sends its result to; -1: none."""
    order = order_of(stages, microbatches, schedule)
    waiting = {_input(operation, stages): i for i, operation in enumerate(order)}
    return tuple(waiting.get(operation, -1) for operation in order)


def _run(
    times: StageTimes, microbatches: int, schedule: Schedule, ends: dict[Operation, FloatArray]
) -> FloatArray:
    """Return the end of the minibatch, and fill in the ends that are asked for."""
    stages = len(times.forward)
    order = order_of(stages, microbatches, schedule)
    free = [np.zeros(times.forward.shape[1:]) for _ in range(stages)]  # when each stage is free
    up, down = free.copy(), free.copy()  # when the links to a stage and from it are free
    arrived: list[FloatArray | None] = [None] * len(order)
    duration = list(times.forward), list(times.backward)
    up_s, down_s = list(times.up), list(times.down)
    receivers = _receivers(stages, microbatches, schedule)
    # What an operation sends comes before whoever waits for it, so the list is read as it fills.
    for operation, receiver, input_at in zip(order, receivers, arrived, strict=True):
        r, backward, _ = operation
        end = free[r] if input_at is None else np.maximum(free[r], input_at)
        end = free[r] = end + duration[backward][r]
        if receiver >= 0 and backward:
            arrived[receiver] = down[r] = np.maximum(down[r], end) + down_s[r]
        elif receiver >= 0:
            arrived[receiver] = up[r - 1] = np.maximum(up[r - 1], end) + up_s[r - 1]
        if ends:
            ends[operation] = end
    return free[-1]  # the first stage ends last
