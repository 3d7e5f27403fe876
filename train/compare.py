"""Several agents on the same episodes: table, results.json, results.csv, a plot."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from agents.protocol import Agent, Clairvoyant
from agents.registry import agents_for, make_agent, references_for
from mec_gym.core import arrays
from mec_gym.core.env import MecEnv
from mec_gym.core.files import write_whole
from mec_gym.core.pictures import new_figure
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import Rollout, sample_episodes
from mec_gym.core.traces import load_trace, save_trace
from mec_gym.registration import make_problem
from train.config import CompareRun, EvaluateRun
from train.evaluate import Result, evaluate, gap_percent
from train.files import refuse_used, write_figure, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = "results.json"
FILES = (RESULTS, "results.csv", "comparison.png", "trace.npz")


def compare(run: CompareRun) -> list[Result]:
    """Carry out a comparison and write its files.

    Raises:
        ValueError: Unknown environment, scenario or agent, an unusable trace, or a folder
            that already holds results.
    """
    if not run.overwrite:
        refuse_used(run.out, FILES, "choose another folder or give --overwrite")
    problem = make_problem(run.env, run.scenario)
    # Every agent is made before any plays: a wrong name costs no work.
    names = run.agents or (*agents_for(problem), *references_for(problem))
    agents = [make_agent(name, problem, run.seed, run.env) for name in names]
    trace = (
        sample_episodes(problem, run.seed, run.episodes)
        if run.trace is None
        else load_trace(run.trace, problem)
    )
    run.out.mkdir(parents=True, exist_ok=True)
    bound = problem.bound(trace)
    results: list[Result] = []
    played: list[Rollout] = []
    for name, agent in zip(
        tqdm(names, desc="agents", unit="agent", leave=False), agents, strict=True
    ):
        first = played[0].returns if played else None
        result, episodes = evaluate(problem, name, agent, trace, bound, first)
        results.append(result)
        played.append(episodes)
    print_table(results, f"{run.env}, {len(bound)} episodes")

    save_trace(run.out / "trace.npz", trace)
    write_csv(run.out / "results.csv", results)
    gaps = [gap_percent(p.returns, bound) for p in played]
    draw(run.out / "comparison.png", results, gaps, run.env)
    write_json(run.out / RESULTS, [dataclasses.asdict(result) for result in results])
    print(f"wrote {run.out}/{RESULTS}, results.csv, comparison.png, trace.npz")
    return results


def evaluate_one(run: EvaluateRun) -> Result:
    """Let one agent play, print its line, draw its first episode if asked."""
    if run.picture is not None and not run.overwrite:
        refuse_used(run.picture.parent, [run.picture.name], "give --overwrite or another name")
    problem = make_problem(run.env, run.scenario)
    agent = make_agent(run.agent, problem, run.seed, run.env)
    trace = sample_episodes(problem, run.seed, run.episodes)
    result, _ = evaluate(problem, run.agent, agent, trace, problem.bound(trace))
    print_table([result], f"{run.env}, {run.episodes} episodes")
    if run.picture is not None:
        write_figure(run.picture, play(problem, agent, run.seed))
        print(f"wrote {run.picture}")
    return result


def play(problem: AnyProblem, agent: Agent, seed: int) -> Figure:
    """A picture of what the agent does in the episode of a seed."""
    env = MecEnv(problem)
    observation, _ = env.reset(seed=seed)
    if isinstance(agent, Clairvoyant):
        agent.foresee(arrays.at(env.trace, None))
    ended = False
    memory: Any = None
    start = np.ones(1, dtype=np.bool_)
    while not ended:
        action, memory = agent.predict(observation, memory, episode_start=start, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        ended, start = terminated or truncated, np.zeros(1, dtype=np.bool_)
    figure: Figure = problem.draw(env.episode)
    return figure


def short(name: str) -> str:
    """An agent's name, or the end of it: runs have long paths."""
    return name if len(name) < 28 else "…" + name[-26:]


def print_table(results: Sequence[Result], title: str) -> None:
    """Print results; ± is half of the 95 % bootstrap interval."""
    table = Table(title=title)
    table.add_column("agent", no_wrap=True)
    accuracy = "accuracy" in results[0].outcome_means
    columns = ["return", "latency s", "p95 s", "energy J", "drops"] + ["accuracy %"] * accuracy
    for column in (*columns, "gap %", "return minus the first's", "ms/decision"):
        table.add_column(column, justify="right", no_wrap=column not in columns)
    for r in results:
        low, high = r.gap_percent_ci95
        low_d, high_d = r.difference_ci95
        first = r is results[0]
        table.add_row(
            short(r.agent),
            f"{r.return_mean:.3f}",
            f"{r.latency_s_mean:.4g}",
            f"{r.latency_s_p95:.4g}",
            f"{r.energy_j_mean:.1f}",
            f"{r.drops_mean:.2f}",
            *([f"{100 * r.outcome_means['accuracy']:.2f}"] if accuracy else []),
            f"{r.gap_percent_mean:.3g} ± {(high - low) / 2:.2g}",
            "" if first else f"{r.difference_mean:+.4g} [{low_d:+.4g}, {high_d:+.4g}]",
            f"{r.decision_ms:.3g}",
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table)


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """One line an agent; intervals in two columns each."""
    text = io.StringIO()
    rows = []
    for result in results:
        row: dict[str, object] = {}
        for name, value in dataclasses.asdict(result).items():
            if name.endswith("_ci95"):
                row[f"{name}_low"], row[f"{name}_high"] = value
            elif name == "outcome_means":
                row |= {f"mean_{part}": mean for part, mean in value.items()}
            else:
                row[name] = value
        rows.append(row)
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def draw(path: Path, results: Sequence[Result], gaps: Sequence[np.ndarray], title: str) -> None:
    """Mean gap with its interval, and the share of episodes within a gap."""
    from matplotlib import colormaps

    figure = new_figure(11, 0.45 * len(results) + 2.6)
    bars, shares = figure.subplots(1, 2)
    names = [short(r.agent) for r in results]
    means = np.array([r.gap_percent_mean for r in results])
    ends = np.array([r.gap_percent_ci95 for r in results])
    errors = np.maximum(np.abs(ends.T - means), 0.0)
    colours = [colormaps["tab20" if len(results) > 10 else "tab10"](i) for i in range(len(results))]
    rows = np.arange(len(results))[::-1]
    bars.barh(rows, means, xerr=errors, color=colours, capsize=3)
    bars.set_yticks(rows, names)
    for row, mean, end in zip(rows, means, ends, strict=True):
        text = f"{mean:,.0f} %" if mean >= 1000 else f"{mean:.3g} %"
        bars.annotate(text, (end[1], row), (5, 0), textcoords="offset points", va="center")
    bars.set_xlabel("mean gap to the bound, % (bar: 95 % interval)")
    for values, colour in zip(gaps, colours, strict=True):
        ordered = np.sort(values)
        shares.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), c=colour)
    # The worst policies are off the chart; the interesting part is near the bound.
    for axes, largest in ((bars, ends.max()), (shares, max(g.max() for g in gaps))):
        wide = largest > 200 or (axes is shares and largest > 20)
        axes.set_xlim(left=0)
        if wide:
            axes.set_xscale("symlog", linthresh=10)
            ticks = [t for t in (0, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if t <= largest]
            axes.set_xticks(ticks, minor=False)
            axes.set_xticks([], minor=True)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.tick_params(axis="x", labelsize="small")
        room = (6.0 if wide else 1.3) if axes is bars else 1.1  # for the labels
        axes.set_xlim(right=max(largest, 1e-9) * room)
    shares.set_ylim(0, 1.02)
    shares.set_xlabel("gap to the bound, % (colours as on the left)")
    shares.set_ylabel("share of episodes within it")
    shares.grid(alpha=0.3)
    figure.suptitle(title)
    write_figure(path, figure)
