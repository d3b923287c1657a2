"""The queries of the accounts: devices, processes, lag, dead letters, students, rollout marks.

Counters only grow and begin again at 0 when what counts them starts anew. `difference` and
`derivative` with `nonNegative` and `initialZero` take a smaller number for such a new beginning, so
a restart costs neither a spike nor a hole.

Sums of readings come from the accounts of the devices, not from those of the processes: a device
keeps its account when another worker takes it over, a worker's sum jumps.
"""

from __future__ import annotations

from dashboards.flux import START, STEP, STOP, Where, names, read
from dashboards.queries import ColumnType, per_series, table
from pipeline.points import DEAD_LETTERS, DEVICE, GATEWAY, LAG, MODEL, ROLLOUT

__all__ = [
    "ACCOUNT_OF_DEVICES",
    "ACCOUNT_OF_FLEET",
    "ACCOUNT_OF_LINE",
    "BACKLOG",
    "CPU",
    "DEAD_LETTERS_BY_REASON",
    "DEAD_LETTERS_TOTAL",
    "DEVICES_SEEN",
    "DEVICE_ACCOUNT",
    "DEVICE_AGE",
    "DEVICE_RATES",
    "LAG_TABLE",
    "LATENCIES",
    "LOG_FILL",
    "MEMORY",
    "MODELS_NOW",
    "MODEL_HEALTH",
    "MODEL_VERSIONS",
    "PROCESSES",
    "PROCESS_STARTS",
    "RATES",
    "READINGS_OF_FLEET",
    "READY",
    "ROLLOUTS",
    "ROLLOUT_MARKS",
    "SILENT_DEVICES",
    "STANDING_STILL",
    "UNBALANCED_NOW",
]

_SITE, _DEVICE = Where.chosen("site"), Where.chosen("device")
_MODEL = Where.chosen("model")
_ONE = (_SITE, _DEVICE)
_OUTCOMES = ("windowed", "duplicate", "late", "dead_lettered")
_ACCOUNT = ("received", *_OUTCOMES)
_DEVICE_KEY = ("site", "device", "stream")

_AGE_S = f"(int(v: {STOP}) - int(v: r._time)) / 1000000000"
_MISSING = " - ".join(f"r.{name}" for name in _ACCOUNT)

_LAST = f"aggregateWindow(every: {STEP}, fn: last, createEmpty: false)"
_PER_SECOND = "derivative(unit: 1s, nonNegative: true, initialZero: true)"
_GROWTH = "difference(nonNegative: true, initialZero: true)"
_PIVOT = 'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'


def _newest(*key: str) -> list[str]:
    """From the last row per series and field to one row per key, a column per field."""
    return [_PIVOT, f"group(columns: {names(key)})", 'sort(columns: ["_time"])', "tail(n: 1)"]


# --------------------------------------------------------------------------------------- devices

DEVICES_SEEN = per_series(
    "devices_seen",
    [
        *read(DEVICE, ["received"], _SITE),
        "last()",
        'group(columns: ["site"])',
        "count()",
        f"map(fn: (r) => ({{r with _time: {STOP}}}))",
    ],
    ("site",),
    "int",
)

READINGS_OF_FLEET = per_series(
    "readings_of_fleet",
    [
        *read(DEVICE, ["received"], _SITE),
        _LAST,
        _PER_SECOND,
        'group(columns: ["site", "_time"])',
        "sum()",
    ],
    ("site",),
)

SILENT_DEVICES = table(
    "silent_devices",
    [
        *read(DEVICE, ["last_recv_ms"], _SITE),
        "last()",
        "map(fn: (r) => ({r with "
        "last_reading: time(v: r._value * 1000000), "
        f"silent_s: int(v: {STOP}) / 1000000000 - r._value / 1000}}))",
    ],
    {
        "site": "text",
        "device": "text",
        "stream": "text",
        "last_reading": "time",
        "silent_s": "int",
    },
    sort=["silent_s"],
    descending=True,
    limit=100,
)

DEVICE_AGE = per_series(
    "device_age",
    [
        *read(DEVICE, ["last_recv_ms"], *_ONE),
        "last()",
        f"map(fn: (r) => ({{r with _value: int(v: {STOP}) / 1000000000 - r._value / 1000}}))",
    ],
    _DEVICE_KEY,
    "int",
)

DEVICE_RATES = per_series(
    "device_rates",
    [*read(DEVICE, _OUTCOMES, *_ONE), _LAST, _PER_SECOND],
    ("_field", *_DEVICE_KEY),
)

_BALANCE: dict[str, ColumnType] = {
    "received": "int",
    "windowed": "int",
    "duplicate": "int",
    "late": "int",
    "dead_lettered": "int",
    "missing": "int",
    "gaps": "int",
    "windows": "int",
}

DEVICE_ACCOUNT = table(
    "device_account",
    [
        *read(DEVICE, [*_ACCOUNT, "gaps", "windows"], *_ONE),
        "last()",
        *_newest(*_DEVICE_KEY),
        f"map(fn: (r) => ({{r with missing: {_MISSING}}}))",
    ],
    {"site": "text", "device": "text", "stream": "text", **_BALANCE},
    sort=list(_DEVICE_KEY),
)

ACCOUNT_OF_DEVICES = table(
    "account_of_devices",
    [
        *read(DEVICE, [*_ACCOUNT, "gaps", "windows"], _SITE),
        "last()",
        *_newest(*_DEVICE_KEY),
        f"map(fn: (r) => ({{r with missing: {_MISSING}, "
        "lost_share: if r.received > 0 then "
        "float(v: r.late + r.dead_lettered) / float(v: r.received) else 0.0}))",
    ],
    {"site": "text", "device": "text", "stream": "text", **_BALANCE, "lost_share": "float"},
    sort=["lost_share"],
    descending=True,
)

UNBALANCED_NOW = per_series(
    "unbalanced_now",
    [
        *read(DEVICE, _ACCOUNT, _SITE),
        "last()",
        *_newest(*_DEVICE_KEY),
        f"map(fn: (r) => ({{r with _value: if {_MISSING} == 0 then 0 else 1}}))",
        "group()",
        "sum()",
        f"map(fn: (r) => ({{r with _time: {STOP}}}))",
    ],
    (),
    "int",
)

ACCOUNT_OF_FLEET = per_series(
    "account_of_fleet",
    [
        *read(DEVICE, _ACCOUNT, _SITE),
        _LAST,
        _GROWTH,
        'group(columns: ["_field", "_time"])',
        "sum()",
    ],
    ("_field",),
    "int",
)

# ------------------------------------------------------------------------------------- processes

PROCESSES = table(
    "processes",
    [
        *read(GATEWAY, ["alive", "ready", "problems", "started_ms", "rss_bytes"]),
        "last()",
        *_newest("gateway", "role"),
        "map(fn: (r) => ({r with "
        f"up_s: int(v: {STOP}) / 1000000000 - r.started_ms / 1000, age_s: {_AGE_S}}}))",
    ],
    {
        "gateway": "text",
        "role": "text",
        "ready": "int",
        "problems": "text",
        "up_s": "int",
        "rss_bytes": "int",
        "age_s": "int",
    },
    sort=["ready", "role", "gateway"],
)

READY = per_series(
    "ready",
    [
        *read(GATEWAY, ["ready"]),
        f"aggregateWindow(every: {STEP}, fn: min, createEmpty: false)",
    ],
    ("role", "gateway"),
    "int",
)

PROCESS_STARTS = table(
    "process_starts",
    [
        *read(GATEWAY, ["started_ms"]),
        "distinct()",
        'map(fn: (r) => ({_time: time(v: r._value * 1000000), text: r.role + " " + r.gateway + '
        '" started", tags: r.role}))',
        f"filter(fn: (r) => r._time >= {START})",
    ],
    {"_time": "time", "text": "text", "tags": "text"},
    sort=["_time"],
    kind="marks",
    may_be_empty=True,
)

RATES = per_series(
    "rates",
    [
        *read(GATEWAY, ["messages_received", "messages_logged", "scored", "stored"]),
        _LAST,
        _PER_SECOND,
        'group(columns: ["_field", "_time"])',
        "sum()",
    ],
    ("_field",),
)

ACCOUNT_OF_LINE = per_series(
    "account_of_line",
    [
        *read(
            GATEWAY,
            [
                "messages_received",
                "messages_logged",
                "messages_dead_lettered",
                "scored",
                "unscored",
                "stored",
                "refused_points",
            ],
        ),
        _LAST,
        _GROWTH,
        'group(columns: ["_field", "_time"])',
        "sum()",
    ],
    ("_field",),
    "int",
)

LATENCIES = per_series(
    "latencies",
    [
        *read(
            GATEWAY,
            [
                f"{span}_{quantile}_ms"
                for span in ("sensor_to_score", "receive_to_score", "sensor_to_stored")
                for quantile in ("p50", "p99")
            ],
        ),
        f"aggregateWindow(every: {STEP}, fn: max, createEmpty: false)",
        'group(columns: ["_field", "_time"])',
        "max()",
    ],
    ("_field",),
)

CPU = per_series(
    "cpu",
    [
        *read(GATEWAY, ["cpu_ms"]),
        _LAST,
        _PER_SECOND,
        "map(fn: (r) => ({r with _value: r._value / 1000.0}))",
    ],
    ("role", "gateway"),
)

MEMORY = per_series("memory", [*read(GATEWAY, ["rss_bytes"]), _LAST], ("role", "gateway"), "int")

LOG_FILL = per_series(
    "log_fill", [*read(GATEWAY, ["log_fill"]), _LAST], ("role", "gateway"), may_be_empty=True
)

# ------------------------------------------------------------------------------------------- lag


def _of_partitions(field: str, over_partitions: str) -> list[str]:
    """Over the partitions of a topic; while one changes hands, two processes may speak of it."""
    return [
        *read(LAG, [field]),
        _LAST,
        'group(columns: ["group", "topic", "partition", "_time"])',
        "max()",
        'group(columns: ["group", "topic", "_time"])',
        over_partitions,
    ]


BACKLOG = per_series("backlog", _of_partitions("backlog", "sum()"), ("group", "topic"), "int")

STANDING_STILL = per_series(
    "standing_still", _of_partitions("still_ms", "max()"), ("group", "topic"), "int"
)

LAG_TABLE = table(
    "lag_table",
    [
        *read(LAG, ["end_offset", "backlog", "still_ms"]),
        "last()",
        *_newest("group", "topic", "partition"),
        f"map(fn: (r) => ({{r with number: int(v: r.partition), age_s: {_AGE_S}}}))",
    ],
    {
        "group": "text",
        "topic": "text",
        "number": "int",
        "gateway": "text",
        "end_offset": "int",
        "backlog": "int",
        "still_ms": "int",
        "age_s": "int",
    },
    sort=["group", "topic", "number"],
)

# ---------------------------------------------------------------------------------- dead letters

DEAD_LETTERS_BY_REASON = per_series(
    "dead_letters_by_reason",
    [
        *read(DEAD_LETTERS, ["count"]),
        _LAST,
        _GROWTH,
        'group(columns: ["reason", "_time"])',
        "sum()",
    ],
    ("reason",),
    "int",
    may_be_empty=True,
)

DEAD_LETTERS_TOTAL = table(
    "dead_letters_total",
    [
        *read(DEAD_LETTERS, ["count"]),
        _GROWTH,
        'group(columns: ["reason"])',
        "sum()",
        'rename(columns: {_value: "letters"})',
    ],
    {"reason": "text", "letters": "int"},
    sort=["letters"],
    descending=True,
    may_be_empty=True,
)

# --------------------------------------------------------------------------- students and rollout

MODELS_NOW = table(
    "models_now",
    [
        *read(MODEL, ["version", "healthy", "refused_version", "error"], _MODEL),
        "last()",
        *_newest("gateway", "model", "task", "stream"),
        f"map(fn: (r) => ({{r with age_s: {_AGE_S}}}))",
    ],
    {
        "model": "text",
        "task": "text",
        "stream": "text",
        "gateway": "text",
        "version": "int",
        "healthy": "int",
        "refused_version": "int",
        "error": "text",
        "age_s": "int",
    },
    sort=["healthy", "model", "gateway"],
)

MODEL_HEALTH = per_series(
    "model_health",
    [
        *read(MODEL, ["healthy"], _MODEL),
        f"aggregateWindow(every: {STEP}, fn: min, createEmpty: false)",
    ],
    ("model", "gateway"),
    "int",
)

MODEL_VERSIONS = per_series(
    "model_versions",
    [*read(MODEL, ["version"], _MODEL), _LAST],
    ("model", "gateway"),
    "int",
)

ROLLOUTS = table(
    "rollouts",
    [*read(ROLLOUT, ["version", "text"], _MODEL), _PIVOT],
    {
        "_time": "time",
        "model": "text",
        "event": "text",
        "version": "int",
        "gateway": "text",
        "text": "text",
    },
    sort=["_time"],
    descending=True,
    may_be_empty=True,
)

ROLLOUT_MARKS = table(
    "rollout_marks",
    [
        *read(ROLLOUT, ["text"]),
        'map(fn: (r) => ({_time: r._time, text: r._value, tags: r.event + "," + r.model}))',
    ],
    {"_time": "time", "text": "text", "tags": "text"},
    sort=["_time"],
    kind="marks",
    may_be_empty=True,
)
