"""Queries of the general alerts: one series per device, process or group. Pure.

The last value of a series decides. The queries use no template variables, because an alert
watches the whole site. Each rule sets its own time range, which ends at the moment of evaluation.
The alerts of a task are in its file in `dashboards.boards`.
"""

from __future__ import annotations

from dashboards.queries.flux import START, STOP, read
from dashboards.queries.query import per_series
from dashboards.queries.stages import AGE_S, AT_THE_END, GROWTH, newest, unexplained
from pipeline.points.measurements import (
    DEAD_LETTERS,
    DEVICE,
    GATEWAY,
    LAG,
    MODEL,
    RELEASE,
    ROLLOUT_STATE,
)

__all__ = [
    "BACKLOG_GROWTH",
    "DEAD_LETTERS_NEW",
    "EVICTED_NEW",
    "GATEWAYS_FAILED",
    "LOSS_SHOWN_S",
    "MISSING_READINGS",
    "PROCESS_AGE",
    "PROCESS_NOT_READY",
    "REFUSED_MODELS",
    "RELEASES_PAUSED",
    "RELEASE_FAILURES",
    "SESSION_LOST",
    "SILENT_FOR",
    "STALLED_FOR",
    "UNHEALTHY_MODELS",
]

_ACCOUNT = ("received", "windowed", "duplicate", "corrected", "late", "dead_lettered")


LOSS_SHOWN_S = 21_600
"""Seconds for which a lost session is reported."""

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
"""Seconds since the last reading of a stream was received."""

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
"""Seconds since the last account of a process."""

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
"""1 for a process that reports that it is not ready."""

SESSION_LOST = per_series(
    "alert_session_lost",
    [
        *read(GATEWAY, ["session_lost_ms"]),
        "last()",
        f"map(fn: (r) => ({{r with _value: if int(v: {STOP}) / 1000000 - r._value < "
        f"{LOSS_SHOWN_S * 1000} then 1 else 0}}))",
    ],
    ("role", "gateway"),
    "int",
    may_be_empty=True,
)
"""1 for a bridge whose broker had forgotten its session within the last `LOSS_SHOWN_S` seconds.

The time of the loss decides and not the counter, which begins anew with the process that notices.
"""

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
"""Records per minute by which the backlog of a group in a topic grows.

It is the slope of a least-squares line through the backlog in the time range, so a single peak does
not count.
"""

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
"""Seconds for which the partition that has stalled longest has a backlog and no progress."""

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

EVICTED_NEW = per_series(
    "alert_evicted",
    [
        *read(GATEWAY, ["evicted"]),
        GROWTH,
        'group(columns: ["role", "gateway"])',
        "sum()",
        AT_THE_END,
    ],
    ("role", "gateway"),
    "int",
    may_be_empty=True,
)
"""Records of topics without a reader that the log deleted in the time range, by process."""

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
"""1 for a model whose student does not score or whose newest version was refused."""

REFUSED_MODELS = per_series(
    "alert_model_refused",
    [*read(MODEL, ["refused_version"]), "last()"],
    ("gateway", "model"),
    "int",
)
"""Version that was refused, 0 for none; for the text of the alert."""

RELEASES_PAUSED = per_series(
    "alert_release_paused",
    [
        *read(RELEASE, ["state"]),
        "last()",
        'map(fn: (r) => ({r with _value: if r._value == "paused" then 1 else 0}))',
    ],
    ("model",),
    "int",
    may_be_empty=True,
)
"""1 for a student whose newest release is paused."""

RELEASE_FAILURES = per_series(
    "alert_release_failed",
    [*read(RELEASE, ["failed"]), "last()"],
    ("model",),
    "int",
    may_be_empty=True,
)
"""Gateways that judged the newest release of a student unhealthy; for the text of the alert."""

GATEWAYS_FAILED = per_series(
    "alert_gateway_failed",
    [
        *read(ROLLOUT_STATE, ["phase"]),
        "last()",
        'map(fn: (r) => ({r with _value: if r._value == "failed" then 1 else 0}))',
    ],
    ("gateway", "model"),
    "int",
    may_be_empty=True,
)
"""1 for a gateway that judged the release of a student unhealthy."""

MISSING_READINGS = per_series(
    "alert_missing_readings",
    [
        *read(DEVICE, _ACCOUNT),
        "last()",
        *newest(*DEVICE.tags),
        f"map(fn: (r) => ({{r with _value: {unexplained(_ACCOUNT)}}}))",
    ],
    DEVICE.tags,
    "int",
)
"""Readings of a stream that its account does not explain."""
