"""The queries of the scores: remaining useful life, activity, and how the students do."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import Where, names, pipe, read, text
from dashboards.queries.query import Query, Shape, per_series, table
from dashboards.queries.stages import AGE_S, AT_THE_END, PIVOT, every
from pipeline.points.points import ACTIVITY, PROBABILITY_PREFIX, RUL, Measurement

__all__ = [
    "ACTIVITY_BY_DEVICE",
    "ACTIVITY_NOW",
    "ACTIVITY_SHARES",
    "CERTAINTY",
    "DEVICES_OF_VERSIONS",
    "DEVICE_ACTIVITY",
    "DEVICE_LATENCY",
    "DEVICE_PROBABILITIES",
    "DEVICE_RUL",
    "DEVICE_RUL_NOW",
    "DEVICE_VERSION",
    "DEVICE_WINDOWS",
    "INTERVAL_WIDTH",
    "LATENCY_OF_MODELS",
    "LEAST_CERTAIN",
    "RUL_LOWEST",
    "RUL_LOWEST_BOUND",
    "RUL_NOW",
    "RUL_OF_FLEET",
    "RUL_OF_MODELS",
    "SCORES_OF_MODELS",
    "rul_below",
]

_SITE, _DEVICE, _MODEL = Where.selected("site"), Where.selected("device"), Where.selected("model")
_FLEET = (_SITE, _MODEL)
_ONE = (_SITE, _DEVICE)
_WHO = ("site", "device", "stream", "model")
_SERIES = ("site", "device", "model")


def _newest(measurement: Measurement, *fields: str) -> list[str]:
    """One row per device and model: its newest score, a column per field, and its age."""
    return [
        *read(measurement, fields, *_FLEET),
        "last()",
        PIVOT,
        f"group(columns: {names(_WHO)})",
        'sort(columns: ["_time"])',
        f'last(column: "{fields[0]}")',
        f"map(fn: (r) => ({{r with age_s: {AGE_S}}}))",
    ]


# ------------------------------------------------------------------------- remaining useful life

RUL_NOW = table(
    "rul_now",
    _newest(RUL, "rul", "rul_low", "rul_high", "version"),
    {
        "site": "text",
        "device": "text",
        "model": "text",
        "rul": "float",
        "rul_low": "float",
        "rul_high": "float",
        "version": "int",
        "age_s": "int",
    },
    sort=["rul_low"],
)

RUL_LOWEST_BOUND = per_series(
    "rul_lowest_bound",
    [
        *read(RUL, ["rul_low"], *_FLEET),
        "last()",
        "group()",
        'sort(columns: ["_value"])',
        "limit(n: 1)",
    ],
    (),
)


def rul_below(limit_cycles: float) -> Query:
    """How many devices have the lower end of their interval below the limit."""
    return Query(
        "rul_below",
        pipe(
            read(RUL, ["rul_low"], *_FLEET),
            "last()",
            "group()",
            "map(fn: (r) => ({r with "
            f"_value: if r._value < {float(limit_cycles)} then 1 else 0}}))",
            "sum()",
        ),
        Shape("table", {"_value": "int"}),
    )


RUL_LOWEST = per_series(
    "rul_lowest",
    [
        *read(RUL, ["rul_low"], *_FLEET),
        "last()",
        "group()",
        'sort(columns: ["_value"])',
        "limit(n: 10)",
    ],
    _SERIES,
)

RUL_OF_FLEET = per_series(
    "rul_of_fleet",
    [
        "union(tables: [\n"
        '    steps |> min() |> set(key: "devices", value: "lowest"),\n'
        '    steps |> quantile(q: 0.1) |> set(key: "devices", value: "lowest tenth"),\n'
        '    steps |> median() |> set(key: "devices", value: "middle"),\n'
        "  ])",
    ],
    ("devices",),
    head="steps = "
    + pipe(
        read(RUL, ["rul"], *_FLEET),
        every("last"),
        'group(columns: ["_time"])',
    )
    + "\n\n",
)

DEVICE_RUL = per_series(
    "device_rul",
    [*read(RUL, ["rul", "rul_low", "rul_high"], *_ONE), every("mean")],
    ("_field", *_SERIES),
)

DEVICE_RUL_NOW = per_series(
    "device_rul_now",
    [*read(RUL, ["rul", "rul_low", "rul_high"], *_ONE), "last()"],
    ("_field", *_SERIES),
)

# -------------------------------------------------------------------------------------- activity

ACTIVITY_NOW = table(
    "activity_now",
    _newest(ACTIVITY, "activity", "probability", "version"),
    {
        "site": "text",
        "device": "text",
        "model": "text",
        "activity": "text",
        "probability": "float",
        "version": "int",
        "age_s": "int",
    },
    sort=["site", "device", "model"],
)

_STRIPPED = (
    "map(fn: (r) => ({r with "
    f"activity: strings.trimPrefix(v: r._field, prefix: {text(PROBABILITY_PREFIX)})}}))"
)
_STRINGS = 'import "strings"\n\n'

ACTIVITY_SHARES = per_series(
    "activity_shares",
    [
        *read(ACTIVITY, [PROBABILITY_PREFIX], *_FLEET),
        every("mean"),
        'group(columns: ["_field", "_time"])',
        "mean()",
        "group()",
        _STRIPPED,
    ],
    ("activity",),
    head=_STRINGS,
)

ACTIVITY_BY_DEVICE = per_series(
    "activity_by_device",
    [*read(ACTIVITY, ["activity"], *_FLEET), every("last")],
    _SERIES,
    "text",
)

CERTAINTY = per_series(
    "certainty",
    [
        *read(ACTIVITY, ["probability"], *_FLEET),
        every("mean"),
        'group(columns: ["model", "_time"])',
        "mean()",
    ],
    ("model",),
)

LEAST_CERTAIN = per_series(
    "least_certain",
    [
        *read(ACTIVITY, ["probability"], *_FLEET),
        "mean()",
        "group()",
        'sort(columns: ["_value"])',
        "limit(n: 10)",
        AT_THE_END,
    ],
    _SERIES,
)

DEVICE_ACTIVITY = per_series(
    "device_activity",
    [*read(ACTIVITY, ["activity"], *_ONE), every("last")],
    _SERIES,
    "text",
)

DEVICE_PROBABILITIES = per_series(
    "device_probabilities",
    [*read(ACTIVITY, [PROBABILITY_PREFIX], *_ONE), every("mean"), _STRIPPED],
    ("activity", "site", "device"),
    head=_STRINGS,
)

# ------------------------------------------------------------------------ what every score carries


def _both(fields: Sequence[str], where: tuple[Where, ...], *more: str) -> str:
    """A stage that reads fields from both measurements of scores, as one stream of tables."""
    parts = [pipe(read(m, fields, *where), *more) for m in (RUL, ACTIVITY)]
    joined = ",\n".join("    " + part.replace("\n", "\n    ") for part in parts)
    return f"union(tables: [\n{joined},\n  ])"


DEVICE_WINDOWS = per_series(
    "device_windows", [_both(["readings", "gaps"], _ONE, every("mean"))], ("_field", *_SERIES)
)

DEVICE_LATENCY = per_series(
    "device_latency", [_both(["latency_ms"], _ONE, every("max"))], _SERIES, "int"
)

DEVICE_VERSION = per_series(
    "device_version", [_both(["version"], _ONE, every("last"))], _SERIES, "int"
)

SCORES_OF_MODELS = per_series(
    "scores_of_models",
    [_both(["version"], _FLEET, every("count")), 'group(columns: ["model", "_time"])', "sum()"],
    ("model",),
    "int",
)

DEVICES_OF_VERSIONS = table(
    "devices_of_versions",
    [
        _both(["version"], _FLEET, "last()"),
        'rename(columns: {_value: "version"})',
        'group(columns: ["model", "version"])',
        "reduce(\n"
        "    identity: {devices: 0, newest: 1970-01-01T00:00:00Z},\n"
        "    fn: (r, accumulator) => ({\n"
        "      devices: accumulator.devices + 1,\n"
        "      newest: if r._time > accumulator.newest then r._time else accumulator.newest,\n"
        "    }),\n"
        "  )",
    ],
    {"model": "text", "version": "int", "devices": "int", "newest": "time"},
    sort=["model", "version"],
)

LATENCY_OF_MODELS = per_series(
    "latency_of_models",
    [
        _both(["latency_ms"], _FLEET, every("max")),
        'group(columns: ["model", "_time"])',
        "max()",
    ],
    ("model",),
    "int",
)

RUL_OF_MODELS = per_series(
    "rul_of_models",
    [
        *read(RUL, ["rul"], *_FLEET),
        every("mean"),
        'group(columns: ["model", "_time"])',
        "mean()",
    ],
    ("model",),
)

INTERVAL_WIDTH = per_series(
    "interval_width",
    [
        *read(RUL, ["rul_low", "rul_high"], *_FLEET),
        every("mean"),
        PIVOT,
        "filter(fn: (r) => exists r.rul_low and exists r.rul_high)",
        "map(fn: (r) => ({r with _value: r.rul_high - r.rul_low}))",
        'group(columns: ["model", "_time"])',
        "mean()",
    ],
    ("model",),
)
