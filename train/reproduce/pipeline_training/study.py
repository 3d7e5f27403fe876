"""What is computed: the bubble, schedules over links, PipeDream's plans, and what they avoid.

Published are the bubble of [Huang2019] as a formula, and the plans that PipeDream's authors run
for VGG16 with the profile that they publish. All else is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import get_args

import numpy as np

from agents.pipeline_training.pipedream import Pipeline, Stage, pipedream
from mec_gym.core import arrays
from mec_gym.core.types import FloatArray, IntArray
from mec_gym.pipeline_training.clock import StageTimes, minibatch_seconds, warm_up
from mec_gym.pipeline_training.exact import plan_shares
from mec_gym.pipeline_training.model import perfect_seconds, stages_of
from mec_gym.pipeline_training.plans import all_plans
from mec_gym.pipeline_training.scenario import GIGA, MEGA, Scenario, Schedule, Slot
from train.reproduce.pipeline_training.staleness import (
    VARIANTS,
    Setting,
    Variant,
    accuracies,
    updates_until,
)
from train.reproduce.pipeline_training.vgg16_profile import STATES

SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)[::-1]
TITLES: dict[Schedule, str] = {"gpipe": "GPipe", "1f1b": "1F1B"}

STAGES = (2, 4, 8, 16)
MICROBATCHES = (1, 2, 4, 8, 16, 32, 64)

LINKS = tuple(MEGA * 10.0 ** (k / 4) for k in range(17))
"""Rates of all links, from 1 Mbit/s to 10 Gbit/s, for which the schedules are compared."""
BEST, FIXED = "best plan", "same plan"

WORKERS = {4: ("3-1", "Conv2d 8"), 8: ("7-1", "Conv2d 11"), 16: ("15-1", "Linear 1")}
"""The plans that PipeDream's authors run for VGG16, by the number of workers, and the layer with
weights at which the last stage begins: ``hybrid_conf.json`` and ``stage1.py`` in
``runtime/image_classification/models/vgg16/gpus=N`` of their repository, at the commit of
:mod:`~train.reproduce.pipeline_training.vgg16_profile`."""
BANDWIDTHS = (10 * GIGA, 25 * GIGA)
"""Rates between workers, bit/s: 1.25 and 3.125 GB/s, customary for Ethernet in data centres."""
SAVED = 0.95
"""[Harlap2018], abstract: up to so much less is sent than by data parallel training."""

FLEET_LINKS = (15 * MEGA, 50 * MEGA, 150 * MEGA, 500 * MEGA, 1.5 * GIGA, 5 * GIGA)
"""Median rates between the devices of our fleet; the third one is that of the preset."""
FLEET_MICROBATCHES = (8, 32)
FLEET_SLOTS, FLEET_SEED = 100, 0
_ROUNDING = 1e-9  # so much faster is not faster

MOMENTA = (0.0, 0.9)
UPDATES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ours beside the published.

    Attributes:
        quantity: What is compared.
        setting: For which pipeline.
        ours: What came out here.
        published: What the source says.
        source: Where it stands.
    """

    quantity: str
    setting: str
    ours: float | str
    published: float | str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """The share of the time in which equal stages without links are idle.

    Attributes:
        stages: S.
        microbatches: Q.
        schedule: The order of operations.
        ours: By the clock of the environment.
        formula: (S - 1) / (Q + S - 1).
    """

    stages: int
    microbatches: int
    schedule: Schedule
    ours: float
    formula: float


def bubbles() -> list[Bubble]:
    """Compute the bubble for all S and Q; a backward pass takes twice the time of a forward one."""
    rows = []
    for stages in STAGES:
        ones, none = np.ones(stages), np.zeros(stages - 1)
        times = StageTimes(forward=ones, backward=2.0 * ones, up=none, down=none)
        for q in MICROBATCHES:
            for schedule in SCHEDULES:
                end = float(minibatch_seconds(times, q, schedule))
                formula = (stages - 1) / (q + stages - 1)
                rows.append(
                    Bubble(
                        stages=stages,
                        microbatches=q,
                        schedule=schedule,
                        ours=1.0 - 3.0 * q / end,
                        formula=formula,
                    )
                )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A schedule on a fleet of equal devices and links.

    Attributes:
        link: Rate of all links, bit/s.
        schedule: The order of operations.
        plans: The schedule's best plan at this rate, or the same plan for all.
        minibatch_s: The time of a minibatch, s.
        stages: The number of stages.
        kept_bits: The activations that are kept at once in the stage where they are most, bit.
    """

    link: float
    schedule: Schedule
    plans: str
    minibatch_s: float
    stages: int
    kept_bits: float


def even_fleet(link: float, schedule: Schedule) -> Scenario:
    """Return the default scenario, but one slot, in which devices and links are equal.

    Args:
        link: Rate of all links, bit/s.
        schedule: The order of operations.
    """
    return Scenario(
        horizon=1,
        stay=None,
        speed_spread=0.0,
        load_spread=0.0,
        link_spread=0.0,
        store_spread=0.0,
        fading=0.0,
        link=link,
        schedule=schedule,
    )


def kept_activations(place: IntArray, scenario: Scenario) -> float:
    """Return the activations that the stage with most of them keeps at once, bit.

    Args:
        place: The device of each block, (L,).
        scenario: The parameters.
    """
    stages = stages_of(place, min(scenario.blocks, scenario.devices))
    kept = 0.0
    for r in np.flatnonzero(stages.exists):
        own = scenario.chain.outputs[stages.first[r] : stages.last[r] + 1].sum()
        samples = scenario.samples * warm_up(int(r), scenario.microbatches, scenario.schedule)
        kept = max(kept, samples * float(own))
    return kept


def schedules() -> list[Scheduled]:
    """Compare the schedules over all links: by their best plans, and by one plan for all.

    That one is the best plan at the fastest links.
    """
    rows = []
    same = int(_minibatches(even_fleet(LINKS[-1], SCHEDULES[0])).argmin())
    for link in LINKS:
        for schedule in SCHEDULES:
            scenario = even_fleet(link, schedule)
            plans, seconds = all_plans(scenario.blocks, scenario.devices), _minibatches(scenario)
            for name, plan in ((BEST, int(seconds.argmin())), (FIXED, same)):
                rows.append(
                    Scheduled(
                        link=link,
                        schedule=schedule,
                        plans=name,
                        minibatch_s=float(seconds[plan]),
                        stages=int(plans.uses[plan].sum()),
                        kept_bits=kept_activations(plans.place[plan], scenario),
                    )
                )
    return rows


def _minibatches(scenario: Scenario) -> FloatArray:
    """The time of a minibatch in the first slot, by plan, (P,) s."""
    trace = scenario.sample(np.random.default_rng(0), 1)
    slot = arrays.at(arrays.slot_at(trace, 0), 0)
    return np.asarray(perfect_seconds(slot, scenario) / plan_shares(slot, scenario))


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """PipeDream's plan for VGG16, by the published profile.

    Attributes:
        workers: The number of workers.
        bandwidth: Rate between them, bit/s.
        configuration: The replicas of its stages.
        published: Those that the authors run.
        last_stage: The layer with weights at which the last stage begins.
        published_last_stage: The same of what the authors run.
        period_s: Time per minibatch in the steady state, s.
        data_parallel_s: The same if every worker held the whole network, s.
        straight: The plan without replicas.
        straight_s: Its time per minibatch, s.
        saved: The share of what data parallel training sends that is not sent.
    """

    workers: int
    bandwidth: float
    configuration: str
    published: str
    last_stage: str
    published_last_stage: str
    period_s: float
    data_parallel_s: float
    straight: str
    straight_s: float
    saved: float


def profile() -> tuple[FloatArray, FloatArray, FloatArray]:
    """The published profile: seconds (L,), bits that pass (L + 1,) and weights in bit (L,)."""
    return (
        np.array([(state.forward_ms + state.backward_ms) / 1e3 for state in STATES]),
        np.array([0.0, *(8.0 * state.activation_bytes for state in STATES)]),
        np.array([8.0 * state.parameter_bytes for state in STATES]),
    )


def sent_bits(stages: Sequence[Stage], bits: FloatArray, weights: FloatArray) -> float:
    """Return what is sent per minibatch, as the planner counts it, bit.

    The m replicas of a stage send 4 (m - 1) / m times its weights, and what passes from one stage
    to the next one goes there and comes back as a gradient.

    Args:
        stages: The stages.
        bits: What goes into each block, and out of the last one, (L + 1,) bit.
        weights: Weights of the blocks, (L,) bit.
    """
    agreeing = sum(
        4.0 * (m - 1) / m * float(weights[first : last + 1].sum()) for first, last, m in stages
    )
    return agreeing + 2.0 * sum(float(bits[stage.first]) for stage in stages[1:])


def planned() -> list[Planned]:
    """Run PipeDream's planner for all numbers of workers and both bandwidths."""
    seconds, bits, weights = profile()
    rows = []
    for workers, (published, published_last) in WORKERS.items():
        together = [Stage(0, len(STATES) - 1, workers)]
        for bandwidth in BANDWIDTHS:
            found, straight = (
                pipedream(seconds, bits, weights, workers, bandwidth, replicate=replicate)
                for replicate in (True, False)
            )
            rows.append(
                Planned(
                    workers=workers,
                    bandwidth=bandwidth,
                    configuration=found.configuration,
                    published=published,
                    last_stage=_layer(found),
                    published_last_stage=published_last,
                    period_s=found.period,
                    data_parallel_s=found.data_parallel,
                    straight=straight.configuration,
                    straight_s=straight.period,
                    saved=1.0
                    - sent_bits(found.stages, bits, weights) / sent_bits(together, bits, weights),
                )
            )
    return rows


def _layer(plan: Pipeline) -> str:
    """The layer with weights at which the last stage begins, counted by its kind from 1."""
    first = next(i for i in range(plan.stages[-1].first, len(STATES)) if STATES[i].parameter_bytes)
    kind = STATES[first].layer
    return f"{kind} {sum(state.layer == kind for state in STATES[: first + 1])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTime:
    """Pipelines and data parallel training on our fleet, medians over slots.

    Attributes:
        link: Median rate between two devices, bit/s.
        microbatches: Q.
        slots: The number of slots, of as many episodes.
        pipeline_s: The time of a minibatch by the fastest plan with 1F1B, s.
        gpipe_s: The same with GPipe, s.
        gpipe_wins: The share of slots in which GPipe is faster than 1F1B.
        single_s: The same by the fastest device alone, s.
        data_parallel_s: The same if every device trained its share of the samples, s.
        agreeing_s: What of that is the all-reduce, s.
        data_parallel_wins: The share of slots in which data parallel training is faster.
    """

    link: float
    microbatches: int
    slots: int
    pipeline_s: float
    gpipe_s: float
    gpipe_wins: float
    single_s: float
    data_parallel_s: float
    agreeing_s: float
    data_parallel_wins: float


def all_reduce_seconds(slot: Slot, weights: float) -> float:
    """Return the time of a ring all-reduce among the devices that are present, s.

    Each of m devices sends 2 (m - 1) / m times the weights to the next one, and the slowest link
    decides. The ring is the one whose slowest link is fastest.

    Args:
        slot: One slot, fields without batch axes.
        weights: The weights of the network, bit.
    """
    first, *others = np.flatnonzero(slot.present)
    m = len(others) + 1
    if m == 1:
        return 0.0
    rings = [(first, *order, first) for order in permutations(others)]
    rate = max(min(slot.link[a, b] for a, b in pairwise(r)) for r in rings)
    return 2.0 * (m - 1) / m * weights / float(rate)


def fleet_times() -> list[FleetTime]:
    """Set data parallel training beside pipelines, in a slot from the middle of each episode."""
    rows = []
    for microbatches in FLEET_MICROBATCHES:
        for link in FLEET_LINKS:
            s = Scenario(link=link, microbatches=microbatches)
            trace = s.sample(np.random.default_rng(FLEET_SEED), FLEET_SLOTS)
            slots = arrays.slot_at(trace, s.horizon // 2)
            # Of a device alone, both are the same.
            slots = arrays.map_arrays(lambda a, some=_several(slots): a[some], slots)
            perfect = perfect_seconds(slots, s)
            pipeline, gpipe = (
                perfect / plan_shares(slots, replace(s, schedule=schedule)).max(axis=-1)
                for schedule in SCHEDULES[::-1]
            )
            speed = np.where(slots.present, slots.speed, 0.0)
            weights = float(s.chain.weights.sum())
            agreeing = np.array(
                [all_reduce_seconds(arrays.at(slots, i), weights) for i in range(len(perfect))]
            )
            rows.append(
                FleetTime(
                    link=link,
                    microbatches=microbatches,
                    slots=len(perfect),
                    pipeline_s=float(np.median(pipeline)),
                    gpipe_s=float(np.median(gpipe)),
                    gpipe_wins=float((gpipe < pipeline * (1 - _ROUNDING)).mean()),
                    single_s=float(np.median(perfect * speed.sum(axis=-1) / speed.max(axis=-1))),
                    data_parallel_s=float(np.median(perfect + agreeing)),
                    agreeing_s=float(np.median(agreeing)),
                    data_parallel_wins=float((perfect + agreeing < pipeline).mean()),
                )
            )
    return rows


def _several(slots: Slot) -> IntArray:
    """The slots in which at least two devices are present."""
    return np.flatnonzero(slots.present.sum(axis=-1) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """How long a perceptron learns in a pipeline that flushes, or copes with stale weights.

    Attributes:
        variant: How the pipeline copes.
        momentum: The share of the smoothed gradient that stays at an update.
        seed: Of the initial weights and the minibatches.
        updates: Updates until 90 % of the validation images are recognised; infinite: never.
    """

    variant: Variant
    momentum: float
    seed: int
    updates: float


def staleness(seeds: int) -> list[Stale]:
    """Let the perceptron learn, in all variants.

    Args:
        seeds: The number of runs of each.
    """
    return [
        Stale(variant=variant, momentum=momentum, seed=seed, updates=float(updates))
        for momentum in MOMENTA
        for variant in VARIANTS
        for seed, updates in enumerate(
            updates_until(
                accuracies(variant, Setting(momentum=momentum), seeds=seeds, updates=UPDATES)
            )
        )
    ]


def needed_updates(rows: Sequence[Stale], variant: Variant, momentum: float) -> FloatArray:
    """Return the updates that one variant needed, by seed."""
    return np.array([r.updates for r in rows if (r.variant, r.momentum) == (variant, momentum)])


def slowdown(microbatches: float, stages: int) -> float:
    """Return how many times longer an update takes with a flush than without: (Q + S - 1) / Q.

    Args:
        microbatches: Q.
        stages: S.
    """
    return (microbatches + stages - 1) / microbatches


def enough_microbatches(flush: float, stale: float, stages: int) -> int | None:
    """Return from how many microbatches on flushing is the faster way; None: it never is.

    Args:
        flush: Updates that are needed with a flush.
        stale: Updates that are needed without.
        stages: S.
    """
    # flush (Q + S - 1) / Q < stale
    if stale <= flush:
        return None
    if np.isinf(stale):
        return 1
    return int(np.floor(flush * (stages - 1) / (stale - flush))) + 1


def comparisons(bubble: Sequence[Bubble], plans: Sequence[Planned]) -> list[Comparison]:
    """Return ours beside the published.

    Args:
        bubble: What :func:`bubbles` computed.
        plans: What :func:`planned` computed.
    """
    rows = [
        Comparison(
            quantity=f"bubble, {TITLES[b.schedule]}",
            setting=f"S = {b.stages}, Q = {b.microbatches}",
            ours=b.ours,
            published=b.formula,
            source="[Huang2019], section 2.3: (S - 1) / (Q + S - 1)",
        )
        for b in bubble
    ]
    for p in plans:
        setting = f"VGG16, {p.workers} workers, {p.bandwidth / 8 / GIGA:g} GB/s"
        rows.append(
            Comparison(
                quantity="plan",
                setting=setting,
                ours=p.configuration,
                published=p.published,
                source="hybrid_conf.json of PipeDream's repository",
            )
        )
        rows.append(
            Comparison(
                quantity="last stage begins with",
                setting=setting,
                ours=p.last_stage,
                published=p.published_last_stage,
                source="stage1.py of PipeDream's repository",
            )
        )
        rows.append(
            Comparison(
                quantity="sent less than by data parallel training",
                setting=setting,
                ours=p.saved,
                published=f"up to {SAVED}",
                source="[Harlap2018], abstract; the most over several networks",
            )
        )
    return rows
