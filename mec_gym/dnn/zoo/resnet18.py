"""ResNet18: [He2016]."""

from __future__ import annotations

import torch
from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size, exit_heads

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages, each of which consists of two basic blocks."""


class BasicBlock(nn.Module):
    """A block of two 3 x 3 convolutions beside a shortcut.

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, width, h / stride, w / stride) for (n, channels, h, w)."""
        new = self.relu1(self.bn1(self.conv1(x)))
        new = self.bn2(self.conv2(new))
        old = x if self.shortcut is None else self.shortcut(x)
        answer: torch.Tensor = self.relu2(new + old)
        return answer


def resnet18(
    classes: int = 1000, image_size: int = 224, in_channels: int = 3, exits: bool = False
) -> StagedNetwork:
    """Build a ResNet18 with random weights.

    For images of 32 the first convolution is 3 x 3 with stride 1 instead of 7 x 7 with stride
    2, and no pool follows it.

    Args:
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Whether there are early exits as well, after the first three stages; these are
            four exits in all.

    Raises:
        ValueError: The image size is another one.
    """
    small = check_image_size(image_size)
    stem = (
        nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        if small
        else nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    )
    start: list[nn.Module] = [stem, nn.BatchNorm2d(64), nn.ReLU()]
    if not small:
        start.append(nn.MaxPool2d(3, 2, padding=1))
    stages = []
    channels = 64
    for width in WIDTHS:
        stride = 1 if width == 64 else 2
        stages.append(
            nn.Sequential(*start, BasicBlock(channels, width, stride), BasicBlock(width, width, 1))
        )
        start, channels = [], width
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))
    size = 4 if small else 7
    early = exit_heads(WIDTHS[:-1], (size, size, size), classes) if exits else []
    return StagedNetwork(stages, early, classifier)
