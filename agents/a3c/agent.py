"""A network trained by A3C, as an agent; its file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agents.a3c.settings import A3CSettings
from agents.heads import Head, make_head
from agents.networks import FusedCategorical, PolicyNetwork, make_network
from agents.runs import find_run
from mec_gym.core.files import write_whole
from mec_gym.core.problem import AnyProblem

MODEL_FILE = "model.pt"


class A3CAgent:
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
        logits, _ = self.network(inputs.reshape(-1, inputs.shape[-1]))
        chosen = FusedCategorical(logits)
        places = chosen.mode() if deterministic else chosen.sample(self._generator)
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
            assert isinstance(parameters, dict)
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(f"{path} is damaged: {error!r}") from error
        has = {name: tuple(value.shape) for name, value in parameters.items()}
        needs = {name: tuple(v.shape) for name, v in self.network.state_dict().items()}
        if has != needs:
            name = next(n for n in {**needs, **has} if has.get(n) != needs.get(n))
            raise ValueError(
                f"{path} is a model of another environment: {name} has shape {has.get(name)}, "
                f"this one's {needs.get(name)}"
            )
        self.network.load_state_dict(parameters)


def load_a3c(
    path: str | Path,
    problem: AnyProblem,
    env_id: str | None = None,
    multi_task: bool | None = None,
) -> A3CAgent:
    """The agent of a run written by ``mec-gym a3c`` or ``mec-gym mtl-a3c``.

    Args:
        path: The run's folder, or the model file in it.
        problem: What it is to play; must show the observations it was trained on.
        env_id: If given, the environment it must have been trained on; its scenario may
            differ.
        multi_task: If given, whether it must have been trained as multi-task A3C.

    Raises:
        ValueError: No run there, a damaged file, or a model of another environment or kind.
    """
    folder, config = find_run(path, "A3C", MODEL_FILE, env_id)
    try:
        settings = A3CSettings(**config["settings"])
    except TypeError as error:
        raise ValueError(f"{folder} was not written by this version: {error}") from error
    if multi_task is not None and multi_task != settings.multi_task:
        kinds = ("a3c", "mtl-a3c") if settings.multi_task else ("mtl-a3c", "a3c")
        raise ValueError(f"{path} is no {kinds[0]} run; call it {kinds[1]}:{path}")
    head = make_head(settings.head, problem, config.get("head"))
    torch.set_num_threads(1)
    network = make_network(settings.network, head, problem, settings.options)
    agent = A3CAgent(network, head)
    agent.load(folder / MODEL_FILE)
    return agent
