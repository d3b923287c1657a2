"""The window state of all devices of one worker. Pure, fed with decoded bundles.

A record of the topic ``readings`` is applied as a whole, in the order of its partition::

    devices.apply(partition, offset, items)  ->  Outcome(windows, refused, late)

Guarantees:

- **Every reading is accounted for**: ``received`` of each device equals
  ``windowed + duplicate + corrected + late + dead_lettered`` after every call.
- **A record that was applied before is skipped per device**: the state of a device carries the
  offset of its last record, so a replay after a crash (state ahead of the committed offset)
  changes nothing.
- **A device with unusable saved state starts empty** (counted, logged); the others continue.
- **No state leaks between devices**: a device with a wrong clock or broken payloads affects only
  itself.
- Time comes only from the records (receive times, ticks), so the same records always give the same
  windows.
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
from pipeline.status.counters import (
    DeviceAccount,
    RunningSums,
    Totals,
    counter_values,
)
from pipeline.windows.spec import Window, WindowSpec
from pipeline.windows.windower import DeviceWindower

__all__ = [
    "ClosedWindow",
    "Devices",
    "Outcome",
    "Plans",
    "Refusal",
    "StreamPlan",
    "applied_offset",
]

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<4sI")
_MAGIC = b"KPD1"
_MAX_WITHOUT_STUDENT = 500
"""Devices without a student that get an account of their own; the rest share one per partition."""
_LATE = "behind the watermark, or a correction after its windows had closed"
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


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Window rules of one stream, from the manifest of the student that scores it."""

    model: str
    channels: tuple[str, ...]
    spec: WindowSpec


Plans = Callable[[str], StreamPlan | None]
"""Finds the plan of a stream; ``None`` when no student scores it."""


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A window ready to be scored, with the device it belongs to."""

    site: str
    device: str
    stream: str
    window: Window


@dataclass(frozen=True, slots=True)
class Refusal:
    """Readings that will never be windowed; they become dead letters, or go to ``late``.

    Attributes:
        reason: ``None`` for late readings, which are an output of their own and no fault.
        body: A message in the batch form that holds only the refused readings.
    """

    address: Address
    reason: RefusalReason | None
    detail: str
    recv_ms: int
    body: bytes


@dataclass(slots=True)
class Outcome:
    """The result of one record: windows to score, refused readings, late readings."""

    windows: list[ClosedWindow] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    late: list[Refusal] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    readings: int = 0


@dataclass(slots=True)
class _Device:
    account: DeviceAccount
    partition: int
    applied_offset: int = -1
    windower: DeviceWindower | None = None
    saved: bytes = b""  # snapshot of a windower whose student is unknown so far


_Key = tuple[str, str, str]


class Devices:
    """All devices in the partitions of this worker.

    Args:
        plans: Finds the :class:`StreamPlan` of a stream.
        load: Returns the saved row of a device (key ``site/device/stream``) or ``None``; called
            once per device, when its first record after a start arrives.

    Attributes:
        reset_total: Devices that started empty because their saved state was unusable.
    """

    def __init__(self, plans: Plans, load: Callable[[str], bytes | None]) -> None:
        self._plans = plans
        self._load = load
        self.reset_total = 0
        self._devices: dict[_Key, _Device] = {}
        self._in_order: list[_Key] | None = None  # sorted; None: to be sorted again
        self._copies: dict[_Key, DeviceAccount] = {}
        self._changed: set[_Key] = set()  # since the last copy
        self._sums = RunningSums()
        self._without_student = 0
        self._dirty: set[_Key] = set()
        self._pending: dict[int, set[_Key]] = {}

    def apply(
        self, partition: int, offset: int, items: Sequence[Batch | Tick | Unreadable]
    ) -> Outcome:
        """Apply one record of ``readings``; never raises for bad content."""
        outcome = Outcome()
        # Decide once per device, before any item, whether it has applied this record already.
        seen_before: dict[_Key, bool] = {}
        for item in items:
            if isinstance(item, Batch):
                key = (item.site, item.device, item.stream)
                state = self._devices.get(key) or self._add_device(key, partition)
                key = (state.account.site, state.account.device, state.account.stream)
                if seen_before.setdefault(key, offset <= state.applied_offset):
                    continue
                state.applied_offset = offset
                self._dirty.add(key)
                before = counter_values(state.account)
                self._apply_batch(key, state, item, outcome)
                self._note_changed(key, state, before)
            elif isinstance(item, Tick):
                self._apply_tick(partition, offset, item, seen_before, outcome)
            else:
                outcome.unreadable.append(item)
        return outcome

    def __len__(self) -> int:
        """Number of known device streams."""
        return len(self._devices)

    def pending_partitions(self) -> list[int]:
        """Partitions with devices whose readings wait for the watermark; these need ticks."""
        return sorted(p for p, keys in self._pending.items() if keys)

    def accounts(self) -> list[DeviceAccount]:
        """Copies of the accounts of all known devices, sorted by (site, device, stream).

        Copies only the accounts that have changed since the last call.
        """
        if self._in_order is None:
            self._in_order = sorted(self._devices)
        for key in self._changed:
            self._copies[key] = self._devices[key].account.copy()
        self._changed.clear()
        return [self._copies[key] for key in self._in_order]

    def totals(self) -> Totals:
        """Sums over `accounts()`, at a cost that does not grow with their number."""
        return self._sums.totals()

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
            self._sums.remove(counter_values(self._devices.pop(key).account))
            self._copies.pop(key, None)
            self._changed.discard(key)
            self._dirty.discard(key)
        self._in_order = None
        for partition in gone:
            self._pending.pop(partition, None)
        if not self._devices:
            self._without_student = 0

    def restore(self, names: Iterable[str], partition_of: Callable[[str, str], int]) -> None:
        """Open saved devices (``site/device/stream``) at once, so that idle ones get ticks."""
        for name in names:
            site, device, stream = name.split("/")
            if (site, device, stream) not in self._devices:
                shared = site == "-"  # the account shared by devices without a student
                partition = int(device.rpartition("-")[2]) if shared else partition_of(site, device)
                self._open((site, device, stream), partition)

    # -- one device -------------------------------------------------------------------------

    def _add_device(self, key: _Key, partition: int) -> _Device:
        """Add a device at its first record since the start.

        A sender can use any number of streams that have no student, so beyond a few hundred of them
        the rest share one account per partition.
        """
        if self._plans(key[2]) is None and self._load("/".join(key)) is None:
            if self._without_student >= _MAX_WITHOUT_STUDENT:
                key = ("-", f"others-{partition}", "-")
                return self._devices.get(key) or self._open(key, partition)
            self._without_student += 1
        return self._open(key, partition)

    def _open(self, key: _Key, partition: int) -> _Device:
        state = _Device(DeviceAccount(*key), partition)
        row = self._load("/".join(key))
        if row is not None:
            try:
                _decode_row(state, row)
            except SnapshotError as exc:
                self._note_reset(key, exc)
            plan = self._plans(key[2])
            if plan is not None:
                self._open_windower(key, state, plan)
                self._note_pending(key, state)
        self._devices[key] = state
        self._in_order = None
        self._changed.add(key)
        self._sums.add(counter_values(state.account))
        return state

    def _open_windower(self, key: _Key, state: _Device, plan: StreamPlan) -> DeviceWindower:
        """Create the windower of a device, from its saved state if there is one."""
        if state.windower is None and state.saved:
            try:
                state.windower = DeviceWindower.restore(plan.spec, len(plan.channels), state.saved)
            except SnapshotError as exc:
                self._note_reset(key, exc)
        if state.windower is None:
            state.windower = DeviceWindower(plan.spec, len(plan.channels))
        state.saved = b""
        return state.windower

    def _note_reset(self, key: _Key, exc: SnapshotError) -> None:
        """Count a device that starts empty; unusable state of one must not stop all the others."""
        self.reset_total += 1
        log.error("%s starts with empty windows: %s", "/".join(key), exc)

    def _apply_batch(self, key: _Key, state: _Device, batch: Batch, outcome: Outcome) -> None:
        account = state.account
        count = len(batch.ts_ms)
        outcome.readings += count
        account.received += count
        account.last_recv_ms = max(account.last_recv_ms or 0, batch.recv_ms)
        try:
            windower, values = self._columns(key, state, batch)
        except RefusedMessage as refused:
            account.dead_lettered += count
            outcome.refused.append(
                _refusal(batch, refused.reason, refused.detail, np.arange(count))
            )
            return
        step = windower.step(batch.ts_ms, values, batch.recv_ms)
        account.windowed += step.windowed
        account.duplicate += step.duplicate
        account.corrected += step.corrected
        account.late += len(step.late)
        account.dead_lettered += len(step.future)
        account.gaps = windower.gaps
        if step.windowed:
            account.last_event_ms = windower.max_event_ms
        if len(step.late):
            outcome.late.append(_refusal(batch, None, _LATE, step.late))
        if len(step.future):
            detail = f"more than {windower.spec.future_ms} ms ahead of its receive time"
            outcome.refused.append(_refusal(batch, RefusalReason.future, detail, step.future))
        self._note_closed(key, state, step.windows, outcome)

    def _apply_tick(
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
            before = counter_values(state.account)
            windows = state.windower.advance(tick.now_ms, tick.since_ms)
            if state.windower.watermark_ms != before_ms:
                state.account.gaps = state.windower.gaps
                state.applied_offset = offset
                self._dirty.add(key)
            self._note_closed(key, state, windows, outcome)
            self._note_changed(key, state, before)

    def _note_changed(self, key: _Key, state: _Device, before: tuple[int, ...]) -> None:
        self._changed.add(key)
        self._sums.change(before, counter_values(state.account))

    def _note_closed(
        self, key: _Key, state: _Device, windows: Sequence[Window], outcome: Outcome
    ) -> None:
        state.account.windows += len(windows)
        outcome.windows.extend(ClosedWindow(*key, window=window) for window in windows)
        self._note_pending(key, state)

    def _note_pending(self, key: _Key, state: _Device) -> None:
        waiting = self._pending.setdefault(state.partition, set())
        if state.windower is not None and state.windower.pending:
            waiting.add(key)
        else:
            waiting.discard(key)

    def _columns(
        self, key: _Key, state: _Device, batch: Batch
    ) -> tuple[DeviceWindower, NDArray[np.float32]]:
        plan = self._plans(batch.stream)
        if plan is None:
            raise RefusedMessage(
                RefusalReason.no_model,
                f"no student scores the stream {batch.stream!r}; publish one and replay this "
                "dead letter",
            )
        values = columns(batch, plan.channels)
        return state.windower or self._open_windower(key, state, plan), values


def applied_offset(row: bytes) -> int:
    """Offset of the last record in a saved row of a device; -1 when the row is unreadable."""
    try:
        magic, size = _HEADER.unpack_from(row)
        head = orjson.loads(row[_HEADER.size : _HEADER.size + size])
        return int(head["offset"]) if magic == _MAGIC else -1
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return -1


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
            "counters": {name: getattr(state.account, name) or 0 for name in _COUNTER_NAMES},
        }
    )
    body = state.saved if state.windower is None else state.windower.snapshot()
    return _HEADER.pack(_MAGIC, len(head)) + head + body


def _decode_row(state: _Device, row: bytes) -> None:
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
