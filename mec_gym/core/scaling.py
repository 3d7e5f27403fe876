"""Numbers without an upper limit as shares, which observations of a fixed range can show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mec_gym.core.types import FloatArray


def squash(value: npt.ArrayLike, usual: float) -> FloatArray:
    """Map numbers from 0 on to [0, 1): x / (x + usual).

    Args:
        value: The numbers.
        usual: The number that becomes 1/2; above 0.
    """
    value = np.asarray(value)
    return np.asarray(value / (value + usual))


def stretch(share: FloatArray, usual: float) -> FloatArray:
    """Invert :func:`squash`; shares of 1, which rounding makes, become large numbers."""
    share = np.minimum(share, 1.0 - 1e-7)
    return np.asarray(usual * share / (1.0 - share))
