"""VGG16: [SimonyanZisserman2015], configuration D."""

from __future__ import annotations

from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size, exit_heads

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions, one row per stage; each stage ends with a 2 x 2 pool."""


def vgg16(
    classes: int = 1000, image_size: int = 224, in_channels: int = 3, exits: bool = False
) -> StagedNetwork:
    """Build a VGG16 with random weights.

    For images of 32 every convolution is followed by batch norm, and the classifier is one
    linear layer on the last 1 x 1 map instead of three on a 7 x 7 map.

    Args:
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Whether there are early exits as well, after the first four pools; these are
            five exits in all.

    Raises:
        ValueError: The image size is another one.
    """
    small = check_image_size(image_size)
    stages = []
    channels = in_channels
    for widths in WIDTHS:
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Conv2d(channels, width, 3, padding=1))
            if small:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            channels = width
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    classifier = (
        nn.Sequential(nn.Flatten(), nn.Linear(512, classes))
        if small
        else nn.Sequential(
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, classes),
        )
    )
    sizes = (4, 4, 4, 2) if small else (7, 7, 7, 7)
    channels_out = [widths[-1] for widths in WIDTHS[:-1]]
    early = exit_heads(channels_out, sizes, classes) if exits else []
    return StagedNetwork(stages, early, classifier)
