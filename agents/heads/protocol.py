"""What a head is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces


class Head(Protocol):
    """Between the environment and a network.

    Attributes:
        input_space: Of the network's input.
        output_space: Of the network's raw output.
        device_columns: F, where the inputs begin with N rows of F numbers, one row for each
            of the N choices of the output; 0 where they have no such order.
    """

    input_space: spaces.Space[Any]
    output_space: spaces.Space[Any]
    device_columns: int

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
