"""The saved row of a device: its account, the record it holds, and its windows, as bytes.

```
magic "KPD1" | length of the head | head as JSON | snapshot of the windows
```
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from pipeline.errors import SnapshotError

__all__ = ["COUNTERS", "SavedRow", "applied_offset", "decode_row", "encode_row"]

_HEADER = struct.Struct("<4sI")
_MAGIC = b"KPD1"
COUNTERS = (
    "received",
    "windowed",
    "duplicate",
    "late",
    "dead_lettered",
    "gaps",
    "windows",
    "last_event_ms",
    "last_recv_ms",
    "corrected",
)
"""Numbers of a device in a saved row, in this order; 0 stands for a time that is not known."""
_KNOWN = frozenset(COUNTERS)
_LAST_EVENT = COUNTERS.index("last_event_ms")


@dataclass(frozen=True, slots=True)
class SavedRow:
    """What a row holds.

    Attributes:
        partition: Partition in which the device was.
        offset: Offset of the last record that the state holds, valid in this partition only.
        counters: The numbers of the device, in the order of `COUNTERS`.
        snapshot: Its windows; empty if it had none.
    """

    partition: int
    offset: int
    counters: tuple[int, ...]
    snapshot: bytes

    @property
    def last_event_ms(self) -> int:
        """Largest accepted event time, epoch milliseconds; 0 before the first."""
        return self.counters[_LAST_EVENT]


def applied_offset(row: bytes) -> int:
    """Offset of the last record in a saved row of a device; -1 when the row is unreadable."""
    try:
        magic, size = _HEADER.unpack_from(row)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        return int(head["offset"]) if magic == _MAGIC else -1
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return -1


def encode_row(partition: int, offset: int, counters: Iterable[int], snapshot: bytes) -> bytes:
    """Encode the state of a device; see `SavedRow`."""
    head = orjson.dumps(
        {
            "partition": partition,
            "offset": offset,
            "counters": dict(zip(COUNTERS, counters, strict=True)),
        }
    )
    return b"".join((_HEADER.pack(_MAGIC, len(head)), head, snapshot))


def decode_row(key: Sequence[str], row: bytes) -> SavedRow:
    """Read the saved row of a device; a number that it lacks is 0.

    Raises:
        SnapshotError: The row is unreadable; the message names the device.
    """
    name = "/".join(key)
    try:
        magic, size = _HEADER.unpack_from(row)
        if magic != _MAGIC:
            message = f"window state of {name} begins with {magic!r}, not {_MAGIC!r}"
            raise SnapshotError(message)
        end = _HEADER.size + size
        head = orjson.loads(row[_HEADER.size : end])
        found = head["counters"]
        if not found.keys() <= _KNOWN:
            message = f"window state of {name} has unknown counters {sorted(found.keys() - _KNOWN)}"
            raise SnapshotError(message)
        counters = tuple([int(found.get(each) or 0) for each in COUNTERS])
        return SavedRow(int(head["partition"]), int(head["offset"]), counters, row[end:])
    except (
        struct.error,
        orjson.JSONDecodeError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as exc:
        message = f"window state of {name} is unreadable: {exc}"
        raise SnapshotError(message) from exc
