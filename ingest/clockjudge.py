"""Whose clock is wrong, that of one device or that of this machine? Pure: times are parameters.

A reading from the future is the fault of its device's clock - unless nearly all devices are ahead:
then this machine's clock is behind. Refusing the readings would then put every message of every
device into the dead letters, and a later replay would find them late. The bridge therefore holds
messages back until the clock is right (`ingest.holding`).

**The vote.** Devices heard within the last five minutes vote with the newest event time of their
last message, compared with the time now. A device is *ahead* if that is more than `future_ms` after
now. Devices that send old data have no vote, and neither have times after the year 2099. This
machine's clock is wrong if at least two devices and nine in ten are ahead, all by the same, give or
take an hour. One device that is ahead alone, with nobody to compare it with, waits for half a
minute for the vote of another one; after that the fault is its own. Before the year 2025, one
device is enough: nobody has set this machine's clock.
"""

from __future__ import annotations

from enum import Enum
from itertools import takewhile

__all__ = ["ALONE_S", "NEVER_SET_MS", "ClockJudge", "Verdict"]

ALONE_S = 30.0
"""Seconds for which a device that is ahead alone waits for the vote of another one."""
NEVER_SET_MS = 1_735_689_600_000
"""2025-01-01T00:00:00Z; an earlier time means that nobody has set this machine's clock."""

_YEAR_2100_MS = 4_102_444_800_000
_HEARD_S = 300.0
_LIVE_MS = 3_600_000
"""Age of event times up to which readings are live; also how far right clocks may differ."""
_MOST = 1024
"""Most devices with a vote: enough for a share, and bounded."""
_SHARE = 0.9
_KEEP_S = 0.25
"""Seconds for which a count of the votes is used again."""


class Verdict(Enum):
    """Whose clock is wrong when a message comes from the future."""

    device = "device"
    machine = "machine"
    undecided = "undecided"


class ClockJudge:
    """Collects votes; one per bridge.

    Args:
        future_ms: Milliseconds that an event time may be ahead of the time now.
        alone_s: See `ALONE_S`.
    """

    def __init__(self, future_ms: int, alone_s: float = ALONE_S) -> None:
        self._future_ms = future_ms
        self._alone_s = alone_s
        self._votes: dict[str, tuple[float, int]] = {}  # device -> when heard, newest event time
        self._alone: tuple[str, float] | None = None  # device, and since when it waits
        self._counted: tuple[float, int, tuple[int, int, int]] | None = None
        self._heard_s = 0.0  # when the last message came

    def is_ahead(self, event_ms: int, now_ms: int) -> bool:
        """Return whether an event time is too far ahead of the time now."""
        return event_ms > now_ms + self._future_ms

    def hear(self, device: str, event_ms: int, steady_s: float) -> None:
        """Note a message: its device, its newest event time, and the monotonic time."""
        self._heard_s = steady_s
        if device not in self._votes:
            self._counted = None
            if len(self._votes) >= _MOST:
                self._forget(steady_s)
                if len(self._votes) >= _MOST:
                    return
        else:
            del self._votes[device]  # to the end: the first one was heard longest ago
        self._votes[device] = (steady_s, event_ms)

    def judge(self, device: str, event_ms: int, now_ms: int, steady_s: float) -> Verdict:
        """Decide whose clock is wrong, after `hear` of a message of `device` that is ahead."""
        if event_ms >= _YEAR_2100_MS:
            return Verdict.device
        ahead, alike, live = self._count(now_ms, steady_s)
        if alike >= _SHARE * live and (alike >= 2 or now_ms < NEVER_SET_MS):
            self._alone = None
            return Verdict.machine
        if live > ahead or ahead >= 2:
            self._alone = None
            return Verdict.device
        if self._alone is None or self._alone[0] != device:
            self._alone = (device, steady_s)
        return Verdict.undecided if steady_s - self._alone[1] < self._alone_s else Verdict.device

    def agrees(self, now_ms: int) -> bool:
        """Return whether nearly all devices would be right if it were `now_ms`."""
        heard = [
            event_ms
            for heard_s, event_ms in self._votes.values()
            if self._heard_s - heard_s <= _HEARD_S
        ]
        right = [ms for ms in heard if now_ms - _LIVE_MS <= ms and not self.is_ahead(ms, now_ms)]
        return len(right) > 0 and len(right) >= _SHARE * len(heard)

    def behind_ms(self, now_ms: int) -> int:
        """Return by how much this machine's clock is behind the devices: the median of the votes.

        The result is 0 without devices that are ahead.
        """
        found = self._ahead_ms(now_ms)[0]
        return found[len(found) // 2] if found else 0

    def _count(self, now_ms: int, steady_s: float) -> tuple[int, int, int]:
        """Return how many devices are ahead, how many of them by the same, and how many vote."""
        last = self._counted
        if last is not None:
            passed_ms = 1000 * (steady_s - last[0])
            is_step = abs(now_ms - last[1] - passed_ms) > 1000
            if passed_ms <= 1000 * _KEEP_S and not is_step:
                return last[2]
        found, live = self._ahead_ms(now_ms)
        middle = found[len(found) // 2] if found else 0
        alike = sum(abs(ahead_ms - middle) <= _LIVE_MS for ahead_ms in found)
        counts = len(found), alike, live
        self._counted = (steady_s, now_ms, counts)
        return counts

    def _ahead_ms(self, now_ms: int) -> tuple[list[int], int]:
        """Return by how much devices are ahead, sorted, and the number of devices with a vote."""
        found, live = [], 0
        for heard_s, event_ms in self._votes.values():
            # Counted back from the last message: while messages are held back, nobody is heard.
            if self._heard_s - heard_s > _HEARD_S:
                continue
            if now_ms - _LIVE_MS <= event_ms < _YEAR_2100_MS:
                live += 1
                if self.is_ahead(event_ms, now_ms):
                    found.append(event_ms - now_ms)
        return sorted(found), live

    def _forget(self, steady_s: float) -> None:
        """Forget devices that have not been heard for long."""
        gone = takewhile(lambda vote: steady_s - vote[1][0] > _HEARD_S, self._votes.items())
        for device in [device for device, _ in gone]:
            del self._votes[device]
