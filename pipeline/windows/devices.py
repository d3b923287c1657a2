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
- **The number of devices is bounded** (`ingest.roster`). A device is known once it has closed a
  window. One that has been silent for too long loses its state; so does, when there is no room for
  a newcomer, the one that has been silent longest, but no living one. What it counted goes to an
  account that all such devices of its partition share, so that no sum ever falls. If it comes
  back, it starts with empty windows: readings that it repeats are windowed again, into points that
  overwrite themselves. Readings of a newcomer for whom nobody may go are refused.
- **No state leaks between devices**: a device with a wrong clock or broken payloads affects only
  itself.
- Time comes only from the records (receive times, ticks), so the same records always give the same
  windows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RefusalReason, RefusedMessage
from ingest.messages import Batch, Tick, Unreadable, columns, encode_readings
from ingest.roster import Elapsed, Roster, RosterLimits
from ingest.topics import Address
from pipeline.errors import SnapshotError
from pipeline.status.counters import (
    COUNTER_NAMES,
    DeviceAccount,
    RunningSums,
    Totals,
    counter_values,
)
from pipeline.windows.rows import DeviceState, decode_row, encode_row
from pipeline.windows.spec import Window, WindowSpec
from pipeline.windows.windower import DeviceWindower

__all__ = [
    "ClosedWindow",
    "Devices",
    "Outcome",
    "Plans",
    "Refusal",
    "StreamPlan",
    "device_limits",
]

log = logging.getLogger(__name__)

_MAX_WITHOUT_STUDENT = 500
"""Devices without a student that get an account of their own; the rest share one per partition."""
_SHARED = "-"
"""Site of the account that devices without a student, removed and refused ones share."""
_DAY_MS = 86_400_000
_EXPIRE_EVERY_MS = 60_000
_LATE = "behind the watermark, or a correction after its windows had closed"


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


_Key = tuple[str, str, str]


class Devices:
    """All devices in the partitions of this worker.

    Args:
        plans: Finds the :class:`StreamPlan` of a stream.
        load: Returns the saved row of a device (key ``site/device/stream``) or ``None``; called
            once per device, when its first record after a start arrives.
        limits: Number and age of devices; see `device_limits`.

    Attributes:
        reset_total: Devices that started empty because their saved state was unusable.
        removed_total: Devices whose state was deleted.
    """

    def __init__(
        self,
        plans: Plans,
        load: Callable[[str], bytes | None],
        limits: RosterLimits | None = None,
    ) -> None:
        self._plans = plans
        self._load = load
        self.reset_total = self.removed_total = 0
        self._roster = Roster[_Key](limits or device_limits())
        self._elapsed = Elapsed()
        self._expired_ms = 0
        self._gone: dict[str, int] = {}  # names of removed devices, whose rows are to be deleted
        self._devices: dict[_Key, DeviceState] = {}
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
                self._note_heard(key, state, item.recv_ms)
            elif isinstance(item, Tick):
                self._elapsed.advance(item.now_ms)
                self._apply_tick(partition, offset, item, seen_before, outcome)
            else:
                outcome.unreadable.append(item)
        self._expire()
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
            state = self._devices[key]
            copy = self._copies[key] = state.account.copy()
            copy.rate_hz = None if state.windower is None else state.windower.rate_hz
        self._changed.clear()
        return [self._copies[key] for key in self._in_order]

    def totals(self) -> Totals:
        """Sums over `accounts()`, at a cost that does not grow with their number."""
        return self._sums.totals()

    def dirty_rows(self) -> list[tuple[int, str, bytes | None]]:
        """Rows (partition, key, value) changed since the last call; clears them.

        A value of None deletes the row of a device that was removed.
        """
        rows: list[tuple[int, str, bytes | None]] = [
            (partition, name, None) for name, partition in self._gone.items()
        ]
        for key in sorted(self._dirty):
            state = self._devices[key]
            rows.append((state.partition, "/".join(key), encode_row(state)))
        self._dirty.clear()
        self._gone.clear()
        return rows

    def forget_partitions(self, partitions: Iterable[int]) -> None:
        """Drop the devices of partitions that moved to another worker."""
        gone = set(partitions)
        for key in [k for k, d in self._devices.items() if d.partition in gone]:
            self._forget(key)
        self._gone = {name: at for name, at in self._gone.items() if at not in gone}
        for partition in gone:
            self._pending.pop(partition, None)
        if not self._devices:
            self._without_student = 0

    def restore(self, names: Iterable[str], partition_of: Callable[[str, str], int]) -> None:
        """Open saved devices (``site/device/stream``) at once, so that idle ones get ticks."""
        opened: list[tuple[int, _Key]] = []
        for name in names:
            site, device, stream = name.split("/")
            if (site, device, stream) not in self._devices:
                shared = site == _SHARED
                partition = int(device.rpartition("-")[2]) if shared else partition_of(site, device)
                state = self._open((site, device, stream), partition)
                if not shared:
                    opened.append((state.account.last_recv_ms or 0, (site, device, stream)))
        self._restore_roster(sorted(opened))

    def _restore_roster(self, opened: Sequence[tuple[int, _Key]]) -> None:
        """Note the silence of saved devices, relative to the one that was heard last.

        At most half the term counts, so that a wrong clock in one row removes nobody at once.
        """
        limits = self._roster.limits
        for recv_ms, key in opened:
            is_known = self._devices[key].account.windows > 0
            most_ms = (limits.keep_ms if is_known else limits.keep_stranger_ms) // 2
            silent_ms = min(opened[-1][0] - recv_ms, most_ms)
            self._roster.restore(key, self._elapsed.ms - silent_ms, is_known=is_known)
        for key in self._roster.trim():
            self._remove(key)

    # -- who has state ----------------------------------------------------------------------

    def _note_heard(self, key: _Key, state: DeviceState, recv_ms: int) -> None:
        now_ms = self._elapsed.advance(recv_ms)
        if state.account.windows and key[0] != _SHARED:
            self._roster.know(key, now_ms)
        else:
            self._roster.hear(key, now_ms)

    def _expire(self) -> None:
        """Remove devices that have been silent for too long, some every minute."""
        if self._elapsed.ms - self._expired_ms >= _EXPIRE_EVERY_MS:
            self._expired_ms = self._elapsed.ms
            for key in self._roster.expire(self._elapsed.ms, self._is_saved):
                self._remove(key)

    def _is_saved(self, key: _Key) -> bool:
        return key not in self._dirty

    def _remove(self, key: _Key) -> None:
        """Remove the state of a device; its counters go to the shared account."""
        state = self._devices[key]
        self._forget(key)
        self._pending.get(state.partition, set()).discard(key)
        if self._plans(key[2]) is None:
            self._without_student = max(0, self._without_student - 1)
        self._gone["/".join(key)] = state.partition
        self.removed_total += 1
        shared = _shared_key(state.partition)
        others = self._devices.get(shared) or self._open(shared, state.partition)
        before = counter_values(others.account)
        for name, value in zip(COUNTER_NAMES, counter_values(state.account), strict=True):
            setattr(others.account, name, getattr(others.account, name) + value)
        self._note_changed(shared, others, before)
        self._dirty.add(shared)

    def _forget(self, key: _Key) -> None:
        self._sums.remove(counter_values(self._devices.pop(key).account))
        self._roster.discard(key)
        self._copies.pop(key, None)
        self._changed.discard(key)
        self._dirty.discard(key)
        self._in_order = None

    # -- one device -------------------------------------------------------------------------

    def _add_device(self, key: _Key, partition: int) -> DeviceState:
        """Add a device at its first record since the start.

        A sender can use any number of streams that have no student, so beyond a few hundred of them
        the rest share one account per partition.
        """
        shared = _shared_key(partition)
        if self._plans(key[2]) is None and self._load("/".join(key)) is None:
            if self._without_student >= _MAX_WITHOUT_STUDENT:
                return self._devices.get(shared) or self._open(shared, partition)
            self._without_student += 1
        leaving = self._roster.admit(key, self._elapsed.ms, self._is_saved)
        if leaving is None:
            return self._devices.get(shared) or self._open(shared, partition)
        for each in leaving:
            self._remove(each)
        return self._open(key, partition)

    def _open(self, key: _Key, partition: int) -> DeviceState:
        state = DeviceState(DeviceAccount(*key), partition)
        name = "/".join(key)
        row = None if name in self._gone else self._load(name)
        if row is not None:
            try:
                decode_row(state, row)
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

    def _open_windower(self, key: _Key, state: DeviceState, plan: StreamPlan) -> DeviceWindower:
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

    def _apply_batch(self, key: _Key, state: DeviceState, batch: Batch, outcome: Outcome) -> None:
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

    def _note_changed(self, key: _Key, state: DeviceState, before: tuple[int, ...]) -> None:
        self._changed.add(key)
        self._sums.change(before, counter_values(state.account))

    def _note_closed(
        self, key: _Key, state: DeviceState, windows: Sequence[Window], outcome: Outcome
    ) -> None:
        state.account.windows += len(windows)
        outcome.windows.extend(ClosedWindow(*key, window=window) for window in windows)
        self._note_pending(key, state)

    def _note_pending(self, key: _Key, state: DeviceState) -> None:
        waiting = self._pending.setdefault(state.partition, set())
        if state.windower is not None and state.windower.pending:
            waiting.add(key)
        else:
            waiting.discard(key)

    def _columns(
        self, key: _Key, state: DeviceState, batch: Batch
    ) -> tuple[DeviceWindower, NDArray[np.float32]]:
        plan = self._plans(batch.stream)
        if plan is None:
            raise RefusedMessage(
                RefusalReason.no_model,
                f"no student scores the stream {batch.stream!r}; publish one and replay this "
                "dead letter",
            )
        if key[0] == _SHARED:
            limits = self._roster.limits
            raise RefusedMessage(
                RefusalReason.too_many_devices,
                f"no room for one more device: {len(self._roster)} of {limits.most} have state, "
                f"{self._roster.strangers} of {limits.most_strangers} have never closed a window",
            )
        values = columns(batch, plan.channels)
        return state.windower or self._open_windower(key, state, plan), values


def device_limits(most: int = 50_000, days: float = 30.0) -> RosterLimits:
    """The limits of the window state of a worker.

    Args:
        most: Most device streams; half of them may be strangers, which have closed no window.
        days: Days of silence after which a known device goes; a stranger goes after one.
    """
    return RosterLimits(
        most=most,
        most_strangers=max(1, most // 2),
        keep_ms=round(days * _DAY_MS),
        keep_stranger_ms=min(round(days * _DAY_MS), _DAY_MS),
        protect_ms=min(round(days * _DAY_MS), _DAY_MS),
    )


def _shared_key(partition: int) -> _Key:
    return (_SHARED, f"others-{partition}", "-")


def _refusal(
    batch: Batch, reason: RefusalReason | None, detail: str, which: NDArray[np.intp]
) -> Refusal:
    address = Address(batch.site, batch.device, batch.stream)
    return Refusal(address, reason, detail, batch.recv_ms, encode_readings(batch, which))
