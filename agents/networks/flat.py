"""The plain network of actor-critic methods: it computes everything from one trunk."""

from __future__ import annotations

from torch import Tensor

from agents.heads import Head
from agents.networks.parts import (
    SMALL_GAIN,
    PolicyNetwork,
    linear,
    trunk,
    width_of,
)
from agents.settings import NetworkOptions


class FlatNetwork(PolicyNetwork):
    """A trunk of two layers, one linear layer to all N * C outputs and one to the value.

    As in A3C [Mnih2016], actor and critic share everything but their last layer.

    Args:
        head: The head of the problem; its spaces say what D, N and C are.
        options: The options of the network; ``hidden`` and ``log_std_init`` are used.

    Raises:
        ValueError: The head's outputs are of a kind that no network has.
    """

    def __init__(self, head: Head, options: NetworkOptions) -> None:
        super().__init__(head.output_space, options.log_std_init)
        self.trunk = trunk(width_of(head.input_space), options.hidden)
        self.logits = linear(options.hidden, self.choices * self.places, SMALL_GAIN)
        self.value = linear(options.hidden, 1, gain=1.0)

    def forward(self, inputs: Tensor, actions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (B, N, K) and values (B,) for inputs (B, D)."""
        features = self.trunk(inputs)
        computed = self.logits(features).view(-1, self.choices, self.places)
        return self.outputs(computed), self.value(features).squeeze(-1)
