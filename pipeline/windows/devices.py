"""The window state of all devices of one worker: pure, fed with decoded bundles.

A record of the topic ``readings`` is applied as a whole, in the order of its partition::

    devices.apply(partition, offset, items)  ->  Outcome(windows, refused, late)

What is guaranteed:

- **Every reading is accounted for**: each device's ``received`` equals
  ``windowed + duplicate + late + dead_lettered`` after every call.
- **A record that was applied before is skipped per device**: the state of a device carries the
  offset of the last record in it, so a replay after a crash (log position behind the state)
  changes nothing.
- **A device whose saved state can't be used begins anew** (counted, logged); the others go on.
- **No state leaks between devices**: a device with a wrong clock or broken payloads harms itself.
- Time comes only from the records (receive times, ticks): applying the same records again gives
  the same windows.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.errors import RefusalReason, RefusedMessage
from ingest.messages import Batch, Tick, Unreadable, columns, encode_readings
from ingest.topics import Address
from pipeline.errors import SnapshotError
from pipeline.windows.windower import DeviceWindower, Window, WindowSpec

__all__ = [
    "ClosedWindow",
    "DeviceCounters",
    "Devices",
    "Outcome",
    "Refusal",
    "StreamPlan",
    "applied_offset",
]

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<4sI")
_MAGIC = b"KPD1"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """How one stream is windowed: taken from the manifest of the student that scores it."""

    model: str
    channels: tuple[str, ...]
    spec: WindowSpec


Plans = Callable[[str], StreamPlan | None]
"""Finds the plan of a stream; ``None`` when no student scores it."""


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A window that is ready to be scored, with the device it belongs to."""

    site: str
    device: str
    stream: str
    window: Window


@dataclass(frozen=True, slots=True)
class Refusal:
    """Readings that will never be windowed: they go to the dead letters (or ``late``).

    ``reason`` is ``None`` for late readings: they are an output of their own, not a fault.
    ``body`` is a message in the batch form that holds the refused readings only.
    """

    address: Address
    reason: RefusalReason | None
    detail: str
    recv_ms: int
    body: bytes


@dataclass(slots=True)
class DeviceCounters:
    """Readings by what became of them; ``received`` is always the sum of the other four."""

    received: int = 0
    windowed: int = 0
    duplicate: int = 0
    late: int = 0
    dead_lettered: int = 0
    gaps: int = 0
    windows: int = 0
    last_event_ms: int = 0
    last_recv_ms: int = 0

    @property
    def balances(self) -> bool:
        """Whether every received reading is accounted for."""
        return self.received == self.windowed + self.duplicate + self.late + self.dead_lettered


@dataclass(slots=True)
class Outcome:
    """What came out of one record: windows to score, refused readings, late readings."""

    windows: list[ClosedWindow] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    late: list[Refusal] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    readings: int = 0


@dataclass(slots=True)
class _Device:
    site: str
    device: str
    stream: str
    partition: int
    applied_offset: int = -1
    counters: DeviceCounters = field(default_factory=DeviceCounters)
    windower: DeviceWindower | None = None
    saved: bytes = b""  # a windower's snapshot that waits for its student to be known


_Key = tuple[str, str, str]


class Devices:
    """All devices whose partitions this worker has.

    Args:
        plans: finds the :class:`StreamPlan` of a stream.
        load: returns the saved row of a device (key ``site/device/stream``) or ``None``; called
            once per device, when its first record after a start arrives.
    """

    def __init__(self, plans: Plans, load: Callable[[str], bytes | None]) -> None:
        self._plans = plans
        self._load = load
        self.reset_total = 0
        self._devices: dict[_Key, _Device] = {}
        self._unmodelled = 0
        self._dirty: set[_Key] = set()
        self._pending: dict[int, set[_Key]] = {}

    def apply(
        self, partition: int, offset: int, items: Sequence[Batch | Tick | Unreadable]
    ) -> Outcome:
        """Apply one record of ``readings``; never raises for bad content."""
        outcome = Outcome()
        # Whether a device holds this record already is decided once, before any of its items.
        seen_before: dict[_Key, bool] = {}
        for item in items:
            if isinstance(item, Batch):
                key = (item.site, item.device, item.stream)
                state = self._devices.get(key) or self._meet(key, partition)
                key = (state.site, state.device, state.stream)
                if seen_before.setdefault(key, offset <= state.applied_offset):
                    continue
                state.applied_offset = offset
                self._dirty.add(key)
                self._step(key, state, item, outcome)
            elif isinstance(item, Tick):
                self._tick(partition, offset, item, seen_before, outcome)
            else:
                outcome.unreadable.append(item)
        return outcome

    def __len__(self) -> int:
        """How many streams of devices are known."""
        return len(self._devices)

    def pending_partitions(self) -> list[int]:
        """Partitions with devices whose readings wait for the watermark: they need ticks."""
        return sorted(p for p, keys in self._pending.items() if keys)

    def accounts(self) -> list[tuple[str, str, str, DeviceCounters]]:
        """The counters of every known device, by (site, device, stream)."""
        return [(d.site, d.device, d.stream, d.counters) for _, d in sorted(self._devices.items())]

    def dirty_rows(self) -> list[tuple[int, str, bytes]]:
        """Rows (partition, key, value) of the devices changed since the last call; clears them."""
        rows = []
        for key in sorted(self._dirty):
            state = self._devices[key]
            rows.append((state.partition, "/".join(key), _encode_row(state)))
        self._dirty.clear()
        return rows

    def forget_partitions(self, partitions: Iterable[int]) -> None:
        """Drop the devices of partitions that moved to another worker."""
        gone = set(partitions)
        for key in [k for k, d in self._devices.items() if d.partition in gone]:
            del self._devices[key]
            self._dirty.discard(key)
        for partition in gone:
            self._pending.pop(partition, None)
        if not self._devices:
            self._unmodelled = 0

    def restore(self, names: Iterable[str], partition_of: Callable[[str, str], int]) -> None:
        """Open saved devices (``site/device/stream``) at once, so that idle ones get ticks."""
        for name in names:
            site, device, stream = name.split("/")
            if (site, device, stream) not in self._devices:
                shared = site == "-"  # the account shared by devices without a student
                partition = int(device.rpartition("-")[2]) if shared else partition_of(site, device)
                self._open((site, device, stream), partition)

    # -- one device -------------------------------------------------------------------------

    def _meet(self, key: _Key, partition: int) -> _Device:
        """A device heard of for the first time since the start.

        Streams that no student scores can be invented without end: beyond some hundred of them the
        rest shares one account per partition.
        """
        if self._plans(key[2]) is None and self._load("/".join(key)) is None:
            if self._unmodelled >= _MAX_UNMODELLED:
                key = ("-", f"others-{partition}", "-")
                return self._devices.get(key) or self._open(key, partition)
            self._unmodelled += 1
        return self._open(key, partition)

    def _open(self, key: _Key, partition: int) -> _Device:
        state = _Device(*key, partition=partition)
        row = self._load("/".join(key))
        if row is not None:
            try:
                _decode_row(state, row)
            except SnapshotError as exc:
                self._reset(state, exc)
            plan = self._plans(key[2])
            if plan is not None:
                self._wake(state, plan)
                self._note_pending(key, state)
        self._devices[key] = state
        return state

    def _wake(self, state: _Device, plan: StreamPlan) -> DeviceWindower:
        """The windower of a device, from its saved state where it has one."""
        if state.windower is None and state.saved:
            try:
                state.windower = DeviceWindower.restore(plan.spec, len(plan.channels), state.saved)
            except SnapshotError as exc:
                self._reset(state, exc)
        if state.windower is None:
            state.windower = DeviceWindower(plan.spec, len(plan.channels))
        state.saved = b""
        return state.windower

    def _reset(self, state: _Device, exc: SnapshotError) -> None:
        """One device whose state can't be used begins anew; it must not stop all the others."""
        self.reset_total += 1
        log.error("%s/%s/%s begins anew: %s", state.site, state.device, state.stream, exc)

    def _step(self, key: _Key, state: _Device, batch: Batch, outcome: Outcome) -> None:
        counters = state.counters
        count = len(batch.ts_ms)
        outcome.readings += count
        counters.received += count
        counters.last_recv_ms = max(counters.last_recv_ms, batch.recv_ms)
        try:
            windower, values = self._columns(state, batch)
        except RefusedMessage as refused:
            counters.dead_lettered += count
            outcome.refused.append(
                _refusal(batch, refused.reason, refused.detail, np.arange(count))
            )
            return
        step = windower.step(batch.ts_ms, values, batch.recv_ms)
        counters.windowed += step.windowed
        counters.duplicate += step.duplicate
        counters.late += len(step.late)
        counters.dead_lettered += len(step.future)
        counters.gaps = windower.counters.gaps
        if step.windowed:
            counters.last_event_ms = windower.max_event_ms
        if len(step.late):
            outcome.late.append(_refusal(batch, None, "behind the watermark", step.late))
        if len(step.future):
            detail = f"more than {windower.spec.future_ms} ms ahead of its receive time"
            outcome.refused.append(_refusal(batch, RefusalReason.future, detail, step.future))
        self._close(key, state, step.windows, outcome)

    def _tick(
        self,
        partition: int,
        offset: int,
        tick: Tick,
        seen_before: dict[_Key, bool],
        outcome: Outcome,
    ) -> None:
        for key in sorted(self._pending.get(partition, ())):
            state = self._devices[key]
            if seen_before.setdefault(key, offset <= state.applied_offset):
                continue
            if state.windower is None:
                continue
            before_ms = state.windower.watermark_ms
            windows = state.windower.advance(tick.now_ms, tick.since_ms)
            if state.windower.watermark_ms != before_ms:
                state.counters.gaps = state.windower.counters.gaps
                state.applied_offset = offset
                self._dirty.add(key)
            self._close(key, state, windows, outcome)

    def _close(
        self, key: _Key, state: _Device, windows: Sequence[Window], outcome: Outcome
    ) -> None:
        state.counters.windows += len(windows)
        outcome.windows.extend(ClosedWindow(*key, window=window) for window in windows)
        self._note_pending(key, state)

    def _note_pending(self, key: _Key, state: _Device) -> None:
        waiting = self._pending.setdefault(state.partition, set())
        if state.windower is not None and state.windower.pending:
            waiting.add(key)
        else:
            waiting.discard(key)

    def _columns(self, state: _Device, batch: Batch) -> tuple[DeviceWindower, NDArray[np.float32]]:
        plan = self._plans(batch.stream)
        if plan is None:
            raise RefusedMessage(
                RefusalReason.no_model,
                f"no student scores the stream {batch.stream!r}; publish one and replay this "
                "dead letter",
            )
        values = columns(batch, plan.channels)
        return state.windower or self._wake(state, plan), values


def _refusal(
    batch: Batch, reason: RefusalReason | None, detail: str, which: NDArray[np.intp]
) -> Refusal:
    address = Address(batch.site, batch.device, batch.stream)
    return Refusal(address, reason, detail, batch.recv_ms, encode_readings(batch, which))


def _encode_row(state: _Device) -> bytes:
    head = orjson.dumps(
        {
            "partition": state.partition,
            "offset": state.applied_offset,
            "counters": {name: getattr(state.counters, name) for name in _COUNTER_NAMES},
        }
    )
    body = state.saved if state.windower is None else state.windower.snapshot()
    return _HEADER.pack(_MAGIC, len(head)) + head + body


def _decode_row(state: _Device, row: bytes) -> None:
    try:
        magic, size = _HEADER.unpack_from(row)
        if magic != _MAGIC:
            message = f"window state of {state.site}/{state.device} starts with {magic!r}"
            raise SnapshotError(message)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        if head["partition"] == state.partition:  # offsets mean nothing in another partition
            state.applied_offset = head["offset"]
        state.counters = DeviceCounters(**head["counters"])
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError) as exc:
        message = f"window state of {state.site}/{state.device}/{state.stream} can't be read: {exc}"
        raise SnapshotError(message) from exc
    state.saved = row[_HEADER.size + size :]


def applied_offset(row: bytes) -> int:
    """The last record that a saved row of a device holds; -1 when the row can't be read."""
    try:
        magic, size = _HEADER.unpack_from(row)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        return int(head["offset"]) if magic == _MAGIC else -1
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return -1


_MAX_UNMODELLED = 500
_COUNTER_NAMES = tuple(DeviceCounters.__slots__)
