"""The settings of A3C."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.settings import LearningSettings, NetworkOptions
from mec_gym.core.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class A3CSettings(LearningSettings):
    """Everything that shapes learning, but for the seed and the length of the run.

    ``network`` is ``flat``, one trunk; ``branches``, the multi-task network; or one that the
    head brings, as head ``pairs`` brings ``pairs``. ``num_envs`` is per worker; A3C as published
    has 1. ``gae_lambda`` 1 gives the n-step returns of [Mnih2016].

    Attributes:
        multi_task: Whether the loss is that of N tasks, weighted 1/N each, instead of that of
            one joint action.
        sharing_weight: lambda of soft sharing: the larger it is, the more alike actor and critic
            stay.
        workers: Number of processes that learn. Use no more than there are cores; a run with 1
            is reproducible bit for bit.
        ent_coef: Weight of the entropy bonus at the start, beta of [Li2024] eq. (14).
        ent_coef_end: Weight of the entropy bonus at the end; it falls linearly.
        value_coef: Weight of the critic's loss 1/2 (V - R)^2. Lower it if a large critic loss
            drowns what the actor learns.
        normalize: Whether the advantages of each update are brought to mean 0 and standard
            deviation 1, which makes learning rates independent of the size of rewards.

    Raises:
        ValueError: A setting is outside its range.
    """

    multi_task: bool = False
    sharing_weight: float = 1e-3
    workers: int = 2
    ent_coef: float = 0.01
    ent_coef_end: float = 0.0
    value_coef: float = 1.0
    learning_rate: float = 3e-3
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            positive_int=("workers",),
            non_negative=("ent_coef_end", "value_coef"),
            switches=("multi_task", "normalize"),
        )
        if self.normalize and self.rollout < 2:
            raise ValueError(
                "normalize needs at least 2 steps between updates, got num_envs * n_steps = "
                f"{self.rollout}"
            )

    @property
    def options(self) -> NetworkOptions:
        """The settings that concern the network."""
        return replace(super().options, sharing_weight=self.sharing_weight)
