"""Well-known networks: their profiles without torch, their modules with it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

from mec_gym.dnn.graph import LayerGraph, from_json

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "alexnet": "AlexNet: five convolutions and three wide linear layers, a chain",
    "vgg16": "VGG16: thirteen convolutions and three wide linear layers, a chain",
    "resnet18": "ResNet18: eight blocks with shortcuts",
    "mobilenetv2": "MobileNetV2: seventeen blocks of depthwise convolutions, cheap and deep",
    "googlenet": "GoogLeNet: nine Inception modules of four branches, with batch norm",
}
"""What there is, and what it is."""


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that :func:`load_profile` knows, sorted.

    ``NAME`` is the network for images of 224 x 224, ``NAME-exits`` the same with early exits.
    """
    folder = files(__name__) / "profiles"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name[: -len(".json")] for name in names if name.endswith(".json")))


@cache
def load_profile(name: str) -> LayerGraph:
    """The layer graph of a well-known network; torch is not needed.

    Args:
        name: One of :func:`profile_names`.

    Raises:
        ValueError: There is no such profile.
    """
    if name not in profile_names():
        raise ValueError(f"profile must be one of {', '.join(profile_names())}, got {name!r}")
    entry = files(__name__) / "profiles" / f"{name}.json"
    return from_json(entry.read_text(encoding="utf-8"), f"profile {name!r}")


def build(
    name: str,
    classes: int = 1000,
    image_size: int = 224,
    in_channels: int = 3,
    exits: bool = False,
) -> nn.Module:
    """A network as a torch module with random weights; this loads torch.

    Args:
        name: One of ``NETWORKS``.
        classes: Number of classes.
        image_size: 224, the published structure, or 32, the customary variant for small images.
        in_channels: Channels of an image.
        exits: With early exits: the module then returns a tuple of logits, shallow to deep.

    Raises:
        ValueError: Unknown name, another image size.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    factory = getattr(import_module(f"{__name__}.{name}"), name)
    network: nn.Module = factory(classes, image_size, in_channels, exits)
    return network
