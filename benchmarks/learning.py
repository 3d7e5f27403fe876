"""What PPO, A3C and multi-task A3C learn on every environment; this takes hours.

Each run is a folder under ``runs/learning``, as ``mec-gym ppo`` and ``mec-gym a3c`` write it.
Stopped with Ctrl-C and started again, the part goes on with the run that was interrupted; of a run
that is complete only the test episodes are played again.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agents.registry import agents_for, make_agent
from agents.runs import CONFIG_FILE
from agents.trained_agent import TrainedAgent
from benchmarks.measure import Report, Row
from mec_gym import make_problem
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.seeds import TEST_SEED
from mec_gym.core.types import FloatArray
from train.config import a3c_run, ppo_run
from train.evaluation.evaluate import gap_percent, interval, play_all
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints
from train.runs.ppo import train_ppo

EPISODES = 500
SEEDS = 5
FEW = 2  # of what is there for comparison
RUNS = Path("runs/learning")

LEARNERS = {"PPO": "ppo", "A3C": "a3c", "multi-task A3C": "mtl-a3c"}
PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "mec/TrainingOffload-v0": {
        "PPO": ("drive", "flat"),
        "A3C": ("drive", "flat"),
        "multi-task A3C": ("mtl-drive", "mtl-flat"),
    },
    "mec/TrainingOffloadPaper-v0": {
        "PPO": ("paper",),
        "A3C": ("paper",),
        "multi-task A3C": ("mtl-paper",),
    },
    "mec/EarlyExitPartition-v1": {
        "PPO": ("early-exit", "flat"),
        "A3C": ("early-exit", "flat"),
        "multi-task A3C": ("mtl-early-exit", "mtl-flat"),
    },
    "mec/DistributedInference-v1": {
        "PPO": ("inference", "inference-flat"),
        "A3C": ("a3c", "a3c-flat"),
        "multi-task A3C": ("mtl-a3c", "mtl-a3c-branch", "mtl-a3c-soft"),
    },
}
"""What is learnt by whom: the default preset of an environment, then those for comparison."""


class Test:
    """Episodes that everybody plays.

    Attributes:
        problem: The problem that is played.
        trace: The episodes.
        bound: The bound of each episode, (n,).

    Raises:
        ValueError: The problem has no bound.
    """

    def __init__(self, problem: AnyProblem, episodes: int = EPISODES) -> None:
        self.problem = problem
        self.trace = sample_episodes(problem, TEST_SEED, episodes)
        bound = problem.bound(self.trace)
        if bound is None:
            raise ValueError(f"problem must have a bound, got {type(problem).__name__}")
        self.bound = bound

    def returns(self, agent: Any) -> FloatArray:
        """The return of every episode, (n,)."""
        return play_all(self.problem, agent, self.trace).returns

    def rival(self, name: str) -> FloatArray:
        """The return of every episode that a named agent plays, (n,)."""
        return self.returns(make_agent(name, self.problem))


def mean_gap(returns: FloatArray, to: FloatArray) -> float:
    """The mean gap to bounds or to other returns, %; episodes whose bound is 0 have none."""
    return float(np.nanmean(gap_percent(returns, to)))


def _learn(env_id: str, learner: str, preset: str, seed: int) -> tuple[TrainedAgent, float]:
    """Return the agent and the seconds that learning took."""
    out = RUNS / env_id.removeprefix("mec/") / f"{preset}-{learner}-{seed}"
    about: dict[str, Any] = {
        "seed": seed, "resume": (out / CONFIG_FILE).exists(), "rule": "none",
        "eval_every": 10**9, "checkpoint_every": 10**9,
    }  # fmt: skip
    agent: TrainedAgent
    if learner == "ppo":
        agent = train_ppo(ppo_run(out, env_id, preset, **about))
    else:
        agent = train_a3c(a3c_run(out, env_id, preset, learner == "mtl-a3c", **about))
    begin, end = out / CONFIG_FILE, checkpoints(out)[-1]
    return agent, end.stat().st_mtime - begin.stat().st_mtime


def _row(test: Test, rule: str, to_beat: FloatArray, run: tuple[str, str, str]) -> Row:
    env_id, learner, preset = run
    seeds = SEEDS if preset == PRESETS[env_id][learner][0] else FEW
    runs = [_learn(env_id, LEARNERS[learner], preset, seed) for seed in range(seeds)]
    returns = np.stack([test.returns(agent) for agent, _ in runs])
    gaps = [mean_gap(r, test.bound) for r in returns]
    ahead = returns - to_beat
    row: Row = {
        "environment": env_id.removeprefix("mec/"),
        "learner": learner,
        "preset": preset,
        "seconds": f"{median(seconds for _, seconds in runs):.0f}",
        "return": f"{returns.mean():.3f}",
        "gap, %": f"{median(gaps):.1f} ({min(gaps):.1f} to {max(gaps):.1f})",
        "rule": rule,
        "return minus the rule's": _with_interval(ahead.mean(axis=0)),
        "by training seed": ", ".join(map(_with_interval, ahead)),
    }
    print(row, flush=True)
    return row


def _with_interval(differences: FloatArray) -> str:
    low, high = interval(differences)
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def measure(seconds: float, repeats: int) -> Report:
    """Measure what every learner learns.

    Args:
        seconds: Not used, because the length of a run is fixed in steps.
        repeats: Not used, because the number of seeds is fixed.
    """
    rows: list[Row] = []
    for env_id, learners in PRESETS.items():
        test = Test(make_problem(env_id))
        rule = agents_for(test.problem)[0]
        to_beat = test.rival(rule)
        for learner, presets in learners.items():
            rows += [_row(test, rule, to_beat, (env_id, learner, name)) for name in presets]
    notes = [
        f"{EPISODES} test episodes, {SEEDS} training seeds ({FEW} for comparisons); "
        "intervals are of 95 %, over episodes",
        "the gap is that of the median seed (smallest to largest); an episode's difference is that "
        "of the mean over the seeds",
    ]
    return Report("Learning on every environment", rows, notes)
