"""The saved row of a device: its account, the record it holds, and its windows, as bytes.

```
magic "KPD1" | length of the head | head as JSON | snapshot of the windower
```
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import orjson

from pipeline.errors import SnapshotError
from pipeline.status.counters import DeviceAccount
from pipeline.windows.windower import DeviceWindower

__all__ = ["DeviceState", "applied_offset", "decode_row", "encode_row"]

_HEADER = struct.Struct("<4sI")
_MAGIC = b"KPD1"
_COUNTER_NAMES = (
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
"""Counters in a saved row, in this order; 0 stands for a time that is not known."""


@dataclass(slots=True)
class DeviceState:
    """The state of one stream of one device.

    Attributes:
        applied_offset: Offset of the last record that it holds.
        windower: Its windows; None while no student is known.
        saved: Snapshot of a windower whose student is unknown so far.
    """

    account: DeviceAccount
    partition: int
    applied_offset: int = -1
    windower: DeviceWindower | None = None
    saved: bytes = b""


def applied_offset(row: bytes) -> int:
    """Offset of the last record in a saved row of a device; -1 when the row is unreadable."""
    try:
        magic, size = _HEADER.unpack_from(row)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        return int(head["offset"]) if magic == _MAGIC else -1
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return -1


def encode_row(state: DeviceState) -> bytes:
    """Encode the state of a device."""
    head = orjson.dumps(
        {
            "partition": state.partition,
            "offset": state.applied_offset,
            "counters": {name: getattr(state.account, name) or 0 for name in _COUNTER_NAMES},
        }
    )
    body = state.saved if state.windower is None else state.windower.snapshot()
    return _HEADER.pack(_MAGIC, len(head)) + head + body


def decode_row(state: DeviceState, row: bytes) -> None:
    """Fill a new state from a saved row; its windower stays bytes until its student is known.

    Raises:
        SnapshotError: The row is unreadable.
    """
    account = state.account
    try:
        magic, size = _HEADER.unpack_from(row)
        if magic != _MAGIC:
            message = (
                f"window state of {account.site}/{account.device} begins with {magic!r}, "
                f"not {_MAGIC!r}"
            )
            raise SnapshotError(message)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        if head["partition"] == state.partition:  # an offset is valid in its partition only
            state.applied_offset = head["offset"]
        counters = dict(head["counters"])
        for name in ("last_event_ms", "last_recv_ms"):
            counters[name] = counters.get(name) or None
        state.account = DeviceAccount(account.site, account.device, account.stream, **counters)
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as exc:
        message = (
            f"window state of {account.site}/{account.device}/{account.stream} is unreadable: {exc}"
        )
        raise SnapshotError(message) from exc
    state.saved = row[_HEADER.size + size :]
