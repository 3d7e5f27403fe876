"""Environment steps per second: one environment, Gymnasium's vectors, the native vector."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from benchmarks.measure import Figures, Measure, Report, Row, interleave, peak_gib, rate
from mec_gym import ENVIRONMENTS, make_problem  # registers them, in workers too
from mec_gym.core.entry import Entry

QUICK = tuple(i for i, entry in ENVIRONMENTS.items() if entry.episodes == Entry.episodes)
"""All but those that train networks in every step, whose speed is measured in their own parts."""
PEER = "mobile-small-central-v0"
BATCH = 16
NATIVE = (1, 16, 64, 1024, 4096)
ACTION_SETS = 16


def make_one(env_id: str, scenario: Any = None) -> gym.Env[Any, Any]:
    """Make one environment, in this process or in a worker of AsyncVectorEnv."""
    # The checker would slow down what the native vector is compared with.
    return gym.make(env_id, scenario=scenario, disable_env_checker=True)


def single_step(env: gym.Env[Any, Any]) -> Callable[[], object]:
    """Return a function that takes one step, with actions that were drawn beforehand."""
    actions = cycle([env.action_space.sample() for _ in range(ACTION_SETS)])
    env.reset(seed=0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(next(actions))
        if terminated or truncated:
            env.reset()

    return step


def vector_step(env: VectorEnv[Any, Any, Any]) -> Callable[[], object]:
    """Return a function that takes one step in every environment; see :func:`single_step`."""
    actions = cycle([env.action_space.sample() for _ in range(ACTION_SETS)])
    env.reset(seed=0)
    return lambda: env.step(next(actions))


def _peer() -> gym.Env[Any, Any] | str:
    """Make the small scenario of mobile-env [Schneider2022], or say why there is none."""
    try:
        import mobile_env  # noqa: F401 - registers its environments
    except ImportError:
        return "mobile-env: not installed"
    try:
        return gym.make(PEER, disable_env_checker=True)
    except Exception as error:
        return f"mobile-env: gym.make({PEER!r}) failed: {error!r}"


def side_name(kind: str, batch: int) -> str:
    """Return the name of one side: how environments are stepped, and how many of them."""
    return kind if kind == "gym.make" else f"{kind}({batch})"


def _row(env_id: str, kind: str, batch: int, found: Figures) -> Row:
    return {
        "environment": env_id,
        "side": side_name(kind, batch),
        "batch": batch,
        "processes": 1 + batch if kind == "Async" else 1,
        "threads each": 1,
        "steps/s": found.median,
        "spread": found.spread,
    }


def measure_sides(
    env_id: str,
    seconds: float,
    repeats: int,
    native: Sequence[int],
    gymnasium: Sequence[int] = (),
    scenario: Any = None,
) -> dict[tuple[str, int], Figures]:
    """Measure steps per second by (kind, batch).

    Args:
        env_id: Id of the environment that is played.
        seconds: Least wall time per measurement, s.
        repeats: Number of measurements of each side.
        native: Batch sizes of the native vector.
        gymnasium: Batch sizes of Gymnasium's own vectors, kinds ``Sync`` and ``Async``.
        scenario: The scenario, as ``make_problem`` takes it.
    """
    make = partial(make_one, env_id, scenario)
    mode = AutoresetMode.SAME_STEP
    vectors: dict[tuple[str, int], VectorEnv[Any, Any, Any]] = {}
    for n in gymnasium:
        vectors["Sync", n] = SyncVectorEnv([make] * n, autoreset_mode=mode)
        vectors["Async", n] = AsyncVectorEnv([make] * n, autoreset_mode=mode)
    for n in native:
        vectors["native", n] = gym.make_vec(env_id, n, scenario=scenario)
    problem = make_problem(env_id, scenario)
    # Episodes are drawn so many steps ahead; whole multiples hold their share of drawing.
    drawn_every = problem.episodes_ahead * problem.horizon

    def measure(step: Callable[[], object], batch: int) -> Measure:
        return lambda: rate(step, batch, seconds, drawn_every, cycles=2)

    sides = {("gym.make", 1): measure(single_step(make()), 1)} if gymnasium else {}
    for (kind, n), env in vectors.items():
        env.action_space.seed(0)
        sides[kind, n] = measure(vector_step(env), n)
    found = interleave(sides, repeats)
    for env in vectors.values():
        env.close()
    return found


def measure_with_memory(
    env_id: str, seconds: float, repeats: int, batch: int, scenario: Any
) -> tuple[Figures, float]:
    """Measure steps per second of the native vector, and this process's peak memory, GiB.

    It is called in a process of its own, which imports only this module.
    """
    (figures,) = measure_sides(env_id, seconds, repeats, (batch,), scenario=scenario).values()
    return figures, peak_gib()


def _measure_id(env_id: str, seconds: float, repeats: int) -> tuple[list[Row], list[str]]:
    found = measure_sides(env_id, seconds, repeats, NATIVE, (BATCH,))
    rows = [_row(env_id, kind, batch, figures) for (kind, batch), figures in found.items()]
    best = max((("native", n) for n in NATIVE), key=lambda side: found[side].median)
    pairs = [
        (best, ("Async", BATCH)),
        (("native", BATCH), ("Sync", BATCH)),
        (best, ("gym.make", 1)),
    ]
    ratios = [
        f"{env_id}: {side_name(*a)} / {side_name(*b)} = {found[a].median / found[b].median:.1f}x"
        for a, b in pairs
    ]
    return rows, ratios


def measure(seconds: float, repeats: int) -> Report:
    """Measure steps per second of quick environments, stepped every way there is.

    Args:
        seconds: Least wall time per measurement, s; it also holds at least two drawings of
            new episodes.
        repeats: Number of measurements of each side.
    """
    rows: list[Row] = []
    notes: list[str] = []
    for env_id in QUICK:
        more, ratios = _measure_id(env_id, seconds, repeats)
        rows += more
        notes += ratios
    peer = _peer()
    if isinstance(peer, str):
        notes.append(peer)
    else:
        step = single_step(peer)
        found = interleave({PEER: lambda: rate(step, 1, seconds, cycle=100)}, repeats)
        rows.append(_row(PEER, "gym.make", 1, found[PEER]))
        notes.append("mobile-env simulates something else: its row says what users know, no more")
    notes += [
        f"Medians of {repeats} interleaved runs. Resets and drawing of episodes included; an "
        "episode that ends is replaced within the step (SAME_STEP) on every side; random "
        "actions made beforehand; no environment checker.",
        f"Native is one process on one core. Async({BATCH}) has {BATCH} workers on all "
        f"{os.cpu_count()} cores: it is favoured by every further core.",
    ]
    return Report("Environment steps per second", rows, notes)
