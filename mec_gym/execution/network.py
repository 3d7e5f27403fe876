"""A network that is executed: the module, an example of its frames, and how it is split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mec_gym.dnn.profile.tensors import Tensors
from mec_gym.dnn.split import SplitNetwork


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network as both sides have it.

    Attributes:
        module: The module.
        inputs: One frame.
        split: The same, prepared to be cut.
    """

    module: nn.Module
    inputs: Tensors
    split: SplitNetwork

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensors, name: str | None = None) -> Network:
        """Prepare a module.

        Raises:
            ValueError: It cannot be split.
        """
        return cls(module, inputs, SplitNetwork(module, inputs, name))


def random_frames(like: Tensors, count: int, seed: int = 0) -> list[Tensors]:
    """Draw frames of the same shapes and types: N(0, 1) for floats, 0 or 1 for the rest."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        frame = []
        for one in like:
            if one.is_floating_point() or one.is_complex():
                values = torch.randn(one.shape, generator=generator)
            else:
                values = torch.randint(0, 2, one.shape, generator=generator)
            frame.append(values.to(one.dtype))
        found.append(tuple(frame))
    return found
