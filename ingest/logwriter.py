"""The contract of a log that the bridge writes to; implementations stand beside their clients."""

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
        partition: Partition; None: the log chooses it by the key.
        key: Log key (a device, a dead letter's id); None for a record without one (readings).
        value: Content.
        ts_ms: Time of the record, epoch ms.
        headers: Names and values of headers.
    """

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes
    ts_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()


class LogWriter(Protocol):
    """A durable log, from the bridge's point of view."""

    partitions: int
    """Partitions of the topic `readings`."""

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append `records`, per partition in this order; return when *all* of them are durable.

        After a failure any of them may be in the log; the caller appends all of them again.

        Raises:
            LogUnavailable: The log did not confirm all of them; try again.
        """
        ...
