"""The stochastic program over a battery, on problems that are small enough to be solved by hand."""

import itertools

import numpy as np
import pytest

from mec_gym.training_offload.program import (
    Choices,
    expected_values,
    fit_values,
    penalised_optimum,
    stage_values,
)

# Three kinds of tasks, (spend, cost) of each choice, and how likely they are.
KINDS = (((0, 1.0), (1, 0.7), (2, 0.1)), ((0, 1.0), (1, 0.4)), ((0, 1.0),))
LIKELY = (0.3, 0.3, 0.4)
TASKS, TOP = 3, 4
CHOICES = Choices(
    spend=np.array([[0, 1, 2], [0, 1, 0], [0, 0, 0]]),
    cost=np.array([[1.0, 0.7, 0.1], [1.0, 0.4, np.inf], [1.0, np.inf, np.inf]]),
)
NODES = [np.arange(TOP + 1)] * TASKS
SEQUENCES = list(itertools.product(range(len(KINDS)), repeat=TASKS))
PROBABILITY = np.array([np.prod([LIKELY[k] for k in sequence]) for sequence in SEQUENCES])


def best_expected(tasks, battery):
    """The most that can be expected of so many tasks that are seen one by one."""
    if tasks == 0:
        return 0.0
    return sum(
        likely * max(best_expected(tasks - 1, battery - e) - c for e, c in kind if e <= battery)
        for kind, likely in zip(KINDS, LIKELY, strict=True)
    )


def best_foreseen(sequence, battery):
    """The most that can be earned if all tasks are known."""
    if not sequence:
        return 0.0
    return max(
        best_foreseen(sequence[1:], battery - e) - c for e, c in KINDS[sequence[0]] if e <= battery
    )


def bound(values, battery=TOP):
    """The expectation of the penalised optimum under any V, by all sequences of tasks there are."""
    values = values[:, : battery + 1]
    nodes = [np.arange(battery + 1)] * TASKS
    surplus = []
    for m in range(1, TASKS + 1):
        worth = stage_values(values[m - 1], CHOICES, nodes[m - 1])
        usual = expected_values(values[m - 1], CHOICES, np.array(LIKELY), nodes[m - 1])
        at_hand = [sequence[TASKS - m] for sequence in SEQUENCES]
        surplus.append(worth[at_hand] - usual)
    index = np.array(SEQUENCES)
    offered = Choices(spend=CHOICES.spend[index], cost=CHOICES.cost[index])
    return PROBABILITY @ penalised_optimum(offered, surplus, nodes, battery)


def test_values_are_those_of_the_best_policy():
    values = fit_values(CHOICES, np.array(LIKELY), NODES, TOP)
    for tasks, battery in itertools.product(range(TASKS + 1), range(TOP + 1)):
        assert values[tasks, battery] == pytest.approx(best_expected(tasks, battery))


def test_stage_values_at_any_battery():
    after = np.array([-3.0, -1.0, -0.5, 0.0, 0.0])
    everywhere = stage_values(after, CHOICES, np.arange(TOP + 1))
    # A unit is worth more later than now, until there are two; nothing is bought on credit.
    assert everywhere[:, 1] == pytest.approx([-2.0, -2.0, -2.0])
    assert everywhere[:, 2] == pytest.approx([-1.5, -1.4, -1.5])
    assert everywhere[:, 0] == pytest.approx([-4.0, -4.0, -4.0])
    own = stage_values(after, CHOICES, np.array([[3, 0], [2, 4], [1, 1]]))
    assert np.array_equal(own, [everywhere[k, at] for k, at in enumerate(([3, 0], [2, 4], [1, 1]))])


def test_values_between_nodes_are_interpolated():
    nodes = [np.array([0, TOP])] * TASKS
    values = fit_values(CHOICES, np.array(LIKELY), nodes, TOP)
    assert values[1] == pytest.approx(np.linspace(values[1, 0], values[1, -1], TOP + 1))


@pytest.mark.parametrize("battery", range(TOP + 1))
def test_the_bound_is_the_optimum_if_the_value_is_exact(battery):
    exact = fit_values(CHOICES, np.array(LIKELY), NODES, TOP)
    assert bound(exact, battery) == pytest.approx(best_expected(TASKS, battery))


def test_a_wrong_value_loosens_the_bound_but_it_stays_one():
    optimum = best_expected(TASKS, 2)
    rng = np.random.default_rng(5)
    exact = fit_values(CHOICES, np.array(LIKELY), NODES, TOP)
    wrong = [exact + 0.3 * rng.standard_normal(exact.shape) for _ in range(50)]
    bounds = np.array([bound(values, 2) for values in (np.zeros_like(exact), *wrong)])
    assert (bounds >= optimum - 1e-12).all()
    assert (bounds > optimum + 1e-3).mean() > 0.9


def test_who_sees_the_future_beats_the_bound():
    exact = fit_values(CHOICES, np.array(LIKELY), NODES, TOP)
    foreseen = PROBABILITY @ [best_foreseen(sequence, 2) for sequence in SEQUENCES]
    assert foreseen > bound(exact, 2) + 0.01
    # Without a penalty, the bound is what the clairvoyant earns.
    index = np.array(SEQUENCES)
    free = penalised_optimum(
        Choices(spend=CHOICES.spend[index], cost=CHOICES.cost[index]),
        [np.zeros((len(SEQUENCES), TOP + 1))] * TASKS,
        NODES,
        TOP,
    )
    assert free == pytest.approx([best_foreseen(sequence, TOP) for sequence in SEQUENCES])
