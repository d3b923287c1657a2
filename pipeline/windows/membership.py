"""Who has window state: the roster of a worker's devices, kept up only when it decides. Pure.

A device is known once it has closed a window; see `ingest.roster` for who goes and who stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ingest.roster import Elapsed, Roster, RosterLimits
from pipeline.windows.devicetable import WINDOWS, DeviceTable, Key

__all__ = ["Membership", "device_limits"]

_DAY_MS = 86_400_000
_EXPIRE_EVERY_MS = 60_000


class Membership:
    """The roster of the devices of a table; accounts that many devices share are not in it."""

    def __init__(self, table: DeviceTable, limits: RosterLimits | None = None) -> None:
        self._table = table
        self._roster = Roster[Key](limits or device_limits())
        self._elapsed = Elapsed()
        self._expired_ms = 0
        self._opened: list[tuple[int, Key]] = []  # between `restore` and `end_restore`

    def hear(self, slots: NDArray[np.intp], recv_ms: NDArray[np.int64]) -> None:
        """Note that devices were heard; `recv_ms` are the times of their messages, in order."""
        self._elapsed.advance(int(recv_ms[0]))
        self._elapsed.advance(int(recv_ms[-1]))
        self.hear_now(slots)

    def hear_now(self, slots: NDArray[np.intp]) -> None:
        """Note that devices were heard at the time of what was heard last."""
        self._table.heard_ms[slots] = self._elapsed.ms
        self._table.heard[slots] = True

    def pass_time(self, now_ms: int) -> None:
        """Note the time of a tick."""
        self._elapsed.advance(now_ms)

    def admit(self, key: Key) -> list[Key] | None:
        """Add a newcomer; returns who has to go for it, None if there is no room."""
        self._tell()
        return self._roster.admit(key, self._elapsed.ms, self._is_saved)

    def expired(self) -> list[Key]:
        """Devices that go because they have been silent for too long, some every minute."""
        if self._elapsed.ms - self._expired_ms < _EXPIRE_EVERY_MS:
            return []
        self._expired_ms = self._elapsed.ms
        self._tell()
        return self._roster.expire(self._elapsed.ms, self._is_saved)

    def discard(self, key: Key) -> None:
        """Forget a device."""
        self._roster.discard(key)

    def restore(self, slot: int) -> None:
        """Add a device from saved state; `end_restore` follows behind the last one."""
        recv_ms = int(self._table.last_recv_ms[slot])
        self._opened.append((max(0, recv_ms), self._table.key(slot)))

    def end_restore(self) -> list[Key]:
        """Note the silence of restored devices; returns strangers above their limit, who go.

        Silence is relative to the device that was heard last. At most half the term counts, so that
        a wrong clock in one row removes nobody at once.
        """
        limits, opened = self._roster.limits, sorted(self._opened)
        self._opened.clear()
        for recv_ms, key in opened:
            slot = self._table.slot_of(key)
            if slot is None:  # its partition was taken away meanwhile
                continue
            is_known = self._table.counters[WINDOWS, slot] > 0
            most_ms = (limits.keep_ms if is_known else limits.keep_stranger_ms) // 2
            silent_ms = min(opened[-1][0] - recv_ms, most_ms)
            self._roster.restore(key, self._elapsed.ms - silent_ms, is_known=bool(is_known))
        return self._roster.trim()

    def no_room(self) -> str:
        """Why a newcomer is refused."""
        self._tell()
        limits = self._roster.limits
        return (
            f"no room for one more device: {len(self._roster)} of {limits.most} have state, "
            f"{self._roster.strangers} of {limits.most_strangers} have never closed a window"
        )

    def _tell(self) -> None:
        """Tell the roster who was heard since it was told last, in the order of time."""
        table = self._table
        slots = np.flatnonzero(table.heard & ~table.shared)
        slots = slots[np.argsort(table.heard_ms[slots], kind="stable")]
        known = table.counters[WINDOWS, slots] > 0
        times_ms = table.heard_ms[slots].tolist()
        for slot, heard_ms, is_known in zip(slots.tolist(), times_ms, known.tolist(), strict=True):
            if is_known:
                self._roster.know(table.key(slot), heard_ms)
            else:
                self._roster.hear(table.key(slot), heard_ms)
        table.heard[:] = False

    def _is_saved(self, key: Key) -> bool:
        slot = self._table.slot_of(key)
        return slot is None or not self._table.dirty[slot]


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
