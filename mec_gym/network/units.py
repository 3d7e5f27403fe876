"""Units in the headings of measured data: seconds and bits per second, whatever the prefix."""

from __future__ import annotations

import re

_TIMES = {
    "ns": 1e-9, "nanosecond": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "usec": 1e-6,
    "microsecond": 1e-6, "ms": 1e-3, "msec": 1e-3, "milli": 1e-3, "millisecond": 1e-3, "s": 1.0,
    "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0,
}  # fmt: skip
_PREFIXES = {
    "": 1.0, "k": 1e3, "kilo": 1e3, "m": 1e6, "mega": 1e6, "g": 1e9, "giga": 1e9, "t": 1e12,
    "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30,
}  # fmt: skip
# A prefix, bits or bytes, and "per second"; a single letter b or B is decided by its case.
_RATE = re.compile(
    r"(kilo|mega|giga|[kmg]i|[kmgt]|)(bits?|bytes?|b)(ps|/sec(?:ond)?|/s|persec(?:ond)?|pers)?",
    re.IGNORECASE,
)


def time_unit(heading: str) -> float | None:
    """Return how many seconds the unit is that a heading names; None if it names none.

    Args:
        heading: Such as ``timestamp_ms``, ``time (s)`` or ``time``.

    Raises:
        ValueError: It names several units, or one that is not known.
    """
    found = {
        factor
        for word in _words(heading)
        for factor in [_TIMES.get(word.lower()) or _TIMES.get(word.lower().removesuffix("s"))]
        if factor is not None
    }
    return _single(found, heading, "a time in s, such as 'time_s' or 'time_ms'")


def rate_unit(heading: str) -> float | None:
    """Return how many bit/s the unit is that a heading names; None if it names none.

    Args:
        heading: Such as ``throughput_mbps``, ``RATE(MBit/s)`` or ``bandwidth``.

    Raises:
        ValueError: It names several units, an amount instead of a rate, or one that is not known
            or may be bits as well as bytes.
    """
    fix = "a rate, such as 'bandwidth_bps', 'bandwidth_kbit/s' or 'bandwidth_MB/s'"
    words, found = _words(heading), set()
    for word in words:
        match = _RATE.fullmatch(word)
        if match is None:
            continue
        prefix, kind, per_second = match.groups()
        if not per_second and len(words) == 1 and word in ("b", "B"):
            continue  # a short name of the column
        capitals = word.upper() == word and kind == "B" and per_second == "PS"
        if not per_second or capitals:
            what = "may be bits or bytes" if capitals else "is an amount"
            raise ValueError(f"heading must name {fix}; {word!r} in {heading!r} {what}")
        is_bytes = kind.lower().startswith("byte") or kind == "B"
        found.add(_PREFIXES[prefix.lower()] * (8.0 if is_bytes else 1.0))
    if re.search(r"(dl|ul)_?bitrate$", heading.strip(), re.IGNORECASE) and not found:
        raise ValueError(
            f"heading must name {fix}; {heading!r} is in kbit/s in the logs of some phones and in "
            "bit/s elsewhere"
        )
    return _single(found, heading, fix)


def _words(heading: str) -> list[str]:
    """The words of a heading: ``throughputMbps``, ``rate(kbit / s)`` and ``RATE_KBPS`` have two."""
    text = re.sub(r"\s*/\s*(?=s)|[\s_]+per[\s_]+(?=s)", "/", heading, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|/(?![sS])", " ", text)
    return [word for word in re.split(r"[^\w/]+|_", text) if word]


def _single(found: set[float], heading: str, fix: str) -> float | None:
    if len(found) > 1:
        raise ValueError(f"heading must name {fix}; {heading!r} names several units")
    bracket = re.search(r"[(\[{](.*?)[)\]}]", heading)
    if not found and bracket:
        raise ValueError(f"heading must name {fix}; the unit {bracket[1]!r} in {heading!r} is none")
    return next(iter(found), None)
