"""What the networks of the zoo have in common: stages in a row, and where they may answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class StagedNetwork(nn.Module):
    """Stages one after the other, early exits after the first ones, a classifier after the last.

    Args:
        stages: The stages, each of which takes what the one before returns.
        exit_heads: The early exits, one after each of the first ``len(exit_heads)`` stages;
            empty for a network that answers only at its end.
        classifier: The final exit.

    Raises:
        ValueError: An early exit would stand after the last stage.
    """

    def __init__(
        self, stages: Sequence[nn.Module], exit_heads: Sequence[nn.Module], classifier: nn.Module
    ) -> None:
        super().__init__()
        if len(exit_heads) >= len(stages):
            raise ValueError(
                f"exit_heads must be fewer than the {len(stages)} stages, got {len(exit_heads)}"
            )
        self.stages = nn.ModuleList(stages)
        self.exit_heads = nn.ModuleList(exit_heads)
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return logits, (n, classes), for images (n, channels, height, width).

        Without early exits this is one tensor, otherwise a tuple with one tensor per exit,
        shallow to deep.
        """
        answers = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index < len(self.exit_heads):
                answers.append(self.exit_heads[index](x))
        answers.append(self.classifier(x))
        return tuple(answers) if len(answers) > 1 else answers[0]


def exit_heads(
    channels: Sequence[int], sizes: Sequence[int], classes: int, width: int = 128
) -> list[nn.Sequential]:
    """Build light early exits: pool, one 3 x 3 convolution, pool, one linear layer.

    BranchyNet's exits [Teerapittayanon2016] are one or two convolutions and a linear layer
    too. Here the map is pooled first, so that an exit high up, where maps are large, costs
    little.

    Args:
        channels: Channels of the feature map that each exit reads.
        sizes: Height and width to which the map of each exit is pooled first.
        classes: Number of classes.
        width: Channels of the convolution.
    """
    return [
        nn.Sequential(
            nn.AdaptiveAvgPool2d(size),
            nn.Conv2d(read, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )
        for read, size in zip(channels, sizes, strict=True)
    ]


def check_image_size(image_size: int) -> bool:
    """Return whether the variant for small images is asked for.

    Args:
        image_size: Height and width of an image.

    Raises:
        ValueError: The size is neither 224 nor 32.
    """
    if image_size not in (224, 32):
        raise ValueError(f"image_size must be 224 or 32, got {image_size!r}")
    return image_size == 32
