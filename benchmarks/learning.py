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
from mec_gym import ENVIRONMENTS, make_problem
from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.seeds import TEST_SEED
from mec_gym.core.types import FloatArray
from mec_gym.registration import usual_episodes
from train.config import a3c_run, ppo_run
from train.evaluation.evaluate import interval, known_gaps, play_all
from train.runs.a3c import train_a3c
from train.runs.folder import checkpoints
from train.runs.ppo import train_ppo

EPISODES = 500
SEEDS = 5
FEW = 2  # of what is there for comparison
RUNS = Path("runs/learning")

LEARNERS = {"PPO": "ppo", "A3C": "a3c", "multi-task A3C": "mtl-a3c"}
Task = tuple[str, str]
"""An environment and the name of its scenario."""
PRESETS: dict[Task, dict[str, tuple[str, ...]]] = {
    ("mec/TrainingOffload-v0", "drive"): {
        "PPO": ("drive", "drive-value", "flat"),
        "A3C": ("drive", "drive-value", "flat"),
        "multi-task A3C": ("mtl-drive", "mtl-flat"),
    },
    ("mec/TrainingOffloadPaper-v0", "paper"): {
        "PPO": ("paper",),
        "A3C": ("paper",),
        "multi-task A3C": ("mtl-paper",),
    },
    ("mec/EarlyExitPartition-v2", "mixed"): {
        "PPO": ("early-exit", "flat"),
        "A3C": ("early-exit", "flat"),
        "multi-task A3C": ("mtl-early-exit", "mtl-flat"),
    },
    ("mec/DistributedInference-v1", "small"): {
        "PPO": ("inference", "inference-flat"),
        "A3C": ("a3c", "a3c-flat"),
        "multi-task A3C": ("mtl-a3c", "mtl-a3c-branch", "mtl-a3c-soft"),
    },
    ("mec/PipelineTraining-v0", "default"): {
        "PPO": ("pipeline", "placement"),
        "A3C": ("pipeline", "flat"),
        "multi-task A3C": ("mtl-pipeline", "mtl-flat"),
    },
    ("mec/PipelineTraining-v0", "heavy"): {"PPO": ("pipeline",), "A3C": ("pipeline",)},
    ("mec/PipelineTraining-v0", "timetable"): {"PPO": ("pipeline",), "A3C": ("pipeline",)},
    ("mec/FederatedTraining-v0", "semi-async"): {
        "PPO": ("federated", "federated-unaided"),
        "A3C": ("federated",),
        "multi-task A3C": ("mtl-federated",),
    },
    ("mec/FederatedTraining-v0", "sync"): {"PPO": ("federated",), "A3C": ("federated",)},
    ("mec/FederatedTraining-v0", "churn"): {"PPO": ("federated",), "A3C": ("federated",)},
    ("mec/FederatedTraining-v0", "drift"): {"PPO": ("federated",), "A3C": ("federated",)},
    ("mec/GossipTraining-v0", "unequal"): {
        "PPO": ("gossip", "gossip-unaided"),
        "A3C": ("gossip",),
        "multi-task A3C": ("mtl-gossip",),
    },
}
"""What is learnt by whom: the default preset of an environment, then those for comparison."""
RULES = {
    "mec/TrainingOffload-v0": ("price", "sdp"),
    "mec/PipelineTraining-v0": ("patience", "hysteresis"),
    "mec/FederatedTraining-v0": ("linear", "oort"),
    "mec/GossipTraining-v0": ("linear", "all-reduce"),
}
"""Whom returns are compared with; elsewhere it is the first rule of the environment."""


class Test:
    """Episodes that everybody plays.

    Attributes:
        problem: The problem that is played.
        trace: The episodes.
        bound: The bound of each episode, (n,); NaN where none can be proved.
    """

    def __init__(self, problem: AnyProblem, episodes: int | None = None) -> None:
        self.problem = problem
        self.trace = sample_episodes(problem, TEST_SEED, episodes or usual_episodes(problem))
        bound = problem.bound(self.trace)
        episodes = len(next(iter(arrays.as_dict(self.trace).values())))
        self.bound = np.full(episodes, np.nan) if bound is None else bound

    def returns(self, agent: Any) -> FloatArray:
        """The return of every episode, (n,)."""
        return play_all(self.problem, agent, self.trace).returns

    def rival(self, name: str) -> FloatArray:
        """The return of every episode that a named agent plays, (n,)."""
        return self.returns(make_agent(name, self.problem))


def mean_gap(returns: FloatArray, to: FloatArray) -> float:
    """The mean gap to bounds or to other returns, %; NaN if no episode has one."""
    gaps = known_gaps(returns, to)
    return float("nan") if gaps is None else float(gaps.mean())


def _learn(task: Task, learner: str, preset: str, seed: int) -> tuple[TrainedAgent, float]:
    """Return the agent and the seconds that learning took."""
    env_id, scenario = task
    is_default = scenario == ENVIRONMENTS[env_id].default
    folder = env_id.removeprefix("mec/") + ("" if is_default else f"-{scenario}")
    out = RUNS / folder / f"{preset}-{learner}-{seed}"
    about: dict[str, Any] = {
        "scenario": None if is_default else scenario, "seed": seed, "rule": "none",
        "resume": (out / CONFIG_FILE).exists(), "eval_every": 10**9, "checkpoint_every": 10**9,
    }  # fmt: skip
    agent: TrainedAgent
    if learner == "ppo":
        agent = train_ppo(ppo_run(out, env_id, preset, **about))
    else:
        agent = train_a3c(a3c_run(out, env_id, preset, learner == "mtl-a3c", **about))
    begin, end = out / CONFIG_FILE, checkpoints(out)[-1]
    return agent, end.stat().st_mtime - begin.stat().st_mtime


def _rows(test: Test, rules: dict[str, FloatArray], run: tuple[Task, str, str]) -> list[Row]:
    task, learner, preset = run
    seeds = SEEDS if preset == PRESETS[task][learner][0] else FEW
    runs = [_learn(task, LEARNERS[learner], preset, seed) for seed in range(seeds)]
    returns = np.stack([test.returns(agent) for agent, _ in runs])
    gaps = [mean_gap(r, test.bound) for r in returns]
    rows: list[Row] = [
        {
            "environment": task[0].removeprefix("mec/"),
            "scenario": task[1],
            "learner": learner,
            "preset": preset,
            "seconds": f"{median(seconds for _, seconds in runs):.0f}",
            "return": f"{returns.mean():.3f}",
            "gap, %": "none"
            if np.isnan(gaps).any()
            else f"{median(gaps):.1f} ({min(gaps):.1f} to {max(gaps):.1f})",
            "rule": rule,
            "return minus the rule's": _with_interval((returns - to_beat).mean(axis=0)),
            "by training seed": ", ".join(map(_with_interval, returns - to_beat)),
        }
        for rule, to_beat in rules.items()
    ]
    for row in rows:
        print(row, flush=True)
    return rows


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
    for task, learners in PRESETS.items():
        test = Test(make_problem(*task))
        names = RULES.get(task[0], agents_for(test.problem)[:1])
        rules = {name: test.rival(name) for name in names}
        for learner, presets in learners.items():
            for preset in presets:
                rows += _rows(test, rules, (task, learner, preset))
    fewer = ", ".join(
        f"{entry.episodes} of {env_id.removeprefix('mec/')}"
        for env_id, entry in ENVIRONMENTS.items()
        if entry.episodes != EPISODES
    )
    notes = [
        f"{EPISODES} test episodes ({fewer}), {SEEDS} training seeds ({FEW} for comparisons); "
        "intervals are of 95 %, over episodes",
        "the gap is that of the median seed (smallest to largest); an episode's difference is that "
        "of the mean over the seeds",
    ]
    return Report("Learning on every environment", rows, notes)
