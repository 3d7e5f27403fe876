"""The optima of light and heavy load over ranges of rates, against trying all rates."""

import early_exit.cases as cases
import numpy as np
import pytest
from slow import slow_except

from mec_gym.early_exit.optima import heavy_optima, light_optima
from mec_gym.early_exit.partitions import pareto
from mec_gym.early_exit.scenario import PRESETS, Scenario

RATES = ((0.3, 0.9), (1e5, 1e7), (0.2, 0.8))


def drawn(rates, count, rng):
    """Rates anywhere in their ranges, and all corners, (count + 8, 3)."""
    low, high = np.array(rates).T
    corners = np.stack(np.meshgrid(*np.array(rates)), axis=-1).reshape(-1, 3)
    return np.concatenate([np.exp(rng.uniform(np.log(low), np.log(high), (count, 3))), corners])


def least(cost, rates, join):
    """The least objective over the partitions at each of the rates, (count,)."""
    return np.concatenate(
        [join(cost / part[:, None], axis=-1).min(axis=1) for part in np.array_split(rates, 20)]
    )


def random_front(rng, count, whole_numbers=False):
    """A front in which any stage may be the slowest."""
    if whole_numbers:  # many ties
        first, second = rng.integers(0, 10, (2, count))
        cost = np.stack([first, second, 18 - first - second], axis=-1) * [0.05, 2e5, 0.03]
    else:
        cost = 1.0 / (rng.dirichlet((0.7, 0.7, 0.7), count) + 0.02) * [0.05, 2e5, 0.03]
    return cost[pareto(cost)]


@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("seed", slow_except(range(4), 0))
def test_heavy_optima_lose_nothing_and_hold_nothing_else(seed, whole_numbers):
    rng = np.random.default_rng(seed)
    cost = random_front(rng, 250, whole_numbers)
    kept = heavy_optima(cost, RATES)
    rates = drawn(RATES, 20_000, rng)
    np.testing.assert_allclose(least(cost[kept], rates, np.max), least(cost, rates, np.max), 1e-12)
    # Each is the only best one at some rates: where no stage takes longer than its slowest one
    # at the fastest rates, and each is as slow as that allows.
    assert 2 < len(kept) < len(cost)
    slowest, fastest = np.array(RATES).T
    for index in kept:
        longest = (cost[index] / fastest).max()
        with np.errstate(divide="ignore"):
            there = np.maximum(slowest, cost[index] / longest)
        others = np.setdiff1d(kept, index)
        assert (cost[index] / there).max() < (cost[others] / there).max(axis=1).min()


def test_what_nominal_speeds_miss():
    """(4, 3, 2.9) at nominal speed; (4, 3.3, 4.8) and (4, 5, 7.25) at 0.6 and 0.4 of the device."""
    cost = np.array([(1.0, 1.0, 4.0), (2.0, 3.0, 1.0), (2.9, 1.0, 1.0)])
    assert heavy_optima(cost, ((1.0, 1.0),) * 3).tolist() == [2]
    assert heavy_optima(cost, ((0.6, 1.0), (1.0, 1.0), (1.0, 1.0))).tolist() == [1, 2]
    assert heavy_optima(cost, ((0.4, 1.0), (1.0, 1.0), (1.0, 1.0))).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 2])
def test_small_fronts(count):
    cost = np.array([(0.0, 5.0, 0.5), (1.0, 0.0, 0.0)])[:count]
    assert heavy_optima(cost, ((1.0, 1.0), (1.0, 9.0), (1.0, 1.0))).tolist() == [*range(count)]
    assert light_optima(cost, ((1.0, 1.0), (1.0, 90.0), (0.1, 10.0))).tolist() == [*range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_light_optima_lose_next_to_nothing(seed):
    rng = np.random.default_rng(seed)
    cost = random_front(rng, 250)
    kept = light_optima(cost, RATES)
    rates = drawn(RATES, 20_000, rng)
    loss = least(cost[kept], rates, np.sum) / least(cost, rates, np.sum) - 1
    assert loss.max() < 0.01 and loss.mean() < 1e-4 and len(kept) < len(cost)


@pytest.mark.parametrize(
    ("network", "preset"),
    [
        ("mobilenetv2", "mixed"),
        ("mobilenetv2", "3g-heavy"),
        ("resnet18", "3g-heavy"),
        pytest.param("googlenet", "mixed", marks=pytest.mark.slow),
        pytest.param("googlenet", "3g-heavy", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("join", [np.sum, np.max])
def test_candidates_hold_the_optima_among_all_valid_partitions(network, preset, join):
    """At the speeds and bandwidths that occur, of networks whose candidates are thinned."""
    known = PRESETS[preset].make()
    scenario = Scenario(
        network=f"{network}-digits", bandwidth=known.bandwidth, technologies=known.technologies
    )
    rates = drawn(scenario.rates, 3000, np.random.default_rng(0))
    thinned = False
    for n, front in enumerate(scenario.table.fronts):
        assert front.whole
        found = least(scenario.table.candidates(n), rates, join)
        np.testing.assert_allclose(found, least(front.cost, rates, join), rtol=1e-12)
        thinned |= len(front.cost) > scenario.table.sizes[n]
    assert thinned


def test_the_ranges_of_a_scenario_hold_all_that_is_drawn():
    scenario = cases.scenario(horizon=400)
    slot = scenario.sample(np.random.default_rng(1), 200)
    drawn_rates = (slot.device_speed, slot.bandwidth, slot.edge_speed)
    for (low, high), values in zip(scenario.rates, drawn_rates, strict=True):
        assert low <= values.min() < 1.02 * low and 0.98 * high < values.max() <= high
