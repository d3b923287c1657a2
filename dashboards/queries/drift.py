"""Queries over the quality of scores and the drift of streams. Pure.

The newest score of a device says whether it is doubtful. A stream is judged by each process that
scores it; what one of them sees counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.queries.flux import Where, names, read, text
from dashboards.queries.query import Query, per_series, table
from dashboards.queries.scores import FLEET, ONE_DEVICE, every_task
from dashboards.queries.stages import AGE_S, LAST, PIVOT, newest
from models.tasks.contract import Task
from models.tasks.quality import GOOD, QUALITY
from pipeline.points.measurements import DRIFT

__all__ = [
    "DRIFT_NOW",
    "SHAPES",
    "STREAMS_DRIFTED",
    "device_quality",
    "doubtful_now",
    "doubtful_scores",
]

_ALL = "*"
_WHOLE = (Where.equal("site", _ALL), Where.equal("device", _ALL))
_SIGNS = ("drifted", "flagged", "windows", "version", "text")
_PLACE = ("site", "device", "stream", "model")

DRIFT_NOW = table(
    "drift_now",
    [
        *read(DRIFT, _SIGNS, Where.equal("channel", _ALL)),
        "last()",
        *newest("gateway", "site", "device", "stream"),
        f"map(fn: (r) => ({{r with age_s: {AGE_S}}}))",
    ],
    {
        "stream": "text",
        "site": "text",
        "device": "text",
        "gateway": "text",
        "drifted": "int",
        "flagged": "float",
        "windows": "int",
        "version": "int",
        "text": "text",
        "age_s": "int",
    },
    sort=["drifted", "stream", "device"],
    descending=True,
)
"""The newest judgement of every stream and of its devices, those that have drifted first."""

SHAPES = per_series(
    "drift_shapes",
    [
        *read(DRIFT, ["psi", "limit"], *_WHOLE),
        LAST,
        PIVOT,
        "filter(fn: (r) => exists r.psi and exists r.limit)",
        "map(fn: (r) => ({r with _value: r.psi / r.limit}))",
        'group(columns: ["stream", "channel", "_time"])',
        "max()",
    ],
    ("stream", "channel"),
)
"""Stability index of each channel as a share of its limit."""

STREAMS_DRIFTED = per_series(
    "alert_stream_drifted",
    [
        *read(DRIFT, ["drifted"], *_WHOLE, Where.equal("channel", _ALL)),
        "last()",
        'group(columns: ["stream"])',
        "max()",
    ],
    ("stream",),
    "int",
)
"""1 for a stream that has drifted by the newest judgement of a process."""


def doubtful_scores(tasks: Sequence[Task]) -> Query:
    """1 for a device whose newest score is doubtful, for an alert."""
    return per_series(
        "alert_doubtful",
        [
            every_task(tasks, [QUALITY], (), "last()"),
            f"map(fn: (r) => ({{r with _value: if r._value == {text(GOOD)} then 0 else 1}}))",
        ],
        _PLACE,
        "int",
    )


def doubtful_now(tasks: Sequence[Task]) -> Query:
    """Devices whose newest score is doubtful, with the reason."""
    return table(
        "doubtful_now",
        [
            every_task(tasks, [QUALITY], FLEET, "last()"),
            f"filter(fn: (r) => r._value != {text(GOOD)})",
            f"map(fn: (r) => ({{r with {QUALITY}: r._value, age_s: {AGE_S}}}))",
            f"group(columns: {names(_PLACE)})",
        ],
        {
            "site": "text",
            "device": "text",
            "stream": "text",
            "model": "text",
            QUALITY: "text",
            "age_s": "int",
        },
        sort=["site", "device", "stream"],
        may_be_empty=True,
    )


def device_quality(tasks: Sequence[Task]) -> Query:
    """Quality of the scores of one device over time."""
    stage = every_task(tasks, [QUALITY], ONE_DEVICE, LAST)
    return per_series("device_quality", [stage], ("site", "device", "model"), "text")
