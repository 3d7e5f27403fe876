"""Advantages, and what is minimised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from agents.networks import FusedCategorical
from mec_gym.core.types import FloatArray


def advantages(
    rewards: FloatArray,
    values: npt.NDArray[np.floating],
    ended: npt.NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Generalised advantage estimation (Schulman et al. 2016).

        A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t)

    With lambda = 1, A_t + V(s_t) is the n-step return of A3C, seed 002 (13):
    r_t + gamma r_{t+1} + ... + gamma^{T-t} V(s_T), cut off where an episode ends.

    Args:
        rewards: (T, B); where an episode was cut by a time limit, the discounted value of
            its last state is part of the reward.
        values: V(s_0), ..., V(s_T), (T + 1, B).
        ended: Whether the episode ended with step t, (T, B).
        gamma: Discount.
        gae_lambda: lambda.
    """
    goes_on = gamma * ~ended
    deltas = rewards + goes_on * values[1:] - values[:-1]
    result = np.zeros_like(deltas)
    later = np.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        later = deltas[t] + gae_lambda * goes_on[t] * later
        result[t] = later
    return result


@dataclass(frozen=True, slots=True)
class Losses:
    """Parts of a loss, means over a batch; only the total has a gradient.

    Attributes:
        total: What is minimised.
        policy: sum_n w_n (-log pi_n A).
        value: 1/2 (V - R)^2.
        entropy: H(pi_n), mean over choices.
        sharing: Of soft sharing; 0 without.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    sharing: Tensor | float


def actor_critic_loss(
    logits: Tensor,
    values: Tensor,
    places: Tensor,
    advantage: Tensor,
    returns: Tensor,
    ent_coef: float,
    value_coef: float,
    multi_task: bool,
    sharing: Tensor | float = 0.0,
) -> Losses:
    """The loss of A3C, seed 002 (14), or that of multi-task A3C.

        sum_n w_n [ -log pi_n(a_n|s) A - beta H(pi_n) ] + c 1/2 (V - R)^2 + sharing

    Plain A3C sees one joint action: log pi(a|s) is the sum of log pi_n(a_n|s), so w_n = 1.
    Multi-task A3C weighs N tasks, w_n = 1 / N, all with the team's advantage. The patent's
    text breaks off at its step 6.3 and the paper's full loss is not public: the multi-task
    loss is our definition.

    Args:
        logits: (B, N, C).
        values: V(s), (B,).
        places: What was played, a, int64 (B, N).
        advantage: A, (B,), a constant.
        returns: R, (B,), a constant.
        ent_coef: beta.
        value_coef: c.
        multi_task: Whether w_n is 1 / N.
        sharing: See :meth:`PolicyNetwork.sharing_loss`.
    """
    chosen = FusedCategorical(logits)
    weight = 1.0 / logits.shape[1] if multi_task else 1.0
    policy = -weight * (chosen.joint_log_prob(places) * advantage).mean()
    entropy = chosen.entropy()
    value = 0.5 * (values - returns).square().mean()
    bonus = ent_coef * weight * entropy.sum(dim=-1).mean()
    total = policy - bonus + value_coef * value + sharing
    tie = sharing.detach() if isinstance(sharing, Tensor) else sharing
    return Losses(total, policy.detach(), value.detach(), entropy.mean().detach(), tie)
