"""Well-known networks: their profiles without torch, their modules with it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING

from mec_gym.dnn.graph import LayerGraph, from_json, load_graph

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "alexnet": "AlexNet: five convolutions and three wide linear layers, a chain",
    "vgg16": "VGG16: thirteen convolutions and three wide linear layers, a chain",
    "resnet18": "ResNet18: eight blocks with shortcuts",
    "mobilenetv2": "MobileNetV2: seventeen blocks of depthwise convolutions, cheap and deep",
    "googlenet": "GoogLeNet: nine Inception modules of four branches, with batch norm",
}
"""The networks of the zoo by name, and what each one is."""


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that :func:`load_profile` knows, sorted.

    ``NAME`` is the network for images of 224 x 224, ``NAME-exits`` is the same with early
    exits, and ``NAME-digits`` is the variant for images of 32 x 32 with exits trained on
    scikit-learn's digits.
    """
    folder = files(__name__) / "profiles"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name[: -len(".json")] for name in names if name.endswith(".json")))


@cache
def load_profile(name: str) -> LayerGraph:
    """Return the layer graph of a well-known network; torch is not needed.

    Args:
        name: The name of a profile, one of :func:`profile_names`.

    Raises:
        ValueError: There is no such profile.
    """
    if name not in profile_names():
        raise ValueError(f"profile must be one of {', '.join(profile_names())}, got {name!r}")
    entry = files(__name__) / "profiles" / f"{name}.json"
    return from_json(entry.read_text(encoding="utf-8"), f"profile {name!r}")


def resolve(network: str | LayerGraph) -> LayerGraph:
    """Return the layer graph of a network, however it is named.

    Args:
        network: The name of a profile of the zoo, one of :func:`profile_names`; the path of a
            profile in JSON, which ends in ``.json``; or the layer graph itself.

    Raises:
        ValueError: The network is none of these, or the file is no profile.
        FileNotFoundError: There is no such file.
    """
    if isinstance(network, LayerGraph):
        return network
    if not isinstance(network, str):
        raise ValueError(f"network must be a name, a path or a LayerGraph, got {network!r}")
    return load_graph(network) if network.endswith(".json") else load_profile(network)


def build(
    name: str,
    classes: int = 1000,
    image_size: int = 224,
    in_channels: int = 3,
    exits: bool = False,
) -> nn.Module:
    """Build a network as a torch module with random weights; this loads torch.

    Args:
        name: The name of a network, one of ``NETWORKS``.
        classes: Number of classes.
        image_size: Height and width of an image: 224, the published structure, or 32, the
            customary variant for small images.
        in_channels: Channels of an image.
        exits: Whether there are early exits; the module then returns a tuple of logits,
            shallow to deep.

    Raises:
        ValueError: The name is not known, or the image size is another one.
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    factory = getattr(import_module(f"{__name__}.{name}"), name)
    network: nn.Module = factory(classes, image_size, in_channels, exits)
    return network


def build_profiled(name: str) -> nn.Module:
    """Build the network of a profile as a torch module with random weights; this loads torch.

    Args:
        name: The name of a profile, one of :func:`profile_names`.

    Raises:
        ValueError: There is no such profile.
    """
    shapes = input_shapes(name)
    network, _, kind = name.partition("-")
    return build(
        network,
        classes=10 if kind == "digits" else 1000,
        image_size=shapes[0][-1],
        in_channels=shapes[0][1],
        exits=bool(kind),
    )


def input_shapes(name: str) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each input of a profile's network, batch axis included.

    Args:
        name: The name of a profile, one of :func:`profile_names`.

    Raises:
        ValueError: There is no such profile.
    """
    return tuple(tuple(shape) for shape in load_profile(name).provenance["input"])
