"""What the log holds of one device, from the newest record to the oldest, within a limit of bytes.

The names of the senders stand in a record as they are, so records of other devices are skipped
without decoding them. A record of an earlier version, JSON, has one message per line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ingest.blocks import Block, batches_of, decode_record, decode_ticks
from ingest.messages import Batch, Tick, decode_lines
from ingest.topics import READINGS, device_key, partition_of
from pipeline.errors import ReadingsGone
from pipeline.explain.scores import DeviceStream
from pipeline.log.reader import peek_back, peek_partitions

__all__ = ["LogFile", "LogScan", "LogSource"]

_TICK = b'{"tick":'


class LogSource(Protocol):
    """A log that is read backwards: `LogFile` of a gateway, Kafka of a site."""

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic; 0 if there is no such topic."""

    def read_back(self, topic: str, partition: int) -> Iterator[bytes | None]:
        """The values of a partition, the newest first."""


class LogFile:
    """The log of a gateway, which may be running: no lock, no write, no long transaction.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic; 0 if there is no such topic.

        Raises:
            ReadingsGone: There is no log.
            LogError: The log cannot be read; a subclass says that it is damaged.
        """
        try:
            return peek_partitions(self._path, topic)
        except FileNotFoundError as exc:
            msg = f"there is no log at {self._path}"
            raise ReadingsGone(msg) from exc

    def read_back(self, topic: str, partition: int) -> Iterator[bytes | None]:
        """The values of a partition, the newest first.

        Raises:
            LogError: The log cannot be read; a subclass says that it is damaged.
        """
        for record in peek_back(self._path, topic, partition):
            yield record.value


class LogScan:
    """Batches of one stream of a device, and the ticks of its partition, newest first.

    Iterate once.

    Args:
        source: The log.
        where: Device and stream.
        max_bytes: Size of the records after which the scan stops.

    Attributes:
        bytes: Size of the records read so far.
        cut_short: Whether the scan stopped at `max_bytes` and not at the beginning of the log.
    """

    def __init__(self, source: LogSource, where: DeviceStream, max_bytes: int) -> None:
        self.bytes = 0
        self.cut_short = False
        self._source = source
        self._where = where
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[Batch | Tick]:
        """The items.

        Raises:
            ReadingsGone: There is no log.
            LogError: The log cannot be read; a subclass says that it is damaged.
        """
        partitions = self._source.partitions(READINGS)
        if not partitions:
            return
        site, device, _ = self._where
        partition = partition_of(device_key(site, device), partitions)
        for found in self._source.read_back(READINGS, partition):
            value = found or b""
            if self.bytes and self.bytes + len(value) > self._max_bytes:
                self.cut_short = True
                return
            self.bytes += len(value)
            yield from reversed(_items(value, self._where))


def _items(value: bytes, where: DeviceStream) -> list[Batch | Tick]:
    """The items of one record that belong to a device, in their order."""
    site, device, stream = where
    if value.startswith(b"["):
        return _items_of_lines(value, where)
    found: list[Batch | Tick] = []
    names_device = f'["{site}","{device}"]'.encode() in value
    for item in decode_record(value) if names_device else decode_ticks(value):
        if isinstance(item, Tick):
            found.append(item)
        elif isinstance(item, Block) and item.stream == stream:
            found += batches_of(item, (site, device))
    return found


def _items_of_lines(value: bytes, where: DeviceStream) -> list[Batch | Tick]:
    site, device, stream = where
    own = f'"d":["{site}","{device}","{stream}"]'.encode()
    if own not in value and _TICK not in value:
        return []
    lines = value.removeprefix(b"[").removesuffix(b"]").split(b",\n")
    chosen = [line for line in lines if own in line or line.startswith(_TICK)]
    return [
        item
        for item in decode_lines(b"[" + b",\n".join(chosen) + b"]")
        if isinstance(item, Tick)
        or (isinstance(item, Batch) and (item.site, item.device, item.stream) == where)
    ]
