"""Cases that families of protocols are tested with: what comes of one are its multiples.

New processes import it by this name. A test's own module is found in ``tests``, which another
distribution may have installed, too.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Numbers:
    values: np.ndarray


CASES = {"one": 1.0, "two": 2.0, "three": 3.0}


def multiples(case, worlds):
    """What comes of a case: its multiples."""
    return Numbers(case * np.arange(1, worlds + 1))
