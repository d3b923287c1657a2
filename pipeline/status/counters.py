"""Counters of readings, per device and in sum.

One equation must hold, per device and in sum:
received = windowed + duplicate + corrected + late + dead_lettered, all counted in readings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter

__all__ = [
    "COUNTER_NAMES",
    "DeviceAccount",
    "LatencySummary",
    "ReadingCounters",
    "RunningSums",
    "Totals",
    "counter_values",
    "sum_accounts",
]


@dataclass(slots=True, kw_only=True)
class ReadingCounters:
    """Readings by outcome, plus gaps and windows.

    Attributes:
        received: Readings that reached the windows; the sum of the next five.
        windowed: Accepted readings.
        duplicate: Readings with an event time and values that the device had sent before.
        corrected: Readings with the event time of another one and other values: of all versions of
            a moment, one is windowed and the others are corrected.
        late: Readings older than the watermark, and corrections that no window could use any more.
        dead_lettered: Readings refused by the windows (wrong clock, missing channel, no model).
            `Totals` counts the messages that the bridge refused earlier.
        gaps: Event-time jumps between accepted readings.
        windows: Closed windows.
    """

    received: int = 0
    windowed: int = 0
    duplicate: int = 0
    corrected: int = 0
    late: int = 0
    dead_lettered: int = 0
    gaps: int = 0
    windows: int = 0

    @property
    def missing(self) -> int:
        """Readings that the counters do not explain; 0 when they balance."""
        explained = self.windowed + self.duplicate + self.corrected + self.late
        return self.received - explained - self.dead_lettered

    @property
    def balances(self) -> bool:
        """Whether received = windowed + duplicate + corrected + late + dead_lettered."""
        return self.missing == 0


COUNTER_NAMES = tuple(each.name for each in fields(ReadingCounters))
"""Names of the counters, in the order of `counter_values`."""

counter_values: Callable[[ReadingCounters], tuple[int, ...]] = attrgetter(*COUNTER_NAMES)
"""The counters of a record, in the order of `COUNTER_NAMES`."""


@dataclass(slots=True)
class DeviceAccount(ReadingCounters):
    """The counters of one stream of one device.

    Attributes:
        last_event_ms: Largest accepted event time, epoch milliseconds; None before the first.
        last_recv_ms: Latest receive time, epoch milliseconds; None before the first.
        rate_hz: Readings per second of event time, measured when it was copied; None if unknown. It
            is no part of what makes two accounts equal.
    """

    site: str
    device: str
    stream: str
    last_event_ms: int | None = None
    last_recv_ms: int | None = None
    rate_hz: float | None = field(default=None, compare=False)

    def copy(self) -> DeviceAccount:
        """Return a copy; several times faster than `dataclasses.replace`."""
        counters = dict(zip(COUNTER_NAMES, counter_values(self), strict=True))
        return DeviceAccount(
            self.site,
            self.device,
            self.stream,
            self.last_event_ms,
            self.last_recv_ms,
            self.rate_hz,
            **counters,
        )


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Percentiles of the recent past in milliseconds; None when nothing was measured."""

    count: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(slots=True)
class Totals(ReadingCounters):
    """Sums over all devices, plus the counters of bridge and store.

    The sums over devices survive a restart; everything else counts from the start of the process.
    A sentence or a chart uses one kind only.

    Attributes:
        taken: Readings that the scoring stage took from the log.
        messages_received: Messages that came over MQTT.
        messages_logged: Messages that are durable in the log.
        messages_dead_lettered: Messages that the bridge refused.
        dead_letters: Records on the dead-letter topic by reason, from any writer.
        scored: Scores appended to the log.
        unscored: Closed windows without a score, because the student gave no finite number.
        stored: Points that the store confirmed.
        refused_points: Points that the store will never take.
        sensor_to_score: Latency from the window's end to its score. Windows that came more than a
            minute late are left out: a device that uploads a backlog says nothing of the pipeline.
        receive_to_score: Latency from the receive time to the score.
        sensor_to_stored: Latency from the window's end to the stored point.
    """

    taken: int = 0
    messages_received: int = 0
    messages_logged: int = 0
    messages_dead_lettered: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    scored: int = 0
    unscored: int = 0
    stored: int = 0
    refused_points: int = 0
    sensor_to_score: LatencySummary = LatencySummary()
    receive_to_score: LatencySummary = LatencySummary()
    sensor_to_stored: LatencySummary = LatencySummary()


class RunningSums:
    """Sums over many accounts, kept up to date so that nobody has to add up a whole fleet.

    >>> sums, one = RunningSums(), DeviceAccount("plant", "e1", "engine", received=5)
    >>> sums.add(counter_values(one))
    >>> before = counter_values(one)
    >>> one.received = 8
    >>> sums.change(before, counter_values(one))
    >>> sums.totals().received
    8
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._sums = [0] * len(COUNTER_NAMES)

    def add(self, values: tuple[int, ...]) -> None:
        """Add an account."""
        for i, value in enumerate(values):
            self._sums[i] += value

    def remove(self, values: tuple[int, ...]) -> None:
        """Remove an account that is kept no longer."""
        for i, value in enumerate(values):
            self._sums[i] -= value

    def change(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """Note that an account has changed."""
        if before != after:
            self.remove(before)
            self.add(after)

    def totals(self) -> Totals:
        """Return the sums; the other fields are zero."""
        totals = Totals()
        for name, value in zip(COUNTER_NAMES, self._sums, strict=True):
            setattr(totals, name, value)
        return totals


def sum_accounts(accounts: Iterable[DeviceAccount]) -> Totals:
    """Add device accounts up into a `Totals` whose other fields are zero.

    >>> one = DeviceAccount("plant", "e1", "engine", received=5, windowed=4, duplicate=1)
    >>> sum_accounts([one, one]).received
    10
    """
    sums = RunningSums()
    for account in accounts:
        sums.add(counter_values(account))
    return sums.totals()
