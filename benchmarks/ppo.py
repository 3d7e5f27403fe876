"""PPO training steps per second: SB3's defaults, then one change after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.model import make_ppo, make_vec_env
from agents.ppo.settings import PPOSettings
from benchmarks.measure import Measure, Report, Row, interleave
from mec_gym import make_problem
from train.presets import PPO_FLAT, find_ppo_preset

IDS = ("mec/TrainingOffloadPaper-v0", "mec/TrainingOffload-v0")
SB3_BATCH, SB3_EPOCHS, SB3_ROLLOUT = 64, 10, 2048
DEFAULTS, ONE_THREAD = "SB3's defaults", "+ one torch thread"


class Clock(BaseCallback):
    """Times whole cycles of collecting a rollout and training on it, then stops.

    Args:
        seconds: Least wall time of the measurement, s.
        together: Cycles are counted in whole multiples of this number, in which episodes are
            drawn once. Where that takes more than five times the seconds, drawing is a trifle
            and the measurement ends without it.
    """

    def __init__(self, seconds: float, together: int = 1) -> None:
        super().__init__()
        self.seconds = seconds
        self.together = together
        self.rate = 0.0

    def _on_training_start(self) -> None:
        self._begin = 0.0
        self._first = self.model.num_timesteps
        self._cycles = 0
        self._go = True

    def _on_rollout_start(self) -> None:
        if not self._begin:
            self._begin = time.perf_counter()
            return
        elapsed = time.perf_counter() - self._begin
        self._cycles += 1
        whole = self._cycles % self.together == 0
        self._go = elapsed < self.seconds * (1 if whole else 5)
        self.rate = (self.model.num_timesteps - self._first) / elapsed

    def _on_step(self) -> bool:
        return self._go


def _measure(model: PPO, threads: int, seconds: float, together: int = 1) -> Measure:
    model.set_random_seed(0)
    torch.set_num_threads(threads)
    model.learn(10**9, callback=Clock(0.0))  # one cycle to warm up

    def measure() -> float:
        torch.set_num_threads(threads)
        clock = Clock(seconds, together)
        model.learn(10**9, callback=clock, reset_num_timesteps=False)
        return clock.rate

    return measure


def _default_threads() -> int:
    """Return the number of threads that torch uses if nobody sets it."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    free = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", "import torch; print(torch.get_num_threads())"]
    return int(subprocess.run(command, env=free, capture_output=True, check=True).stdout)


def _ours(env_id: str) -> dict[str, PPOSettings]:
    """Return our settings, from SB3's batch and epochs to the preset, each with one change more."""
    preset = find_ppo_preset(env_id)[1].settings
    base = replace(PPO_FLAT.settings, num_envs=preset.num_envs, n_steps=preset.n_steps)
    minibatches = base.rollout // SB3_BATCH
    sides = {
        f"+ native vector of {base.num_envs}": replace(
            base, minibatches=minibatches, n_epochs=SB3_EPOCHS, fused=False
        ),
        f"+ minibatches of {base.rollout // base.minibatches}": replace(
            base, n_epochs=SB3_EPOCHS, fused=False
        ),
        f"+ {base.n_epochs} epochs": replace(base, fused=False),
        "+ fused Adam": base,
    }
    if preset.head != base.head:
        sides[f"+ {preset.head} head (the preset)"] = preset
    return sides


def training_sides(
    env_id: str,
    peers: Mapping[str, int],
    ours: Mapping[str, PPOSettings],
    seconds: float,
    scenario: Any = None,
) -> dict[str, Measure]:
    """Prepare measurements of SB3's defaults and of our settings on one environment.

    Args:
        env_id: Id of the environment that is learnt.
        peers: Number of torch threads of each side with SB3's defaults, by its name.
        ours: Our settings of each other side, by its name.
        seconds: Least wall time per measurement, s; it holds whole cycles only.
        scenario: The scenario, as ``make_problem`` takes it.
    """
    sides: dict[str, Measure] = {}
    for name, count in peers.items():
        env = gym.make(env_id, scenario=scenario)
        sides[name] = _measure(PPO("MlpPolicy", env, device="cpu"), count, seconds)
    problem = make_problem(env_id, scenario)
    for name, settings in ours.items():
        together = max(1, problem.episodes_ahead * problem.horizon // settings.n_steps)
        model = make_ppo(make_vec_env(problem, settings), settings, seed=0)
        sides[name] = _measure(model, 1, seconds, together)
    return sides


def _measure_id(env_id: str, seconds: float, repeats: int) -> list[Row]:
    peers, ours = {DEFAULTS: _default_threads(), ONE_THREAD: 1}, _ours(env_id)
    shapes = {name: (1, SB3_ROLLOUT, SB3_BATCH, SB3_EPOCHS, count) for name, count in peers.items()}
    for name, settings in ours.items():
        size = settings.rollout // settings.minibatches
        shapes[name] = (settings.num_envs, settings.rollout, size, settings.n_epochs, 1)
    found = interleave(training_sides(env_id, peers, ours, seconds), repeats)
    rows = []
    before = first = found[DEFAULTS].median
    single = found[ONE_THREAD].median
    for name, figures in found.items():
        environments, rollout, minibatch, epochs, count = shapes[name]
        rows.append(
            {
                "environment": env_id,
                "side": name,
                "envs": environments,
                "rollout": rollout,
                "minibatch": minibatch,
                "epochs": epochs,
                "torch threads": count,
                "steps/s": figures.median,
                "spread": figures.spread,
                "x row before": figures.median / before,
                f"x {DEFAULTS}": figures.median / first,
                "x the same on 1 thread": figures.median / single,
            }
        )
        before = figures.median
    return rows


def measure(seconds: float, repeats: int) -> Report:
    """Measure training steps per second, rollouts and gradient steps included.

    Args:
        seconds: Least wall time per measurement, s; it holds whole cycles only.
        repeats: Number of measurements of each side.
    """
    rows = [row for env_id in IDS for row in _measure_id(env_id, seconds, repeats)]
    notes = [
        f"Medians of {repeats} interleaved runs after a cycle to warm up, all on the CPU. The "
        "changes add up from row to row; the network has the same two layers of 64 throughout.",
        "Several torch threads wait for each other: on a busy machine SB3's defaults lose far more "
        "than one thread does. The last column does without that advantage of ours.",
        "Steps per second, not learning per second: larger minibatches and fewer epochs take "
        "fewer gradient steps per step of the environment, which favours ours. `mec-gym ppo` "
        "says what is learnt with them.",
    ]
    return Report("PPO training steps per second", rows, notes)
