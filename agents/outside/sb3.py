"""Models that a script of the user's own has saved with Stable-Baselines3, called sb3:PATH.

A model's archive holds its weights, its settings as JSON, and what JSON cannot hold as pickles,
which may run any code. Here the pickles are not opened: what they hold also stands beside them as
text, as far as it is needed.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy

from mec_gym.core.policies import Memoryless
from mec_gym.core.problem import AnyProblem
from mec_gym.wrappers import DiscreteView

POLICIES: dict[str, type[BasePolicy]] = {
    "stable_baselines3.common.policies": ActorCriticPolicy,
    "stable_baselines3.dqn.policies": DQNPolicy,
    "stable_baselines3.sac.policies": SACPolicy,
    "stable_baselines3.td3.policies": TD3Policy,
}
"""The MlpPolicy of each algorithm by the module that it comes from: PPO and A2C share theirs, and
so do TD3 and DDPG."""

_ADVICE = "write a function that loads it, and call the agent MODULE:NAME"
_CLASS = re.compile(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>")


class SB3Agent(Memoryless):
    """A policy of Stable-Baselines3 as an agent.

    Args:
        policy: The policy.
        view: What its numbers mean where it has a number for every action; None if it decides
            the action itself.
    """

    def __init__(self, policy: BasePolicy, view: DiscreteView | None = None) -> None:
        self.policy = policy
        self.view = view

    def act(self, observation: npt.NDArray[Any], deterministic: bool = False) -> npt.NDArray[Any]:
        """Return the actions for observations of shape (observation,) or (B, observation)."""
        action, _ = self.policy.predict(np.asarray(observation), deterministic=deterministic)
        return np.asarray(action) if self.view is None else self.view.action(action)


def load_sb3(path: str | Path, problem: AnyProblem) -> SB3Agent:
    """Load a model that ``model.save(path)`` has written; no pickle is opened.

    The MlpPolicy of PPO, A2C, DQN, SAC, TD3 and DDPG are known, with any ``net_arch`` and any
    activation function of torch. A policy that decides a single number plays a MultiDiscrete
    problem as :class:`mec_gym.wrappers.DiscreteActions` does.

    Args:
        path: The file; its ending ``.zip`` may be left out.
        problem: The problem that the model is to play.

    Raises:
        ValueError: There is no such file, it is damaged, its policy is of another kind, or it was
            trained on other observations or actions.
    """
    file = Path(path)
    if not file.is_file() and not file.name.endswith(".zip"):
        file = file.with_name(f"{file.name}.zip")
    if not file.is_file():
        raise ValueError(f"sb3:{path} must be a file of Stable-Baselines3, there is none")
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
        module = data["policy_class"]["__module__"]
        acts_in, sees = data["action_space"], data["observation_space"]
        kind = acts_in[":type:"]
    except Exception as error:
        raise ValueError(f"{file} is no model of Stable-Baselines3: {error!r}") from error
    if module not in POLICIES:
        raise ValueError(
            f"{file} must hold an MlpPolicy of Stable-Baselines3, got one of {module}: {_ADVICE}"
        )
    _check_space(file, "observations", sees, problem.observation_space)
    view = None
    if kind.endswith(".Discrete'>"):
        view = DiscreteView(problem.action_space)
        _check_space(file, "actions", acts_in, view.space)
    else:
        _check_space(file, "actions", acts_in, problem.action_space)
    options = _policy_options(file, data["policy_kwargs"])
    if POLICIES[module] in (ActorCriticPolicy, SACPolicy):
        options["use_sde"] = bool(data.get("use_sde", False))
    torch.set_num_threads(1)
    space = problem.action_space if view is None else view.space
    try:
        policy = POLICIES[module](problem.observation_space, space, lambda _: 0.0, **options)
        _, found, _ = load_from_zip_file(file, device="cpu", load_data=False)
        policy.load_state_dict(found["policy"])  # type: ignore[arg-type]
    except Exception as error:
        raise ValueError(
            f"{file} holds no {POLICIES[module].__name__} with {options}, or is damaged: {error}; "
            f"{_ADVICE}"
        ) from error
    policy.set_training_mode(False)
    return SB3Agent(policy, view)


def _check_space(file: Path, what: str, saved: dict[str, Any], space: spaces.Space[Any]) -> None:
    """Compare a space, as the archive describes it in words, with one of the problem's.

    Raises:
        ValueError: They differ.
    """
    kind = str(saved.get(":type:"))
    bounds = [name for name in ("n", "nvec", "low", "high") if hasattr(space, name)]
    mine = {name: str(getattr(space, name)) for name in bounds}
    has = {name: str(saved.get(name)) for name in bounds}
    if not kind.endswith(f".{type(space).__name__}'>") or has != mine:
        about = {
            name: saved[name] for name in ("_shape", "n", "nvec", "low", "high") if name in saved
        }
        raise ValueError(
            f"{file} was trained on other {what}: this problem has {space}, the model "
            f"{kind} with {str(about)[:200]} (if a wrapper changes them, {_ADVICE})"
        )


def _policy_options(file: Path, saved: dict[str, Any]) -> dict[str, Any]:
    """Return what the policy was made with, as far as it concerns how it acts.

    Raises:
        ValueError: Something of it stands in the pickle only.
    """
    options = {}
    for name, value in saved.items():
        if name in (":type:", ":serialized:") or name.startswith("optimizer"):
            continue
        if isinstance(value, str):
            known = _CLASS.fullmatch(value) if name == "activation_fn" else None
            if known is None:
                raise ValueError(
                    f"{file}: policy_kwargs[{name!r}] = {value} cannot be read without running "
                    f"code: {_ADVICE}"
                )
            value = getattr(torch.nn, known.group(1))
        options[name] = value
    return options
