"""Queries over the accounts of devices: the outcome of every reading, silent devices. Pure.

Sums of readings come from devices, not from processes, because a device keeps its account when
another worker takes it over, while the sums of both workers jump.
"""

from __future__ import annotations

from dashboards.queries.flux import STOP, Where, read, text
from dashboards.queries.query import ColumnType, Query, per_series, table
from dashboards.queries.stages import AT_THE_END, GROWTH, LAST, RATE, newest, unexplained
from pipeline.points.measurements import DEVICE, DEVICE_HOURLY

__all__ = [
    "ACCOUNT_OF_DEVICES",
    "ACCOUNT_OF_FLEET",
    "DEVICES_SEEN",
    "DEVICE_ACCOUNT",
    "DEVICE_AGE",
    "DEVICE_RATES",
    "READINGS_OF_FLEET",
    "SILENT_DEVICES",
    "UNBALANCED_NOW",
    "readings_history",
]

_SITE = Where.selected("site")
_ONE_DEVICE = (_SITE, Where.selected("device"))
_OUTCOMES = ("windowed", "duplicate", "corrected", "late", "dead_lettered")
_ACCOUNT = ("received", *_OUTCOMES)
_DEVICE_KEY = ("site", "device", "stream")
_MISSING = unexplained(_ACCOUNT)

DEVICES_SEEN = per_series(
    "devices_seen",
    [
        *read(DEVICE, ["received"], _SITE),
        "last()",
        'group(columns: ["site"])',
        "count()",
        AT_THE_END,
    ],
    ("site",),
    "int",
)

READINGS_OF_FLEET = per_series(
    "readings_of_fleet",
    [
        *read(DEVICE, ["received"], _SITE),
        *RATE,
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
        *read(DEVICE, ["last_recv_ms"], *_ONE_DEVICE),
        "last()",
        f"map(fn: (r) => ({{r with _value: int(v: {STOP}) / 1000000000 - r._value / 1000}}))",
    ],
    _DEVICE_KEY,
    "int",
)

DEVICE_RATES = per_series(
    "device_rates",
    [*read(DEVICE, _OUTCOMES, *_ONE_DEVICE), *RATE],
    ("_field", *_DEVICE_KEY),
)

_BALANCE: dict[str, ColumnType] = {
    "received": "int",
    "windowed": "int",
    "duplicate": "int",
    "corrected": "int",
    "late": "int",
    "dead_lettered": "int",
    "missing": "int",
    "gaps": "int",
    "windows": "int",
}

DEVICE_ACCOUNT = table(
    "device_account",
    [
        *read(DEVICE, [*_ACCOUNT, "gaps", "windows"], *_ONE_DEVICE),
        "last()",
        *newest(*_DEVICE_KEY),
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
        *newest(*_DEVICE_KEY),
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
        *newest(*_DEVICE_KEY),
        f"map(fn: (r) => ({{r with _value: if {_MISSING} == 0 then 0 else 1}}))",
        "group()",
        "sum()",
        AT_THE_END,
    ],
    (),
    "int",
)

ACCOUNT_OF_FLEET = per_series(
    "account_of_fleet",
    [
        *read(DEVICE, _ACCOUNT, _SITE),
        LAST,
        GROWTH,
        'group(columns: ["_field", "_time"])',
        "sum()",
    ],
    ("_field",),
    "int",
)


def readings_history(bucket: str) -> Query:
    """Readings of one device in each hour, by outcome."""
    return per_series(
        "readings_history",
        [*read(DEVICE_HOURLY, _OUTCOMES, *_ONE_DEVICE, bucket=text(bucket)), GROWTH],
        ("_field", *DEVICE_HOURLY.tags),
        "int",
    )
