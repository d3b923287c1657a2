"""The topics of a site in Kafka: partitions, retention, compaction. Pure; nothing is created here.

`ingest.kafka.create_topics` creates what `site_topics` says. Retention counts from the moment of
appending (`LogAppendTime`), not from a clock of anybody else: a bridge whose clock is wrong can
neither make Kafka drop what it just confirmed, nor be refused by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from ingest.topics import ACCOUNTS, DEAD_LETTERS, LATE, MAX_RECORD_BYTES, READINGS, SCORES

__all__ = ["TopicSpec", "changelog_topic", "site_topics"]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it shall be.

    Attributes:
        name: of the topic.
        partitions: how many; Kafka can add some later, but devices would change place.
        retention_ms: how long a record is kept at least; None: for ever (until compacted away).
        cleanup_policy: `delete` by age, or `compact`: the last record of each key stays.
        config: further settings of the topic, by their names in Kafka.
    """

    name: str
    partitions: int
    retention_ms: int | None
    cleanup_policy: Literal["delete", "compact"]
    config: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """Everything but name and partitions, by Kafka's names.

        >>> TopicSpec("late", 4, 3_600_000, "delete").settings()
        {'cleanup.policy': 'delete', 'retention.ms': '3600000'}
        """
        return {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(-1 if self.retention_ms is None else self.retention_ms),
            **self.config,
        }


def changelog_topic(app_id: str) -> str:
    """Where the workers of `app_id` keep the state of their windows: Faust's own name for it.

    >>> changelog_topic("kpstream")
    'kpstream-score-windows-changelog'
    """
    return f"{app_id}-score-windows-changelog"


def site_topics(partitions: int, app_id: str = "kpstream") -> tuple[TopicSpec, ...]:
    """Every topic of a site; all have the same partitions, so that a device has one number.

    Args:
        partitions: Of each topic; fixed once they exist.
        app_id: `KPSTREAM_PIPELINE_APP_ID`, part of the changelog's name.
    """
    return (
        # Read within a second on a good day; three days are for a bad weekend of the workers.
        _log(READINGS, partitions, 3 * _DAY_MS),
        # The store may be away for a week before a point is missing in InfluxDB.
        _log(SCORES, partitions, 7 * _DAY_MS),
        _log(ACCOUNTS, partitions, 7 * _DAY_MS),
        # For people: to look into, and to replay.
        _log(LATE, partitions, 7 * _DAY_MS),
        _log(DEAD_LETTERS, partitions, 30 * _DAY_MS),
        TopicSpec(changelog_topic(app_id), partitions, None, "compact", _CHANGELOG),
    )


def _log(name: str, partitions: int, retention_ms: int) -> TopicSpec:
    return TopicSpec(name, partitions, retention_ms, "delete", _LOG)


_COMMON = {
    "message.timestamp.type": "LogAppendTime",
    # Of a record and what Kafka puts around it; a worker whose record is refused is stuck for good.
    "max.message.bytes": str(MAX_RECORD_BYTES + 1000),
}

_LOG = MappingProxyType(
    {
        **_COMMON,
        # Only closed segments are deleted: a quiet partition closes one an hour.
        "segment.ms": str(_HOUR_MS),
    }
)

_CHANGELOG = MappingProxyType(
    {
        **_COMMON,
        # Every device writes its row once a second, and a starting worker reads what is there: the
        # less often it is compacted, the longer that takes. Rows of a minute ago are dead weight.
        "segment.ms": "60000",
        "max.compaction.lag.ms": "120000",
        "min.cleanable.dirty.ratio": "0.2",
        "delete.retention.ms": str(_HOUR_MS),
    }
)
