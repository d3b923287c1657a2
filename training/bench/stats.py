"""Statistics of the report: means, intervals, paired differences. Pure numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.tasks.registry import tasks

__all__ = [
    "Line",
    "by_choice",
    "differences",
    "error_with_spread",
    "half_within",
    "interval_95",
    "number",
    "paired_gains",
    "sign_of",
    "table_row",
    "with_interval",
    "with_spread",
    "with_three_digits",
]

# Two-sided 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_FEWEST = 3  # values: fewer get no interval

Line = dict[str, Any]


def interval_95(values: Sequence[float]) -> float:
    """Compute half the 95 % interval of the mean of a few values (Student's t); nan for one.

    >>> round(interval_95([1.0, 2.0, 3.0]), 2)
    2.48
    """
    count = len(values)
    if count < 2:
        return math.nan
    factor = _T[count - 2] if count - 2 < len(_T) else 1.96
    return float(factor * np.std(values, ddof=1) / math.sqrt(count))


def half_within(groups: Sequence[Sequence[float]]) -> float:
    """Compute half the 95 % interval of the mean of group means for a fixed set of groups.

    The variance of every mean comes from its own values; the degrees of freedom are those of all
    groups together. The result is nan if a group has only one value.
    """
    if any(len(values) < 2 for values in groups):
        return math.nan
    variance = sum(float(np.var(values, ddof=1)) / len(values) for values in groups)
    freedom = sum(len(values) - 1 for values in groups)
    factor = _T[freedom - 1] if freedom <= len(_T) else 1.96
    return float(factor * math.sqrt(variance) / len(groups))


def sign_of(metric: str) -> int:
    """Return 1 for a measure that is better when it is larger, else -1."""
    measures = [measure for task in tasks() for measure in task.measures]
    return 1 if any(one.name == metric and one.better == "larger" for one in measures) else -1


def paired_gains(
    lines: Sequence[Line], base: Sequence[Line], metric: str, where: str = "test"
) -> list[float]:
    """Compute the gain in percent over `base`, for every seed that both have; positive is better.

    For macro-F1 it is the gain of the F1 itself, as the literature counts it.
    """
    old = {line["seed"]: line[where][metric] for line in base}
    sign = sign_of(metric)
    return [
        100 * sign * (line[where][metric] - old[line["seed"]]) / old[line["seed"]]
        for line in lines
        if line["seed"] in old
    ]


def differences(
    lines: Sequence[Line], base: Sequence[Line], metric: str, where: str = "test"
) -> list[float]:
    """Compute `lines` minus `base` in units of the measure, for every seed that both have."""
    old = {line["seed"]: line[where][metric] for line in base}
    return [line[where][metric] - old[line["seed"]] for line in lines if line["seed"] in old]


def by_choice(lines: Sequence[Line], readout: str, name: str) -> dict[tuple[int, ...], float]:
    """Average a measure over seeds, by left-out labels; for runs that leave labels out."""
    found: dict[tuple[int, ...], list[float]] = {}
    for line in lines:
        found.setdefault(tuple(line["unseen"]), []).append(line["open"][readout][name])
    return {choice: float(np.mean(values)) for choice, values in found.items()}


def number(value: float) -> str:
    """Format a number with about three significant figures.

    >>> number(123.4), number(12.34), number(0.9623)
    ('123', '12.34', '0.962')
    """
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.2f}" if size >= 2 else f"{value:.3f}"


def with_spread(values: Sequence[float], *, interval: bool = False) -> str:
    """Format the mean, (standard deviation) from two values on, and [95 % interval] if asked."""
    text = number(float(np.mean(values)))
    if len(values) > 1:
        text += f" ({number(float(np.std(values, ddof=1)))})"
    return f"{text} {_range(values)}".strip() if interval else text


def error_with_spread(values: Sequence[float]) -> str:
    """Format the mean of errors in four decimals, and (standard deviation) from two values on.

    >>> error_with_spread([0.5, 0.7]), error_with_spread([0.5]), error_with_spread([])
    ('0.6000 (0.1414)', '0.5000', '')
    """
    if not values:
        return ""
    text = f"{float(np.mean(values)):.4f}"
    return f"{text} ({float(np.std(values, ddof=1)):.4f})" if len(values) > 1 else text


def table_row(cells: Sequence[str]) -> str:
    """Format one row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def with_interval(values: Sequence[float], *, signed: bool = False) -> str:
    """Format mean [95 % interval]; an empty text for no values."""
    if not len(values):
        return ""
    mean = float(np.mean(values))
    sign = "+" if signed and mean >= 0 else ""
    return f"{sign}{number(mean)} {_range(values)}".strip()


def with_three_digits(values: Sequence[float], *, signed: bool = False) -> str:
    """Format mean [95 % interval] with three digits after the point, such as shares."""
    mean, half = float(np.mean(values)), interval_95(values)
    sign = "+" if signed else ""
    return f"{mean:{sign}.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def _range(values: Sequence[float]) -> str:
    half, mean = interval_95(values), float(np.mean(values))
    # For two values the interval of Student's t is too wide to mean anything.
    return "" if len(values) < _FEWEST else f"[{number(mean - half)}, {number(mean + half)}]"
