"""What a head is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import AnyProblem

if TYPE_CHECKING:
    from agents.networks.parts import PolicyNetwork
    from agents.settings import NetworkOptions

    NetworkMaker = Callable[["Head", NetworkOptions], PolicyNetwork]


class Head(Protocol):
    """Between the environment and a network.

    Attributes:
        input_space: Of the network's input.
        output_space: Of the network's raw output.
        device_columns: F, where the inputs begin with N rows of F numbers, one row for each
            of the N choices of the output; 0 where they have no such order.
        networks: The networks that only this head can feed, as name -> maker. A maker imports
            its network when it is called, so that a head can be used without torch.
    """

    input_space: spaces.Space[Any]
    output_space: spaces.Space[Any]
    device_columns: int
    networks: Mapping[str, NetworkMaker]

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Network inputs (..., inputs) for observations (..., observation)."""
        ...

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions for observations (..., observation) and raw outputs (..., n)."""
        ...

    def parameters(self) -> dict[str, float]:
        """What the head found out about its problem; ``make_head`` takes it back."""
        ...

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """What a usual policy earns in a slot (...); subtracted while learning.

        It may depend on nature's part of the observation only. Then it changes no
        preference between policies, but takes away what only nature decides (an
        input-driven baseline, Mao et al. 2019).
        """
        ...


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """A named head.

    Attributes:
        about: One line that says what the network decides.
        make: Makes it: (problem, ``**parameters`` that an earlier head found out) -> head.
    """

    about: str
    make: Callable[..., Head]


class SizedPart(NamedTuple):
    """A problem of one size among several that are played side by side.

    Attributes:
        problem: The problem of that size.
        head: Its head; the inputs and outputs of all parts have the same shape.
        reward_scale: What rewards are multiplied by while learning, so that all parts weigh
            the same.
    """

    problem: AnyProblem
    head: Head
    reward_scale: float


@runtime_checkable
class SizableHead(Head, Protocol):
    """A head whose problem can be played in several sizes at once, by one network."""

    def side_by_side(
        self, sizes: Sequence[tuple[int, int]], reward_scale: float
    ) -> list[SizedPart]:
        """The head's problem in each of the sizes, with heads that share one shape.

        Args:
            sizes: Numbers of devices and of servers, each at least 1.
            reward_scale: What rewards of the head's own problem are multiplied by.
        """
        ...
