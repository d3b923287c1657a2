"""The window state of all devices of one worker. Pure, fed with decoded records.

A record of the topic ``readings`` is applied as a whole, in the order of its partition::

    devices.apply(partition, offset, items)  ->  Outcome(windows, refused, late)

Messages come as blocks (`ingest.blocks`) and take one step through the slab of their stream
(`pipeline.windows.slab`). What is counted of a device is in columns
(`pipeline.windows.devicetable`).

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
- A device keeps the rules of windows with which it began until the next start, also if its stream
  has a new student meanwhile; only another number of channels makes it begin anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ingest.blocks import Block
from ingest.errors import RefusalReason
from ingest.messages import Batch, Tick, Unreadable
from ingest.roster import RosterLimits
from pipeline.errors import SnapshotError
from pipeline.status.counters import DeviceAccount, Totals
from pipeline.windows.accountcopies import AccountCopies
from pipeline.windows.arrivals import Arrival, Arrivals, Place
from pipeline.windows.devicetable import (
    CORRECTED,
    DEAD_LETTERED,
    DUPLICATE,
    LATE,
    RECEIVED,
    WINDOWED,
    WINDOWS,
    DeviceTable,
    DirtyRow,
    Key,
)
from pipeline.windows.joining import joined, part_of
from pipeline.windows.membership import Membership, device_limits
from pipeline.windows.refusals import Outcome, Refusal, refusals_of
from pipeline.windows.rows import decode_row
from pipeline.windows.slabgroups import SlabGroups, StreamPlan
from pipeline.windows.slabwindows import SlabWindows

__all__ = [
    "Devices",
    "Outcome",
    "Plans",
    "Record",
    "Refusal",
    "StreamPlan",
    "device_limits",
]

log = logging.getLogger(__name__)

_MAX_WITHOUT_STUDENT = 500
"""Devices without a student that get an account of their own; the rest share one per partition."""
_SHARED = "-"
"""Site of the account that devices without a student, removed and refused ones share."""
_LATE = "behind the watermark, or a correction after its windows had closed"

Plans = Callable[[str], StreamPlan | None]
"""Finds the plan of a stream; ``None`` when no student scores it."""
Record = tuple[int, int, Sequence[Block | Batch | Tick | Unreadable]]
"""Partition, offset and items of a record."""


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
        self._table = DeviceTable()
        self._groups = SlabGroups(self._table)
        self._saved: dict[int, bytes] = {}  # windows of devices whose student is unknown so far
        self._members = Membership(self._table, limits)
        self._copies = AccountCopies(self._table, self._groups)
        self._records = 0  # applied so far
        self._arrived: dict[tuple[int, tuple[str, ...]], list[Arrival]] = {}  # for the next step
        self._gone: dict[str, int] = {}  # names of removed devices, whose rows are to be deleted
        self._without_student = 0

    def apply(
        self, partition: int, offset: int, items: Sequence[Block | Batch | Tick | Unreadable]
    ) -> Outcome:
        """Apply one record of ``readings``; never raises for bad content."""
        return self.apply_records([(partition, offset, items)])

    def apply_records(self, records: Iterable[Record]) -> Outcome:
        """Apply records, those of a partition in their order; never raises for bad content.

        The result is that of `apply` for each. What stands between two ticks takes one step, and so
        does a tick that several partitions have.
        """
        outcome = Outcome()
        by_partition: dict[int, list[tuple[Place, Block | Tick | Unreadable]]] = {}
        for partition, offset, items in records:
            self._records += 1
            place = Place(partition, offset, self._records)
            flow = by_partition.setdefault(partition, [])
            flow += [(place, item) for item in joined(items)]
        flows = [iter(flow) for flow in by_partition.values()]
        while flows:
            ticks: dict[Tick, list[Place]] = {}
            flows = [flow for flow in flows if self._take_until_tick(flow, ticks, outcome)]
            self._step_arrived(outcome)
            for tick, places in ticks.items():
                self._members.pass_time(tick.now_ms)
                self._apply_tick(tick, places, outcome)
        for key in self._members.expired():
            self._remove(key)
        return outcome

    def _take_until_tick(
        self,
        flow: Iterator[tuple[Place, Block | Tick | Unreadable]],
        ticks: dict[Tick, list[Place]],
        outcome: Outcome,
    ) -> bool:
        """Take the items of a partition up to a tick, which is noted; whether there is one."""
        for place, item in flow:
            if isinstance(item, Block):
                self._take_block(place, item, outcome)
            elif isinstance(item, Tick):
                ticks.setdefault(item, []).append(place)
                return True
            else:
                outcome.unreadable.append((place.partition, item))
        return False

    def __len__(self) -> int:
        """Number of known device streams."""
        return len(self._table)

    def pending_partitions(self) -> list[int]:
        """Partitions with devices whose readings wait for the watermark; these need ticks."""
        waiting = np.bincount(self._table.partition[self._table.pending])
        found: list[int] = np.flatnonzero(waiting).tolist()
        return found

    def accounts(self) -> list[DeviceAccount]:
        """Copies of the accounts of all known devices, sorted by (site, device, stream).

        Copies only the accounts that have changed since the last call.
        """
        return self._copies.all()

    def totals(self) -> Totals:
        """Sums over `accounts()`, at a cost that does not grow with their number."""
        return self._table.totals()

    def dirty_rows(self, most: int | None = None) -> list[DirtyRow]:
        """Rows (partition, key, value) changed since the last call; clears them.

        A value of None deletes the row of a device that was removed.

        Args:
            most: Most devices in the result, apart from removed ones; the others stay changed.
        """
        rows: list[DirtyRow] = [(at, name, None) for name, at in self._gone.items()]
        slots = np.flatnonzero(self._table.dirty)[:most]
        for number, chosen in self._groups.by_group(slots):
            some = slots[chosen]
            if number < 0:
                snapshots = [self._saved.get(slot, b"") for slot in some.tolist()]
            else:
                snapshots = self._groups[number].slab.snapshots(self._table.row[some])
            rows += self._table.rows(some, snapshots)
        self._table.dirty[slots] = False
        self._gone.clear()
        return rows

    def forget_partitions(self, partitions: Iterable[int]) -> None:
        """Drop the devices of partitions that moved to another worker."""
        gone = set(partitions)
        for slot in self._table.in_partitions(gone):
            self._forget(slot)
        self._gone = {name: at for name, at in self._gone.items() if at not in gone}
        if not len(self._table):
            self._without_student = 0

    def restore(self, names: Iterable[str], partition_of: Callable[[str, str], int]) -> None:
        """Open saved devices (``site/device/stream``) at once, so that idle ones get ticks."""
        self.restore_some(names, partition_of)
        self.end_restore()

    def restore_some(self, names: Iterable[str], partition_of: Callable[[str, str], int]) -> None:
        """Open some of the saved devices; `end_restore` must follow before a record."""
        slots = []
        for name in names:
            site, device, stream = name.split("/")
            key = (site, device, stream)
            if self._table.slot_of(key) is None:
                shared = site == _SHARED
                partition = int(device.rpartition("-")[2]) if shared else partition_of(site, device)
                slots.append(self._open(key, partition))
                if not shared:
                    self._members.restore(slots[-1])
        self._note_pending(np.array(slots, dtype=np.intp))

    def end_restore(self) -> None:
        """Note how long the devices opened have been silent."""
        for key in self._members.end_restore():
            self._remove(key)

    # -- who has state ----------------------------------------------------------------------

    def _remove(self, key: Key) -> None:
        """Remove the state of a device; its counters go to the shared account."""
        slot = self._table.slot_of(key)
        if slot is None:
            return
        partition = int(self._table.partition[slot])
        counters = self._table.counters[:, slot].copy()
        self._forget(slot)
        if self._plans(key[2]) is None:
            self._without_student = max(0, self._without_student - 1)
        self._gone["/".join(key)] = partition
        self.removed_total += 1
        shared = np.array([self._shared_slot(partition)])
        self._table.add_counters(int(shared[0]), counters)
        self._table.mark(shared)

    def _forget(self, slot: int) -> None:
        key = self._table.key(slot)
        self._groups.close(slot)
        self._saved.pop(slot, None)
        self._table.remove(slot)
        self._members.discard(key)
        self._copies.forget(key)

    # -- devices of a block -----------------------------------------------------------------

    def _slots_of(self, block: Block, partition: int) -> NDArray[np.intp]:
        """Slot of each sender; those that are unknown are added, or get the shared account."""
        known = self._table.slots.get(block.stream, {})
        found = [known.get(sender, -1) for sender in block.senders]
        if -1 in found:
            here = np.array([slot for slot in found if slot >= 0], dtype=np.intp)
            self._members.hear_now(here)  # who sends now makes no room for others
            for at, (site, device) in enumerate(block.senders):
                if found[at] < 0:
                    found[at] = self._add_device((site, device, block.stream), partition)
        return np.array(found, dtype=np.intp)

    def _add_device(self, key: Key, partition: int) -> int:
        """Add a device at its first record since the start.

        A sender can use any number of streams that have no student, so beyond a few hundred of them
        the rest share one account per partition.
        """
        if self._plans(key[2]) is None and self._load("/".join(key)) is None:
            if self._without_student >= _MAX_WITHOUT_STUDENT:
                return self._shared_slot(partition)
            self._without_student += 1
        leaving = self._members.admit(key)
        if leaving is None:
            return self._shared_slot(partition)
        for each in leaving:
            self._remove(each)
        slot = self._open(key, partition)
        self._note_pending(np.array([slot]))
        return slot

    def _shared_slot(self, partition: int) -> int:
        key = _shared_key(partition)
        slot = self._table.slot_of(key)
        return self._open(key, partition) if slot is None else slot

    def _open(self, key: Key, partition: int) -> int:
        slot = self._table.add(key, partition)
        self._table.shared[slot] = key[0] == _SHARED
        name = "/".join(key)
        row = None if name in self._gone else self._load(name)
        if row is not None:
            try:
                saved = decode_row(key, row)
                self._table.load(slot, saved)
                self._saved[slot] = saved.snapshot
            except (SnapshotError, OverflowError) as exc:
                self._note_reset(key, exc)
            plan = self._plans(key[2])
            if plan is not None:
                self._open_windows(slot, plan)
        return slot

    def _open_windows(self, slot: int, plan: StreamPlan) -> None:
        """Give a device its windows, from its saved state if there is one."""
        saved = self._saved.pop(slot, b"")
        try:
            self._groups.open(slot, plan, saved)
        except SnapshotError as exc:
            self._note_reset(self._table.key(slot), exc)
            self._groups.open(slot, plan, b"")

    def _note_pending(self, slots: NDArray[np.intp]) -> None:
        for number, chosen in self._groups.by_group(slots):
            if number >= 0:
                slab, some = self._groups[number].slab, slots[chosen]
                self._table.pending[some] = slab.pending(self._table.row[some])

    def _note_reset(self, key: Key, exc: Exception) -> None:
        """Count a device that starts empty; unusable state of one must not stop all the others."""
        self.reset_total += 1
        log.error("%s starts with empty windows: %s", "/".join(key), exc)

    # -- items of records -------------------------------------------------------------------

    def _take_block(self, place: Place, block: Block, outcome: Outcome) -> None:
        """Take the messages of a block for the next step, or refuse them."""
        table, partition = self._table, place.partition
        slots = self._slots_of(block, partition)
        skips = table.holds(slots, *place)
        if skips is not None:
            if skips.all():
                return
            block, slots = part_of(block, ~skips), slots[~skips]
        table.applied[slots] = place.offset
        table.mark(slots)
        self._members.hear(slots, block.recv_ms)
        outcome.readings += len(block.ts_ms)
        plan = self._plans(block.stream)
        if plan is None:
            detail = (
                f"no student scores the stream {block.stream!r}; publish one and replay this "
                "dead letter"
            )
            self._refuse(partition, block, slots, RefusalReason.no_model, detail, outcome)
            return
        is_shared = table.shared[slots]
        if is_shared.any():
            none, others = part_of(block, is_shared), slots[is_shared]
            reason = RefusalReason.too_many_devices
            self._refuse(partition, none, others, reason, self._members.no_room(), outcome)
            if is_shared.all():
                return
            block, slots = part_of(block, ~is_shared), slots[~is_shared]
        missing = () if block.channels == plan.channels else _missing(block, plan)
        if missing:
            has = ", ".join(block.channels)[:400]
            detail = f"needs {', '.join(missing)}; the message has {has}"
            self._refuse(partition, block, slots, RefusalReason.missing_channel, detail, outcome)
            return
        self._place(partition, block, slots, plan)

    def _place(
        self, partition: int, block: Block, slots: NDArray[np.intp], plan: StreamPlan
    ) -> None:
        """Hand the messages of a block to the slabs of their devices, which may be new there."""
        table, number = self._table, self._groups.number_of(block.stream, plan)
        elsewhere = slots[table.group[slots] != number]
        for slot in elsewhere.tolist():
            former = int(table.group[slot])
            if former >= 0 and self._groups[former].slab.channels == len(plan.channels):
                continue
            if former >= 0:
                rows = table.row[slot : slot + 1]
                self._saved[slot] = self._groups[former].slab.snapshots(rows)[0]
                self._groups.close(slot)
            self._open_windows(slot, plan)
        if not len(elsewhere):
            arrival = Arrival(partition, block, slots[block.sender])
            self._arrived.setdefault((number, plan.channels), []).append(arrival)
            return
        for at, chosen in self._groups.by_group(slots):
            part, some = part_of(block, chosen), slots[chosen]
            arrival = Arrival(partition, part, some[part.sender])
            self._arrived.setdefault((at, plan.channels), []).append(arrival)

    def _step_arrived(self, outcome: Outcome) -> None:
        """Take the messages that have arrived into the windows of their devices."""
        arrived, self._arrived = self._arrived, {}
        for (number, channels), parts in arrived.items():
            self._step(number, Arrivals(parts, channels), outcome)

    def _step(self, number: int, arrivals: Arrivals, outcome: Outcome) -> None:
        table, slab, at = self._table, self._groups[number].slab, arrivals.at
        table.count(at, RECEIVED, arrivals.counts)
        np.maximum.at(table.last_recv_ms, at, arrivals.recv_ms)
        rows = table.row[at]
        step = slab.step(rows, arrivals.counts, arrivals.ts_ms, arrivals.values, arrivals.recv_ms)
        table.count(at, WINDOWED, step.windowed)
        took = step.windowed > 0
        table.last_event_ms[at[took]] = slab.max_event_ms[rows[took]]
        for counter, counts in ((DUPLICATE, step.duplicate), (CORRECTED, step.corrected)):
            if counts.any():
                table.count(at, counter, counts)
        table.set_gaps(at, slab.gaps[rows])
        table.pending[at] = slab.pending(rows)
        if len(step.late):
            table.count(at, LATE, arrivals.messages_of(step.late))
            outcome.late.extend(arrivals.refusals(step.late, None, _LATE))
        if len(step.future):
            table.count(at, DEAD_LETTERED, arrivals.messages_of(step.future))
            detail = f"more than {slab.spec.future_ms} ms ahead of its receive time"
            refused = arrivals.refusals(step.future, RefusalReason.future, detail)
            outcome.refused.extend(refused)
        self._note_closed(number, step.windows, outcome)

    def _apply_tick(self, tick: Tick, places: Sequence[Place], outcome: Outcome) -> None:
        table = self._table
        waiting = np.flatnonzero(table.pending)
        for place in places:
            slots = waiting[table.partition[waiting] == place.partition]
            skips = table.holds(slots, *place)
            table.ticked[slots if skips is None else slots[~skips]] = place.offset
        slots = waiting[table.ticked[waiting] >= 0]
        offsets = table.ticked[slots]
        table.ticked[slots] = -1
        for number, chosen in self._groups.by_group(slots):
            some, slab = slots[chosen], self._groups[number].slab
            windows, has_moved = slab.advance(table.row[some], tick.now_ms, tick.since_ms)
            if has_moved.any():
                moved, rows = some[has_moved], table.row[some[has_moved]]
                table.set_gaps(moved, slab.gaps[rows])
                table.applied[moved] = offsets[chosen][has_moved]
                table.mark(moved)
                table.pending[moved] = slab.pending(rows)
                self._note_closed(number, windows, outcome)

    def _note_closed(self, number: int, closed: Iterable[SlabWindows], outcome: Outcome) -> None:
        for windows in closed:
            slots, batch = self._groups.batch(number, windows)
            self._table.count(slots, WINDOWS, np.ones(len(slots), dtype=np.int64))
            outcome.windows.append(batch)

    def _refuse(
        self,
        partition: int,
        block: Block,
        slots: NDArray[np.intp],
        reason: RefusalReason,
        detail: str,
        outcome: Outcome,
    ) -> None:
        """Refuse all messages of a block."""
        at = slots[block.sender]
        np.maximum.at(self._table.last_recv_ms, at, block.recv_ms)
        for counter in (RECEIVED, DEAD_LETTERED):
            self._table.count(at, counter, block.counts)
        every = np.arange(len(block.ts_ms))
        outcome.refused.extend(refusals_of(partition, block, every, reason, detail))


def _shared_key(partition: int) -> Key:
    return (_SHARED, f"others-{partition}", "-")


def _missing(block: Block, plan: StreamPlan) -> list[str]:
    """Channels of a student that the messages of a block lack."""
    return [name for name in plan.channels if name not in block.channels]
