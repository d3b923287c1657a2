"""Queries over the accounts of processes: readiness, rates, backlog, dead letters. Pure.

A process writes its account every few seconds. Counters are summed over processes; latencies take
the slowest process.
"""

from __future__ import annotations

from dashboards.queries.flux import START, STOP, read
from dashboards.queries.query import per_series, table
from dashboards.queries.stages import AGE_S, GROWTH, LAST, RATE, every, newest
from pipeline.points.measurements import DEAD_LETTERS, GATEWAY, LAG

__all__ = [
    "BACKLOG",
    "CPU",
    "DEAD_LETTERS_BY_REASON",
    "DEAD_LETTERS_TOTAL",
    "LATENCIES",
    "LOG_FILL",
    "MEMORY",
    "PARTITIONS",
    "PROCESSES",
    "PROCESS_COUNTS",
    "PROCESS_STARTS",
    "RATES",
    "READY",
    "STALLED",
]

# ------------------------------------------------------------------------------------- processes

PROCESSES = table(
    "processes",
    [
        *read(GATEWAY, ["alive", "ready", "problems", "started_ms", "rss_bytes"]),
        "last()",
        *newest("gateway", "role"),
        "map(fn: (r) => ({r with "
        f"up_s: int(v: {STOP}) / 1000000000 - r.started_ms / 1000, age_s: {AGE_S}}}))",
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
        every("min"),
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
    kind="annotations",
    may_be_empty=True,
)

RATES = per_series(
    "rates",
    [
        *read(GATEWAY, ["messages_received", "messages_logged", "scored", "stored"]),
        *RATE,
        'group(columns: ["_field", "_time"])',
        "sum()",
    ],
    ("_field",),
)

PROCESS_COUNTS = per_series(
    "process_counts",
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
        LAST,
        GROWTH,
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
        every("max"),
        'group(columns: ["_field", "_time"])',
        "max()",
    ],
    ("_field",),
)

CPU = per_series(
    "cpu",
    [
        *read(GATEWAY, ["cpu_ms"]),
        *RATE,
        "map(fn: (r) => ({r with _value: r._value / 1000.0}))",
    ],
    ("role", "gateway"),
)

MEMORY = per_series("memory", [*read(GATEWAY, ["rss_bytes"]), LAST], ("role", "gateway"), "int")

LOG_FILL = per_series(
    "log_fill", [*read(GATEWAY, ["log_fill"]), LAST], ("role", "gateway"), may_be_empty=True
)

# --------------------------------------------------------------------------------------- backlog


def _of_partitions(field: str, over_partitions: str) -> list[str]:
    """One value per group and topic.

    During a handover two processes may report the same partition, so the larger value counts.
    """
    return [
        *read(LAG, [field]),
        LAST,
        'group(columns: ["group", "topic", "partition", "_time"])',
        "max()",
        'group(columns: ["group", "topic", "_time"])',
        over_partitions,
    ]


BACKLOG = per_series("backlog", _of_partitions("backlog", "sum()"), ("group", "topic"), "int")

STALLED = per_series("stalled", _of_partitions("still_ms", "max()"), ("group", "topic"), "int")

PARTITIONS = table(
    "partitions",
    [
        *read(LAG, ["end_offset", "backlog", "still_ms"]),
        "last()",
        *newest("group", "topic", "partition"),
        f"map(fn: (r) => ({{r with number: int(v: r.partition), age_s: {AGE_S}}}))",
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
        LAST,
        GROWTH,
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
        GROWTH,
        'group(columns: ["reason"])',
        "sum()",
        'rename(columns: {_value: "letters"})',
    ],
    {"reason": "text", "letters": "int"},
    sort=["letters"],
    descending=True,
    may_be_empty=True,
)
