"""Where a recorder reads from: the seam, and the log of a gateway.

The log of a gateway is read beside the running gateway: no lock, no write, no long transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from ingest.topics import LABELS, READINGS
from pipeline.errors import LogError, RecordingUnavailable
from pipeline.log.reader import peek_ends, peek_from

__all__ = ["Ends", "LogRecords", "Place", "Record", "Source"]

TOPICS = (READINGS, LABELS)


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int

    @property
    def name(self) -> str:
        """Its name among the positions."""
        return f"{self.topic}/{self.partition}"


class Record(NamedTuple):
    """One record of the log."""

    offset: int
    value: bytes


class Ends(NamedTuple):
    """Where the log begins and ends now.

    Attributes:
        identity: Name of the log: the same after a restart, another one for another log.
        offsets: First offset, and that of the next record, of each partition of the topics.
    """

    identity: str
    offsets: dict[Place, tuple[int, int]]


class Source(Protocol):
    """A log that is read forwards; used by one thread."""

    def ends(self) -> Ends:
        """Return where it begins and ends.

        Raises:
            RecordingUnavailable: It cannot be read now.
        """

    def read(self, place: Place, offset: int, end: int) -> Iterator[Record]:
        """Read the records of a partition from `offset` to `end`; some may be missing.

        Raises:
            RecordingUnavailable: It cannot be read now.
        """


class LogRecords:
    """The log of a gateway.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def ends(self) -> Ends:
        """See `Source.ends`."""
        identity, offsets = "", {}
        try:
            for topic in TOPICS:
                identity, found = peek_ends(self._path, topic)
                offsets.update({Place(topic, each): found[each] for each in sorted(found)})
        except FileNotFoundError as exc:
            raise RecordingUnavailable(self._missing()) from exc
        except LogError as exc:
            raise RecordingUnavailable(str(exc)) from exc
        return Ends(identity, offsets)

    def read(self, place: Place, offset: int, end: int) -> Iterator[Record]:
        """See `Source.read`."""
        try:
            for record in peek_from(self._path, place.topic, place.partition, offset):
                if record.offset >= end:
                    return
                yield Record(record.offset, record.value or b"")
        except FileNotFoundError as exc:
            raise RecordingUnavailable(self._missing()) from exc
        except LogError as exc:
            raise RecordingUnavailable(str(exc)) from exc

    def _missing(self) -> str:
        return f"no log at {self._path}: no gateway has used this state folder"
