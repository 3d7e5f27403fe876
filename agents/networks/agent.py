"""A policy network as an agent, and the file of its parameters."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from agents.heads import Head
from agents.networks.parts import PolicyNetwork
from agents.trained_agent import TrainedAgent
from mec_gym.core.checks import reason_of
from mec_gym.core.files import write_whole


def network_agent(network: PolicyNetwork, head: Head, seed: int = 0) -> TrainedAgent:
    """Make the agent that plays what a network says.

    Args:
        network: The network; it may go on learning.
        head: The head that the network learns with.
        seed: Seed of what is drawn when the agent is not asked to be deterministic.
    """
    generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def decide(inputs: npt.NDArray[np.float32], deterministic: bool) -> npt.NDArray[Any]:
        flat = torch.from_numpy(np.ascontiguousarray(inputs)).reshape(-1, inputs.shape[-1])
        actions, _, _ = network.choose(flat, generator, greedy=deterministic)
        return np.reshape(actions.numpy(), inputs.shape[:-1] + (head.output_space.shape or ()))

    return TrainedAgent(decide, head, network)


def save_network(path: Path, network: PolicyNetwork) -> None:
    """Write the parameters of a network to a file, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    write_whole(path, buffer.getvalue())


def load_network(path: Path, network: PolicyNetwork) -> None:
    """Give a network the parameters that :func:`save_network` wrote; no code is run.

    Raises:
        ValueError: The file is damaged, or it belongs to another network.
    """
    take_parameters(network, read_tensors(path), str(path))


def read_tensors(path: Path, part: str | None = None) -> dict[str, Tensor]:
    """Read tensors by name from a file that torch wrote; no code is run.

    Args:
        path: The file.
        part: Name of the file within it, if it is an archive of several.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at its checksums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("wrong checksum")
            content = path.read_bytes() if part is None else archive.read(part)
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if not all(isinstance(tensors[name], Tensor) for name in tensors):
            raise ValueError("it must hold tensors by name")
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} is damaged: {reason_of(error)}") from error
    return dict(tensors)


def take_parameters(network: nn.Module, parameters: Mapping[str, Tensor], name: str) -> None:
    """Give parameters to a network.

    Args:
        network: The network that takes them.
        parameters: The parameters by name.
        name: Name of the model that they come from, for the message.

    Raises:
        ValueError: The parameters belong to another network.
    """
    has = {part: tuple(value.shape) for part, value in parameters.items()}
    needs = {part: tuple(value.shape) for part, value in network.state_dict().items()}
    if has != needs:
        part = next(p for p in {**needs, **has} if has.get(p) != needs.get(p))
        raise ValueError(
            f"{name} is a model of another environment: {part} has shape {has.get(part)}, "
            f"this one's {needs.get(part)}"
        )
    network.load_state_dict(parameters)
