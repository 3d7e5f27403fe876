"""Noise that is cut off; white and correlated noise is checked with the walks that it drives."""

import numpy as np
from scipy import stats

from mec_gym.network.gaussian import MOST_SPREAD, bounded_noise, white_noise


def test_no_draw_is_beyond_three_standard_deviations():
    drawn = bounded_noise(np.random.default_rng(0), (100_000,))
    assert np.abs(drawn).max() == 3.0 == MOST_SPREAD and drawn.dtype == np.float64


def test_all_other_draws_stay_as_they_are():
    drawn, white = (f(np.random.default_rng(1), (300, 200)) for f in (bounded_noise, white_noise))
    inside = np.abs(white) < MOST_SPREAD
    assert drawn.shape == (300, 200) and np.array_equal(drawn[inside], white[inside])
    assert np.array_equal(drawn[~inside], MOST_SPREAD * np.sign(white[~inside]))
    # The chance to be beyond is that of a Gaussian, to within 4.5 standard deviations.
    chance = 2 * stats.norm.sf(MOST_SPREAD)
    error = np.sqrt(chance * (1 - chance) / 60_000)
    assert abs((~inside).mean() - chance) < 4.5 * error
