"""The layout of InfluxDB as data: buckets with retention, hourly aggregation, tokens. Pure.

- Bucket `kpstream`: every score, account and mark as written, for 30 days. Details of scores (the
  quantiles of a forecast) are kept as long; their times may lie ahead of now, which no retention
  refuses.
- Bucket `kpstream-hourly`: hours, aggregated from them inside InfluxDB, for a year. The hours of a
  forecast are its anomaly score, alarms, error and coverage (`anomaly_hourly`); details have none.
- Raw readings are not in InfluxDB. They are in the log (topic `readings`), with its retention.

InfluxDB tasks compute the last three hours again each hour, and the last three days each day, so
that the hours include points that arrived late, after an outage of InfluxDB or of the store. An
hour that is computed again overwrites itself. `pipeline.stores.influxsetup.aggregate` computes
older hours on demand.

`pipeline.stores.influxsetup.ensure_layout` sets up an InfluxDB accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.tasks.contract import Hourly, HourlyFunction, Task
from models.tasks.registry import tasks
from pipeline.points.measurements import (
    DEVICE,
    DEVICE_HOURLY,
    ROLLOUT,
    Measurement,
    hourly_measurement,
    score_measurement,
)

__all__ = [
    "GRAFANA_TOKEN",
    "HOURLY_BUCKET",
    "SCORES_BUCKET",
    "STORE_TOKEN",
    "Bucket",
    "InfluxTask",
    "Layout",
    "Rollup",
    "Token",
    "rollup_flux",
    "rollups",
    "site_layout",
]

SCORES_BUCKET = "kpstream"
"""Bucket of scores, accounts and marks."""
HOURLY_BUCKET = "kpstream-hourly"
"""Bucket of the hours."""
STORE_TOKEN = "kpstream store"  # noqa: S105 (a name)
"""Name of the token with which `kpstream store` writes; it cannot read."""
GRAFANA_TOKEN = "kpstream grafana"  # noqa: S105 (a name)
"""Name of the token with which Grafana reads; it cannot write."""

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; InfluxDB deletes points older than `retention_s` seconds (0: never)."""

    name: str
    retention_s: int
    about: str


@dataclass(frozen=True, slots=True)
class InfluxTask:
    """A task inside InfluxDB: Flux that runs periodically; name and period are in the Flux."""

    name: str
    flux: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token that may read and write the named buckets and nothing else."""

    name: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Buckets, tasks and tokens of an InfluxDB."""

    buckets: tuple[Bucket, ...]
    tasks: tuple[InfluxTask, ...]
    tokens: tuple[Token, ...]


Function = HourlyFunction | Literal["copy"]
"""Function that turns an hour of a field into one value; `copy` keeps the points unchanged."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Aggregation of one measurement from another.

    Attributes:
        source: Measurement in the bucket of scores.
        target: Measurement in the bucket of hours.
        parts: (field of the source, function, field of the target) of each field.
    """

    source: Measurement
    target: Measurement
    parts: tuple[tuple[str, Function, str], ...]

    def __post_init__(self) -> None:
        for field, _, made in self.parts:
            self.source.field(field)
            self.target.field(made)


def rollups() -> tuple[Rollup, ...]:
    """All aggregates: one for each task with hours, the accounts of devices, and the marks."""
    return (
        *(_score_rollup(task, task.hourly) for task in tasks() if task.hourly),
        Rollup(
            DEVICE, DEVICE_HOURLY, tuple((f.name, "last", f.name) for f in DEVICE_HOURLY.fields)
        ),
        Rollup(ROLLOUT, ROLLOUT, tuple((f.name, "copy", f.name) for f in ROLLOUT.fields)),
    )


def _score_rollup(task: Task, hourly: Hourly) -> Rollup:
    parts = tuple((part.source, part.function, part.field.name) for part in hourly.fields)
    return Rollup(score_measurement(task), hourly_measurement(task), parts)


def site_layout(
    *,
    scores_bucket: str = SCORES_BUCKET,
    hourly_bucket: str = HOURLY_BUCKET,
    scores_days: float = 30,
    hourly_days: float = 365,
    aggregates: Sequence[Rollup] | None = None,
) -> Layout:
    """The layout of a site; 0 days means for ever.

    InfluxDB refuses points older than a bucket's retention, and they become dead letters. To replay
    recordings with old event times, choose `scores_days` accordingly.
    """
    buckets = (
        Bucket(scores_bucket, round(scores_days * _DAY_S), "scores, accounts and marks as written"),
        Bucket(hourly_bucket, round(hourly_days * _DAY_S), "hours of scores and accounts"),
    )
    tasks = tuple(
        InfluxTask(name, _task_flux(name, rollup, every, hours, scores_bucket, hourly_bucket))
        for rollup in (rollups() if aggregates is None else aggregates)
        for name, every, hours in (
            (f"kpstream {rollup.source.name} hourly", "1h", 3),
            (f"kpstream {rollup.source.name} daily", "24h", 72),
        )
    )
    tokens = (
        Token(STORE_TOKEN, write=(scores_bucket,)),
        Token(GRAFANA_TOKEN, read=(scores_bucket, hourly_bucket)),
    )
    return Layout(buckets, tasks, tokens)


def rollup_flux(rollup: Rollup, start: str, stop: str, source: str, target: str) -> str:
    """Flux that computes the hours between `start` and `stop` (Flux expressions) again.

    Args:
        rollup: The aggregate to compute.
        start: The beginning of the first hour.
        stop: The end of the last hour.
        source: Bucket to read from.
        target: Bucket to write to.
    """
    read = (
        f"from(bucket: {_text(source)})\n    |> range(start: {start}, stop: {stop})\n"
        f"    |> filter(fn: (r) => r._measurement == {_text(rollup.source.name)}"
    )
    parts = []
    for field, function, made in rollup.parts:
        # One read per part, because InfluxDB then reads, filters and aggregates in one step.
        part = f"{read} and r._field == {_text(field)})"
        if function == "values":
            tags = ", ".join(map(_text, rollup.target.tags))
            part += (
                f"\n    |> map(fn: (r) => ({{r with {field}: r._value, _value: 1}}))"
                f"\n    |> group(columns: [{tags}])"
            )
        if function != "copy":
            how = {"values": "sum"}.get(function, function)
            part += (
                f"\n    |> aggregateWindow(every: 1h, fn: {how}, createEmpty: false, "
                'timeSrc: "_start")'
            )
        part += (
            f'\n    |> set(key: "_measurement", value: {_text(rollup.target.name)})'
            f'\n    |> set(key: "_field", value: {_text(made)})'
            f"\n    |> to(bucket: {_text(target)})"
            f"\n    |> yield(name: {_text(f'{rollup.target.name} {made}')})"
        )
        parts.append(part)
    return "\n\n".join(parts) + "\n"


def _task_flux(name: str, rollup: Rollup, every: str, hours: int, source: str, target: str) -> str:
    body = rollup_flux(rollup, "start", "stop", source, target)
    return (
        'import "date"\n\n'
        f"option task = {{name: {_text(name)}, every: {every}, offset: 5m}}\n\n"
        "stop = date.truncate(t: now(), unit: 1h)\n"
        f"start = date.sub(d: {hours}h, from: stop)\n\n"
        f"{body}"
    )


def _text(text: str) -> str:
    r"""A Flux string literal.

    >>> _text('say "hi" to ${x}')
    '"say \\"hi\\" to \\${x}"'
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'
