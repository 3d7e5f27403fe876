"""A network with its head, as an agent; its file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agents.heads import Head
from agents.networks.parts import PolicyNetwork
from mec_gym.core.files import write_whole


class NetworkAgent:
    """A trained (or training) network with its head: an agent like any other.

    Args:
        network: Says which places are likely.
        head: The head it was trained with.
        seed: Of what is drawn when it is not asked to be deterministic.
    """

    def __init__(self, network: PolicyNetwork, head: Head, seed: int = 0) -> None:
        self.network = network
        self.head = head
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (observation,) or (B, observation)."""
        observation = np.asarray(observation)
        inputs = torch.from_numpy(np.ascontiguousarray(self.head.inputs(observation)))
        flat = inputs.reshape(-1, inputs.shape[-1])
        places, _, _ = self.network.choose(flat, self._generator, greedy=deterministic)
        raw = places.numpy().reshape(*observation.shape[:-1], -1)
        return self.head.act(observation, raw), state

    def save(self, path: Path) -> None:
        """Write the network's parameters, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(self.network.state_dict(), buffer)
        write_whole(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Read what ``save`` wrote; no code is run.

        Raises:
            ValueError: The file is damaged, or of another network.
        """
        try:
            with zipfile.ZipFile(path) as archive:  # torch does not look at its checksums
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile("wrong checksum")
            parameters = torch.load(path, map_location="cpu", weights_only=True)
            assert all(isinstance(value, Tensor) for value in parameters.values())
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(f"{path} is damaged: {error!r}") from error
        self.take(parameters, str(path))

    def take(self, parameters: Mapping[str, Tensor], name: str) -> None:
        """Take parameters over.

        Raises:
            ValueError: They are another network's; ``name`` says whose.
        """
        has = {name: tuple(value.shape) for name, value in parameters.items()}
        needs = {name: tuple(v.shape) for name, v in self.network.state_dict().items()}
        if has != needs:
            part = next(n for n in {**needs, **has} if has.get(n) != needs.get(n))
            raise ValueError(
                f"{name} is a model of another environment: {part} has shape {has.get(part)}, "
                f"this one's {needs.get(part)}"
            )
        self.network.load_state_dict(parameters)
