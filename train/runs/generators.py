"""The global generators of random numbers, which learning draws from, as plain state."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mec_gym.core.packing import array_of


def generator_states() -> dict[str, Any]:
    """Return the states of the generators of Python, numpy and torch."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - SB3 shuffles with it
        "torch": torch.get_rng_state().numpy(),
    }


def restore_generators(states: Mapping[str, Any]) -> None:
    """Go on from where :func:`generator_states` was called.

    Args:
        states: What it returned; lists may stand for tuples.

    Raises:
        ValueError: A state is damaged.
    """
    version, words, gauss = states["python"]
    before = generator_states()
    mine, its = states["numpy"], before["numpy"]
    key = array_of(mine["state"], "key", its["state"]["key"])
    position = mine["state"]["pos"]
    if type(position) is not int or not 0 <= position <= len(key):
        raise ValueError(f"pos must be in [0, {len(key)}], got {position!r}")
    torch_state = torch.from_numpy(array_of(states, "torch", before["torch"]))
    random.setstate((version, tuple(words), gauss))
    np.random.set_state({**mine, "state": {"key": key, "pos": position}})  # noqa: NPY002
    torch.set_rng_state(torch_state)
