"""The base class of all policy networks, and the parts that they are made of."""

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
"""Gain of the layer before the logits; it is small, so that a policy begins close to uniform."""


class PolicyNetwork(nn.Module, ABC):
    """A policy network maps inputs (B, D) to logits (B, N, C) and values (B,).

    Attributes:
        choices: Number N of choices.
        places: Number C of places per choice.
    """

    def __init__(self, choices: int, places: int) -> None:
        super().__init__()
        self.choices = choices
        self.places = places

    def __call__(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits (B, N, C) of N choices among C places, and the values (B,).

        Args:
            inputs: The network's inputs, (B, D).
            places: The places that are chosen, int64 (B, N). Where choices are made one after
                the other, the logits of each choice are those that follow the choices before it.
        """
        result: tuple[Tensor, Tensor] = super().__call__(inputs, places)
        return result

    @abstractmethod
    def forward(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute what the network returns when it is called."""

    def choose(
        self, inputs: Tensor, generator: torch.Generator | None = None, greedy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose places.

        Args:
            inputs: The network's inputs, (B, D).
            generator: The generator that is drawn from; None for torch's global one.
            greedy: Whether the most likely places are chosen instead of drawn ones.

        Returns:
            The places, int64 (B, N), the logits they were chosen by, (B, N, C), and the values,
            (B,).
        """
        logits, values = self(inputs)
        chosen = FusedCategorical(logits)
        places = chosen.mode() if greedy else chosen.sample(generator)
        return places, logits, values

    def sized(self, head: Head) -> PolicyNetwork:
        """Return the network for the size of a head's problem; its parameters are shared.

        Raises:
            ValueError: The network is made for another size only.
        """
        size = choices_of(head.output_space)
        if size != (self.choices, self.places):
            raise ValueError(
                f"a network of {self.choices} choices among {self.places} places does not fit "
                f"{size[0]} among {size[1]}"
            )
        return self

    def sharing_loss(self) -> Tensor | float:
        """Return the loss that keeps parameters alike which should be; 0 if none should be."""
        return 0.0


def choices_of(space: spaces.Space[Any]) -> tuple[int, int]:
    """Return N and C of an action space of N choices among C places each.

    Raises:
        ValueError: The space is of another kind, or its choices have different sizes.
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
    """Return the width D of an input space.

    Raises:
        ValueError: The space is not a flat Box.
    """
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"a policy network needs flat inputs, got {space}")
    return space.shape[0]


def linear(inputs: int, outputs: int, gain: float = 2.0**0.5, bias: bool = True) -> nn.Linear:
    """Make a linear layer that begins as is usual for policies: orthogonal, its bias 0.

    Args:
        inputs: Width of the inputs.
        outputs: Width of the outputs.
        gain: Factor of the orthogonal weights; a smaller one gives smaller outputs at first.
        bias: Whether the layer has a bias.
    """
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.orthogonal_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def trunk(inputs: int, hidden: int) -> nn.Sequential:
    """Make two hidden layers with tanh, (B, inputs) -> (B, hidden)."""
    return nn.Sequential(linear(inputs, hidden), nn.Tanh(), linear(hidden, hidden), nn.Tanh())
