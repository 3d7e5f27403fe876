"""Shares of numbers without a limit, and back."""

import numpy as np
import pytest

from mec_gym.core.scaling import squash, stretch


def test_by_hand_and_back():
    assert squash([0.0, 3.0, 9.0], 3.0).tolist() == [0.0, 0.5, 0.75]
    assert squash(np.array([1, 2]), 2.0).tolist() == [1 / 3, 0.5]
    values = np.geomspace(1e-6, 1e5, 40)
    np.testing.assert_allclose(stretch(squash(values, 7.0), 7.0), values, rtol=1e-9)
    assert stretch(np.array([1.0]), 2.0)[0] == pytest.approx(2e7)
