"""Stages of Flux that several queries share. Pure.

Counters only grow and begin again at 0 when what counts them starts anew. `GROWTH` and `PER_SECOND`
take a smaller number for such a new beginning, so a restart costs neither a spike nor a hole.
"""

from __future__ import annotations

from dashboards.queries.flux import STEP, STOP, names

__all__ = ["AGE_S", "AT_THE_END", "GROWTH", "LAST", "PER_SECOND", "PIVOT", "every", "newest"]


def every(fn: str) -> str:
    """One value per step of the chart, at the step's end; steps without values have no row."""
    return f"aggregateWindow(every: {STEP}, fn: {fn}, createEmpty: false)"


LAST = every("last")
"""The last value of every step."""

GROWTH = "difference(nonNegative: true, initialZero: true)"
"""What a counter has grown by since the row before; the first row of a series only begins."""

PER_SECOND = "derivative(unit: 1s, nonNegative: true, initialZero: true)"
"""The same per second."""

PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
"""A column per field."""

AGE_S = f"(int(v: {STOP}) - int(v: r._time)) / 1000000000"
"""Seconds from a row to the end of the time range."""

AT_THE_END = f"map(fn: (r) => ({{r with _time: {STOP}}}))"
"""Rows that are about the whole range carry the time of its end."""


def newest(*key: str) -> list[str]:
    """From the last row per series and field to one row per key, a column per field."""
    return [PIVOT, f"group(columns: {names(key)})", 'sort(columns: ["_time"])', "tail(n: 1)"]
