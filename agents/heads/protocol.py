"""The interface of heads, and the rows of a package's table of them."""

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
    """A head stands between an environment and a network.

    Attributes:
        input_space: The space of the network's inputs.
        output_space: The space of the network's raw outputs.
        device_columns: Width F of a row, where the inputs begin with N rows of F numbers, one
            row for each of the N choices of the output; 0 where they have no such order.
        networks: The networks that only this head can feed, as name -> maker. A maker imports
            its network when it is called, so that a head can be used without torch.
    """

    input_space: spaces.Space[Any]
    output_space: spaces.Space[Any]
    device_columns: int
    networks: Mapping[str, NetworkMaker]

    def inputs(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return network inputs (..., inputs) for observations (..., observation)."""
        ...

    def act(self, observation: npt.NDArray[np.float32], raw: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return actions for observations (..., observation) and raw outputs (..., n)."""
        ...

    def parameters(self) -> dict[str, float]:
        """Return what the head found out about its problem; ``make_head`` takes it back."""
        ...

    def usual_reward(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what a usual policy earns in a slot, (...); it is subtracted while learning.

        It may depend only on the part of the observation that no action influences. Then it
        changes no preference between policies, but takes noise out of the returns: it is an
        input-driven baseline [Mao2019].
        """
        ...


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """A named head.

    Attributes:
        about: One line that says what the network decides.
        make: Function that makes the head: (problem, ``**parameters`` that an earlier head found
            out) -> head.
    """

    about: str
    make: Callable[..., Head]


class SizedPart(NamedTuple):
    """A problem of one size among several that are played side by side.

    Attributes:
        problem: The problem of that size.
        head: The head of that problem; the inputs and outputs of all parts have the same shape.
        reward_scale: The factor that rewards are multiplied by while learning, so that all parts
            weigh the same.
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
        """Make the head's problem in each of the sizes, with heads that share one shape.

        Args:
            sizes: Pairs (devices, servers) of numbers, each at least 1.
            reward_scale: The factor that rewards of the head's own problem are multiplied by.
        """
        ...
