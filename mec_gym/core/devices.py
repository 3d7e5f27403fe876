"""What one device sees of a problem whose observations have a row for each device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from mec_gym.core.problem import AnyProblem


def device_spaces(problem: AnyProblem) -> tuple[list[spaces.Box], list[spaces.Discrete]]:
    """The spaces of each device's observations and actions.

    A problem says by ``device_columns`` that its observations begin with one row of so many
    numbers per device, N in all. Its actions are N choices, one per device.

    Raises:
        ValueError: The problem has no such rows or no such actions.
    """
    seen, acts = problem.observation_space, problem.action_space
    columns = getattr(problem, "device_columns", 0)
    if not columns or not isinstance(acts, spaces.MultiDiscrete) or len(acts.shape) != 1:
        raise ValueError(
            f"problem must have one row of the observation and one choice per device, got "
            f"{type(problem).__name__} with device_columns = {columns} and actions {acts}"
        )
    assert isinstance(seen, spaces.Box)
    lows, highs = (device_observations(problem, bound) for bound in (seen.low, seen.high))
    return (
        [spaces.Box(low, high, dtype=np.float32) for low, high in zip(lows, highs, strict=True)],
        [
            spaces.Discrete(int(count), start=int(start))
            for count, start in zip(acts.nvec, acts.start, strict=True)
        ],
    )


def device_observations(
    problem: AnyProblem, observation: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Each device's own row, followed by what all devices have in common.

    Args:
        problem: A problem with ``device_columns``.
        observation: Joint observations, (..., observation).

    Returns:
        (..., N, device_columns + what is common).
    """
    columns: int = problem.device_columns  # type: ignore[attr-defined]
    (devices,) = problem.action_space.shape or ()
    batch = observation.shape[:-1]
    rows = observation[..., : devices * columns].reshape((*batch, devices, columns))
    common = observation[..., None, devices * columns :]
    shape = (*batch, devices, common.shape[-1])
    return np.concatenate([rows, np.broadcast_to(common, shape)], axis=-1)
