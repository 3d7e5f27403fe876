"""Advantages, and the loss that A3C minimises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from agents.networks import Distribution
from mec_gym.core.types import BoolArray, FloatArray, RealArray


def advantages(
    rewards: FloatArray,
    values: RealArray,
    ended: BoolArray,
    gamma: float,
    gae_lambda: float,
) -> FloatArray:
    """Estimate advantages by generalised advantage estimation [Schulman2016].

        A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t)

    With lambda = 1, A_t + V(s_t) is the n-step return of A3C, [Li2024] eq. (13):
    r_t + gamma r_{t+1} + ... + gamma^{T-t} V(s_T), cut off where an episode ends.

    Args:
        rewards: Rewards r_t, (T, B). Where an episode was cut by a time limit, the discounted
            value of its last state is part of the reward.
        values: Values V(s_0), ..., V(s_T), (T + 1, B).
        ended: Whether the episode ended with step t, (T, B).
        gamma: Discount per step.
        gae_lambda: lambda; 1 uses whole returns (noisy), 0 the critic only (biased).

    Returns:
        The advantages A_t, (T, B).
    """
    goes_on = gamma * ~ended
    deltas = rewards + goes_on * values[1:] - values[:-1]
    result = np.zeros_like(deltas)
    later = np.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        later = deltas[t] + gae_lambda * goes_on[t] * later
        result[t] = later
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The parts of a loss as means over a batch; only the total has a gradient.

    Attributes:
        total: The loss that is minimised.
        policy: The actor's loss, sum_n w_n (-log pi_n A).
        value: The critic's loss, 1/2 (V - R)^2.
        entropy: The entropy H(pi_n), a mean over parts of the action, too.
        sharing: The loss that soft sharing adds; 0 without soft sharing.
    """

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    sharing: Tensor | float


def actor_critic_loss(
    chosen: Distribution,
    values: Tensor,
    actions: Tensor,
    advantage: Tensor,
    returns: Tensor,
    ent_coef: float,
    value_coef: float,
    multi_task: bool,
    sharing: Tensor | float = 0.0,
) -> Losses:
    """Compute the loss of A3C, [Li2024] eq. (14), or that of multi-task A3C.

        sum_n w_n [ -log pi_n(a_n|s) A - beta H(pi_n) ] + c 1/2 (V - R)^2 + sharing

    Plain A3C sees one joint action: log pi(a|s) is the sum of log pi_n(a_n|s), so w_n = 1.
    Multi-task A3C weighs N tasks, w_n = 1 / N, all with the team's advantage. The text of the
    patent breaks off at its step 6.3 and the full loss of [Li2024] is not public: the multi-task
    loss is our definition.

    Args:
        chosen: Distribution pi of the actions, whose N parts are independent.
        values: Values V(s), (B,).
        actions: Actions a that were played, (B, N).
        advantage: Advantages A, (B,), constants.
        returns: Returns R that the critic should predict, (B,), constants.
        ent_coef: Weight beta of the entropy bonus.
        value_coef: Weight c of the critic's loss.
        multi_task: Whether w_n is 1 / N.
        sharing: The network's own loss, see :meth:`PolicyNetwork.sharing_loss`.
    """
    weight = 1.0 / actions.shape[1] if multi_task else 1.0
    policy = -weight * (chosen.joint_log_prob(actions) * advantage).mean()
    entropy = chosen.entropy()
    value = 0.5 * (values - returns).square().mean()
    bonus = ent_coef * weight * entropy.sum(dim=-1).mean()
    total = policy - bonus + value_coef * value + sharing
    tie = sharing.detach() if isinstance(sharing, Tensor) else sharing
    return Losses(
        total=total,
        policy=policy.detach(),
        value=value.detach(),
        entropy=entropy.mean().detach(),
        sharing=tie,
    )
