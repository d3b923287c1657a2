"""The clocks of a process: `now_ms` for timestamps, monotonic time for everything else.

The rule, held by `tests/test_clock_rule.py`:

- Durations, timeouts, caches, rates and ages use monotonic time (`time.monotonic`, `steady_ms`),
  which no one can set.
- Ages that decide what is deleted are `RunningTime`: time for which the file was open.
- Timestamps of data, points and messages are `now_ms`: the machine's clock, protected from steps.
- Nothing else reads the machine's clock (`machine_ms`), except what judges it.

**Steps.** A time service or a person may set the machine's clock, for good or for seconds. `now_ms`
follows small corrections at once. A step of more than a second counts only after it has lasted for
a minute, so a clock that is wrong for some seconds changes nothing; it counts at once if it ends a
disagreement with the devices (`MachineClock.settle`). Until then `now_ms` continues
as if the step had not happened. Time in which the machine was suspended is no step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from threading import Lock

__all__ = [
    "PROCESS_CLOCK",
    "ClockState",
    "MachineClock",
    "RunningTime",
    "machine_ms",
    "now_ms",
    "steady_ms",
    "utc_now",
    "utc_text",
]

STEP_MS = 1_000
"""A difference above this is a step, below it a correction."""
CONFIRM_MS = 60_000
"""A step counts after it has lasted this long."""

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def machine_ms() -> int:
    """Return what the machine's clock says now, epoch milliseconds; for judging it only."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return monotonic milliseconds of an unknown origin, for durations and caches."""
    return time.monotonic_ns() // 1_000_000


def _since_boot_ms() -> int:
    """Return monotonic milliseconds that include the time in which the machine was suspended."""
    if _BOOTTIME is None:
        return steady_ms()
    return time.clock_gettime_ns(_BOOTTIME) // 1_000_000


@dataclass(frozen=True, slots=True)
class ClockState:
    """Steps of the machine's clock that a process has seen.

    Attributes:
        step_ms: Size of a step that does not count yet, positive if the clock was set forward; 0
            without one.
        step_for_ms: Duration of that step so far.
        steps_total: Steps that lasted, and count.
        passed_total: Steps that were taken back within a minute, and never counted.
    """

    step_ms: int = 0
    step_for_ms: int = 0
    steps_total: int = 0
    passed_total: int = 0


class MachineClock:
    """The machine's clock without the steps that do not last; thread-safe.

    Args:
        machine: The machine's clock, epoch milliseconds.
        steady: Monotonic milliseconds; should include suspended time.
    """

    def __init__(
        self,
        machine: Callable[[], int] = machine_ms,
        steady: Callable[[], int] = _since_boot_ms,
    ) -> None:
        self._machine = machine
        self._steady = steady
        self._lock = Lock()
        self._offset_ms = machine() - steady()
        self._step_ms: int | None = None  # difference to the offset
        self._step_at_ms = 0
        self._steps_total = self._passed_total = 0

    def now_ms(self) -> int:
        """Return the time, epoch milliseconds; call it at least every few seconds."""
        with self._lock:
            steady_ms = self._steady()
            ahead_ms = self._machine() - steady_ms - self._offset_ms
            if abs(ahead_ms) <= STEP_MS:
                if self._step_ms is not None:
                    self._step_ms = None
                    self._passed_total += 1
                self._offset_ms += ahead_ms
            elif self._step_ms is None or abs(ahead_ms - self._step_ms) > STEP_MS:
                self._step_ms, self._step_at_ms = ahead_ms, steady_ms
            elif steady_ms - self._step_at_ms >= CONFIRM_MS:
                self._step_ms = None
                self._steps_total += 1
                self._offset_ms += ahead_ms
            else:
                self._step_ms = ahead_ms  # the clock is corrected while the step is pending
            return steady_ms + self._offset_ms

    def settle(self, is_right: Callable[[int], bool]) -> bool:
        """Let a pending step count at once if it makes the time right.

        Args:
            is_right: Says whether a time, epoch milliseconds, agrees with everything else known.

        Returns:
            Whether a step was pending and was right.
        """
        self.now_ms()
        with self._lock:
            if self._step_ms is None or not is_right(self._machine()):
                return False
            self._offset_ms += self._step_ms
            self._step_ms = None
            self._steps_total += 1
            return True

    def state(self) -> ClockState:
        """Return the steps seen so far."""
        self.now_ms()
        with self._lock:
            counts = self._steps_total, self._passed_total
            if self._step_ms is None:
                return ClockState(0, 0, *counts)
            return ClockState(self._step_ms, self._steady() - self._step_at_ms, *counts)


PROCESS_CLOCK = MachineClock()
"""The clock of this process; functions and classes take a `now_ms` of their own for tests."""


def now_ms() -> int:
    """Return the time of this process, epoch milliseconds: for timestamps."""
    return PROCESS_CLOCK.now_ms()


def utc_now() -> datetime:
    """Return the time of this process as an aware date."""
    return datetime.fromtimestamp(now_ms() / 1000, timezone.utc)


def utc_text(epoch_s: int) -> str:
    """Return a time for a message, to the minute; also one that no calendar has.

    >>> utc_text(0), utc_text(10**15)
    ('1970-01-01 00:00 UTC', '1000000000000000 s after 1970')
    """
    try:
        return datetime.fromtimestamp(epoch_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{epoch_s} s after 1970"


class RunningTime:
    """Time that passes only while a file is open, so that no clock can make its content old.

    Ages of stored things are differences of this time. It continues from the newest time that the
    file knows and grows with monotonic time: never by a step of the machine's clock, and not while
    the process is off. The origin is the date at which the file was made, so that times of files
    written before this rule still mean what they say.

    Args:
        last_ms: Newest time in the file; None in a new one.
        now_ms: The time now, epoch milliseconds. A file from the future was written under a wrong
            clock: its times count as now at most.
        steady_ms: Monotonic milliseconds.
    """

    def __init__(
        self, last_ms: int | None, now_ms: int, steady_ms: Callable[[], int] = steady_ms
    ) -> None:
        self._steady_ms = steady_ms
        self._origin_ms = (now_ms if last_ms is None else min(last_ms, now_ms)) - steady_ms()

    def now_ms(self) -> int:
        """Return the running time in milliseconds; it never falls."""
        return self._origin_ms + self._steady_ms()
