"""A comparison as a table and as rows of a CSV file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mec_gym.core import arrays
from mec_gym.core.problem import AnyProblem
from train.console import show_rows
from train.evaluation.evaluate import Expectation, Result

Column = tuple[str, Callable[[Result], str]]
"""Heading of a column, and the text under it for a result."""


def short_name(name: str) -> str:
    """Return an agent's name, or only the end of it, because runs have long paths."""
    return name if len(name) < 28 else "…" + name[-26:]


def part_columns(part: str) -> list[Column]:
    """Choose the columns that show a part of the outcome, whose name tells the unit.

    Seconds are shown per step, with their 95th percentile; joules and drops per episode.
    """
    title = part.replace("_", " ")
    if part.endswith("_s"):
        return [
            (title, lambda r: f"{r.outcome_means[part]:.4g}"),
            (f"{title[:-2]} p95 s", lambda r: f"{r.outcome_p95[part]:.4g}"),
        ]
    if part.endswith("_j"):
        return [(f"{title[:-2]} J", lambda r: f"{r.outcome_sums[part]:.1f}")]
    if part == "dropped":
        return [("drops", lambda r: f"{r.outcome_sums[part]:.2f}")]
    if part == "accuracy":
        return [("accuracy %", lambda r: f"{100 * r.outcome_means[part]:.2f}")]
    return [(title, lambda r: f"{r.outcome_means[part]:.4g}")]


def _plus_minus(mean: float, ci95: tuple[float, float], episodes: int) -> str:
    if episodes < 2:  # one episode says nothing of how others would turn out
        return f"{mean:.3g}"
    low, high = ci95
    return f"{mean:.3g} ± {(high - low) / 2:.2g}"


def _gap(result: Result) -> str:
    mean, ci95 = result.gap_percent_mean, result.gap_percent_ci95
    assert mean is not None and ci95 is not None
    if max(map(abs, (mean, *ci95))) < 1e-4:  # an optimum is reached but for rounding
        return "0"
    return _plus_minus(mean, ci95, result.episodes)


def _online_gap(result: Result) -> str:
    online = result.online
    if online is None:
        return ""
    return _plus_minus(online.gap_percent, online.gap_percent_ci95, result.episodes)


def _behind(result: Result) -> str:
    assert result.behind_best_mean is not None and result.behind_best_ci95 is not None
    return _plus_minus(result.behind_best_mean, result.behind_best_ci95, result.episodes)


def _difference(result: Result) -> str:
    if result.episodes < 2:
        return f"{result.difference_mean:+.4g}"
    low, high = result.difference_ci95
    return f"{result.difference_mean:+.4g} [{low:+.4g}, {high:+.4g}]"


def print_table(results: Sequence[Result], problem: AnyProblem, title: str) -> None:
    """Print results; ± is half of the 95 % bootstrap interval.

    Where no bound is known, a column says how far each agent is behind the best known return.

    Args:
        results: One result per agent; differences are to the first one.
        problem: The problem that was played; it names the parts of the outcome that count.
        title: Text above the table.
    """
    columns: list[Column] = [("return", lambda r: f"{r.return_mean:.3f}")]
    if results[0].gap_percent_mean is not None:
        columns.append(("gap %", _gap))
    elif results[0].behind_best_mean is not None:
        columns.append(("behind the best", _behind))
    online = next((r.online for r in results if r.online is not None), None)
    if online is not None:
        columns.append(("online gap %", _online_gap))
    if len(results) > 1:
        columns.append(
            ("return minus the first's", lambda r: "" if r is results[0] else _difference(r))
        )
    for part in (*problem.costs, *problem.gains):
        columns += part_columns(part)
    columns.append(("ms/decision", lambda r: f"{r.decision_ms:.3g}"))
    show_rows(
        title,
        ("agent", [short_name(result.agent) for result in results]),
        [(heading, [show(result) for result in results]) for heading, show in columns],
    )
    if online is not None:
        print(
            "Without knowing the future, no policy can expect more than "
            f"{online.bound:.3f} (standard error {online.bound_se:.1g}); the online gap is to that."
        )


def _cells(name: str, value: Any) -> dict[str, Any]:
    """A number by its name, or both ends of an interval by theirs."""
    if not name.endswith("_ci95"):
        return {name: value}
    low, high = (None, None) if value is None else value
    return {f"{name}_low": low, f"{name}_high": high}


def flat_row(result: Result) -> dict[str, Any]:
    """Spread a result so that each name has one number, as a row of a CSV file needs it."""
    row: dict[str, Any] = {}
    for name, value in result.as_dict().items():
        if name == "online":
            for part in arrays.field_names(Expectation):
                row |= _cells(f"online_{part}", None if value is None else value[part])
        elif isinstance(value, dict):
            kind = name.removeprefix("outcome_").removesuffix("s")
            row |= {f"{kind}_{part}": number for part, number in value.items()}
        else:
            row |= _cells(name, value)
    return row
