"""Advantages and losses of tiny arrays, by hand."""

import numpy as np
import pytest
import torch

from agents.a3c.losses import actor_critic_loss, advantages
from agents.networks import FusedCategorical

REWARDS = np.array([[1.0], [2.0], [4.0]])
VALUES = np.array([[0.5], [1.5], [-1.0], [3.0]])
NEVER = np.zeros((3, 1), dtype=bool)


def test_n_step_returns_by_hand():
    """gamma = 1/2, lambda = 1: R_2 = 4 + 3/2, R_1 = 2 + R_2/2, R_0 = 1 + R_1/2."""
    gained = advantages(REWARDS, VALUES, NEVER, 0.5, 1.0)
    returns = gained + VALUES[:-1]
    assert returns.ravel().tolist() == [1 + 4.75 / 2, 2 + 5.5 / 2, 5.5]


def test_gae_by_hand():
    """gamma = 1/2, lambda = 1/5: deltas 1.25, 0, 6.5 and a factor of 1/10."""
    gained = advantages(REWARDS, VALUES, NEVER, 0.5, 0.2)
    np.testing.assert_allclose(gained.ravel(), [1.25 + 0.1 * 0.65, 0.65, 6.5])


def test_nothing_passes_an_episodes_end():
    ended = np.array([[False], [True], [False]])
    gained = advantages(REWARDS, VALUES, ended, 0.5, 1.0)
    # The second step's return is its reward; the third knows only what comes after it.
    np.testing.assert_allclose(gained.ravel() + VALUES[:-1].ravel(), [2.0, 2.0, 5.5])


def test_environments_do_not_mix():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(6, 4)), rng.normal(size=(7, 4))
    ended = rng.random((6, 4)) < 0.3
    whole = advantages(rewards, values, ended, 0.9, 0.8)
    for i in range(4):
        column = slice(i, i + 1)
        alone = advantages(rewards[:, column], values[:, column], ended[:, column], 0.9, 0.8)
        np.testing.assert_array_equal(whole[:, column], alone)


# Two states, two devices, two places; probabilities of place 0.
CHANCES = torch.tensor([[0.25, 0.5], [0.8, 0.9]])
PLACES = torch.tensor([[1, 0], [0, 1]])
CHOSEN = np.array([[0.75, 0.5], [0.8, 0.1]])
ADVANTAGE = np.array([2.0, -1.0])
RETURNS = torch.tensor([3.0, -2.0])


def losses(multi_task, ent_coef=0.3, value_coef=0.7, sharing=0.0):
    logits = torch.stack([CHANCES, 1 - CHANCES], dim=-1).log().requires_grad_()
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    advantage = torch.tensor(ADVANTAGE, dtype=torch.float32)
    made = actor_critic_loss(
        FusedCategorical(logits),
        values,
        PLACES,
        advantage,
        RETURNS,
        ent_coef,
        value_coef,
        multi_task,
        sharing,
    )
    return made, logits, values


@pytest.mark.parametrize(("multi_task", "weight"), [(False, 1.0), (True, 0.5)])
def test_by_hand(multi_task, weight):
    made, _, _ = losses(multi_task, sharing=0.125)
    p = CHANCES.double().numpy()
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    policy = -weight * (np.log(CHOSEN).sum(axis=1) * ADVANTAGE).mean()
    value = 0.5 * ((1 - 3) ** 2 + (2 + 2) ** 2) / 2
    assert made.policy.item() == pytest.approx(policy)
    assert made.value.item() == pytest.approx(value)
    assert made.entropy.item() == pytest.approx(entropy.mean())
    bonus = 0.3 * weight * entropy.sum(axis=1).mean()
    assert made.total.item() == pytest.approx(policy - bonus + 0.7 * value + 0.125)


def test_gradients_by_hand():
    """d/dlogit of -w log pi_n(a_n) A is -w A (1[a_n] - pi_n), a mean over two states."""
    made, logits, values = losses(multi_task=True, ent_coef=0.0)
    made.total.backward()
    probabilities = torch.stack([CHANCES, 1 - CHANCES], dim=-1)
    one_hot = torch.nn.functional.one_hot(PLACES, 2)
    scale = torch.tensor(ADVANTAGE, dtype=torch.float32)[:, None, None]
    expected = -0.5 * scale * (one_hot - probabilities) / 2
    torch.testing.assert_close(logits.grad, expected)
    torch.testing.assert_close(values.grad, 0.7 * (torch.tensor([1.0, 2.0]) - RETURNS) / 2)


def test_the_entropy_bonus_evens_out():
    made, logits, _ = losses(multi_task=False, ent_coef=100.0, value_coef=0.0)
    made.total.backward()
    # Less of the likelier place in every state and device whose places differ.
    assert logits.grad[0, 0].argmax() == 1 and logits.grad[1, 0].argmax() == 0


def test_only_the_total_has_a_gradient():
    made, _, _ = losses(multi_task=True)
    assert made.total.requires_grad
    assert not any(t.requires_grad for t in (made.policy, made.value, made.entropy))


def test_the_tasks_together_are_the_joint_action():
    plain, many = losses(False, ent_coef=0.0)[0], losses(True, ent_coef=0.0)[0]
    assert plain.policy.item() == pytest.approx(2 * many.policy.item())
