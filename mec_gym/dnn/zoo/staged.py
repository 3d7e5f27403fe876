"""What the networks of the zoo have in common: stages in a row, and where they may answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class StagedNetwork(nn.Module):
    """Stages one after the other, early exits after the first ones, a classifier after the last.

    Args:
        stages: Each takes what the one before returns.
        heads: The early exits, after the first ``len(heads)`` stages; empty for a network
            that answers only at its end.
        classifier: The final exit.

    Raises:
        ValueError: An early exit would stand after the last stage.
    """

    def __init__(
        self, stages: Sequence[nn.Module], heads: Sequence[nn.Module], classifier: nn.Module
    ) -> None:
        super().__init__()
        if len(heads) >= len(stages):
            raise ValueError(f"heads must be fewer than the {len(stages)} stages, got {len(heads)}")
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Logits, (n, classes), from images (n, channels, height, width).

        One tensor without early exits; otherwise one for each exit, shallow to deep.
        """
        answers = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index < len(self.heads):
                answers.append(self.heads[index](x))
        answers.append(self.classifier(x))
        return tuple(answers) if len(answers) > 1 else answers[0]


def exit_head(channels: int, classes: int, size: int, width: int = 128) -> nn.Sequential:
    """A light early exit: pool, one 3 x 3 convolution, pool, one linear layer.

    BranchyNet's exits (Teerapittayanon, McDanel & Kung 2016) are one or two convolutions and
    a linear layer too; the map is pooled first here, so that an exit high up, where maps are
    large, costs little.

    Args:
        channels: Of the feature map that the exit reads.
        classes: Number of classes.
        size: Height and width to which the map is pooled first.
        width: Channels of the convolution.
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(size),
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def check_image_size(image_size: int) -> bool:
    """Whether the small variant is asked for.

    Raises:
        ValueError: Neither 224 nor 32.
    """
    if image_size not in (224, 32):
        raise ValueError(f"image_size must be 224 or 32, got {image_size!r}")
    return image_size == 32
