"""Measured bandwidth as it stands in files: CSV with a time and a rate per line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mec_gym.core.types import FloatArray
from mec_gym.network.units import rate_unit, time_unit

POSSIBLE = (1e3, 1e12)
"""Medians of a bandwidth that are believed unless a unit is named, bit/s."""
LONGEST_STEP_S = 600.0
"""The longest median step that is believed unless a unit is named."""
LATEST_S = 1e11
"""Seconds since 1970 are fewer; milliseconds are more."""

_UNIT_OPTION = "name the unit in its heading, or give it (unit=, --bandwidth-unit)"


def read_recording(
    path: Path, unit: str | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read a CSV file of two columns, time and bandwidth. Empty lines do not matter.

    Args:
        path: The file; its first line may hold headings.
        unit: Unit of the bandwidth, if no heading names it.

    Returns:
        The times, s, and the rates, bit/s.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The unit, the file, a heading or a value cannot be made sense of.
    """
    headings, rows = _read(path)
    bits = _bits(path, headings, unit)
    try:
        seconds = time_unit(headings[0]) if headings else None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    time: list[float] = []
    rate: list[float] = []
    for line, (moment, bandwidth) in rows:
        if bandwidth < 0:
            raise ValueError(
                f"{path}, line {line}: bandwidth must not be negative, got {bandwidth}"
            )
        moment *= seconds or 1.0
        if time and moment <= time[-1]:
            raise ValueError(
                f"{path}, line {line}: time must increase, got {time[-1]} and then {moment}"
            )
        time.append(moment)
        rate.append(bandwidth * (bits or 1.0))
    if len(rows) > 1:
        _check_plausible(path, np.array([row for _, row in rows]), seconds, bits)
    return tuple(time), tuple(rate)


def _bits(path: Path, headings: list[str] | None, unit: str | None) -> float | None:
    """The unit of the bandwidth, bit/s; None if nobody names it."""
    asked = None
    if unit is not None:
        asked = rate_unit(unit)
        if asked is None:
            raise ValueError(f"unit must be such as bit/s, kbit/s, Mbps or MB/s, got {unit!r}")
    if headings is None:
        return asked
    if _names_rate(headings[0]):
        raise ValueError(f"{path}: the first column must be the time, got {headings[0]!r}")
    try:
        named = rate_unit(headings[1])
    except ValueError as error:
        if asked is not None:
            return asked
        raise ValueError(f"{path}: {error}; {_UNIT_OPTION}") from error
    if asked is not None and named not in (None, asked):
        raise ValueError(f"{path}: unit must be that of the heading {headings[1]!r}, got {unit!r}")
    return asked if named is None else named


def _names_rate(heading: str) -> bool:
    try:
        return rate_unit(heading) is not None
    except ValueError:
        return False


def _check_plausible(
    path: Path, rows: FloatArray, seconds: float | None, bits: float | None
) -> None:
    """Refuse magnitudes that hint at another unit, where nobody has named it."""
    positive = rows[rows[:, 1] > 0, 1]
    if bits is None and len(positive):
        median = float(np.median(positive))
        if not POSSIBLE[0] <= median <= POSSIBLE[1]:
            raise ValueError(
                f"{path}: bandwidth must be in bit/s, where a median of {median:g} is not "
                f"plausible; {_UNIT_OPTION}"
            )
    if seconds is None:
        step = float(np.median(np.diff(rows[:, 0])))
        if step > LONGEST_STEP_S or abs(rows[0, 0]) > LATEST_S:
            raise ValueError(
                f"{path}: time must be in s, where steps of {step:g} from {rows[0, 0]:g} on are "
                "not plausible; name the unit in its heading, such as time_ms"
            )


def _read(path: Path) -> tuple[list[str] | None, list[tuple[int, tuple[float, float]]]]:
    """The headings, if there are any, and the line number and two numbers of each line."""
    headings = None
    rows: list[tuple[int, tuple[float, float]]] = []
    for place, (line, row) in enumerate(_lines(path)):
        try:
            moment, bandwidth = (float(cell) for cell in row)
            if not np.isfinite([moment, bandwidth]).all():
                raise ValueError
        except ValueError:
            # Headings are words where all later lines have numbers.
            if place == 0 and len(row) == 2 and all(map(_is_word, row)):
                headings = row
                continue
            raise ValueError(
                f"{path}, line {line} must be two numbers with a comma between them, time and "
                f"bandwidth, without further columns, got {','.join(row)!r}"
            ) from None
        rows.append((line, (moment, bandwidth)))
    return headings, rows


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells of each line that is not empty."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            for line, row in enumerate(csv.reader(file), 1):
                if any(cell.strip() for cell in row):
                    yield line, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a CSV file: {error}") from error


def _is_word(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return bool(cell.strip())
    return False
