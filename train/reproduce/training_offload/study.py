"""Mean delays of the schemes in figures 4 to 6 of [Chen2025], under each reading of eq. (11).

What is compared are reductions: the mean delay of the optimum's curve is below the mean of
another scheme's curve by so many percent of the latter.

The reductions claimed for figure 6 cannot all hold. Let every resource work at a constant
rate, r_l on the device, r_e at the edge, r_c in the cloud. The optimum then trains at
r_t = r_l + r_e + r_c, end-cloud at r_l + r_c and end-edge at r_l + r_e, which together are
r_t + r_l >= r_t. Delays are W / r, so the reductions are 1 - (r_l + r_c) / r_t and
1 - (r_l + r_e) / r_t, and their sum is 1 - r_l / r_t <= 100 %. 66.47 + 48.83 = 115.3 % is
claimed. The edge's rate is not quite constant, a hand-over costs time; under ``finish`` and
``split`` the sum still stays below 77 % at every W in 50..350 Mbit and T_ct in 1..30 s.
``literal`` escapes the argument: what has arrived but not been trained at the hand-over costs
nothing, so the edge's rate jumps. Single tasks then reach 108 % (W = 346 Mbit, T_ct = 14.6 s),
figure 6, a mean, 77 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.training_offload.random_split import RandomSplitSolver
from mec_gym.core.types import FloatArray
from mec_gym.training_offload.exact import Resources, SlotFrontier
from mec_gym.training_offload.model import State, evaluate
from mec_gym.training_offload.scenario import MEGA, Scenario, Slot, Variant

SEED = 0
"""The seed of the tasks that are drawn, and of the random splits."""
DRAWS = 2000
"""How many random tasks, or random splits, stand behind every mean by default."""

SCHEMES = ("end-edge-cloud", "end-cloud", "end-edge", "random")
"""The optimum first; the others are what it is compared with."""
_RESOURCES = (Resources(), Resources(edge=False), Resources(cloud=False))

READINGS: dict[Variant, str] = {
    "finish": "server i finishes",
    "split": "the rest moves to j",
    "literal": "the rest is never trained",
}
"""What becomes of work that is not yet trained when the vehicle leaves, by variant."""


@dataclass(frozen=True, slots=True)
class Published:
    """One of the paper's figures.

    Attributes:
        title: The title says what is drawn.
        xlabel: The label of the horizontal axis.
        x: The points on the horizontal axis, (points,).
        work: The range of W in Mbit, or None where W is what the axis shows.
        connection_time: The range of T_ct in s, or None where T_ct is what the axis shows.
        claimed: The paper's reductions in percent, in the order of ``SCHEMES[1:]``.
    """

    title: str
    xlabel: str
    x: FloatArray
    work: tuple[float, float] | None
    connection_time: tuple[float, float] | None
    claimed: tuple[float, float, float]


FIGURES: dict[int, Published] = {
    4: Published(
        "delay against task size, $T_{ct}$ = 15 s",
        "task size W (Mbit)",
        np.linspace(50.0, 350.0, 7),
        None,
        (15.0, 15.0),
        (45.93, 23.10, 57.01),
    ),
    5: Published(
        "delay against connection time, W = 350 Mbit",
        "connection time $T_{ct}$ (s)",
        np.linspace(5.0, 30.0, 11),
        (350.0, 350.0),
        None,
        (48.00, 25.24, 54.25),
    ),
    6: Published(
        "delay against number of users, W ~ U[50, 350] Mbit, $T_{ct}$ ~ U[10, 15] s, no contention",
        "number of users",
        np.linspace(5.0, 50.0, 10),
        (50.0, 350.0),
        (10.0, 15.0),
        (66.47, 48.83, 80.97),
    ),
}


@dataclass(frozen=True, slots=True)
class Curves:
    """The mean delays of all schemes in one figure under one variant."""

    x: FloatArray  # (points,), in the axis' unit
    delay: FloatArray  # (schemes, points) s, the order of SCHEMES

    def reductions(self) -> FloatArray:
        """By how many percent the optimum's mean is below that of each other scheme, (3,)."""
        means = self.delay.mean(axis=1)
        return np.asarray(100.0 * (1.0 - means[0] / means[1:]))


@dataclass(frozen=True, slots=True)
class Reduction:
    """Our reduction of a mean delay beside the paper's."""

    figure: int
    variant: str
    scheme: str
    ours_percent: float
    claimed_percent: float


def paper_slot(scenario: Scenario, work: FloatArray, connection_time: FloatArray) -> Slot:
    """Tasks in the paper's network, with a connection time that is known.

    Args:
        scenario: The scenario, which holds the servers' rates.
        work: The sizes of the tasks in bit, (...).
        connection_time: The times T_ct until the vehicle leaves its server in s, (...).
    """

    def rates(servers: tuple[float, ...]) -> FloatArray:
        return np.broadcast_to(np.array(servers), (*work.shape, 2, len(servers)))

    return Slot(
        work=work,
        connection_time=connection_time,
        connection_estimate=connection_time,
        position=np.zeros_like(work),
        speed=np.zeros_like(work),
        uplink=rates(scenario.server_uplink),
        downlink=rates(scenario.server_downlink),
        compute=rates(scenario.server_compute),
    )


def delays(slot: Slot, scenario: Scenario) -> FloatArray:
    """The delay of every task under every scheme, (schemes, ...) s.

    The first three schemes are optimal for what they may use, over all pairs of servers; the
    last one is a Dirichlet(1, 1, 1) split and a random pair per task. Neither of the paper's
    limits, eq. (17) and (18), can bind: all of 350 Mbit in the cloud takes 105 s, on the device
    114 J.

    Args:
        slot: The tasks, fields (...).
        scenario: The scenario, whose ``variant`` is the reading of eq. (11).
    """
    found = [SlotFrontier(slot, scenario, r).best()[0].delay for r in _RESOURCES]
    state = State(
        battery=np.full(slot.work.shape, scenario.battery), tasks_left=np.ones(slot.work.shape)
    )
    decision = RandomSplitSolver(scenario.servers, SEED).solve(slot, state).decision
    found.append(evaluate(slot, state, decision, scenario)[1].delay_s)
    return np.stack(found)


def curves(number: int, variant: Variant, draws: int = DRAWS) -> Curves:
    """Figure 4, 5 or 6 under one variant.

    The paper calls figure 6 a multi-user scene, but in its model users share nothing. So
    they are treated as independent, and a point is the mean over ``draws`` users, whatever
    their number in a group: where its curves rise or fall it is by chance.

    Args:
        number: The number of the figure: 4, 5 or 6.
        variant: The reading of eq. (11).
        draws: How many random splits (figures 4 and 5), or tasks with one split each
            (figure 6), stand behind every mean. More draws mean less noise and more time.
    """
    figure, scenario = FIGURES[number], Scenario(variant=variant)
    rng = np.random.default_rng(SEED)

    def drawn(between: tuple[float, float] | None) -> FloatArray:
        shape = (draws, len(figure.x))
        return np.broadcast_to(figure.x, shape) if between is None else rng.uniform(*between, shape)

    slot = paper_slot(scenario, drawn(figure.work) * MEGA, drawn(figure.connection_time))
    return Curves(x=figure.x, delay=delays(slot, scenario).mean(axis=1))


def all_curves(draws: int = DRAWS) -> dict[int, dict[Variant, Curves]]:
    """Every figure under every variant, by number and variant; see :func:`curves`."""
    return {
        number: {variant: curves(number, variant, draws) for variant in READINGS}
        for number in FIGURES
    }


def reductions(found: Mapping[int, Mapping[Variant, Curves]]) -> list[Reduction]:
    """Our reductions beside the paper's, in the order of figures, variants and schemes.

    Args:
        found: The curves by number of the figure and variant, see :func:`all_curves`.
    """
    return [
        Reduction(number, variant, scheme, ours, claimed)
        for number, variants in found.items()
        for variant, curve in variants.items()
        for scheme, ours, claimed in zip(
            SCHEMES[1:], curve.reductions().tolist(), FIGURES[number].claimed, strict=True
        )
    ]
