"""ResNet18 (He, Zhang, Ren & Sun 2016)."""

from __future__ import annotations

import torch
from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size, exit_head

WIDTHS = (64, 128, 256, 512)
"""Channels of the four stages; each is two basic blocks."""


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut.

    Args:
        channels: Of the input.
        width: Of the output.
        stride: Of the first convolution.
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
        """From (n, channels, h, w) to (n, width, h / stride, w / stride)."""
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
        image_size: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Early exits after the first three stages as well: four in all.

    Raises:
        ValueError: Another image size.
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
    heads = [exit_head(width, classes, size) for width in WIDTHS[:-1]] if exits else []
    return StagedNetwork(stages, heads, classifier)
