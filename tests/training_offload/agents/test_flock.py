"""The update rules of sparrow search: by hand, and against the equations sparrow by sparrow."""

import math

import numpy as np
import pytest

from agents.training_offload import flock


class Fixed:
    """A generator that draws what it is told to, once each, and checks the shapes asked for."""

    def __init__(self, **draws):
        self.draws = {name: [np.array(a, dtype=float) for a in d] for name, d in draws.items()}

    def _next(self, name, shape):
        array = self.draws[name].pop(0)
        assert array.shape == tuple(shape)
        return array

    def random(self, shape):
        return self._next("random", shape)

    def standard_normal(self, shape):
        return self._next("normal", shape)

    def uniform(self, low, high, shape):
        assert (low, high) == (-1.0, 1.0)
        return self._next("uniform", shape)

    def choice(self, among, size):
        assert sorted(among) == [-1.0, 1.0]
        return self._next("signs", size)

    def all_used(self):
        return not any(self.draws.values())


def test_producers_search_widely_or_jump():
    x = np.array([[[0.5, 1.0], [0.2, 0.4]], [[0.5, 1.0], [0.2, 0.4]]])
    rng = Fixed(
        random=[
            [[[0.5], [0.75]], [[0.0], [0.0]]],  # alpha is 0.5, 0.25 and 1, 1
            [[[0.79]], [[0.8]]],  # the first flock is safe, the second flees
        ],
        normal=[[[[9.0], [9.0]], [[0.25], [-0.5]]]],
    )
    moved = flock.move_producers(x, 10, 0.8, rng)
    expected = [
        # rank 1: exp(-1 / (0.5 * 10)); rank 2: exp(-2 / (0.25 * 10))
        [[0.5 * np.exp(-0.2), np.exp(-0.2)], [0.2 * np.exp(-0.8), 0.4 * np.exp(-0.8)]],
        [[0.75, 1.25], [-0.3, -0.1]],
    ]
    np.testing.assert_allclose(moved, expected, rtol=1e-15)
    assert rng.all_used()


def test_scroungers_follow_or_starve():
    x = np.array([[[0.1, 0.9], [0.5, 0.2], [0.3, 0.6]]])
    leader, worst = np.array([[[0.4, 0.5]]]), np.array([[[0.9, 0.1]]])
    rng = Fixed(
        normal=[[[[9.0], [9.0], [2.0]]]],
        signs=[[[[1, -1], [-1, 1], [1, 1]]]],
    )
    moved = flock.move_scroungers(x, np.array([2, 3, 4]), 6, leader, worst, rng)
    expected = [
        [
            [0.4 + 0.3 / 2, 0.5 - 0.4 / 2],
            [0.4 - 0.1 / 2, 0.5 + 0.3 / 2],  # rank 3 of 6 still follows
            [2 * np.exp(0.6 / 16), 2 * np.exp(-0.5 / 16)],
        ]
    ]
    np.testing.assert_allclose(moved, expected, rtol=1e-14)
    assert rng.all_used()


def test_scouts_move_inward_or_aside():
    x = np.array([[[0.2, 0.7], [0.6, 0.3]]])
    best, worst = np.array([[[0.6, 0.3]]]), np.array([[[0.1, 0.9]]])
    cost, best_cost, worst_cost = np.array([[3.0, 1.0]]), np.array([[1.0]]), np.array([[5.0]])
    rng = Fixed(normal=[[[[0.5], [9.0]]]], uniform=[[[[0.9], [-0.4]]]])
    moved = flock.move_scouts(x, cost, best, best_cost, worst, worst_cost, rng)
    expected = [
        [
            [0.6 + 0.5 * 0.4, 0.3 + 0.5 * 0.4],
            # -0.4 * |x - worst| / (1 - 5)
            [0.6 + 0.1 * 0.5, 0.3 + 0.1 * 0.6],
        ]
    ]
    np.testing.assert_allclose(moved, expected, rtol=1e-14)
    assert rng.all_used()


def test_a_scout_at_the_worst_place_stays_finite():
    """Best, worst and scout are the same place: the paper's epsilon prevents 0 / 0."""
    x = np.full((1, 1, 2), 0.5)
    cost = np.ones((1, 1))
    rng = Fixed(normal=[[[[1.0]]]], uniform=[[[[0.5]]]])
    assert np.array_equal(flock.move_scouts(x, cost, x, cost, x, cost, rng), x)


def bowl(x):
    """Least at (0.3, 0.7)."""
    return ((x - np.array([0.3, 0.7])) ** 2).sum(axis=-1)


def test_flocks_only_ever_improve():
    rng = np.random.default_rng(0)
    config = flock.Flock(population=10)
    start = rng.random((6, 10, 2))
    asked = []

    def objective(x):
        assert (x >= 0).all() and (x <= 1).all()
        asked.append(x.shape)
        return bowl(x)

    costs = [bowl(start)]
    x, cost = start.copy(), bowl(start)
    for _ in range(12):
        x, cost = flock.move_flock(objective, x, cost, 1, 12, config, rng)
        np.testing.assert_allclose(cost, bowl(x), rtol=1e-14)
        assert (np.sort(cost, axis=1) <= np.sort(costs[-1], axis=1)).all()
        costs.append(cost)
    # 2 of 10 lead; everybody is asked for once a move.
    assert asked == [(6, 2, 2), (6, 8, 2)] * 12
    assert np.median(costs[-1].min(axis=1)) < 1e-4 and (costs[-1].min(axis=1) < 1e-3).all()
    assert (costs[-1].max(axis=1) < costs[0].max(axis=1)).all()


@pytest.mark.parametrize(
    "config",
    [
        flock.Flock(population=1),
        flock.Flock(population=2, producers=1.0, scouts=1.0),
        flock.Flock(population=5, producers=0.0, scouts=0.0),
        flock.Flock(population=5, scouts=1.0, safety=0.0),
    ],
)
def test_odd_flocks(config):
    rng = np.random.default_rng(1)
    start = rng.random((3, config.population, 2))
    x, cost = flock.move_flock(bowl, start.copy(), bowl(start), 5, 5, config, rng)
    np.testing.assert_allclose(cost, bowl(x), rtol=1e-14)
    assert (cost.min(axis=1) <= bowl(start).min(axis=1)).all()


# --- a second opinion, written from the equations of the paper, sparrow by sparrow


class Recorded:
    """A generator whose draws are kept, so that the oracle can use the same ones."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.drawn = {"random": [], "standard_normal": [], "uniform": [], "choice": []}
        self.drawn["permuted"] = []

    def __getattr__(self, name):
        def draw(*arguments, **named):
            got = getattr(self.rng, name)(*arguments, **named)
            self.drawn[name].append(got.copy())
            return got

        return draw


def one_move_by_the_equations(f, x, t_max, draws, st, pd, sd, printed):
    """Algorithm 1 of Xue and Shen for one flock: positions and costs after one iteration.

    Args:
        f: The objective, of one position.
        x: Positions by sparrow, lists of D numbers.
        t_max: The largest number of iterations.
        draws: alpha and Q and R2 of eq. (3), Q and A of eq. (4), beta and K of eq. (5), the
            order in which scouts are drawn.
        st: ST.
        pd: The number of producers.
        sd: The number of scouts.
        printed: Whether A+ L of eq. (4) is a product of matrices.
    """
    n, dimension = len(x), len(x[0])
    x = sorted(x, key=f)
    fitness = [f(position) for position in x]
    f_best, f_worst, x_best, x_worst = fitness[0], fitness[-1], x[0], x[-1]
    scouts = [int(i) for i in draws["order"][:sd]]

    def eq_5(i):
        slot = scouts.index(i)
        if fitness[i] > f_best:
            beta = draws["beta"][slot]
            return [x_best[j] + beta * abs(x[i][j] - x_best[j]) for j in range(dimension)]
        k = draws["K"][slot]
        return [
            x[i][j] + k * abs(x[i][j] - x_worst[j]) / (fitness[i] - f_worst - 1e-50)
            for j in range(dimension)
        ]

    def keep_the_better(i, moved):
        moved = [min(max(value, 0.0), 1.0) for value in moved]
        return (moved, f(moved)) if f(moved) < fitness[i] else (x[i], fitness[i])

    after = []
    for i in range(pd):
        if i in scouts:
            moved = eq_5(i)
        elif draws["R2"] < st:
            scale = math.exp(-(i + 1) / (draws["alpha"][i] * t_max))
            moved = [value * scale for value in x[i]]
        else:
            moved = [value + draws["Q3"][i] for value in x[i]]
        after.append(keep_the_better(i, moved))
    x_p = min(after, key=lambda pair: pair[1])[0]
    for i in range(pd, n):
        q, a = draws["Q4"][i - pd], draws["A"][i - pd]
        if i in scouts:
            moved = eq_5(i)
        elif i + 1 > n / 2:
            moved = [q * math.exp((x_worst[j] - x[i][j]) / (i + 1) ** 2) for j in range(dimension)]
        elif printed:
            # A+ = A^T (A A^T)^-1 is a column of A_j / D, and L a row of ones.
            step = sum(abs(x[i][j] - x_p[j]) * a[j] / dimension for j in range(dimension))
            moved = [x_p[j] + step for j in range(dimension)]
        else:
            moved = [x_p[j] + abs(x[i][j] - x_p[j]) * a[j] / dimension for j in range(dimension)]
        after.append(keep_the_better(i, moved))
    return after


@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_move_is_that_of_the_equations(seed, printed):
    start = np.random.default_rng(seed).random((5, 12, 3))

    def objective(x):
        return ((x - np.array([0.3, 0.7, 0.55])) ** 2).sum(axis=-1) + 0.1 * np.abs(x[..., 0] - 0.1)

    parameters = flock.Flock(population=12, producers=0.25, scouts=0.4, safety=0.6)
    rng = Recorded(seed)
    follow = flock.move_scroungers_as_printed if printed else flock.move_scroungers
    x, cost = flock.move_flock(
        objective, start.copy(), objective(start), 1, 17, parameters, rng, follow
    )
    draws = rng.drawn
    beta, q3, q4 = draws["standard_normal"]
    aside = 0
    for b in range(5):
        expected = one_move_by_the_equations(
            lambda position: float(objective(np.array(position))),
            start[b].tolist(),
            17,
            {
                "alpha": 1.0 - draws["random"][0][b, :, 0],
                "R2": draws["random"][1][b, 0, 0],
                "Q3": q3[b, :, 0],
                "Q4": q4[b, :, 0],
                "A": draws["choice"][0][b],
                "beta": beta[b, :, 0],
                "K": draws["uniform"][0][b, :, 0],
                "order": draws["permuted"][0][b],
            },
            0.6, 3, 5, printed,
        )  # fmt: skip
        np.testing.assert_allclose(x[b], [position for position, _ in expected], rtol=1e-12)
        np.testing.assert_allclose(cost[b], [value for _, value in expected], rtol=1e-12)
        aside += 0 in draws["permuted"][0][b][:5]
    assert aside > 0 or seed not in (0, 1)


def test_both_branches_of_equation_5_run(monkeypatch):
    """Scouts are drawn from the whole flock, so the best sparrow is one of them at times."""
    met, move = [], flock.move_scouts

    def watched(x, cost, best, best_cost, *rest):
        met.append(cost > best_cost)
        return move(x, cost, best, best_cost, *rest)

    monkeypatch.setattr(flock, "move_scouts", watched)
    rng = np.random.default_rng(0)
    start = rng.random((40, 10, 2))
    parameters = flock.Flock(population=10, scouts=0.2)
    flock.move_flock(bowl, start, bowl(start), 25, 25, parameters, rng)
    # 2 of 10 watch, and one of the 10 is the best.
    assert np.mean(~np.concatenate(met)) == pytest.approx(0.1, abs=0.02)


def test_printed_scroungers_stay_on_the_diagonal():
    rng = np.random.default_rng(2)
    x, leader = rng.random((4, 5, 3)), rng.random((4, 1, 3))
    ranks = np.arange(2, 7)
    moved = flock.move_scroungers_as_printed(x, ranks, 40, leader, leader, rng)
    np.testing.assert_allclose(np.ptp(moved - leader, axis=-1), 0.0, atol=1e-15)
    free = flock.move_scroungers(x, ranks, 40, leader, leader, rng)
    assert (np.ptp(free - leader, axis=-1) > 1e-3).all()
