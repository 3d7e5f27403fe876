"""Distributed inference: how well agents learn, and how fast; this takes an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import median

import numpy as np

from agents.a3c.settings import A3CSettings
from agents.heads import make_head
from agents.networks.agent import network_agent
from agents.ppo.settings import PPOSettings
from benchmarks.learning import EPISODES, SEEDS, Test, mean_gap
from benchmarks.measure import Report, Row
from mec_gym import make_problem
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.types import FloatArray
from mec_gym.distributed_inference.problem import DistributedInference
from train.evaluation.evaluate import interval
from train.presets.distributed_inference import A3C_PRESETS, PPO_PRESETS
from train.runs.learn import Curve, learning_curve

INFERENCE = "mec/DistributedInference-v1"
FEW = 2  # seeds of what is there for comparison, or takes long
RIVALS = ("coordinate-descent", "sequential-greedy", "greedy", "deadline-descent", "clairvoyant")
SIZES = ((5, 3), (10, 4), (20, 4), (20, 8), (40, 4))

# In the scenario "patent" the pair scorer is exact before it learns, as looking ahead is all
# there is to it; unaided, it has to find that out.
PATENT: Mapping[str, tuple[PPOSettings | A3CSettings, int]] = {
    "PPO": (PPO_PRESETS["inference"].settings, 20_000),
    "A3C": (A3C_PRESETS["a3c"].settings, 20_000),
    "multi-task A3C": (A3C_PRESETS["mtl-a3c"].settings, 20_000),
    "PPO, unaided": (PPO_PRESETS["inference-unaided"].settings, 250_000),
    "A3C, unaided": (A3C_PRESETS["a3c-unaided"].settings, 400_000),
    "multi-task A3C, unaided": (A3C_PRESETS["mtl-a3c-unaided"].settings, 400_000),
}
FLAT: Mapping[str, tuple[PPOSettings | A3CSettings, int]] = {
    "PPO, flat network": (PPO_PRESETS["inference-flat"].settings, 500_000),
    "PPO, branches": (PPO_PRESETS["inference-branches"].settings, 500_000),
    "A3C, flat network": (A3C_PRESETS["a3c-flat"].settings, 1_000_000),
    "multi-task A3C, branches": (A3C_PRESETS["mtl-a3c-branch"].settings, 1_000_000),
    "multi-task A3C, tied output": (A3C_PRESETS["mtl-a3c-tied"].settings, 500_000),
}
_SOFT = A3C_PRESETS["mtl-a3c-soft"].settings
# Each differs from the one before it in one thing.
SHARING: Mapping[str, tuple[A3CSettings, str]] = {
    "A3C, network flat": (A3C_PRESETS["a3c-flat"].settings, "one output layer for all devices"),
    "A3C, branches": (replace(_SOFT, sharing="hard", multi_task=False), "a branch per device"),
    "A3C, soft": (replace(_SOFT, multi_task=False), "actor and critic have a trunk each"),
    "multi-task A3C, soft": (_SOFT, "a loss per device"),
    "multi-task A3C, hard": (A3C_PRESETS["mtl-a3c-branch"].settings, "one trunk again"),
}
SHARING_STEPS = 2_000_000
UNKNOWN_FUTURE = {"small": 400_000, "campus": 100_000}


def _spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} .. {max(values):{form}})"


def _reached(curve: Curve, gaps: FloatArray, percent: float) -> float:
    """Return the seconds until a gap is at most so large; infinity if it never is."""
    there = np.flatnonzero(gaps <= percent)
    return float(curve.seconds[there[0]]) if there.size else float("inf")


def _patent(learners: Mapping[str, tuple[PPOSettings | A3CSettings, int]], seeds: int) -> list[Row]:
    test = Test(make_problem(INFERENCE, "patent"))
    rows: list[Row] = []
    for name, (settings, steps) in learners.items():
        last, seconds, first, to_two, to_one = [], [], [], [], []
        for seed in range(seeds):
            curve = learning_curve(test.problem, settings, seed, steps, test.trace, evaluations=20)
            gaps = np.array([mean_gap(r, test.bound) for r in curve.returns])
            first.append(float(gaps[0]))
            last.append(float(gaps[-1]))
            seconds.append(float(curve.seconds[-1]))
            to_two.append(_reached(curve, gaps, 2.0))
            to_one.append(_reached(curve, gaps, 1.0))
        rows.append(
            {
                "patent": f"{name} ({seeds} seeds)",
                "steps": steps,
                "gap at first, %": _spread(first, ".2f"),
                "gap at last, %": _spread(last, ".2f"),
                "seconds": _spread(seconds, ".0f"),
                "s to 2 %": _spread(to_two, ".0f"),
                "s to 1 %": _spread(to_one, ".0f"),
            }
        )
        print(rows[-1], flush=True)
    return rows


def _sharing(seeds: int) -> list[str]:
    """Compare networks and losses at equal steps and at the time that the fastest one takes."""
    test = Test(make_problem(INFERENCE))
    found: dict[str, list[Curve]] = {}
    for seed in range(seeds):  # in turn, so that a slow spell of the machine hits all
        for name, (settings, _) in SHARING.items():
            curve = learning_curve(test.problem, settings, seed, SHARING_STEPS, test.trace, 20)
            found.setdefault(name, []).append(curve)
    seconds = {name: median(c.seconds[-1] for c in curves) for name, curves in found.items()}
    shortest = min(seconds.values())
    notes = [f"returns after {SHARING_STEPS} steps, and after {shortest:.0f} s"]
    for name, curves in found.items():
        at_last = [float(c.returns[-1].mean()) for c in curves]
        in_time = [float(np.interp(shortest, c.seconds, c.returns.mean(axis=1))) for c in curves]
        notes.append(
            f"  {name} ({SHARING[name][1]}): {_spread(at_last, '.2f')} in {seconds[name]:.0f} s; "
            f"{_spread(in_time, '.2f')}"
        )
        print(notes[-1], flush=True)
    return notes


def _unknown_future(scenario: str, steps: int, seeds: int) -> list[str]:
    test = Test(make_problem(INFERENCE, scenario))
    settings = PPO_PRESETS["inference"].settings
    curves = [learning_curve(test.problem, settings, s, steps, test.trace, 4) for s in range(seeds)]
    finals = [curve.returns[-1] for curve in curves]
    means = [float(r.mean()) for r in finals]
    seconds = [float(curve.seconds[-1]) for curve in curves]
    notes = [
        f"{scenario}: PPO after {steps} steps ({_spread(seconds, '.0f')} s) returns "
        f"{_spread(means, '.3f')}, untrained {curves[0].returns[0].mean():.3f}"
    ]
    middle = finals[int(np.argsort(means)[len(means) // 2])]
    for name in RIVALS:
        returns = test.rival(name)
        low, high = interval(middle - returns)
        ahead = [float((r - returns).mean()) for r in finals]
        gap = [mean_gap(r, returns) for r in finals]
        notes.append(
            f"  {name} returns {returns.mean():.3f}; median seed ahead by "
            f"{(middle - returns).mean():+.3f} [{low:+.3f}, {high:+.3f}], seeds "
            f"{_spread(ahead, '+.3f')}; gap to it {_spread(gap, '.1f')} %"
        )
    for note in notes:
        print(note, flush=True)
    return notes


def _sizes(seeds: int) -> list[Row]:
    problem = make_problem(INFERENCE, "small")
    assert isinstance(problem, DistributedInference)
    preset = PPO_PRESETS["inference-sizes"]
    trained = [
        learning_curve(
            problem, preset.settings, s, 200_000, sample_episodes(problem, 0, 2), 1
        ).agent
        for s in range(seeds)
    ]
    rows: list[Row] = []
    for devices, servers in SIZES:
        test = Test(problem.sized(devices, servers), 100)
        reference = test.rival("clairvoyant")

        def gap(returns: FloatArray, to: FloatArray = reference) -> float:
            return mean_gap(returns, to)

        head = make_head(preset.settings.head, test.problem)
        ours = []
        for agent in trained:
            ours.append(gap(test.returns(network_agent(agent.network.sized(head), head))))
        rows.append(
            {
                "devices x servers": f"{devices}x{servers}",
                "trained on": "yes" if (devices, servers) in preset.settings.sizes else "no",
                "gap to the clairvoyant, %": _spread(ours, ".1f"),
                **{
                    name: f"{gap(test.rival(name)):.1f}"
                    for name in ("sequential-greedy", "coordinate-descent", "deadline-descent")
                },
            }
        )
        print(rows[-1], flush=True)
    return rows


def measure(seconds: float, repeats: int) -> Report:
    """Measure how well and how fast every learner learns.

    Args:
        seconds: Not used, because the length of a run is fixed in steps.
        repeats: Not used, because the numbers of seeds are fixed.
    """
    rows = _patent(PATENT, SEEDS) + _patent(FLAT, FEW)
    notes = [f"{EPISODES} test episodes; median (smallest .. largest) of the seeds"]
    notes += _sharing(SEEDS)
    for scenario, steps in UNKNOWN_FUTURE.items():
        notes += _unknown_future(scenario, steps, SEEDS)
    notes += [", ".join(f"{k}: {v}" for k, v in row.items()) for row in _sizes(FEW)]
    return Report("Learning distributed inference", rows, notes)
