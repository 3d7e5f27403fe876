"""What every policy network is, and what they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.heads import Head
from agents.networks.fused import FusedCategorical

SMALL_GAIN = 0.01
"""Of the layer before the logits: a policy begins close to uniform."""


class PolicyNetwork(nn.Module, ABC):
    """Maps inputs (B, D) to logits (B, N, C) and values (B,).

    Attributes:
        choices: N.
        places: C.
    """

    def __init__(self, choices: int, places: int) -> None:
        super().__init__()
        self.choices = choices
        self.places = places

    def __call__(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits of N choices among C places, and the value.

        Args:
            inputs: (B, D).
            places: What is chosen, int64 (B, N). Where choices are made one after the other,
                the logits of each are those after the ones before it.
        """
        result: tuple[Tensor, Tensor] = super().__call__(inputs, places)
        return result

    @abstractmethod
    def forward(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What a network computes when it is called."""

    def choose(
        self, inputs: Tensor, generator: torch.Generator | None = None, greedy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose places.

        Args:
            inputs: (B, D).
            generator: Of the draws.
            greedy: The most likely places instead of drawn ones.

        Returns:
            Places int64 (B, N), the logits (B, N, C) they were chosen by, and values (B,).
        """
        logits, values = self(inputs)
        chosen = FusedCategorical(logits)
        places = chosen.mode() if greedy else chosen.sample(generator)
        return places, logits, values

    def sized(self, head: Head) -> PolicyNetwork:
        """The network for a head's size, parameters shared.

        Raises:
            ValueError: It is made for another size.
        """
        size = choices_of(head.output_space)
        if size != (self.choices, self.places):
            raise ValueError(
                f"a network of {self.choices} choices among {self.places} places does not fit "
                f"{size[0]} among {size[1]}"
            )
        return self

    def sharing_loss(self) -> Tensor | float:
        """What is added to the loss for parameters that should be alike; 0 if none should."""
        return 0.0


def choices_of(space: spaces.Space[Any]) -> tuple[int, int]:
    """N and C of an action space of N choices among C places each.

    Raises:
        ValueError: Another kind of space, or choices of different sizes.
    """
    if (
        not isinstance(space, spaces.MultiDiscrete)
        or space.nvec.ndim != 1
        or len(set(space.nvec.tolist())) != 1
        or np.any(space.start != 0)
    ):
        raise ValueError(
            "a network of parallel choices needs actions MultiDiscrete([C] * N) from 0 on, "
            f"got {space}"
        )
    return len(space.nvec), int(space.nvec[0])


def width_of(space: spaces.Space[Any]) -> int:
    """D of an input space.

    Raises:
        ValueError: It is not a flat Box.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"a policy network needs flat inputs, got {space}")
    return space.shape[0]


def linear(inputs: int, outputs: int, gain: float = 2.0**0.5, bias: bool = True) -> nn.Linear:
    """A linear layer, orthogonal and without bias at first, as is usual for policies."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def trunk(inputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers, (B, inputs) -> (B, hidden)."""
    return nn.Sequential(linear(inputs, hidden), nn.Tanh(), linear(hidden, hidden), nn.Tanh())
