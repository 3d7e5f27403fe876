"""The online bound of a problem, which takes some time to compute."""

from __future__ import annotations

from tqdm import tqdm

from mec_gym.core.online import OnlineBound, has_online_bound, online_bound_of
from mec_gym.core.problem import AnyProblem


def computed_online_bound(problem: AnyProblem) -> OnlineBound | None:
    """Compute the online bound of a problem, if it offers one; say what takes so long.

    It is computed once per process.
    """
    if not has_online_bound(problem):
        return None
    with tqdm(total=1, desc="online bound (--no-online-bound: without)", leave=False):
        return online_bound_of(problem)
