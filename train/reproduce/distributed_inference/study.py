"""Redo what seed 002 claims of multi-task A3C: less inference delay than A3C and than rules.

The seed is a patent without a figure; the numbers are those of the paper that it goes with, which
does not print its scenario, nor can we read which scheme its "state of the art" is. So the
quantities are the paper's, the scenarios ours: ``patent``, the patent's equations literally, and
``small``, where devices share servers and bands. Nothing is tuned to come near the published
figures.

Delays are means over tasks, and split as the paper splits them: computing on devices, computing
on servers, and transfers. A task that was given up counts in the total with more seconds than it
spent, see ``model.failure_cost``; where none is, the parts add up to the total.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from tqdm import tqdm

from agents.a3c.settings import A3CSettings
from agents.a3c.trainer import usable_cores
from agents.a3c.worker import first_network
from agents.heads import make_head
from agents.networks.agent import NetworkAgent
from agents.ppo import PPOSettings
from agents.protocol import Agent
from agents.registry import agents_for, make_agent, references_for
from mec_gym.core import arrays
from mec_gym.core.pictures import BLUE, GREEN, GREY, ORANGE, PINK, RED, new_figure
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Rollout, sample_episodes
from mec_gym.core.types import FloatArray
from mec_gym.registration import make_problem
from train.config import ReproduceRun
from train.curves import Curve, learn
from train.evaluate import evaluate, gap_percent, interval
from train.presets import A3C_PRESETS, INFERENCE, PPO_PRESETS
from train.reproduce import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PICTURES = ("learning_curves.png", "delays.png")
TABLES = ("reductions.csv", "learning_curves.csv")
SCENARIOS = ("patent", "small")
SEED = 0  # of the learners; test episodes are those of seeds 0, 1, ...
EPISODES = 500
CURVE_EPISODES = 100  # the first of them, played at every point of a learning curve
EVALUATIONS = 10
FLAT_STEPS = 10
"""Flat networks get so many times the steps: a step costs them about a tenth of the time."""

CLAIMED = {"total": 4.76, "edge": 10.04, "local": 8.03}
"""Percent by which multi-task A3C's delays are below those of the paper's state of the art."""


@dataclass(frozen=True, slots=True)
class Learner:
    """One that is trained.

    Attributes:
        preset: Of ``train.presets``.
        color: Of its curves.
        line: Their style.
    """

    preset: str
    color: str
    line: str

    def settings(self) -> PPOSettings | A3CSettings:
        """The preset's, but with no more workers than there are cores."""
        if self.preset in PPO_PRESETS:
            return PPO_PRESETS[self.preset].settings
        settings = A3C_PRESETS[self.preset].settings
        return replace(settings, workers=min(settings.workers, usable_cores()))

    def steps(self, steps: int) -> int:
        """What it is given."""
        return steps if self.settings().network == "pairs" else FLAT_STEPS * steps


LEARNERS = {
    "a3c-flat": Learner("a3c-flat", GREY, "-"),
    "mtl-a3c-branch": Learner("mtl-a3c-branch", RED, "-"),
    "mtl-a3c-tied": Learner("mtl-a3c-tied", PINK, "-"),
    "ppo-flat": Learner("inference-flat", GREY, "--"),
    "ppo-branches": Learner("inference-branches", RED, "--"),
    "a3c": Learner("a3c", GREEN, "-"),
    "mtl-a3c": Learner("mtl-a3c", BLUE, "-"),
    "ppo": Learner("inference", BLUE, "--"),
    "a3c-unaided": Learner("a3c-unaided", GREEN, ":"),
    "mtl-a3c-unaided": Learner("mtl-a3c-unaided", BLUE, ":"),
    "ppo-unaided": Learner("inference-unaided", ORANGE, ":"),
}
"""By name. Flat networks and branches, then those with the scorer of (device, place) pairs."""

UNTRAINED = "untrained"
"""The scorer before its first step: a rule of thumb, look-ahead included, is built into it."""

RIVALS = ("a3c-flat", "greedy", "neurosurgeon")
"""What the paper could mean by the state of the art."""
COMPARED = {name: RIVALS for name in ("mtl-a3c-branch", "mtl-a3c-tied")} | {
    "mtl-a3c-unaided": ("a3c-unaided", *RIVALS),
    "mtl-a3c": ("a3c", *RIVALS),
}
"""Forms of multi-task A3C, and what each is held against; A3C with the same network first."""

REMARK = (
    "The paper's scenario and its state of the art are not public: these are the same quantities "
    "on our scenarios, not the same numbers. And it is one run of each learner (seed {seed}; A3C "
    "with several workers is not reproducible bit for bit), so intervals are over test episodes "
    "only. '{untrained}' is the network of a3c, mtl-a3c and ppo before its first step: its rule "
    "of thumb looks ahead, what they gained by learning is the difference to that line. In "
    "'patent' that rule and viterbi are optimal already; there is nothing to learn but for "
    "those unaided, which do not look ahead, and for networks that know nothing."
)


@dataclass(frozen=True)
class Line:
    """What came of one agent in one scenario.

    Attributes:
        scenario: Preset of it.
        agent: Its name.
        preset: It was trained with; None: not trained.
        steps: Environment steps of its training.
        seconds: Of its training.
        episodes: Played.
        tasks: In them, for every agent the same.
        return_mean: Mean return.
        gap_percent: Mean gap to the bound.
        gap_percent_low: Of its 95 % interval.
        gap_percent_high: Likewise.
        clairvoyant_gap_percent: Mean gap to the clairvoyant's return.
        total_s: Mean delay of a task.
        local_s: Of it computing on the device.
        edge_s: Of it computing on servers.
        transfer_s: Of it transfers.
        missed_percent: Share of tasks that ended late.
        given_up_percent: Share of tasks given up.
        decision_ms: Wall time of a decision when all episodes decide in one batch.
    """

    scenario: str
    agent: str
    preset: str | None
    steps: int | None
    seconds: float | None
    episodes: int
    tasks: int
    return_mean: float
    gap_percent: float
    gap_percent_low: float
    gap_percent_high: float
    clairvoyant_gap_percent: float
    total_s: float
    local_s: float
    edge_s: float
    transfer_s: float
    missed_percent: float
    given_up_percent: float
    decision_ms: float


@dataclass(frozen=True)
class Reduction:
    """By how much a multi-task A3C's mean delays are below another agent's, in percent.

    Negative: they are above. ``total_low`` and ``total_high`` are the ends of the 95 % interval
    over test episodes, ``best`` says whether the other has the least total delay of ``RIVALS``.
    """

    scenario: str
    agent: str
    against: str
    best: bool
    total_percent: float
    total_low: float
    total_high: float
    edge_percent: float
    local_percent: float
    claimed_total_percent: float = CLAIMED["total"]
    claimed_edge_percent: float = CLAIMED["edge"]
    claimed_local_percent: float = CLAIMED["local"]


@dataclass(frozen=True)
class Point:
    """Of a learning curve: mean gap to the bound on the first test episodes."""

    scenario: str
    agent: str
    steps: int
    seconds: float
    gap_percent: float


@dataclass(frozen=True)
class Contest:
    """A scenario, played by all.

    Attributes:
        lines: An agent each.
        reductions: Of the multi-task A3Cs.
        points: All learning curves.
    """

    lines: Sequence[Line]
    reductions: Sequence[Reduction]
    points: Sequence[Point]


def compute(run: ReproduceRun) -> Findings:
    """All scenarios.

    Args:
        run: How many steps the learners are given.

    Raises:
        KeyboardInterrupt: After Ctrl-C; says what had been done.
    """
    contests = {}
    with tqdm(desc="scenarios", unit="agent", leave=False) as bar, _telling(bar):
        problems = {name: make_problem(INFERENCE, name) for name in SCENARIOS}
        bar.reset(sum(2 * len(LEARNERS) + 1 + len(_named(p)) for p in problems.values()))
        for name, problem in problems.items():
            contests[name] = contest(name, problem, run.steps, bar)
    lines = [line for c in contests.values() for line in c.lines]
    reductions = [r for c in contests.values() for r in c.reductions]
    points = [p for c in contests.values() for p in c.points]
    tables = [table(c) for c in contests.values()]
    pictures = {
        "learning_curves.png": draw_curves(contests),
        "delays.png": draw_delays(contests),
    }
    remark = REMARK.format(seed=SEED, untrained=UNTRAINED)
    more: dict[str, Sequence[object]] = {"learning_curves.csv": points}
    if reductions:
        tables.append(reductions_table(reductions))
        more["reductions.csv"] = reductions
    return Findings(lines, tables, remark, pictures, more)


@contextmanager
def _telling(bar: tqdm[None]) -> Iterator[None]:
    """Say how far one had come when Ctrl-C came."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{bar.n} of {bar.total} parts were done, the last begun: {bar.desc.rstrip(': ')}; "
            "nothing was written"
        ) from None


def _named(problem: AnyProblem) -> tuple[str, ...]:
    return (*agents_for(problem), *references_for(problem))


def contest(scenario: str, problem: AnyProblem, steps: int, bar: tqdm[None]) -> Contest:
    """Train all learners, and let everybody play the same test episodes.

    Args:
        scenario: Name of the problem's scenario.
        problem: What is played.
        steps: That learners are given.
        bar: Shows how far it is.
    """
    trace = sample_episodes(problem, SEED, EPISODES)
    first = arrays.at(trace, slice(CURVE_EPISODES))
    bound = problem.bound(trace)
    curves: dict[str, Curve] = {}
    for name, learner in LEARNERS.items():
        bar.set_description(f"{scenario}: {name} learns")
        total = learner.steps(steps)
        curves[name] = learn(problem, learner.settings(), SEED, total, first, EVALUATIONS)
        bar.update()

    agents: dict[str, Agent] = {name: make_agent(name, problem, SEED) for name in _named(problem)}
    agents[UNTRAINED] = untrained(problem)
    agents |= {name: curve.agent for name, curve in curves.items()}
    played: dict[str, Rollout] = {}
    milliseconds: dict[str, float] = {}
    for name, agent in agents.items():
        bar.set_description(f"{scenario}: {name} plays")
        result, played[name] = evaluate(problem, name, agent, trace, bound)
        milliseconds[name] = result.decision_ms
        bar.update()

    lines = [
        line(scenario, name, rollout, bound, played["clairvoyant"], milliseconds[name])
        for name, rollout in played.items()
    ]
    lines = [
        replace(
            one,
            preset=LEARNERS[one.agent].preset,
            steps=int(curves[one.agent].steps[-1]),
            seconds=float(curves[one.agent].seconds[-1]),
        )
        if one.agent in curves
        else one
        for one in lines
    ]
    points = [
        Point(scenario, name, int(done), float(s), float(gap_percent(r, bound[: len(r)]).mean()))
        for name, c in curves.items()
        for done, s, r in zip(c.steps, c.seconds, c.returns, strict=True)
    ]
    return Contest(
        sorted(lines, key=lambda one: one.gap_percent), compared(scenario, played), points
    )


def untrained(problem: AnyProblem) -> Agent:
    """The pair scorer before it learns."""
    settings = A3C_PRESETS["a3c"].settings
    head = make_head(settings.head, problem)
    return NetworkAgent(first_network(problem, head, settings, SEED), head)


def per_episode(played: Rollout, part: str) -> FloatArray:
    """A part of the outcome, summed over each episode, (n,)."""
    return np.asarray(
        (getattr(played.outcomes, part) * played.played).sum(axis=1, dtype=np.float64)
    )


def line(
    scenario: str,
    agent: str,
    played: Rollout,
    bound: FloatArray,
    clairvoyant: Rollout,
    decision_ms: float,
) -> Line:
    """The line of one agent, not yet said how it was trained."""
    gaps = gap_percent(played.returns, bound)
    low, high = interval(gaps)
    given_up = per_episode(played, "dropped").sum()
    tasks = per_episode(played, "finished").sum() + given_up

    def a_task(part: str) -> float:
        return float(per_episode(played, part).sum() / tasks)

    return Line(
        scenario,
        agent,
        None,
        None,
        None,
        episodes=len(gaps),
        tasks=int(tasks),
        return_mean=float(played.returns.mean()),
        gap_percent=float(gaps.mean()),
        gap_percent_low=low,
        gap_percent_high=high,
        clairvoyant_gap_percent=float(gap_percent(played.returns, clairvoyant.returns).mean()),
        total_s=a_task("latency_s"),
        local_s=a_task("local_s"),
        edge_s=a_task("edge_s"),
        transfer_s=a_task("transfer_s"),
        missed_percent=100.0 * a_task("deadline_missed"),
        given_up_percent=float(100.0 * given_up / tasks),
        decision_ms=decision_ms,
    )


def compared(scenario: str, played: Mapping[str, Rollout]) -> list[Reduction]:
    """Every multi-task A3C that was trained against all that it is held against."""

    def reduction(part: str, agent: str, other: str) -> float:
        ours, theirs = (per_episode(played[a], part).sum() for a in (agent, other))
        return float(100.0 * (1.0 - ours / theirs)) if theirs > 0 else float("nan")

    there = [name for name in RIVALS if name in played]
    best = min(there, key=lambda name: per_episode(played[name], "latency_s").sum())
    found = []
    for agent, others in COMPARED.items():
        for other in others:
            if agent not in played or other not in played:
                continue
            low, high = reduction_interval(
                per_episode(played[agent], "latency_s"), per_episode(played[other], "latency_s")
            )
            parts = [reduction(part, agent, other) for part in ("latency_s", "edge_s", "local_s")]
            total, edge, local = parts
            found.append(
                Reduction(scenario, agent, other, other == best, total, low, high, edge, local)
            )
    return found


def reduction_interval(ours: FloatArray, theirs: FloatArray) -> tuple[float, float]:
    """95 % paired bootstrap interval of the reduction of a mean over episodes (n,), percent."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(2000, len(ours)))
    values = 100.0 * (1.0 - ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1))
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def table(contest: Contest) -> Table:
    """All agents of a scenario, the best first."""
    one = contest.lines[0]
    found = Table(
        title=f"{one.scenario}: {one.episodes} episodes, {one.tasks:,} tasks; delays of a task, ms"
    )
    found.add_column("agent", no_wrap=True)
    for column in (
        "steps", "s", "return", "gap to\nbound %", "to clair-\nvoyant %", "total", "local", "edge",
        "transfer", "late %", "given\nup %",
    ):  # fmt: skip
        found.add_column(column, justify="right", no_wrap="\n" not in column)
    for row in contest.lines:
        half = (row.gap_percent_high - row.gap_percent_low) / 2
        found.add_row(
            row.agent,
            "" if row.steps is None else f"{row.steps:,}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            f"{row.return_mean:.3f}",
            f"{row.gap_percent:.2f} ± {half:.2f}",
            f"{row.clairvoyant_gap_percent:.2f}",
            *(
                f"{1e3 * seconds:.1f}"
                for seconds in (row.total_s, row.local_s, row.edge_s, row.transfer_s)
            ),
            f"{row.missed_percent:.1f}",
            f"{row.given_up_percent:.1f}",
        )
    return found


def reductions_table(reductions: Sequence[Reduction]) -> Table:
    """Ours beside the paper's."""
    found = Table(
        title="Reduction of a task's mean delay by multi-task A3C, %\n"
        "(below 0: the delay is longer; nan: none to reduce; *: best of what the paper could mean)"
    )
    for column in ("scenario", "agent", "against"):
        found.add_column(column)
    for column in ("total", "95 % interval", "edge", "local"):
        found.add_column(column, justify="right")
    before = reductions[0]
    for row in reductions:
        if (row.scenario, row.agent) != (before.scenario, before.agent):
            found.add_section()
        before = row
        found.add_row(
            row.scenario,
            row.agent,
            row.against + (" *" if row.best else ""),
            f"{row.total_percent:.2f}",
            f"{row.total_low:.2f} … {row.total_high:.2f}",
            f"{row.edge_percent:.2f}",
            f"{row.local_percent:.2f}",
        )
    found.add_section()
    claimed = (f"{CLAIMED[part]:.2f}" for part in ("total", "edge", "local"))
    total, edge, local = claimed
    found.add_row("the paper's", "multi-task A3C", "state of the art", total, "", edge, local)
    return found


LEVELS = {"greedy": ":", "neurosurgeon": "--", "deadline-descent": "-.", "clairvoyant": "-"}
"""Who is drawn beside the learning curves, and how."""


def draw_curves(contests: Mapping[str, Contest]) -> Figure:
    """Gap to the bound on the way: a row a scenario, over steps and over seconds."""
    from matplotlib.ticker import LogLocator

    figure = new_figure(13, 4.4 * len(contests) + 0.4)
    panels = figure.subplots(len(contests), 2, sharey="row", squeeze=False)
    for (scenario, contest), row in zip(contests.items(), panels, strict=True):
        by_agent = {line.agent: line for line in contest.lines}
        for axes, of in zip(row, ("steps", "seconds"), strict=True):
            for name, style in LEVELS.items():
                level = by_agent[name].gap_percent
                axes.axhline(level, color="black", ls=style, lw=0.9, alpha=0.6, label=name)
            for name, learner in LEARNERS.items():
                points = [p for p in contest.points if p.agent == name]
                axes.plot(
                    [getattr(p, of) for p in points],
                    [p.gap_percent for p in points],
                    learner.line,
                    marker=".",
                    color=learner.color,
                    label=name,
                )
            _log_gaps(axes, contest)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        steps, seconds = row
        # A learner's beginning is at 0, which has no logarithm.
        smallest = min(p.steps for p in contest.points if p.steps)
        steps.set_xscale("symlog", linthresh=smallest, linscale=0.4)
        steps.set_xlim(left=0)
        steps.xaxis.set_minor_locator(LogLocator(subs=range(2, 10)))
        seconds.set_xscale("symlog", linthresh=1.0, linscale=0.4)
        seconds.set_xlim(left=0)
        longest = max(p.seconds for p in contest.points)
        seconds.set_xticks([t for t in (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if t <= longest])
        seconds.set_xticks([], minor=True)
        seconds.xaxis.set_major_formatter("{x:g}")
        steps.set_ylabel("mean gap to the bound (%)")
        steps.set_title(f"{scenario}: at equal steps", loc="left", fontsize=11)
        seconds.set_title(f"{scenario}: at equal time", loc="left", fontsize=11)
        steps.set_xlabel("environment steps")
        seconds.set_xlabel("seconds of training, evaluations not counted")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _log_gaps(axes: Axes, contest: Contest) -> None:
    """A scale that shows both one percent and hundreds; 0 is on it."""
    highest = max(p.gap_percent for p in contest.points)
    lowest = min(p.gap_percent for p in contest.points)
    exact = lowest < 5.0
    if exact:
        axes.set_yscale("symlog", linthresh=1.0, linscale=0.5)
    else:
        axes.set_yscale("log")
    ticks = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
    bottom = 0.0 if exact else min(lowest, *(_level(contest, name) for name in LEVELS)) * 0.9
    axes.set_yticks([t for t in ticks if bottom <= t <= highest * 1.1 and (exact or t > 0)])
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-0.05 if exact else bottom, highest * 1.2)


def _level(contest: Contest, name: str) -> float:
    return next(line.gap_percent for line in contest.lines if line.agent == name)


WIDEST = 3.0
"""Bars end at so many times the least total delay; what is longer is written."""


def draw_delays(contests: Mapping[str, Contest]) -> Figure:
    """Mean delay of a task and its parts: a panel a scenario, the fastest agent on top."""
    most = max(len(c.lines) for c in contests.values())
    figure = new_figure(6.5 * len(contests), 0.3 * most + 1.6)
    panels = figure.subplots(1, len(contests), squeeze=False)[0]
    parts = (
        ("local", "local_s", GREY),
        ("edge", "edge_s", BLUE),
        ("transfer", "transfer_s", ORANGE),
    )
    for axes, (scenario, contest) in zip(panels, contests.items(), strict=True):
        lines = sorted(contest.lines, key=lambda one: one.total_s)
        widest = WIDEST * 1e3 * lines[0].total_s
        for row, one in enumerate(lines):
            left = 0.0
            for label, part, color in parts:
                length = min(1e3 * getattr(one, part), widest - left)
                axes.barh(row, length, left=left, color=color, label=label)
                left += length
            total = 1e3 * one.total_s
            text = f"{total:.0f}" + (" →" if total > widest else "")
            axes.annotate(
                text, (min(total, widest), row), (4, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
        axes.set_yticks(range(len(lines)), [one.agent for one in lines])
        for text in axes.get_yticklabels():
            if text.get_text().startswith("mtl-a3c"):
                text.set_fontweight("bold")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_xlim(0, 1.15 * widest)
        axes.set_xlabel("mean delay of a task (ms)")
        axes.set_title(scenario, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[: len(parts)], labels[: len(parts)], loc="outside lower center", ncols=3,
        frameon=False,
    )  # fmt: skip
    return figure
