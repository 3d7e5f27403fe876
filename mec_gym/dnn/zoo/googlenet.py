"""GoogLeNet, the first Inception network, with batch norm: [Szegedy2015]."""

from __future__ import annotations

import torch
from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size


def convolution(
    channels: int, width: int, kernel: int = 1, stride: int = 1, padding: int = 0
) -> nn.Sequential:
    """Build a convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(width, eps=0.001),
        nn.ReLU(),
    )


class Inception(nn.Module):
    """Four branches side by side, their channels concatenated.

    The third branch has 3 x 3 convolutions, where the paper has 5 x 5: so do the networks whose
    weights and counts (1.5 GMAC, 6.6 million parameters) are in general use.

    Args:
        channels: Channels of the input.
        one: Channels of the branch 1 x 1.
        three: Channels of the branch 3 x 3, between its convolutions and at its end.
        five: Channels of the branch that the paper calls 5 x 5, likewise.
        pool: Channels of the branch that pools.
    """

    def __init__(
        self, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int
    ) -> None:
        super().__init__()
        self.branch1 = convolution(channels, one)
        self.branch2 = nn.Sequential(
            convolution(channels, three[0]), convolution(*three, kernel=3, padding=1)
        )
        self.branch3 = nn.Sequential(
            convolution(channels, five[0]), convolution(*five, kernel=3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), convolution(channels, pool)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, one + three[1] + five[1] + pool, h, w) for (n, channels, h, w)."""
        return torch.cat(
            [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1
        )


def auxiliary(channels: int, classes: int) -> nn.Sequential:
    """Build the paper's auxiliary classifier, which serves as an early exit here."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        convolution(channels, 128),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 1024),
        nn.ReLU(),
        nn.Dropout(0.7),
        nn.Linear(1024, classes),
    )


def googlenet(
    classes: int = 1000, image_size: int = 224, in_channels: int = 3, exits: bool = False
) -> StagedNetwork:
    """Build a GoogLeNet with random weights.

    For images of 32 the first convolution is 3 x 3 with stride 1 instead of 7 x 7 with stride
    2, and no pool follows it.

    Args:
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Whether the auxiliary classifiers, after inception 4a and 4d, are exits as well;
            these are three exits in all. The paper uses them for training only.

    Raises:
        ValueError: The image size is another one.
    """
    small = check_image_size(image_size)
    stem = (
        [convolution(in_channels, 64, 3, padding=1)]
        if small
        else [
            convolution(in_channels, 64, 7, stride=2, padding=3),
            nn.MaxPool2d(3, 2, ceil_mode=True),
        ]
    )
    stages = [
        nn.Sequential(
            *stem,
            convolution(64, 64),
            convolution(64, 192, 3, padding=1),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Inception(192, 64, (96, 128), (16, 32), 32),
            Inception(256, 128, (128, 192), (32, 96), 64),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            Inception(480, 192, (96, 208), (16, 48), 64),
        ),
        nn.Sequential(
            Inception(512, 160, (112, 224), (24, 64), 64),
            Inception(512, 128, (128, 256), (24, 64), 64),
            Inception(512, 112, (144, 288), (32, 64), 64),
        ),
        nn.Sequential(
            Inception(528, 256, (160, 320), (32, 128), 128),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            Inception(832, 256, (160, 320), (32, 128), 128),
            Inception(832, 384, (192, 384), (48, 128), 128),
        ),
    ]
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, classes)
    )
    early = [auxiliary(channels, classes) for channels in (512, 528)] if exits else []
    return StagedNetwork(stages, early, classifier)
