"""A network trained by A3C as an agent, loaded from the folder of its run."""

from __future__ import annotations

from pathlib import Path

import torch

from agents.a3c.settings import A3CSettings
from agents.heads import make_head
from agents.networks import make_network
from agents.networks.agent import load_network, network_agent
from agents.runs import check_spaces, find_run, read_settings
from agents.trained_agent import TrainedAgent
from mec_gym.core.problem import AnyProblem

MODEL_FILE = "model.pt"


def load_a3c(
    path: str | Path,
    problem: AnyProblem,
    env_id: str | None = None,
    multi_task: bool | None = None,
) -> TrainedAgent:
    """Load the agent of a run that ``mec-gym a3c`` or ``mec-gym mtl-a3c`` wrote.

    Args:
        path: The run's folder, or a model file in it, as ``best.pt``.
        problem: The problem that the agent is to play; it must show the observations that the
            network was trained on.
        env_id: The id of the environment that the run must have been trained on, in whatever
            scenario; None if any will do.
        multi_task: Whether the run must be, or must not be, one of multi-task A3C; None if
            either will do.

    Raises:
        ValueError: There is no run, a file is damaged, or the model is of another environment
            or kind.
    """
    file, config = find_run(path, "A3C", MODEL_FILE, env_id)
    folder = file.parent
    settings = read_settings(A3CSettings, folder, config)
    if multi_task is not None and multi_task != settings.multi_task:
        kinds = ("a3c", "mtl-a3c") if settings.multi_task else ("mtl-a3c", "a3c")
        raise ValueError(f"{path} is no {kinds[0]} run; call it {kinds[1]}:{path}")
    head = make_head(settings.head, problem, config.get("head"))
    if settings.network not in head.networks:  # such a network fits any size
        check_spaces(folder, config, head, str(path))
    torch.set_num_threads(1)
    network = make_network(settings.network, head, settings.options)
    load_network(file, network)
    return network_agent(network, head)
