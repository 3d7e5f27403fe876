"""Learning at a falling rate, which ends with an error once it has come to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback


class _CheckFinite(BaseCallback):
    """It comes before all others, so that nobody evaluates or saves what is spoilt."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        check_finite(self.model)

    def _on_training_end(self) -> None:
        check_finite(self.model)


def learn(
    model: PPO, steps: int, callbacks: Sequence[BaseCallback], reset_num_timesteps: bool = True
) -> None:
    """Let a model learn, as its own ``learn`` does, as long as its parameters are finite.

    The learning rate falls linearly from the model's own at the first update; it would be 0 at
    the update after the last.

    Args:
        model: The model.
        steps: Number of environment steps.
        callbacks: What is called on the way.
        reset_num_timesteps: Whether steps are counted from 0 on.

    Raises:
        ValueError: The parameters are no longer finite, or actions can no longer be drawn.
    """
    total = steps if reset_num_timesteps else model.num_timesteps + steps
    rate, rollout = model.learning_rate, model.n_steps * model.n_envs
    assert not callable(rate)
    # SB3 counts a rollout before it learns from it: what "remains" at the last update is 0.
    model.lr_schedule = lambda remaining: rate * (remaining + rollout / total)
    try:
        model.learn(
            steps,
            callback=[_CheckFinite(), *callbacks],
            reset_num_timesteps=reset_num_timesteps,
        )
    except (ValueError, RuntimeError) as error:
        check_finite(model)
        # What torch says of a distribution whose parameters are not finite.
        if any(words in str(error) for words in ("satisfy the constraint", "probability tensor")):
            raise _diverged(model) from error
        raise


def check_finite(model: BaseAlgorithm) -> None:
    """Raise ValueError unless all parameters of a model are finite."""
    if not all(bool(torch.isfinite(p).all()) for p in model.policy.parameters()):
        raise _diverged(model)


def _diverged(model: BaseAlgorithm) -> ValueError:
    return ValueError(
        f"learning_rate must be smaller than {model.learning_rate!r}: the policy is no longer "
        f"finite after {model.num_timesteps} steps (a smaller reward_scale or max_grad_norm may "
        "help as well)"
    )
