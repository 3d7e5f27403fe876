"""The settings of PPO."""

from __future__ import annotations

from dataclasses import dataclass

from agents.settings import LearningSettings
from mec_gym.core.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class PPOSettings(LearningSettings):
    """Everything that shapes learning, but for the seed and the length of the run.

    ``network`` is ``mlp``, SB3's own; ``flat`` or ``branches``, see :mod:`agents.networks`; or one
    that the head brings, as head ``pairs`` brings ``pairs``.

    Attributes:
        sizes: Pairs (devices, servers) of numbers that are played side by side, each by an equal
            share of the environments, instead of the scenario's own; for head and network
            ``pairs``.
        minibatches: Number of parts that a rollout is cut into. Fewer, larger ones are faster per
            step but learn less per pass.
        n_epochs: Number of passes over a rollout. More of them use data better, until the policy
            drifts.
        clip_range: How far the probability ratio may leave 1. Smaller is safer and slower.
        fused: Whether Adam runs in one fused kernel, which is faster and the same up to rounding.

    Raises:
        ValueError: A setting is outside its range.
    """

    network: str = "mlp"
    sizes: tuple[tuple[int, int], ...] = ()
    num_envs: int = 512
    n_steps: int = 30
    minibatches: int = 8
    n_epochs: int = 4
    clip_range: float = 0.2
    fused: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            positive_int=("minibatches", "n_epochs"),
            positive=("clip_range",),
            switches=("fused",),
        )
        if any(len(size) != 2 or min(size) < 1 for size in self.sizes):
            raise ValueError(f"sizes must be pairs of positive whole numbers, got {self.sizes!r}")
        if self.sizes and (self.network == "mlp" or self.num_envs % len(self.sizes)):
            raise ValueError(
                "sizes must be given with a network that fits all of them, their number a divisor "
                f"of num_envs = {self.num_envs}, got {self.sizes} with network {self.network!r}"
            )
        if self.rollout % self.minibatches or self.rollout < 2 * self.minibatches:
            raise ValueError(
                f"minibatches must divide num_envs * n_steps = {self.rollout} into parts of at "
                f"least 2, got {self.minibatches}"
            )
