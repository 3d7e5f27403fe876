"""AlexNet, the version with one column: [Krizhevsky2014]."""

from __future__ import annotations

from torch import nn

from mec_gym.dnn.zoo.staged import StagedNetwork, check_image_size, exit_heads


def alexnet(
    classes: int = 1000, image_size: int = 224, in_channels: int = 3, exits: bool = False
) -> StagedNetwork:
    """Build an AlexNet with random weights.

    For images of 32 the first convolution is 5 x 5 with stride 1 instead of 11 x 11 with
    stride 4, pools are 2 x 2, and the classifier reads a 4 x 4 map and is 1024 wide instead of
    4096.

    Args:
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32.
        in_channels: Channels of an image.
        exits: Whether there are early exits as well, after the first and the second pool;
            these are three exits in all.

    Raises:
        ValueError: The image size is another one.
    """
    small = check_image_size(image_size)
    pool, size, width = (2, 4, 1024) if small else (3, 6, 4096)
    first = (
        nn.Conv2d(in_channels, 64, 5, padding=2)
        if small
        else nn.Conv2d(in_channels, 64, 11, stride=4, padding=2)
    )
    stages = [
        nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(pool, 2)),
        nn.Sequential(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(pool, 2)),
        nn.Sequential(
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(pool, 2),
        ),
    ]
    classifier = nn.Sequential(
        nn.AdaptiveAvgPool2d(size),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(256 * size * size, width),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
    early = exit_heads((64, 192), (size, size), classes) if exits else []
    return StagedNetwork(stages, early, classifier)
