"""Queries over the forecasts of one channel: the fan, and forecasts against what came. Pure.

A point of the details has the time that is forecast, which may lie ahead of now, so the boards of
these queries have a time range that ends ahead of now. At lead 0 it holds the reading that came at
that time. A forecast and the reading that came have exactly the same time if the device sends at
the regular times of its student; otherwise there is nothing to compare.
"""

from __future__ import annotations

from dashboards.queries.flux import Where, names, pipe, read, text
from dashboards.queries.query import Query, per_series, table
from dashboards.queries.scores import ONE_DEVICE, SERIES
from dashboards.queries.stages import PIVOT, every
from models.tasks.contract import Task
from models.tasks.forecast import LEAD_ZERO
from pipeline.points.measurements import detail_measurement

__all__ = ["error_of_leads", "fan_of_lead", "leads_now", "newest_fan", "readings"]

QUANTILES = ("p10", "p50", "p90")
_ONE_CHANNEL = (*ONE_DEVICE, Where.selected("channel"))
_CAME = Where.equal("lead", LEAD_ZERO)
_AHEAD = Where(f"r.lead != {text(LEAD_ZERO)}", "lead")
_ERROR = "(if r.p50 > r.value then r.p50 - r.value else r.value - r.p50)"
_INSIDE = "(if r.p10 <= r.value and r.value <= r.p90 then 1.0 else 0.0)"


def readings(task: Task) -> Query:
    """Readings of the selected channel that came."""
    return per_series(
        f"{task.name}_readings",
        [*read(detail_measurement(task), ["value"], *_ONE_CHANNEL, _CAME), every("mean")],
        ("_field", *SERIES),
    )


def fan_of_lead(task: Task) -> Query:
    """Quantiles of the selected channel, as they were forecast the selected lead before."""
    lead = (*_ONE_CHANNEL, Where.selected("lead"), _AHEAD)
    return per_series(
        f"{task.name}_fan",
        [*read(detail_measurement(task), QUANTILES, *lead), every("mean")],
        ("_field", *SERIES),
    )


def newest_fan(task: Task) -> Query:
    """Quantiles of the selected channel at every lead of the newest window."""
    return per_series(
        f"{task.name}_newest_fan",
        [*read(detail_measurement(task), QUANTILES, *_ONE_CHANNEL, _AHEAD), "last()"],
        ("_field", *SERIES),
    )


def leads_now(task: Task) -> Query:
    """Mean absolute error of p50 and share between p10 and p90 of the selected channel, by lead."""
    return table(
        f"{task.name}_by_lead",
        [
            _compared(task),
            'group(columns: ["model", "lead"])',
            "reduce(\n"
            "    identity: {readings: 0, errors: 0.0, inside: 0.0},\n"
            "    fn: (r, accumulator) => ({\n"
            "      readings: accumulator.readings + 1,\n"
            f"      errors: accumulator.errors + {_ERROR},\n"
            f"      inside: accumulator.inside + {_INSIDE},\n"
            "    }),\n"
            "  )",
            "map(fn: (r) => ({model: r.model, steps: int(v: r.lead), readings: r.readings, "
            "error: r.errors / float(v: r.readings), "
            "covered: r.inside / float(v: r.readings)}))",
        ],
        {
            "model": "text",
            "steps": "int",
            "readings": "int",
            "error": "float",
            "covered": "float",
        },
        sort=["model", "steps"],
    )


def error_of_leads(task: Task) -> Query:
    """Mean absolute error of p50 of the selected channel over time, by lead."""
    return per_series(
        f"{task.name}_error",
        [
            _compared(task),
            f"map(fn: (r) => ({{r with _value: {_ERROR}}}))",
            f"group(columns: {names(('lead', *SERIES))})",
            'sort(columns: ["_time"])',
            every("mean"),
        ],
        ("lead", *SERIES),
    )


def _compared(task: Task) -> str:
    """A stage with one row per forecast whose time has come: quantiles, lead, and `value`.

    Sorted by time, each reading precedes its forecasts and is filled into their rows. Flux's own
    joins take minutes for a few thousand rows.
    """
    details = detail_measurement(task)
    key = tuple(tag for tag in details.tags if tag != "lead")
    came = pipe(
        read(details, ["value"], *_ONE_CHANNEL, _CAME),
        'duplicate(column: "_time", as: "came")',
        'rename(columns: {_value: "value"})',
        f"group(columns: {names(key)})",
        f"keep(columns: {names(('_time', 'came', 'value', 'lead', *key))})",
    )
    made = pipe(
        read(details, QUANTILES, *_ONE_CHANNEL, _AHEAD),
        PIVOT,
        f"group(columns: {names(key)})",
        f"keep(columns: {names(('_time', *QUANTILES, 'lead', *key))})",
    )
    parts = ",\n".join("    " + part.replace("\n", "\n    ") for part in (came, made))
    return pipe(
        [f"union(tables: [\n{parts},\n  ])"],
        'sort(columns: ["_time", "lead"])',
        'fill(column: "value", usePrevious: true)',
        'fill(column: "came", usePrevious: true)',
        f"filter(fn: (r) => r.came == r._time and {_AHEAD.flux})",
    )
