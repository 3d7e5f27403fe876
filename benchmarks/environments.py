"""Environment steps per second: one environment, Gymnasium's vectors, the native vector."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from benchmarks.measure import Figures, Measure, Report, Row, interleave, rate
from mec_gym import ENVIRONMENTS  # registers them, in workers too

IDS = tuple(ENVIRONMENTS)
PEER = "mobile-small-central-v0"
BATCH = 16
NATIVE = (1, 16, 64, 1024, 4096)
ACTION_SETS = 16


def make_one(env_id: str) -> gym.Env[Any, Any]:
    """One environment, in this process or a worker of AsyncVectorEnv, which imports this module."""
    # The checker would slow down what the native vector is compared with.
    return gym.make(env_id, disable_env_checker=True)


def _single_step(env: gym.Env[Any, Any]) -> Callable[[], object]:
    actions = cycle([env.action_space.sample() for _ in range(ACTION_SETS)])
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step


def _vector_step(env: VectorEnv[Any, Any, Any]) -> Callable[[], object]:
    actions = cycle([env.action_space.sample() for _ in range(ACTION_SETS)])
    env.reset(seed=0)
    return lambda: env.step(next(actions))


def _peer() -> gym.Env[Any, Any] | str:
    """mobile-env's small scenario, or why there is none."""
    try:
        import mobile_env  # noqa: F401 - registers its environments
    except ImportError:
        return "mobile-env: not installed"
    try:
        return gym.make(PEER, disable_env_checker=True)
    except Exception as error:
        return f"mobile-env: gym.make({PEER!r}) failed: {error!r}"


def _row(env_id: str, side: str, batch: int, processes: int, found: Figures) -> Row:
    return {
        "environment": env_id,
        "side": side,
        "batch": batch,
        "processes": processes,
        "threads each": 1,
        "steps/s": found.median,
        "spread": found.spread,
    }


def _measure_id(env_id: str, seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    makers = [partial(make_one, env_id)] * BATCH
    mode = AutoresetMode.SAME_STEP
    native = {f"native({n})": gym.make_vec(env_id, n) for n in NATIVE}
    problem = native["native(1)"].unwrapped.problem  # type: ignore[attr-defined]
    vectors = {
        f"Sync({BATCH})": SyncVectorEnv(makers, autoreset_mode=mode),
        f"Async({BATCH})": AsyncVectorEnv(makers, autoreset_mode=mode),
        **native,
    }
    single = make_one(env_id)
    # Episodes are drawn so many steps ahead; whole multiples hold their share of drawing.
    drawn_every = problem.episodes_ahead * problem.horizon

    def measure(step: Callable[[], object], batch: int) -> Measure:
        return lambda: rate(step, batch, seconds, drawn_every, cycles=2)

    sides = {"gym.make": measure(_single_step(single), 1)}
    for name, env in vectors.items():
        env.action_space.seed(0)
        sides[name] = measure(_vector_step(env), env.num_envs)
    found = interleave(sides, repeats)
    rows = [_row(env_id, "gym.make", 1, 1, found["gym.make"])]
    for name, env in vectors.items():
        processes = 1 + BATCH if name.startswith("Async") else 1
        rows.append(_row(env_id, name, env.num_envs, processes, found[name]))
        env.close()
    best = max(native, key=lambda name: found[name].median)
    pairs = [(best, f"Async({BATCH})"), (f"native({BATCH})", f"Sync({BATCH})"), (best, "gym.make")]
    ratios = [f"{env_id}: {a} / {b} = {found[a].median / found[b].median:.1f}x" for a, b in pairs]
    return rows, ratios


def environments(seconds: float, repeats: int) -> Report:
    """Steps per second of both environments, played every way there is.

    Args:
        seconds: Of one measurement, at least; it also holds at least two drawings of
            new episodes.
        repeats: Measurements of each side.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for env_id in IDS:
        more, ratios = _measure_id(env_id, seconds, repeats)
        rows += more
        notes += ratios
    peer = _peer()
    if isinstance(peer, str):
        notes.append(peer)
    else:
        step = _single_step(peer)
        found = interleave({PEER: lambda: rate(step, 1, seconds, cycle=100)}, repeats)
        rows.append(_row(PEER, "gym.make", 1, 1, found[PEER]))
        notes.append("mobile-env simulates something else: its row says what users know, no more")
    notes += [
        f"Medians of {repeats} interleaved runs. Resets and drawing of episodes included; an "
        "episode that ends is replaced within the step (SAME_STEP) on every side; random "
        "actions made beforehand; no environment checker.",
        f"Native is one process on one core. Async({BATCH}) has {BATCH} workers on all "
        f"{os.cpu_count()} cores: it is favoured by every further core.",
    ]
    return Report("Environment steps per second", rows, notes)
