"""The native vector, all plans of a slot, the optimum and the bound of an episode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.environments import vector_step
from benchmarks.measure import Measure, Report, interleave, rate
from mec_gym import MecVectorEnv, make_problem
from mec_gym.core import arrays
from mec_gym.pipeline_training.exact import episode_bound, episode_optimum, plan_rewards
from mec_gym.pipeline_training.plans import count_plans
from mec_gym.pipeline_training.problem import PipelineTraining
from mec_gym.pipeline_training.scenario import Scenario

ENVIRONMENTS = (1, 64, 1024)
BLOCKS = (6, 8)


def measure(seconds: float, repeats: int) -> Report:
    """Time of a step, of ``plan_rewards``, ``episode_optimum`` and ``episode_bound``.

    Args:
        seconds: Wall time that one measurement takes at least.
        repeats: Measurements of each side.
    """

    def time_of(call: Callable[..., object], *arguments: Any, count: int = 1) -> Measure:
        return lambda: 1e6 / rate(partial(call, *arguments), count, seconds)

    default = make_problem("mec/PipelineTraining-v0")
    cases: dict[str, Measure] = {
        f"step of one environment, native vector of {n}": time_of(
            vector_step(MecVectorEnv(default, n)), count=n
        )
        for n in ENVIRONMENTS
    }
    for blocks in BLOCKS:
        problem = PipelineTraining(Scenario(blocks=blocks))
        s = problem.scenario
        trace = problem.sample(np.random.default_rng(0), 1)
        slot = arrays.at(arrays.slot_at(trace, 0), 0)
        place = problem.start(slot).place
        plans = f"{count_plans(blocks, s.devices)} plans"
        cases |= {
            f"rewards of {plans} in a slot": time_of(plan_rewards, slot, place, s),
            f"bound of an episode, {plans}": time_of(episode_bound, trace, s),
            f"optimum of an episode, {plans}": time_of(episode_optimum, trace, s),
        }
    found = interleave(cases, repeats)
    rows = [
        {"what": what, "us each": figures.median, "spread": figures.spread}
        for what, figures in found.items()
    ]
    return Report("Pipeline training", rows, [f"Medians of {repeats} interleaved runs, one core."])
