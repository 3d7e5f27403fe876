"""The base class of all policy networks, and the parts that they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.heads import Head
from agents.networks.distributions import Distribution, FusedCategorical, FusedGaussian, masked

SMALL_GAIN = 0.01
"""Gain of the layer before the logits; it is small, so that a policy begins close to uniform."""


class PolicyNetwork(nn.Module, ABC):
    """A policy network maps inputs (B, D) to the outputs of a policy (B, N, K) and values (B,).

    An action has N parts that are drawn independently of each other, given the outputs:

    - Of a discrete space, a part is a choice among places. Its K = C outputs are the logits of
      the places; where the choices have different sizes, C is the largest, and the places that
      a choice lacks are masked.
    - Of a Box, a part is a number. Its K = 2 outputs are the mean and the logarithm of the
      standard deviation of a Gaussian. As in SB3, the deviation does not depend on the inputs,
      and draws may leave the Box: the head clips them.

    Attributes:
        choices: Number N of parts.
        places: Number C of what a subclass computes for each part: its places, or 1, the mean.
        log_std: Logarithms of the standard deviations, (N,); None for a discrete space.

    Args:
        space: The space of the outputs of the head.
        log_std_init: The logarithm of the standard deviations at the start.

    Raises:
        ValueError: The space is neither a Box nor discrete.
    """

    def __init__(self, space: spaces.Space[Any], log_std_init: float = 0.0) -> None:
        super().__init__()
        self.choices, self.places = size_of(space)
        self.log_std: nn.Parameter | None = None
        self.allowed: Tensor | None
        allowed = None
        if isinstance(space, spaces.Box):
            self.log_std = nn.Parameter(torch.full((self.choices,), log_std_init))
        elif isinstance(space, spaces.MultiDiscrete) and len(set(space.nvec.tolist())) > 1:
            allowed = torch.arange(self.places) < torch.from_numpy(space.nvec)[:, None]
        self.register_buffer("allowed", allowed, persistent=False)

    def __call__(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs (B, N, K) and the values (B,).

        Args:
            inputs: The network's inputs, (B, D).
            actions: The actions that are chosen, (B, N). Where choices are made one after
                the other, the logits of each choice are those that follow the choices before it.
        """
        result: tuple[Tensor, Tensor] = super().__call__(inputs, actions)
        return result

    @abstractmethod
    def forward(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute what the network returns when it is called."""

    def keep(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute all that stays the same while the parameters change; by default nothing.

        A learner that passes over a roll-out several times keeps it in between.

        Returns:
            Tensors with a first axis of length B.
        """
        return (inputs,) if actions is None else (inputs, actions)

    def from_kept(self, kept: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return outputs and values, as a call does, from what :meth:`keep` returned."""
        return self(*kept)

    def outputs(self, computed: Tensor) -> Tensor:
        """Complete what a subclass has computed for each part, (B, N, C), to outputs (B, N, K)."""
        if self.log_std is not None:
            log_std = self.log_std.unsqueeze(-1).expand_as(computed)
            return torch.cat([computed, log_std], dim=-1)
        if self.allowed is not None:
            return masked(computed, self.allowed)
        return computed

    def distribution(self, outputs: Tensor) -> Distribution:
        """Return the distribution of actions that outputs (B, N, K) stand for."""
        return FusedCategorical(outputs) if self.log_std is None else FusedGaussian(outputs)

    @property
    def action_type(self) -> torch.dtype:
        """The type of an action's parts."""
        return torch.int64 if self.log_std is None else torch.float32

    def choose(
        self, inputs: Tensor, generator: torch.Generator | None = None, greedy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions.

        Args:
            inputs: The network's inputs, (B, D).
            generator: The generator that is drawn from; None for torch's global one.
            greedy: Whether the most likely actions are chosen instead of drawn ones.

        Returns:
            The actions, (B, N), the outputs that they were chosen by, (B, N, K), and the values,
            (B,).
        """
        outputs, values = self(inputs)
        chosen = self.distribution(outputs)
        actions = chosen.mode() if greedy else chosen.sample(generator)
        return actions, outputs, values

    def sized(self, head: Head) -> PolicyNetwork:
        """Return the network for the size of a head's problem; its parameters are shared.

        Raises:
            ValueError: The network is made for another size only.
        """
        size = size_of(head.output_space)
        if size != (self.choices, self.places):
            raise ValueError(
                f"a network of {self.choices} choices among {self.places} places does not fit "
                f"{size[0]} among {size[1]}"
            )
        return self

    def sharing_loss(self) -> Tensor | float:
        """Return the loss that keeps parameters alike which should be; 0 if none should be."""
        return 0.0


def size_of(space: spaces.Space[Any]) -> tuple[int, int]:
    """Return the number N of an action's parts and the number C of places of the largest one.

    The parts of a Box are numbers, which count as one place each.

    Raises:
        ValueError: The space is of another kind.
    """
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape)), 1
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return 1, int(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return len(space.nvec), int(space.nvec.max())
    raise ValueError(
        "the outputs of a policy network must be a Box, or a Discrete or flat MultiDiscrete "
        f"from 0 on, got {space}"
    )


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
