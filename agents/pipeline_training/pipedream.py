"""PipeDream's dynamic program: stages and their replicas on identical devices, [Harlap2018].

A stage of blocks i to j with m replicas takes m microbatches in turn, and its replicas agree on
its weights w after each:

    T(i..j, m) = (sum of t + 4 (m - 1) sum of w / (m B)) / m

seconds per microbatch. With a_i what block i sends to the next one, the least period of blocks 0
to j on m devices is

    A(j, m) = min(T(0..j, m),
                  min over i < j, q < m of max(A(i, m - q), 2 a_i / B, T(i+1..j, q))).

Computing and agreeing add up, as in the planner that the authors released. That one counts the
activations only if it is told so, and divides them by the replicas; the paper, and this module,
always count them whole. All sizes are bits, all rates bit/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.protocol import Solution
from mec_gym.core.checks import positive, positive_int
from mec_gym.core.types import FloatArray
from mec_gym.pipeline_training.model import NOWHERE, Decision, State
from mec_gym.pipeline_training.scenario import Scenario, Slot


class Stage(NamedTuple):
    """A stage of a pipeline.

    Attributes:
        first: Its first block.
        last: Its last block.
        replicas: How many devices take its microbatches in turn.
    """

    first: int
    last: int
    replicas: int


@dataclass(frozen=True)
class Pipeline:
    """A plan for identical devices.

    Attributes:
        stages: The stages in the order of the blocks.
        period: Time per microbatch in the steady state, s.
        data_parallel: Time per microbatch if every device held the whole network, s.
    """

    stages: tuple[Stage, ...]
    period: float
    data_parallel: float

    @property
    def configuration(self) -> str:
        """The replicas of the stages as the paper writes them, such as ``15-1``."""
        return "-".join(str(stage.replicas) for stage in self.stages)


def pipedream(
    seconds: FloatArray,
    bits: FloatArray,
    weights: FloatArray,
    devices: int,
    bandwidth: float,
    *,
    replicate: bool = True,
) -> Pipeline:
    """Find the stages and their replicas of the least steady period.

    Devices may be left idle, as with ``--use_fewer_machines`` of the authors' planner. Of the
    plans with the least period, one on the fewest devices is returned.

    Args:
        seconds: Time of the blocks per microbatch on one device, forward and backward together,
            (L) s.
        bits: What goes into each block per microbatch, and out of the last one, (L + 1) bit.
            Neither the first nor the last entry is sent between devices.
        weights: Weights of the blocks, (L) bit.
        devices: How many identical devices there are.
        bandwidth: Rate between any two of them, one medium for both directions, bit/s.
        replicate: Whether a stage may be on several devices.

    Raises:
        ValueError: There is no device, no bandwidth, or the shapes do not fit.
    """
    blocks = len(seconds)
    positive_int("devices", devices)
    positive("bandwidth", bandwidth)
    for name, array, entries in (("bits", bits, blocks + 1), ("weights", weights, blocks)):
        if array.shape != (entries,):
            raise ValueError(f"{name} must have shape {(entries,)}, got {array.shape}")
    stage = _stage_periods(seconds, weights, devices, bandwidth)
    data_parallel = float(stage[0, -1, -1])
    if not replicate:
        stage[..., 1:] = np.inf
    sent = 2 * bits[1:-1, None] / bandwidth  # (L - 1, 1) s, by cut
    # [j, m - 1], and the cut and replicas of the last stage; a cut of -1 is none.
    period = stage[0].copy()
    cut = np.full((blocks, devices), -1)
    replicas = np.tile(np.arange(1, devices + 1), (blocks, 1))
    for j in range(1, blocks):
        for m in range(2, devices + 1):
            # By i < j and q < m.
            last = np.maximum(sent[:j], stage[1 : j + 1, j, : m - 1])
            through = np.maximum(period[:j, m - 2 :: -1], last)
            i, q = divmod(int(through.argmin()), m - 1)
            if through[i, q] < period[j, m - 1]:
                period[j, m - 1], cut[j, m - 1], replicas[j, m - 1] = through[i, q], i, q + 1
    m = int(period[-1].argmin()) + 1
    least = float(period[-1, m - 1])
    stages: list[Stage] = []
    j = blocks - 1
    while j >= 0:
        i, q = int(cut[j, m - 1]), int(replicas[j, m - 1])
        stages.insert(0, Stage(i + 1, j, q))
        j, m = i, m - q
    return Pipeline(tuple(stages), least, data_parallel)


def _stage_periods(
    seconds: FloatArray, weights: FloatArray, devices: int, bandwidth: float
) -> FloatArray:
    """T(i..j, m), (L, L, devices) s by i, j and m - 1; infinite if j < i."""
    blocks = len(seconds)
    ordered = np.triu(np.ones((blocks, blocks), dtype=bool))
    time, size = (
        np.where(ordered, values, 0.0).cumsum(axis=-1)[..., None] for values in (seconds, weights)
    )
    m = np.arange(1, devices + 1)
    period = (time + 4 * (m - 1) * size / (m * bandwidth)) / m
    return np.where(ordered[..., None], period, np.inf)


@dataclass(frozen=True, slots=True)
class PipeDreamSolver:
    """Cuts the network by :func:`pipedream`, without replicas, as if all devices were equal.

    A device's speed is taken for the mean speed of those that are present, and a link's rate for
    the mean rate between them. The stages go to the devices in the order of their numbers.

    Attributes:
        scenario: The parameters of the problem.
    """

    scenario: Scenario

    def solve(self, slot: Slot, state: State) -> Solution:
        """Solve a batch of slots, fields (...)."""
        s, devices = self.scenario, self.scenario.devices
        batch = slot.present.shape[:-1]
        present = slot.present.reshape(-1, devices)
        speed = slot.speed.reshape(-1, devices)
        link = slot.link.reshape(-1, devices, devices)
        plan = np.full((len(present), s.blocks), NOWHERE)
        for i, here in enumerate(present):
            who = np.flatnonzero(here)
            if len(who) == 0:
                continue
            between = link[i][np.ix_(who, who)][~np.eye(len(who), dtype=np.bool_)]
            found = pipedream(
                s.microbatch_work / speed[i, who].mean(),
                s.microbatch_bits,
                s.chain.weights,
                len(who),
                between.mean() if len(who) > 1 else s.link,
                replicate=False,
            )
            for device, stage in zip(who, found.stages, strict=False):
                plan[i, stage.first : stage.last + 1] = device
        return Solution(Decision(place=plan.reshape(*batch, s.blocks)), evaluations=1)
