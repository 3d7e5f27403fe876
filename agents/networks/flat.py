"""The plain network of actor-critic methods: it computes everything from one trunk."""

from __future__ import annotations

from torch import Tensor

from agents.heads import Head
from agents.networks.parts import (
    SMALL_GAIN,
    PolicyNetwork,
    choices_of,
    linear,
    trunk,
    width_of,
)
from agents.settings import NetworkOptions


class FlatNetwork(PolicyNetwork):
    """A trunk of two layers, one linear layer to all N * C logits and one to the value.

    As in A3C [Mnih2016], actor and critic share everything but their last layer.

    Args:
        head: The head of the problem; its spaces say what D, N and C are.
        options: The options of the network; only ``hidden`` is used.

    Raises:
        ValueError: The head's output is not N choices of equal size.
    """

    def __init__(self, head: Head, options: NetworkOptions) -> None:
        super().__init__(*choices_of(head.output_space))
        self.trunk = trunk(width_of(head.input_space), options.hidden)
        self.logits = linear(options.hidden, self.choices * self.places, SMALL_GAIN)
        self.value = linear(options.hidden, 1, gain=1.0)

    def forward(self, inputs: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, C) and values (B,) for inputs (B, D)."""
        features = self.trunk(inputs)
        logits = self.logits(features).view(-1, self.choices, self.places)
        return logits, self.value(features).squeeze(-1)
