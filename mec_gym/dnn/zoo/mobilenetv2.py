"""MobileNetV2 of width 1.0: [Sandler2018]."""

from __future__ import annotations

import torch
from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size, exit_heads

STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 2)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)
"""[Sandler2018] table 2, cut where the exits stand: (expansion, channels, repeats, stride)."""


def convolution(
    channels: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Build a convolution, batch norm and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """A block that expands, convolves each channel on its own and projects.

    A shortcut runs beside it if input and output have the same shape.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the depthwise convolution.
        expansion: Channels in between, as a multiple of those of the input.
    """

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = [convolution(channels, inner)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            convolution(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, width, h / stride, w / stride) for (n, channels, h, w)."""
        new: torch.Tensor = self.layers(x)
        return x + new if self.shortcut else new


def mobilenetv2(
    classes: int = 1000, image_size: int = 224, in_channels: int = 3, exits: bool = False
) -> StagedNetwork:
    """Build a MobileNetV2 with random weights.

    For images of 32 the first convolution and the stage of 24 channels have stride 1 instead
    of 2.

    Args:
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Whether there are early exits as well, after the stages of 24, 32 and 96
            channels; these are four exits in all.

    Raises:
        ValueError: The image size is another one.
    """
    small = check_image_size(image_size)
    layers: list[nn.Module] = [convolution(in_channels, 32, 3, 1 if small else 2)]
    channels = 32
    stages = []
    for rows in STAGES:
        for expansion, width, repeats, stride in rows:
            for repeat in range(repeats):
                first = repeat == 0 and not (small and width == 24)
                layers.append(InvertedResidual(channels, width, stride if first else 1, expansion))
                channels = width
        if channels == 320:
            layers.append(convolution(320, 1280))
        stages.append(nn.Sequential(*layers))
        layers = []
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, classes)
    )
    size = 4 if small else 7
    early = exit_heads((24, 32, 96), (size, size, size), classes) if exits else []
    return StagedNetwork(stages, early, classifier)
