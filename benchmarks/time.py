"""Where the time of a step goes: from drawing an episode to learning from it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median_low
from typing import Any, cast

from agents.heads import make_head
from agents.ppo.model import make_ppo
from agents.ppo.vec_env import SB3VecEnv
from benchmarks.environments import QUICK, single_step, vector_step
from benchmarks.measure import Report, Row, interleave, rate
from mec_gym import ENVIRONMENTS, make_problem
from mec_gym.core.env import MecEnv
from mec_gym.core.problem import AnyProblem
from mec_gym.core.vector_env import MecVectorEnv
from train.presets import find_ppo_preset

BATCHES = (1, 16, 256)  # 1 is the single environment
FEW = (1, 16)  # of environments that train networks in every step
PROBLEM = {
    "drawing": ("sample",),
    "physics": ("step", "reward", "done"),
    "spaces": ("observe", "decision", "start"),
}
"""The methods of a problem that belong to each part."""
HEAD = ("inputs", "act", "usual_reward")
PARTS = (*PROBLEM, "adapter", "head", "network", "update")
"""All parts; the adapter is what is left of the whole."""


class _Clock:
    """Adds up the time that functions take.

    Attributes:
        seconds: The time by part, s.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a clock."""

        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            result = function(*args, **kwargs)
            self.seconds[part] += time.perf_counter() - begin
            return result

        return call


class _Clocked:
    """A problem whose methods are timed."""

    def __init__(self, problem: AnyProblem, clock: _Clock) -> None:
        self._problem = problem
        for part, names in PROBLEM.items():
            for name in names:
                setattr(self, name, clock.timed(part, getattr(problem, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)


class _Side:
    """Does some work over and over, and tells the microseconds per step of each part.

    Attributes:
        parts: The microseconds by part, one number per measurement.

    Args:
        clock: The clock of all parts but the adapter.
        work: The function that does the work.
        units: Number of steps of single environments that it takes.
        cycle: It is called in whole multiples of this number.
        seconds: Least wall time per measurement, s.
    """

    def __init__(
        self, clock: _Clock, work: Callable[[], object], units: int, cycle: int, seconds: float
    ) -> None:
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        self._clock, self._work = clock, work
        self._units, self._cycle, self._seconds = units, cycle, seconds

    def __call__(self) -> float:
        """Measure once, and return the microseconds per step of all parts together."""
        steps = 0

        def work() -> None:
            nonlocal steps
            self._work()
            steps += self._units

        self._clock.seconds.update(dict.fromkeys(PARTS, 0.0))
        whole = 1e6 / rate(work, self._units, self._seconds, self._cycle)
        spent = {part: 1e6 * s / steps for part, s in self._clock.seconds.items()}
        spent["adapter"] = whole - sum(spent.values())
        for part, figure in spent.items():
            self.parts[part].append(figure)
        return whole


def _stepped(env_id: str, batch: int, seconds: float) -> _Side:
    """Prepare steps with actions that were drawn beforehand."""
    clock = _Clock()
    problem = cast(AnyProblem, _Clocked(make_problem(env_id), clock))
    # Episodes are drawn so many steps ahead; whole multiples hold their share of drawing.
    cycle = problem.episodes_ahead * problem.horizon
    if batch == 1:
        return _Side(clock, single_step(MecEnv(problem)), 1, cycle, seconds)
    return _Side(clock, vector_step(MecVectorEnv(problem, batch)), batch, cycle, seconds)


def _trained(env_id: str, seconds: float) -> tuple[int, _Side]:
    """Prepare training with PPO and the default preset; also return the number of environments."""
    clock, problem, settings = _Clock(), make_problem(env_id), find_ppo_preset(env_id)[1].settings
    head = make_head(settings.head, problem)
    for name in HEAD:
        setattr(head, name, clock.timed("head", getattr(head, name)))
    vector = MecVectorEnv(cast(AnyProblem, _Clocked(problem, clock)), settings.num_envs)
    model = make_ppo(SB3VecEnv(vector, head, settings.reward_scale), settings, seed=0)
    for name in ("forward", "predict_values"):
        setattr(model.policy, name, clock.timed("network", getattr(model.policy, name)))
    model.train = clock.timed("update", model.train)  # type: ignore[method-assign]
    model.learn(settings.rollout)  # to warm up
    cycle = max(1, problem.episodes_ahead * problem.horizon // settings.n_steps)

    def work() -> None:
        model.learn(settings.rollout, reset_num_timesteps=False)

    return settings.num_envs, _Side(clock, work, settings.rollout, cycle, seconds)


def measure(seconds: float, repeats: int) -> Report:
    """Measure the microseconds per step and environment that each part takes.

    Args:
        seconds: Least wall time per measurement, s; it also holds a drawing of new episodes.
        repeats: Number of measurements of each side.
    """
    sides: dict[tuple[str, str, int], _Side] = {}
    for env_id in ENVIRONMENTS:
        for batch in BATCHES if env_id in QUICK else FEW:
            sides[env_id, "steps", batch] = _stepped(env_id, batch, seconds)
        batch, side = _trained(env_id, seconds)
        sides[env_id, "PPO", batch] = side
    found = interleave(sides, repeats)
    rows: list[Row] = []
    for (env_id, what, batch), figures in found.items():
        row: Row = {"environment": env_id, "what": what, "batch": batch}
        # All figures of a row are of one measurement, so that they add up.
        of_median = figures.values.index(median_low(figures.values))
        for part, values in sides[env_id, what, batch].parts.items():
            row[f"{part}, us"] = values[of_median]
        rows.append(row | {"whole, us": figures.values[of_median], "spread": figures.spread})
    notes = [
        f"Medians of {repeats} interleaved runs, microseconds per step of one environment.",
        "Physics is what becomes of a decision, and its reward; spaces are observations and "
        "decisions; the adapter is the rest: checks, slots, infos, resets, and the clock itself.",
        "PPO trains with the environment's default preset. The head makes inputs and actions, the "
        "network chooses, the update learns from a roll-out. What Stable-Baselines3 does "
        "between two steps counts to the adapter.",
    ]
    return Report("Where the time of a step goes", rows, notes)
