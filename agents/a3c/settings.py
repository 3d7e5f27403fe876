"""What shapes learning with A3C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from agents.heads import HeadName
from agents.networks import NetworkName, NetworkOptions
from agents.networks.parts import Heads, Order, Sharing
from mec_gym.core.checks import fraction, non_negative, one_of, positive, positive_int


@dataclass(frozen=True)
class A3CSettings:
    """Everything that shapes learning, but for the seed and the length of the run.

    Attributes:
        head: What the network decides; ``flat``: the action itself.
        network: ``flat`` one trunk, ``branches`` the multi-task network, ``pairs`` a scorer of
            (device, place) pairs, with head ``pairs``, ``pairs-2`` or ``pairs-0``.
        multi_task: The loss is that of N tasks, weighted 1/N each; else that of one joint
            action.
        sharing: Of ``branches``: ``hard`` one trunk, ``soft`` an actor's and a critic's.
        heads: Of ``branches``: ``branch`` one a device, ``tied`` one for all.
        sharing_weight: Of soft sharing, lambda.
        order: Of ``pairs``: ``sequential`` or ``together``.
        hidden: Width of hidden layers.
        workers: Processes that learn; 1 is reproducible bit for bit.
        num_envs: Environments of each worker; 1 is the textbook's.
        n_steps: Steps of each environment between two updates, T.
        gamma: Discount; episodes end, so 1 is fine.
        gae_lambda: Of generalised advantage estimation; 1: the n-step returns of A3C.
        ent_coef: Weight of the entropy bonus at the start, beta of (14).
        ent_coef_end: At the end; it falls linearly.
        value_coef: Weight of the critic's loss 1/2 (V - R)^2.
        learning_rate: At the start; falls linearly to 0.
        max_grad_norm: Gradients are scaled down to this norm.
        normalize: Advantages are brought to mean 0 and standard deviation 1, an update.
        reward_scale: Rewards are multiplied by it while learning.
    """

    head: HeadName = "flat"
    network: NetworkName = "flat"
    multi_task: bool = False
    sharing: Sharing = "hard"
    heads: Heads = "branch"
    sharing_weight: float = 1e-3
    order: Order = "sequential"
    hidden: int = 64
    workers: int = 2
    num_envs: int = 64
    n_steps: int = 8
    gamma: float = 1.0
    gae_lambda: float = 0.95
    ent_coef: float = 0.01
    ent_coef_end: float = 0.0
    value_coef: float = 1.0
    learning_rate: float = 3e-3
    max_grad_norm: float = 0.5
    normalize: bool = True
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("head", HeadName), ("network", NetworkName), ("sharing", Sharing), ("heads", Heads),
            ("order", Order),
        ):  # fmt: skip
            one_of(name, getattr(self, name), get_args(allowed))
        for name in ("hidden", "workers", "num_envs", "n_steps"):
            positive_int(name, getattr(self, name))
        for name in ("learning_rate", "max_grad_norm", "reward_scale"):
            positive(name, getattr(self, name))
        for name in ("sharing_weight", "ent_coef", "ent_coef_end", "value_coef"):
            non_negative(name, getattr(self, name))
        for name in ("gamma", "gae_lambda"):
            fraction(name, getattr(self, name))
        if self.normalize and self.rollout < 2:
            raise ValueError(
                "normalize needs at least 2 steps between updates, got num_envs * n_steps = "
                f"{self.rollout}"
            )

    @property
    def rollout(self) -> int:
        """Steps between two updates of a worker, all its environments together."""
        return self.num_envs * self.n_steps

    @property
    def options(self) -> NetworkOptions:
        """What concerns the network."""
        return NetworkOptions(
            self.hidden, self.sharing, self.heads, self.sharing_weight, self.order
        )
