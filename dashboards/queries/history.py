"""The queries of the long past: hours, which InfluxDB makes of the points and keeps for a year."""

from __future__ import annotations

from dashboards.queries.flux import Where, read, text
from dashboards.queries.query import Query, per_series
from dashboards.queries.stages import GROWTH
from pipeline.points.points import ACTIVITY_HOURLY, DEVICE_HOURLY, RUL_HOURLY

__all__ = ["activity_history", "readings_history", "rul_history"]

_ONE = (Where.selected("site"), Where.selected("device"))


def rul_history(bucket: str) -> Query:
    """The score of one device by hour: its mean, and the ends of its intervals."""
    fields = ["rul_mean", "rul_low_min", "rul_high_max"]
    return per_series(
        "rul_history",
        read(RUL_HOURLY, fields, *_ONE, bucket=text(bucket)),
        ("_field", "site", "device", "model"),
    )


def activity_history(bucket: str) -> Query:
    """How many windows of each activity a device had in each hour."""
    return per_series(
        "activity_history",
        read(ACTIVITY_HOURLY, ["windows"], *_ONE, bucket=text(bucket)),
        ("activity", "site", "device", "model"),
        "int",
    )


def readings_history(bucket: str) -> Query:
    """Readings of a device in each hour, by what became of them."""
    return per_series(
        "readings_history",
        [
            *read(
                DEVICE_HOURLY,
                ["windowed", "duplicate", "late", "dead_lettered"],
                *_ONE,
                bucket=text(bucket),
            ),
            GROWTH,
        ],
        ("_field", *DEVICE_HOURLY.tags),
        "int",
    )
