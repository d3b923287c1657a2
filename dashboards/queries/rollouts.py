"""Queries over releases of a centre and the gateways that follow them. Pure.

The centre writes how far each release has come (`release`) and what each gateway reported
(`rollout_state`); a gateway also writes its own state.
"""

from __future__ import annotations

from dashboards.queries.flux import Where, read
from dashboards.queries.query import per_series, table
from dashboards.queries.stages import AGE_S, LAST, PIVOT, every, newest
from pipeline.points.measurements import RELEASE, ROLLOUT, ROLLOUT_STATE, SHADOW

__all__ = [
    "DISAGREEMENT",
    "FALL_BACKS",
    "GATEWAYS_NOW",
    "GATEWAYS_OF_VERSIONS",
    "GATEWAY_PHASES",
    "MOST_APART",
    "RELEASES_NOW",
    "RELEASE_MEMBERS",
    "RELEASE_STATES",
    "SHIFT",
]

_MODEL = Where.selected("model")
_STANDINGS = ("healthy", "waiting", "failed", "held", "silent")

RELEASES_NOW = table(
    "releases_now",
    [
        *read(
            RELEASE,
            ["number", "version", "state", "reason", "step", "steps", "percent", "members"],
            _MODEL,
        ),
        "last()",
        *newest("model"),
        'map(fn: (r) => ({r with at_step: string(v: r.step) + " of " + string(v: r.steps), '
        f"age_s: {AGE_S}}}))",
    ],
    {
        "model": "text",
        "number": "int",
        "version": "int",
        "state": "text",
        "at_step": "text",
        "percent": "int",
        "members": "int",
        "reason": "text",
        "age_s": "int",
    },
    sort=["model"],
    may_be_empty=True,
)

RELEASE_MEMBERS = per_series(
    "release_members",
    [*read(RELEASE, _STANDINGS, _MODEL), LAST, 'group(columns: ["_field", "_time"])', "sum()"],
    ("_field",),
    "int",
    may_be_empty=True,
)

RELEASE_STATES = per_series(
    "release_states",
    [*read(RELEASE, ["state"], _MODEL), LAST],
    ("model",),
    "text",
    may_be_empty=True,
)

GATEWAYS_NOW = table(
    "gateways_now",
    [
        *read(
            ROLLOUT_STATE,
            [
                "group",
                "release",
                "phase",
                "version",
                "candidate",
                "windows",
                "reason",
                "fetch",
                "software",
                "disk_free_mb",
            ],
            _MODEL,
        ),
        "last()",
        *newest("gateway", "model"),
        f"map(fn: (r) => ({{r with age_s: {AGE_S}}}))",
    ],
    {
        "phase": "text",
        "gateway": "text",
        "group": "text",
        "model": "text",
        "version": "int",
        "release": "int",
        "candidate": "int",
        "windows": "int",
        "reason": "text",
        "fetch": "text",
        "software": "text",
        "disk_free_mb": "int",
        "age_s": "int",
    },
    sort=["phase", "gateway", "model"],
    descending=True,
    may_be_empty=True,
)

MOST_APART = table(
    "most_apart",
    [
        *read(SHADOW, ["version", "against", "disagreement", "challenger", "champion"], _MODEL),
        PIVOT,
    ],
    {
        "_time": "time",
        "site": "text",
        "device": "text",
        "model": "text",
        "version": "int",
        "against": "int",
        "disagreement": "float",
        "challenger": "text",
        "champion": "text",
    },
    sort=["_time"],
    descending=True,
    may_be_empty=True,
)

GATEWAYS_OF_VERSIONS = table(
    "gateways_of_versions",
    [
        *read(ROLLOUT_STATE, ["version"], _MODEL),
        "last()",
        'group(columns: ["model", "_value"])',
        "reduce(identity: {gateways: 0}, fn: (r, accumulator) => "
        "({gateways: accumulator.gateways + 1}))",
        'rename(columns: {_value: "version"})',
    ],
    {"model": "text", "version": "int", "gateways": "int"},
    sort=["model", "version"],
    may_be_empty=True,
)

GATEWAY_PHASES = per_series(
    "gateway_phases",
    [*read(ROLLOUT_STATE, ["phase"], _MODEL), LAST],
    ("gateway", "model"),
    "text",
    may_be_empty=True,
)

FALL_BACKS = table(
    "fall_backs",
    [
        *read(ROLLOUT, ["version", "text"], _MODEL),
        'filter(fn: (r) => r.event == "fell_back")',
        PIVOT,
    ],
    {"_time": "time", "gateway": "text", "model": "text", "version": "int", "text": "text"},
    sort=["_time"],
    descending=True,
    may_be_empty=True,
)


def _largest(field: str) -> list[str]:
    return [
        *read(ROLLOUT_STATE, [field], _MODEL),
        every("max"),
        'group(columns: ["model", "_time"])',
        "max()",
        "map(fn: (r) => ({r with _value: float(v: r._value) / 1000.0}))",
    ]


DISAGREEMENT = per_series(
    "rollout_disagreement", _largest("disagreement_permille"), ("model",), may_be_empty=True
)

SHIFT = per_series("rollout_shift", _largest("psi_permille"), ("model",), may_be_empty=True)
