"""Queries over the students that processes report: version, health, rollouts. Pure.

They read no scores, so they hold for every task.
"""

from __future__ import annotations

from dashboards.queries.flux import Where, read
from dashboards.queries.query import per_series, table
from dashboards.queries.stages import AGE_S, LAST, PIVOT, every, newest
from pipeline.points.measurements import MODEL, ROLLOUT

__all__ = ["MODELS_NOW", "MODEL_HEALTH", "MODEL_VERSIONS", "ROLLOUTS", "ROLLOUT_EVENTS"]

_MODEL = Where.selected("model")

MODELS_NOW = table(
    "models_now",
    [
        *read(MODEL, ["version", "healthy", "refused_version", "error"], _MODEL),
        "last()",
        *newest("gateway", "model", "task", "stream"),
        f"map(fn: (r) => ({{r with age_s: {AGE_S}}}))",
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
        every("min"),
    ],
    ("model", "gateway"),
    "int",
)

MODEL_VERSIONS = per_series(
    "model_versions",
    [*read(MODEL, ["version"], _MODEL), LAST],
    ("model", "gateway"),
    "int",
)

ROLLOUTS = table(
    "rollouts",
    [*read(ROLLOUT, ["version", "text"], _MODEL), PIVOT],
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

ROLLOUT_EVENTS = table(
    "rollout_events",
    [
        *read(ROLLOUT, ["text"]),
        'map(fn: (r) => ({_time: r._time, text: r._value, tags: r.event + "," + r.model}))',
    ],
    {"_time": "time", "text": "text", "tags": "text"},
    sort=["_time"],
    kind="annotations",
    may_be_empty=True,
)
