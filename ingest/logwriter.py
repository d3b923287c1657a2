"""What the bridge writes to: a log that confirms. Implementations live where their clients live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["LogRecord", "LogWriter"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record to append.

    Attributes:
        topic: Log topic, one of `ingest.topics.LOG_TOPICS`.
        partition: Where it belongs; None lets the log decide by the key.
        key: Log key (a device, a dead letter's id); None where a record has none (a bundle).
        value: The bytes.
        ts_ms: Time of the record, epoch ms.
        headers: Names and bytes beside the value.
    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes
    ts_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


class LogWriter(Protocol):
    """A durable log as the bridge sees it."""

    partitions: int
    """Partitions of the topic `readings`."""

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append `records`, per partition in this order; return when *all* of them are durable.

        After a failure any part of them may be in the log; the caller appends all of them again.

        Raises:
            LogUnavailable: Not confirmed. Worth another try.
        """
        ...
