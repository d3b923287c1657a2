"""The topics of a site in Kafka: partitions, retention, compaction. Pure; creates nothing.

`ingest.kafka.create_topics` creates the topics of `site_topics`. Retention counts from the time of
appending (`LogAppendTime`) and not from another clock. A bridge with a wrong clock therefore can
neither make Kafka drop a record that it just confirmed, nor be refused by Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from ingest.topics import (
    ACCOUNTS,
    DEAD_LETTERS,
    EXAMPLES,
    LABELS,
    LATE,
    MAX_RECORD_BYTES,
    READINGS,
    SCORES,
)

__all__ = ["TopicSpec", "changelog_topic", "site_topics"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_UNREAD_BYTES = 2 * 1024**3
"""Size of a topic without a reader. Kafka deletes closed segments only, so the records of up to an
hour may come on top."""

_LABELS_BYTES = 256 * 1024**2
"""Size of all labels, some half a million; beyond, those given first are deleted."""

_COMMON = {
    "message.timestamp.type": "LogAppendTime",
    # A record plus Kafka's overhead. A worker whose record is refused could never continue.
    "max.message.bytes": str(MAX_RECORD_BYTES + 1000),
}

_LOG = MappingProxyType(
    {
        **_COMMON,
        # Kafka deletes only closed segments, so a quiet partition closes one per hour.
        "segment.ms": str(_HOUR_MS),
    }
)

_CHANGELOG = MappingProxyType(
    {
        **_COMMON,
        # Every device writes its row once a second, and a starting worker reads all rows. Rare
        # compaction makes that slow, and rows older than a minute are useless.
        "segment.ms": "60000",
        "max.compaction.lag.ms": "120000",
        "min.cleanable.dirty.ratio": "0.2",
        "delete.retention.ms": str(_HOUR_MS),
    }
)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """Definition of one topic.

    Attributes:
        name: Name of the topic.
        partitions: Number of partitions. Kafka can add some later, but devices would move.
        retention_ms: Milliseconds that a record is kept at least; None for ever, until it is
            compacted away.
        cleanup_policy: `delete` removes by age; `compact` keeps the last record of each key.
        config: Further settings of the topic, by their names in Kafka.
    """

    name: str
    partitions: int
    retention_ms: int | None
    cleanup_policy: Literal["delete", "compact"]
    config: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """Return all settings except name and partitions, by their names in Kafka.

        >>> TopicSpec("late", 4, 3_600_000, "delete").settings()
        {'cleanup.policy': 'delete', 'retention.ms': '3600000'}
        """
        return {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            **self.config,
        }


def changelog_topic(app_id: str) -> str:
    """Return the topic in which Faust keeps the window state of the workers of `app_id`.

    >>> changelog_topic("kpstream")
    'kpstream-score-windows-changelog'
    """
    return f"{app_id}-score-windows-changelog"


def site_topics(partitions: int, app_id: str = "kpstream") -> tuple[TopicSpec, ...]:
    """Return every topic of a site; all have as many partitions, so a device has one number.

    Args:
        partitions: Partitions of each topic; fixed once the topics exist.
        app_id: `KPSTREAM_PIPELINE_APP_ID`, part of the changelog's name.
    """
    return (
        # Normally read within a second; three days cover a weekend without workers.
        _log(READINGS, partitions, 3 * _DAY_MS),
        # The store may be down for a week before InfluxDB misses a point.
        _log(SCORES, partitions, 7 * _DAY_MS),
        _log(ACCOUNTS, partitions, 7 * _DAY_MS),
        # For operators, to inspect and to replay; limited, because nobody else reads them.
        _unread(LATE, partitions, 7 * _DAY_MS),
        _unread(DEAD_LETTERS, partitions, 30 * _DAY_MS),
        # Kept for ever, because labels are given by people and nobody gives them again.
        TopicSpec(LABELS, partitions, None, "compact", _labels(partitions)),
        # Windows of labels, which outlive the readings that they were cut from.
        TopicSpec(EXAMPLES, partitions, None, "compact", _LOG),
        TopicSpec(changelog_topic(app_id), partitions, None, "compact", _CHANGELOG),
    )


def _labels(partitions: int) -> dict[str, str]:
    size = {"retention.bytes": str(_LABELS_BYTES // partitions)}
    return {**_LOG, **size, "cleanup.policy": "compact,delete"}


def _unread(name: str, partitions: int, retention_ms: int) -> TopicSpec:
    size = {"retention.bytes": str(_UNREAD_BYTES // partitions)}
    return TopicSpec(name, partitions, retention_ms, "delete", {**_LOG, **size})


def _log(name: str, partitions: int, retention_ms: int) -> TopicSpec:
    return TopicSpec(name, partitions, retention_ms, "delete", _LOG)
