"""The slabs of a worker, one for each stream and its rules, and who is in their rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.devicetable import DeviceTable
from pipeline.windows.slab import StreamSlab
from pipeline.windows.slabwindows import SlabWindows
from pipeline.windows.spec import WindowSpec
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["SlabGroup", "SlabGroups", "StreamPlan"]


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Window rules of one stream, from the manifest of the student that scores it."""

    model: str
    channels: tuple[str, ...]
    spec: WindowSpec


@dataclass(slots=True)
class SlabGroup:
    """The devices of one stream with the same rules.

    Attributes:
        slots: Slot of the device in each row of the slab, int64 `[rows]`.
    """

    stream: str
    slab: StreamSlab
    slots: NDArray[np.intp] = field(default_factory=lambda: np.zeros(64, dtype=np.intp))

    def fits(self, stream: str, plan: StreamPlan) -> bool:
        """Whether the devices of a stream with this plan belong here."""
        return (
            self.stream == stream
            and self.slab.channels == len(plan.channels)
            and self.slab.spec == plan.spec
        )


class SlabGroups:
    """All slabs of a worker; their number grows with the plans that its students had."""

    def __init__(self, table: DeviceTable) -> None:
        """Prepare; `table` learns in which slab and row a device is."""
        self._table = table
        self._groups: list[SlabGroup] = []
        self._newest: dict[str, tuple[StreamPlan, int]] = {}

    def __getitem__(self, number: int) -> SlabGroup:
        """The group with a number, as in `DeviceTable.group`."""
        return self._groups[number]

    def number_of(self, stream: str, plan: StreamPlan) -> int:
        """Number of the group for the devices of a stream that begin now."""
        found = self._newest.get(stream)
        if found is not None and found[0] is plan:
            return found[1]
        fitting = (at for at, group in enumerate(self._groups) if group.fits(stream, plan))
        number = next(fitting, len(self._groups))
        if number == len(self._groups):
            self._groups.append(SlabGroup(stream, StreamSlab(plan.spec, len(plan.channels))))
        self._newest[stream] = plan, number
        return number

    def open(self, slot: int, plan: StreamPlan, snapshot: bytes) -> None:
        """Give a device windows, new ones or those of a snapshot.

        Raises:
            SnapshotError: The snapshot is unusable; the device has no windows then.
        """
        number = self.number_of(self._table.key(slot)[2], plan)
        group = self._groups[number]
        row = group.slab.add(snapshot or None)
        while row >= len(group.slots):
            group.slots = np.concatenate([group.slots, np.zeros_like(group.slots)])
        group.slots[row] = slot
        self._table.group[slot], self._table.row[slot] = number, row

    def close(self, slot: int) -> None:
        """Take the windows of a device away, if it has any."""
        number = int(self._table.group[slot])
        if number >= 0:
            self._groups[number].slab.remove(int(self._table.row[slot]))
            self._table.group[slot] = self._table.row[slot] = -1

    def rate_hz(self, slot: int) -> float | None:
        """See `StreamSlab.rate_hz`; None without windows."""
        number = int(self._table.group[slot])
        return None if number < 0 else self._groups[number].slab.rate_hz(int(self._table.row[slot]))

    def batch(self, number: int, windows: SlabWindows) -> tuple[NDArray[np.intp], WindowBatch]:
        """Closed windows of a group with their devices: the slot of each, and what is scored."""
        group, table = self._groups[number], self._table
        slots = group.slots[windows.row]
        return slots, WindowBatch(
            stream=group.stream,
            senders=[table.key(slot)[:2] for slot in slots.tolist()],
            partition=table.partition[slots],
            values=windows.values,
            start_ms=windows.start_ms,
            end_ms=windows.end_ms,
            readings=windows.readings,
            gaps=windows.gaps,
            recv_ms=windows.recv_ms,
            made_up=windows.made_up,
            rate_hz=windows.rate_hz,
            run_ms=windows.run_ms,
        )

    def by_group(self, slots: NDArray[np.intp]) -> list[tuple[int, NDArray[np.bool_]]]:
        """Numbers of the groups of some devices (-1: none), with a mask of those in each."""
        groups = self._table.group[slots]
        if len(slots) and (groups == groups[0]).all():
            return [(int(groups[0]), np.ones(len(slots), dtype=np.bool_))]
        return [(number, groups == number) for number in sorted(set(groups.tolist()))]
