"""The networks whose layers a machine is calibrated with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mec_gym.dnn.zoo import build

Network = tuple[nn.Module, torch.Tensor]
"""A module and one frame for it."""

_SIZES = {
    ("alexnet", 32): (32, 64),
    ("alexnet", 224): (160, 224),
    ("vgg16", 32): (32,),
    ("vgg16", 224): (96, 128),
    ("resnet18", 32): (32,),
    ("resnet18", 224): (96, 160, 224),
    ("mobilenetv2", 32): (32,),
    ("mobilenetv2", 224): (96, 160, 224),
    ("googlenet", 32): (32,),
    ("googlenet", 224): (96, 160, 224),
}
"""Networks of the zoo, for images of 32 or of 224, and the sizes of the images they are given."""


class Separable(nn.Module):
    """Depthwise convolutions between pointwise ones, with gates, many activations and pools.

    It has what the mobile networks after MobileNetV2 consist of, for the sake of the operations
    that no network of the zoo has.

    Args:
        width: Channels of the first convolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        activations = (nn.ReLU6, nn.Hardswish, nn.SiLU, nn.LeakyReLU, nn.GELU, nn.ELU)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width))
        self.blocks, self.gates = nn.ModuleList(), nn.ModuleList()
        channels = width
        for k, activation in enumerate(activations):
            wide, kernel, stride = channels * (1 + k % 2), 3 + 2 * (k % 3 > 0), 1 + k % 2
            self.blocks.append(
                nn.Sequential(
                    nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels),
                    nn.BatchNorm2d(channels),
                    activation(),
                    nn.Conv2d(channels, wide, 1, bias=False),
                    nn.GroupNorm(8, wide) if k % 3 == 2 else nn.BatchNorm2d(wide),
                    activation(),
                )
            )
            gate = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 8, 1), nn.ReLU(),
                nn.Conv2d(8, wide, 1), nn.Hardsigmoid() if k % 2 else nn.Sigmoid(),
            )  # fmt: skip
            self.gates.append(gate)
            channels = wide
        self.average, self.largest = nn.AvgPool2d(2), nn.MaxPool2d(3, 2, 1)
        self.upsample = nn.Upsample(scale_factor=2)
        self.last = nn.Conv2d(3 * channels, channels, 3, padding=1, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, channels, h / 32, w / 32) for (n, 3, h, w)."""
        x = self.stem(x)
        for block, gate in zip(self.blocks, self.gates, strict=True):
            x = block(x)
            x = x * gate(x) + x
        y = torch.cat([self.average(x), self.largest(x), self.largest(x)], 1)
        one, two = self.last(y).chunk(2, 1)
        y = torch.cat([torch.tanh(one), two - one], 1)
        return torch.as_tensor(self.upsample(y).mean((2, 3)))


class AttentionBlock(nn.Module):
    """A block of a transformer, written out.

    Args:
        width: Values per token.
        heads: Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.parts = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * width))
        self.softmax = nn.Softmax(-1)
        self.out = nn.Linear(width, width)
        self.wide = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, tokens, width) for (n, tokens, width)."""
        parts = self.parts(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = self.softmax(torch.matmul(q, k.transpose(-2, -1)) * 0.125)
        x = x + self.out(torch.matmul(weights, v).transpose(1, 2).flatten(2))
        return torch.as_tensor(x + self.wide(x))


class Attention(nn.Module):
    """A transformer on the patches of an image.

    Args:
        width: Values per patch.
        heads: Heads of the attention.
        blocks: Number of blocks.
    """

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.blocks = nn.Sequential(*(AttentionBlock(width, heads) for _ in range(blocks)))
        self.head = nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, 1000) for images (n, 3, h, w)."""
        x = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
        return torch.as_tensor(self.head(x.mean(1)))


class MixerBlock(nn.Module):
    """Linear layers across patches, then across channels.

    Args:
        width: Values per patch.
        patches: Number of patches.
    """

    def __init__(self, width: int, patches: int) -> None:
        super().__init__()
        self.across_patches, self.across_channels = (
            nn.Sequential(nn.LayerNorm(n), nn.Linear(n, 3 * n), nn.GELU(), nn.Linear(3 * n, n))
            for n in (patches, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, width, patches) for (n, width, patches)."""
        x = x + self.across_patches(x)
        return torch.as_tensor(x + self.across_channels(x.transpose(1, 2)).transpose(1, 2))


class Mixer(nn.Module):
    """Wide linear layers on the patches of an image, across its channels and across patches.

    Args:
        width: Values per patch.
        patches: Number of patches.
        blocks: Number of blocks.
    """

    def __init__(self, width: int, patches: int, blocks: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.blocks = nn.Sequential(*(MixerBlock(width, patches) for _ in range(blocks)))
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, 10) for images (n, 3, h, w) of so many patches of 8 x 8."""
        x = self.blocks(self.patches(x).flatten(2))
        return torch.as_tensor(self.head(x.mean(2)))


def calibration_networks() -> Mapping[tuple[str, str], Network]:
    """Build the networks, with random weights.

    Returns:
        Modules and frames by family and name.
    """
    found: dict[tuple[str, str], Network] = {}
    for (family, structure), sizes in _SIZES.items():
        module = build(family, image_size=structure)
        for size in sizes:
            name = f"{family} of {structure} at {size}"
            found[family, name] = module, torch.rand(1, 3, size, size)
    for width, sizes in ((32, (64, 128)), (96, (96, 224))):
        separable = Separable(width)
        for size in sizes:
            found["separable", f"separable {width} at {size}"] = (
                separable, torch.rand(1, 3, size, size),
            )  # fmt: skip
    for width, size in ((192, 128), (384, 96), (192, 224)):
        transformer = Attention(width, width // 64, 2)
        found["attention", f"attention {width} at {size}"] = (
            transformer, torch.rand(1, 3, size, size),
        )  # fmt: skip
    for width, size in ((128, 32), (256, 96), (512, 128)):
        mixer = Mixer(width, (size // 8) ** 2, 2)
        found["mixer", f"mixer {width} at {size}"] = mixer, torch.rand(1, 3, size, size)
    return found
