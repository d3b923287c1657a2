"""Stages of Flux that several queries share. Pure.

Counters only grow, and start again at 0 when their process restarts. `GROWTH` and `RATE` treat a
smaller number as a restart, so a restart causes neither a spike nor a gap.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import START, STEP, STOP, names

__all__ = [
    "AGE_S",
    "AT_THE_END",
    "GROWTH",
    "LAST",
    "PIVOT",
    "RATE",
    "every",
    "newest",
    "unexplained",
]


def every(fn: str, *, own_time: bool = False) -> str:
    """One value per step of the chart; a step without values has no row.

    Its time is the end of the step, or that of the row which `fn` selects.
    """
    source = ', timeSrc: "_time"' if own_time else ""
    return f"aggregateWindow(every: {STEP}, fn: {fn}, createEmpty: false{source})"


LAST = every("last")
"""The last value of every step."""

GROWTH = "difference(nonNegative: true, initialZero: true)"
"""Increase of a counter since the previous row; the first row of a series gives none."""

RATE = (
    every("last", own_time=True),
    "increase()",
    "derivative(unit: 1s)",
    LAST,
    f"filter(fn: (r) => r._time < {STOP} and "
    f"int(v: r._time) > int(v: {START}) + 2 * int(v: {STEP}))",
)
"""Increase of a counter per second, one value per whole step.

`derivative` alone takes a restart for no increase, so the increases are added up before; only what
a process counted between its last value of a step and its end is missing. The time between two
values is that of their rows. The first and the last step of a chart are shorter than the others and
hold the rows of some series only, so they, and the step that begins with them, have no value: a sum
over series would be too small.
"""

PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
"""One column per field."""

AGE_S = f"(int(v: {STOP}) - int(v: r._time)) / 1000000000"
"""Seconds from a row to the end of the time range."""

AT_THE_END = f"map(fn: (r) => ({{r with _time: {STOP}}}))"
"""Give rows about the whole time range the time of its end."""


def newest(*key: str) -> list[str]:
    """Turn the last row of each series and field into one row per key, one column per field."""
    return [PIVOT, f"group(columns: {names(key)})", 'sort(columns: ["_time"])', "tail(n: 1)"]


def unexplained(account: Sequence[str]) -> str:
    """The readings received (the first field) that no other field of an account explains.

    Accounts of earlier versions have no field `corrected`.

    >>> unexplained(["received", "windowed", "corrected"])
    'r.received - r.windowed - (if exists r.corrected then r.corrected else 0)'
    """
    corrected = "(if exists r.corrected then r.corrected else 0)"
    return " - ".join(corrected if name == "corrected" else f"r.{name}" for name in account)
