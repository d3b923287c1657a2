"""The queries of the alerts: one series per thing that can be wrong, its last value decides.

They know no template variables: an alert looks at everything. The time range is the rule's own, it
ends at the moment of evaluation.
"""

from __future__ import annotations

from dashboards.queries.flux import START, STOP, read
from dashboards.queries.query import Query, per_series
from dashboards.queries.stages import AGE_S, AT_THE_END, GROWTH, newest
from pipeline.points.points import DEAD_LETTERS, DEVICE, GATEWAY, LAG, MODEL, RUL

__all__ = [
    "BACKLOG_GROWTH",
    "DEAD_LETTERS_NEW",
    "MISSING_READINGS",
    "PROCESS_AGE",
    "PROCESS_NOT_READY",
    "REFUSED_MODELS",
    "RUL_LAST",
    "SILENT_FOR",
    "STALLED_FOR",
    "UNHEALTHY_MODELS",
]

_ACCOUNT = ("received", "windowed", "duplicate", "late", "dead_lettered")


def _last_score(field: str) -> Query:
    return per_series(
        f"alert_{field}", [*read(RUL, [field]), "last()"], ("site", "device", "model")
    )


RUL_LAST = {field: _last_score(field) for field in ("rul_low", "rul", "rul_high")}
"""The newest score of every device, in cycles: the lower end, the score, the upper end."""

SILENT_FOR = per_series(
    "alert_silent",
    [
        *read(DEVICE, ["last_recv_ms"]),
        "last()",
        f"map(fn: (r) => ({{r with _value: int(v: {STOP}) / 1000000000 - r._value / 1000}}))",
    ],
    ("site", "device", "stream"),
    "int",
)
"""Seconds since a device's last reading was received."""

PROCESS_AGE = per_series(
    "alert_process_age",
    [
        *read(GATEWAY, ["alive"]),
        "last()",
        f"map(fn: (r) => ({{r with _value: {AGE_S}}}))",
    ],
    ("role", "gateway"),
    "int",
)
"""Seconds since a process last said anything."""

PROCESS_NOT_READY = per_series(
    "alert_process_not_ready",
    [
        *read(GATEWAY, ["ready"]),
        "last()",
        "map(fn: (r) => ({r with _value: 1 - r._value}))",
    ],
    ("role", "gateway"),
    "int",
)
"""1 for a process that says it does not do its job."""


_X = f"float(v: int(v: r._time) - int(v: {START})) / 60000000000.0"
_Y = "float(v: r._value)"

BACKLOG_GROWTH = per_series(
    "alert_backlog_growth",
    [
        *read(LAG, ["backlog"]),
        "aggregateWindow(every: 1m, fn: last, createEmpty: false)",
        'group(columns: ["group", "topic", "partition", "_time"])',
        "max()",
        'group(columns: ["group", "topic", "_time"])',
        "sum()",
        'group(columns: ["group", "topic"])',
        "reduce(\n"
        "    identity: {n: 0.0, x: 0.0, y: 0.0, xx: 0.0, xy: 0.0},\n"
        "    fn: (r, accumulator) => ({\n"
        "      n: accumulator.n + 1.0,\n"
        f"      x: accumulator.x + {_X},\n"
        f"      y: accumulator.y + {_Y},\n"
        f"      xx: accumulator.xx + {_X} * {_X},\n"
        f"      xy: accumulator.xy + {_X} * {_Y},\n"
        "    }),\n"
        "  )",
        f"map(fn: (r) => ({{r with _time: {STOP}, _value: if r.n < 3.0 then 0.0 else "
        "(r.n * r.xy - r.x * r.y) / (r.n * r.xx - r.x * r.x)}))",
    ],
    ("group", "topic"),
)
"""Records per minute by which a group falls behind in a topic: the slope of the straight line
through its backlog in the time range (least squares), so a single peak does not count."""

STALLED_FOR = per_series(
    "alert_stalled",
    [
        *read(LAG, ["still_ms"]),
        "last()",
        'group(columns: ["group", "topic", "partition"])',
        'sort(columns: ["_time"])',
        "last()",
        'group(columns: ["group", "topic"])',
        "max()",
        "map(fn: (r) => ({r with _value: r._value / 1000}))",
    ],
    ("group", "topic"),
    "int",
)
"""Seconds for which the partition that is stuck longest has not moved in spite of a backlog."""

DEAD_LETTERS_NEW = per_series(
    "alert_dead_letters",
    [
        *read(DEAD_LETTERS, ["count"]),
        GROWTH,
        'group(columns: ["reason"])',
        "sum()",
        AT_THE_END,
    ],
    ("reason",),
    "int",
    may_be_empty=True,
)
"""Dead letters written in the time range, by reason."""

UNHEALTHY_MODELS = per_series(
    "alert_model_unhealthy",
    [
        *read(MODEL, ["healthy"]),
        "last()",
        "map(fn: (r) => ({r with _value: 1 - r._value}))",
    ],
    ("gateway", "model"),
    "int",
)
"""1 for a student that does not score, or of which a newer version was refused."""

REFUSED_MODELS = per_series(
    "alert_model_refused",
    [*read(MODEL, ["refused_version"]), "last()"],
    ("gateway", "model"),
    "int",
)
"""The version that was refused, 0 for none; for the alert's text."""

MISSING_READINGS = per_series(
    "alert_missing_readings",
    [
        *read(DEVICE, _ACCOUNT),
        "last()",
        *newest(*DEVICE.tags),
        f"map(fn: (r) => ({{r with _value: {' - '.join(f'r.{name}' for name in _ACCOUNT)}}}))",
    ],
    DEVICE.tags,
    "int",
)
"""Readings of a device that its account cannot explain."""
