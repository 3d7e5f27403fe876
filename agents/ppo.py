"""PPO (Schulman et al. 2017) through Stable-Baselines3, on the native vector environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file

from agents.heads import Head, HeadName, make_head
from agents.heads.protocol import SizableHead
from agents.networks import NetworkName, NetworkOptions, make_network
from agents.networks.agent import NetworkAgent
from agents.networks.parts import Heads, Order, Sharing
from agents.networks.sb3_policy import NetworkPolicy
from agents.runs import find_run
from agents.sb3_vec import MixedVecEnv, SB3VecEnv
from mec_gym.core.checks import fraction, non_negative, one_of, positive, positive_int
from mec_gym.core.problem import AnyProblem
from mec_gym.core.seeds import TRAIN_SEED
from mec_gym.core.vector_env import MecVectorEnv

MODEL_FILE = "model.zip"


@dataclass(frozen=True)
class PPOSettings:
    """Everything that shapes learning, but for the seed and the length of the run.

    Attributes:
        head: What the network decides: ``flat`` the action itself, ``price`` a price of
            energy and the trust in the connection time (training offload),
            ``congestion`` prices of backlog at the three stages (early exit), ``pairs`` and
            ``pairs-2``, ``pairs-0`` places, seen pair by pair (distributed inference).
        network: ``mlp`` SB3's own; ``flat``, ``branches`` or ``pairs``, see
            :mod:`agents.networks`.
        sharing: Of ``branches``, as in multi-task A3C.
        heads: Likewise.
        order: Of ``pairs``: ``sequential`` or ``together``.
        sizes: With head ``pairs`` and network ``pairs``: numbers of devices and servers that
            are played side by side, an equal share of the environments each, instead of the
            scenario's own.
        num_envs: Environments stepped side by side.
        n_steps: Steps of each environment between two updates.
        minibatches: Parts that a rollout is cut into.
        n_epochs: Passes over a rollout.
        learning_rate: At the start; falls linearly to 0.
        gamma: Discount; episodes end, so 1 is fine.
        gae_lambda: Of generalised advantage estimation.
        clip_range: Of the probability ratio.
        ent_coef: Weight of the entropy bonus.
        max_grad_norm: Gradients are scaled down to this norm.
        reward_scale: Rewards are multiplied by it while learning.
        log_std_init: Logarithm of the Gaussian's first standard deviation.
        hidden: Width of the two hidden layers of actor and critic.
        fused: Adam in one fused kernel.
    """

    head: HeadName = "flat"
    network: Literal["mlp"] | NetworkName = "mlp"
    sharing: Sharing = "hard"
    heads: Heads = "branch"
    order: Order = "sequential"
    sizes: tuple[tuple[int, int], ...] = ()
    num_envs: int = 512
    n_steps: int = 30
    minibatches: int = 8
    n_epochs: int = 4
    learning_rate: float = 1e-3
    gamma: float = 1.0
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5
    reward_scale: float = 1.0
    log_std_init: float = -1.0
    hidden: int = 64
    fused: bool = True

    def __post_init__(self) -> None:
        one_of("head", self.head, get_args(HeadName))
        one_of("network", self.network, ("mlp", *get_args(NetworkName)))
        for name, allowed in (("sharing", Sharing), ("heads", Heads), ("order", Order)):
            one_of(name, getattr(self, name), get_args(allowed))
        if any(len(size) != 2 or min(size) < 1 for size in self.sizes):
            raise ValueError(f"sizes must be pairs of positive whole numbers, got {self.sizes}")
        if self.sizes and (self.network != "pairs" or self.num_envs % len(self.sizes)):
            raise ValueError(
                "sizes must be given with network 'pairs' only, their number a divisor of "
                f"num_envs = {self.num_envs}, got {self.sizes} with network {self.network!r}"
            )
        for name in ("num_envs", "n_steps", "minibatches", "n_epochs", "hidden"):
            positive_int(name, getattr(self, name))
        for name in ("learning_rate", "clip_range", "max_grad_norm", "reward_scale"):
            positive(name, getattr(self, name))
        for name in ("gamma", "gae_lambda"):
            fraction(name, getattr(self, name))
        non_negative("ent_coef", self.ent_coef)
        if not np.isfinite(self.log_std_init):
            raise ValueError(f"log_std_init must be finite, got {self.log_std_init!r}")
        if self.num_envs * self.n_steps % self.minibatches or self.rollout < 2 * self.minibatches:
            raise ValueError(
                f"minibatches must divide num_envs * n_steps = {self.rollout} into parts of at "
                f"least 2, got {self.minibatches}"
            )

    @property
    def rollout(self) -> int:
        """Steps between two updates, all environments together."""
        return self.num_envs * self.n_steps

    @property
    def options(self) -> NetworkOptions:
        """What concerns a network other than ``mlp``."""
        return NetworkOptions(self.hidden, self.sharing, self.heads, order=self.order)


class PPOAgent:
    """A trained (or training) PPO model with its head: an agent like any other.

    Args:
        model: SB3's model.
        head: The head it was trained with.
    """

    def __init__(self, model: PPO, head: Head) -> None:
        self.model = model
        self.head = head

    def predict(
        self,
        observation: npt.NDArray[Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], Any]:
        """Actions for observations (observation,) or (B, observation)."""
        raw, _ = self.model.predict(self.head.inputs(observation), deterministic=deterministic)
        return self.head.act(observation, raw), state


TrainingEnv = SB3VecEnv | MixedVecEnv


def make_vec_env(problem: AnyProblem, settings: PPOSettings) -> TrainingEnv:
    """The training environment: B native environments with the head before them.

    Of several sizes, rewards are scaled to those of the problem's own number of devices.
    """
    head = make_head(settings.head, problem)
    if not settings.sizes:
        return SB3VecEnv(MecVectorEnv(problem, settings.num_envs), head, settings.reward_scale)
    if not isinstance(head, SizableHead):
        raise ValueError(
            f"sizes must be empty with head {settings.head!r}, got {settings.sizes}: it plays one "
            "size of its problem only"
        )
    parts = []
    for part in head.side_by_side(settings.sizes, settings.reward_scale):
        env = MecVectorEnv(part.problem, settings.num_envs // len(settings.sizes))
        parts.append(SB3VecEnv(env, part.head, part.reward_scale))
    return MixedVecEnv(parts)


def agent_of(model: PPO, head: Head) -> PPOAgent | NetworkAgent:
    """A model that learns, as an agent.

    Args:
        model: SB3's model.
        head: Of the problem that is to be played.
    """
    if isinstance(model.policy, NetworkPolicy):
        return NetworkAgent(model.policy.network.sized(head), head)
    return PPOAgent(model, head)


def make_ppo(env: TrainingEnv, settings: PPOSettings, seed: int) -> PPO:
    """A new model, SB3's own PPO.

    Small networks are fastest on one thread, so torch is told to use one.
    """
    torch.set_num_threads(1)
    rate = settings.learning_rate
    policy: type[ActorCriticPolicy] = ActorCriticPolicy
    about: dict[str, Any] = {
        "net_arch": [settings.hidden, settings.hidden],
        "log_std_init": settings.log_std_init,
    }
    if settings.network != "mlp":
        policy = NetworkPolicy
        about = {"network": settings.network, "head": env.head, "options": settings.options}
    model = PPO(
        policy,
        env,
        # The last rollout may overshoot the total: the rate must not turn negative.
        learning_rate=lambda remaining: rate * max(remaining, 0.0),
        n_steps=settings.n_steps,
        batch_size=settings.rollout // settings.minibatches,
        n_epochs=settings.n_epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae_lambda,
        clip_range=settings.clip_range,
        ent_coef=settings.ent_coef,
        max_grad_norm=settings.max_grad_norm,
        seed=seed,
        device="cpu",
        policy_kwargs=about | {"optimizer_kwargs": {"fused": settings.fused}},
    )
    # SB3 seeds the environments seed, seed + 1, ...: the very episodes that tests play.
    env.seed(TRAIN_SEED + seed * settings.num_envs)
    return model


def load_ppo(
    path: str | Path, problem: AnyProblem, env_id: str | None = None
) -> PPOAgent | NetworkAgent:
    """The agent of a run written by ``mec-gym ppo``.

    Args:
        path: The run's folder, or the model file in it.
        problem: What it is to play; must show the observations it was trained on, unless the
            network fits any size.
        env_id: If given, the environment it must have been trained on; its scenario may
            differ.

    Raises:
        ValueError: No run there, a damaged file, or a model of another environment.
    """
    folder, config = find_run(path, "PPO", MODEL_FILE, env_id)
    model_file, trained_on = folder / MODEL_FILE, config["env"]
    head = make_head(config["settings"]["head"], problem, config.get("head"))
    torch.set_num_threads(1)
    name = f"{path} (trained on {trained_on}, {config.get('scenario')})"
    if config["settings"].get("network", "mlp") != "mlp":
        settings = PPOSettings(**config["settings"])
        agent = NetworkAgent(make_network(settings.network, head, settings.options), head)
        with reading(model_file):
            _, found, _ = load_from_zip_file(model_file, device="cpu", load_data=False)
            parameters: Any = found["policy"]
            mine = {key.removeprefix("network."): value for key, value in parameters.items()}
        agent.take(mine, name)
        return agent
    with reading(model_file):
        model = PPO.load(model_file, device="cpu")
    check_fits(model, head, name)
    return PPOAgent(model, head)


@contextmanager
def reading(model_file: Path) -> Iterator[None]:
    """Turn the ways in which a damaged archive fails, each its reader's own, into one."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{model_file} needs another version of a library: {error}") from error
    except Exception as error:
        raise ValueError(f"{model_file} is damaged: {error}") from error


def check_fits(model: PPO, head: Head, name: str) -> None:
    """Raise ValueError unless the model reads the head's inputs and writes its outputs."""
    pairs = (
        ("observations", model.observation_space.shape, head.input_space.shape),
        ("actions", model.action_space.shape, head.output_space.shape),
    )
    for what, has, needs in pairs:
        if has != needs:
            raise ValueError(
                f"{name} is a model of another environment: its {what} have shape {has}, "
                f"this one's {needs}"
            )
    has_space, needs_space = model.action_space, head.output_space
    if type(has_space) is not type(needs_space) or (
        isinstance(has_space, spaces.MultiDiscrete) and has_space != needs_space
    ):
        raise ValueError(
            f"{name} is a model of another environment: it acts in {has_space}, "
            f"this one in {needs_space}"
        )
