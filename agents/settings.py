"""The settings that all learners share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mec_gym.core.checks import check_fields

Sharing = Literal["hard", "soft"]
Output = Literal["branch", "tied"]
Order = Literal["sequential", "together"]
MOST_HIDDEN = 1 << 14
"""Largest width of a hidden layer: two such layers have a GiB of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """The choices that a policy network leaves open; each network uses those that concern it.

    Attributes:
        hidden: Width of the hidden layers; wider ones can learn more and cost more time.
        sharing: ``hard``: actor and critic share a trunk; ``soft``: each has its own, and
            the two are tied by ``sharing_weight`` * ||theta_a - theta_c||^2.
        output: ``branch``: one output branch per choice; ``tied``: one for all.
        sharing_weight: lambda of soft sharing: the larger it is, the more alike the two trunks
            stay.
        order: ``sequential``: each device sees the choices of those before it; ``together``:
            no device sees another's.
        log_std_init: Logarithm of the Gaussian's first standard deviation, for continuous
            outputs.

    Raises:
        ValueError: An option is not one of those above.
    """

    hidden: int = 64
    sharing: Sharing = "hard"
    output: Output = "branch"
    sharing_weight: float = 1e-3
    order: Order = "sequential"
    log_std_init: float = -1.0

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive_int=("hidden",),
            at_most={"hidden": MOST_HIDDEN},
            non_negative=("sharing_weight",),
            choices={
                "sharing": get_args(Sharing),
                "output": get_args(Output),
                "order": get_args(Order),
            },
        )
        if not np.isfinite(self.log_std_init):
            raise ValueError(f"log_std_init must be finite, got {self.log_std_init!r}")


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """The settings that PPO and A3C have in common.

    Attributes:
        head: Name of the head, which says what the network decides: ``flat`` the action itself;
            ``mec-gym scenarios`` lists the others, which belong to one problem each.
        network: Name of the policy network; each learner says which there are.
        sharing: For network ``branches``: ``hard``, actor and critic share one trunk, or
            ``soft``, each has its own and the two are kept alike.
        output: For network ``branches``: ``branch``, one output branch per choice, or ``tied``,
            one for all.
        order: For network ``pairs``: ``sequential``, each device sees the choices of those before
            it, or ``together``, no device sees another's.
        hidden: Width of the hidden layers; wider ones can learn more and cost more time.
        log_std_init: Logarithm of the Gaussian's first standard deviation, for continuous
            outputs; raise it to explore more.
        num_envs: Environments that are stepped side by side. More of them give smoother updates,
            but fewer of them per environment step.
        n_steps: Steps of each environment between two updates. More of them look farther
            ahead, fewer update more often.
        gamma: Discount per step. Episodes end, so 1 is possible; less makes learning
            short-sighted but less noisy.
        gae_lambda: Lambda of generalised advantage estimation [Schulman2016]: 1 uses whole
            returns (noisy), 0 the critic only (biased).
        learning_rate: Step size of the first update; it falls linearly. Halve it if learning
            is unstable.
        ent_coef: Weight of the entropy bonus. Raise it if the policy stops exploring.
        max_grad_norm: The norm down to which longer gradients are scaled. Lower it if single
            updates spoil the policy.
        reward_scale: The factor that rewards are multiplied by while learning. Choose it so that
            returns come to lie around 1 to 10.

    Raises:
        ValueError: A setting is outside its range.
    """

    head: str = "flat"
    network: str = "flat"
    sharing: Sharing = "hard"
    output: Output = "branch"
    order: Order = "sequential"
    hidden: int = 64
    log_std_init: float = -1.0
    num_envs: int = 64
    n_steps: int = 8
    gamma: float = 1.0
    gae_lambda: float = 0.95
    learning_rate: float = 1e-3
    ent_coef: float = 0.0
    max_grad_norm: float = 0.5
    reward_scale: float = 1.0

    def __post_init__(self) -> None:
        check_fields(
            self,
            positive_int=("num_envs", "n_steps"),
            positive=("learning_rate", "max_grad_norm", "reward_scale"),
            fraction=("gamma", "gae_lambda"),
            non_negative=("ent_coef",),
        )
        _ = self.options

    @property
    def rollout(self) -> int:
        """Environment steps between two updates, all environments together."""
        return self.num_envs * self.n_steps

    @property
    def options(self) -> NetworkOptions:
        """The settings that concern the network."""
        return NetworkOptions(
            hidden=self.hidden,
            sharing=self.sharing,
            output=self.output,
            order=self.order,
            log_std_init=self.log_std_init,
        )
