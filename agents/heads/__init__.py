"""What stands between an environment and a policy network.

A head turns observations into network inputs and network outputs into actions. It sees
no more than the network does, so a policy with a head is an ordinary agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from agents.heads.early_exit import CongestionHead
from agents.heads.flat import FlatHead
from agents.heads.protocol import Head
from agents.heads.training_offload import PriceHead
from mec_gym.core.problem import AnyProblem
from mec_gym.distributed_inference.problem import DistributedInference
from mec_gym.early_exit.problem import EarlyExitPartition
from mec_gym.training_offload.problem import TrainingOffload

__all__ = ["CongestionHead", "FlatHead", "Head", "HeadName", "PriceHead", "make_head"]

HeadName = Literal["flat", "price", "congestion", "pairs", "pairs-2", "pairs-0"]

FORESIGHT = {"pairs": None, "pairs-2": 2, "pairs-0": 0}
"""Heads of pairs: how many blocks they look ahead; None: to the end."""


def make_head(
    name: str, problem: AnyProblem, parameters: Mapping[str, float] | None = None
) -> Head:
    """The head of that name.

    Args:
        name: One of ``HeadName``.
        problem: The problem played.
        parameters: Of an earlier head, so that a model keeps its meaning wherever it is
            loaded; by default they are found out anew.

    Raises:
        ValueError: Unknown name, or a head that does not fit the problem.
    """
    if name == "flat":
        columns = problem.width if isinstance(problem, DistributedInference) else 0
        return FlatHead(problem, columns)
    if name == "price":
        if not isinstance(problem, TrainingOffload):
            raise ValueError(f"head 'price' fits training offload only, got {type(problem)}")
        return PriceHead(problem, **(parameters or {}))
    if name == "congestion":
        if not isinstance(problem, EarlyExitPartition):
            raise ValueError(f"head 'congestion' fits early exit only, got {type(problem)}")
        return CongestionHead(problem, **(parameters or {}))
    if name in FORESIGHT:
        if not isinstance(problem, DistributedInference):
            raise ValueError(f"head {name!r} fits distributed inference only, got {type(problem)}")
        from agents.distributed_inference.pairs.head import PairsHead  # it imports this package

        return PairsHead(problem, FORESIGHT[name])
    raise ValueError(f"head must be one of {', '.join(get_args(HeadName))}, got {name!r}")
