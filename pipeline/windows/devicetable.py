"""What a worker counts and remembers of its devices, as columns. Pure.

Each stream of a device has a slot, which is its index in all columns; slots are reused. The
readings themselves are in the slabs (`pipeline.windows.slab`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.status.counters import COUNTER_NAMES, DeviceAccount, Totals
from pipeline.windows.rows import COUNTERS, SavedRow, encode_row

__all__ = [
    "CORRECTED",
    "DEAD_LETTERED",
    "DUPLICATE",
    "GAPS",
    "LATE",
    "NO_TIME",
    "RECEIVED",
    "WINDOWED",
    "WINDOWS",
    "DeviceTable",
    "DirtyRow",
    "Key",
]

Key = tuple[str, str, str]
"""Site, device and stream."""
DirtyRow = tuple[int, str, "bytes | None"]
"""Partition, name and saved row of a device; None deletes the row."""
NO_TIME = -(2**63)
"""A time that is not known."""
(RECEIVED, WINDOWED, DUPLICATE, CORRECTED, LATE, DEAD_LETTERED, GAPS, WINDOWS) = (
    COUNTER_NAMES.index(name)
    for name in (
        "received",
        "windowed",
        "duplicate",
        "corrected",
        "late",
        "dead_lettered",
        "gaps",
        "windows",
    )
)
_SAVED_AT = [COUNTERS.index(name) for name in COUNTER_NAMES]
_ROOM = 64


class DeviceTable:
    """The devices of a worker.

    Attributes:
        keys: Key of each slot; None where it is free.
        slots: Stream -> site and device -> slot.
        partition: Partition of the log, int32 `[slots]`, as all columns.
        shared: Whether it is an account that many devices share.
        applied: Offset of the last record that the state holds; -1 before the first.
        counters: Counters in the order of `COUNTER_NAMES`, int64 `[counters, slots]`.
        last_event_ms: See `DeviceAccount`; `NO_TIME` where it has None.
        last_recv_ms: See there.
        group: Number of the slab that has its windows; -1 while it has none.
        row: Row in this slab.
        pending: Whether it needs ticks.
        dirty: Whether its state has changed since it was saved.
        changed: Whether its account has changed since it was copied.
        heard: Whether it was heard since the roster was told.
        heard_ms: When it was heard last, in elapsed milliseconds.
        decided: Number of the record for which `skips` is decided.
        skips: Whether the state holds this record already.
        ticked: Offset of the record whose tick is being applied to it; -1 for none.
        sums: Sums of the counters over all devices, int64 `[counters]`.
    """

    def __init__(self) -> None:
        self.keys: list[Key | None] = []
        self.slots: dict[str, dict[tuple[str, str], int]] = {}
        self._free: list[int] = []
        self._count = 0
        self._highest: dict[int, int] = {}  # partition -> highest offset that a device may hold
        self.partition = np.empty(0, dtype=np.int32)
        self.shared = np.empty(0, dtype=np.bool_)
        self.applied = np.empty(0, dtype=np.int64)
        self.counters = np.empty((len(COUNTER_NAMES), 0), dtype=np.int64)
        self.last_event_ms = np.empty(0, dtype=np.int64)
        self.last_recv_ms = np.empty(0, dtype=np.int64)
        self.group = np.empty(0, dtype=np.int32)
        self.row = np.empty(0, dtype=np.int32)
        self.pending = np.empty(0, dtype=np.bool_)
        self.dirty = np.empty(0, dtype=np.bool_)
        self.changed = np.empty(0, dtype=np.bool_)
        self.heard = np.empty(0, dtype=np.bool_)
        self.heard_ms = np.empty(0, dtype=np.int64)
        self.decided = np.empty(0, dtype=np.int64)
        self.skips = np.empty(0, dtype=np.bool_)
        self.ticked = np.empty(0, dtype=np.int64)
        self.sums = np.zeros(len(COUNTER_NAMES), dtype=np.int64)

    def __len__(self) -> int:
        """Number of devices."""
        return self._count

    def slot_of(self, key: Key) -> int | None:
        """Slot of a device; None if it has none."""
        site, device, stream = key
        return self.slots.get(stream, {}).get((site, device))

    def name(self, slot: int) -> str:
        """Name of a device: ``site/device/stream``."""
        return "/".join(self.key(slot))

    def key(self, slot: int) -> Key:
        """Key of the device in a slot.

        Raises:
            KeyError: The slot is free.
        """
        key = self.keys[slot]
        if key is None:
            raise KeyError(slot)
        return key

    def add(self, key: Key, partition: int) -> int:
        """Add a device that has counted nothing; returns its slot."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        site, device, stream = key
        self.keys[slot] = key
        self.slots.setdefault(stream, {})[site, device] = slot
        self._count += 1
        self.partition[slot] = partition
        for numbers in (self.applied, self.group, self.row, self.decided, self.ticked):
            numbers[slot] = -1
        self.counters[:, slot] = 0
        self.last_event_ms[slot] = self.last_recv_ms[slot] = NO_TIME
        self.heard_ms[slot] = 0
        for flags in (self.pending, self.dirty, self.heard, self.skips, self.shared):
            flags[slot] = False
        self.changed[slot] = True
        return slot

    def load(self, slot: int, saved: SavedRow) -> None:
        """Fill in what a saved row tells of a device that was just added.

        Raises:
            OverflowError: A number does not fit into 64 bits; nothing has changed.
        """
        numbers = np.array((*saved.counters, saved.offset), dtype=np.int64)
        self.add_counters(slot, numbers[_SAVED_AT])
        *_, event_ms, recv_ms, _ = saved.counters
        self.last_event_ms[slot] = event_ms or NO_TIME
        self.last_recv_ms[slot] = recv_ms or NO_TIME
        partition = int(self.partition[slot])
        if saved.partition == partition:  # an offset is valid in its partition only
            self.applied[slot] = saved.offset
            self._highest[partition] = max(saved.offset, self._highest.get(partition, -1))

    def holds(
        self, slots: NDArray[np.intp], partition: int, offset: int, number: int
    ) -> NDArray[np.bool_] | None:
        """Whether devices hold a record already, decided at their first item in it; None: none.

        Args:
            slots: The devices.
            partition: Partition of the record.
            offset: Offset of the record.
            number: Its number in the life of the worker.
        """
        if offset > self._highest.get(partition, -1):
            self._highest[partition] = offset
            self.skips[slots] = False
            self.decided[slots] = number
            return None
        new = slots[self.decided[slots] != number]
        self.skips[new] = self.applied[new] >= offset
        self.decided[new] = number
        skips = self.skips[slots]
        return skips if skips.any() else None

    def rows(self, slots: NDArray[np.intp], snapshots: Iterable[bytes]) -> list[DirtyRow]:
        """Partition, name and saved row of some devices."""
        columns = [self._saved_column(name, slots) for name in COUNTERS]
        places = self.partition[slots].tolist(), self.applied[slots].tolist()
        return [
            (partition, self.name(slot), encode_row(partition, offset, counters, snapshot))
            for slot, partition, offset, counters, snapshot in zip(
                slots.tolist(), *places, zip(*columns, strict=True), snapshots, strict=True
            )
        ]

    def _saved_column(self, name: str, slots: NDArray[np.intp]) -> list[int]:
        if name in COUNTER_NAMES:
            column = self.counters[COUNTER_NAMES.index(name), slots]
        else:
            column = getattr(self, name)[slots]
            column[column == NO_TIME] = 0
        found: list[int] = column.tolist()
        return found

    def remove(self, slot: int) -> None:
        """Remove a device."""
        site, device, stream = self.key(slot)
        of_stream = self.slots[stream]
        del of_stream[site, device]
        if not of_stream:
            del self.slots[stream]
        self.sums -= self.counters[:, slot]
        self.keys[slot] = None
        self.partition[slot] = self.group[slot] = self.row[slot] = -1
        for flags in (self.pending, self.dirty, self.changed, self.heard):
            flags[slot] = False
        self._free.append(slot)
        self._count -= 1

    def count(self, slots: NDArray[np.intp], counter: int, values: NDArray[np.int64]) -> None:
        """Add to a counter of devices; slots may repeat."""
        np.add.at(self.counters[counter], slots, values)
        self.sums[counter] += values.sum()

    def add_counters(self, slot: int, counters: Sequence[int] | NDArray[np.int64]) -> None:
        """Add to all counters of one device."""
        self.counters[:, slot] += counters
        self.sums += counters

    def set_gaps(self, slots: NDArray[np.intp], gaps: NDArray[np.int64]) -> None:
        """Note the gaps of devices; slots may repeat, with the same number."""
        has_changed = gaps != self.counters[GAPS, slots]
        if has_changed.any():
            changed, first = np.unique(slots[has_changed], return_index=True)
            gaps = gaps[has_changed][first]
            self.sums[GAPS] += (gaps - self.counters[GAPS, changed]).sum()
            self.counters[GAPS, changed] = gaps

    def mark(self, slots: NDArray[np.intp]) -> None:
        """Note that state and account of devices have changed."""
        self.dirty[slots] = True
        self.changed[slots] = True

    def account(self, slot: int, rate_hz: float | None) -> DeviceAccount:
        """A copy of the account of a device."""
        event_ms, recv_ms = int(self.last_event_ms[slot]), int(self.last_recv_ms[slot])
        counters = dict(zip(COUNTER_NAMES, self.counters[:, slot].tolist(), strict=True))
        return DeviceAccount(
            *self.key(slot),
            None if event_ms == NO_TIME else event_ms,
            None if recv_ms == NO_TIME else recv_ms,
            rate_hz,
            **counters,
        )

    def totals(self) -> Totals:
        """Sums of the counters over all devices; the other fields are zero."""
        return Totals(**dict(zip(COUNTER_NAMES, self.sums.tolist(), strict=True)))

    def in_partitions(self, partitions: Iterable[int]) -> list[int]:
        """Slots of the devices of some partitions."""
        found = np.zeros(len(self.partition), dtype=np.bool_)
        for partition in partitions:
            found |= self.partition == partition
        slots: list[int] = np.flatnonzero(found).tolist()
        return slots

    def _grow(self) -> None:
        before = len(self.keys)
        room = max(before // 2, _ROOM)
        self.keys += [None] * room
        self._free += range(before + room - 1, before - 1, -1)
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray) and name != "sums":
                more = np.zeros((*column.shape[:-1], room), dtype=column.dtype)
                setattr(self, name, np.concatenate([column, more], axis=-1))
        self.partition[before:] = self.group[before:] = self.row[before:] = -1
