"""Join the channels of a device that come apart, in event time, into readings. Pure.

A device may send every channel in a message of its own, with a time of its own. A `Joiner` keeps
the values of one stream of one device and makes readings of them:

1. At time `t`, a channel has the newest value that is not later than `t` and not older than
   `max_age_ms`. A reading needs a value of every channel.
2. Readings are made at every time of the trigger channel (`emit`), or at every step of a grid
   (`rate_hz`), which is aligned to the epoch, so that it is the same after a restart.
3. A reading at `t` is made when the watermark passes `t`: the newest time that was heard, minus
   `lateness_ms`. At once if every channel has a value of exactly `t`, because no later message can
   change that reading. When the device falls silent, the owner calls `flush`.

So messages in any order within the lateness, messages that come twice, and any way of cutting them
into messages give the same readings. Every value ends in exactly one account:

| value | account |
|---|---|
| in a reading (one value may serve several) | `used` |
| a newer one of its channel came within `max_age_ms`, and no reading in between | `superseded` |
| older than `max_age_ms` before a reading could use it | `expired` |
| of the trigger, when another channel had no value that was fresh enough | `incomplete` |
| older than what has been made into readings already | `late` |
| the same channel and time again (with another number: `superseded`) | `duplicate` |
| still waiting | `waiting` (`Joiner.waiting`) |
| its joiner was removed: its device was silent for long, or the mapping changed | `dropped` |
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

__all__ = ["JoinCounters", "JoinPlan", "Joined", "Joiner"]

_MOST_VALUES = 4096
"""Values that one joiner keeps. A device that sends more within the lateness shortens it."""
_MOST_STEPS = 10_000
"""Steps of the grid for which one value may serve."""
_TIME = itemgetter(0)
_Sample = list[Any]
"""Time, number, and whether a reading has used it."""


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """How the channels of a stream become readings.

    Attributes:
        max_age_ms: Age up to which a value serves for a reading.
        lateness_ms: How much later than a newer message one may come.
        emit: The trigger channel; None: readings are made on a grid.
        rate_hz: Rate of the grid, at most 1000; None: a channel triggers.
    """

    max_age_ms: int
    lateness_ms: int
    emit: str | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if (self.emit is None) == (self.rate_hz is None):
            msg = "give one of emit (a channel) and rate_hz"
            raise ValueError(msg)
        if self.rate_hz is not None and not 0 < self.rate_hz <= 1000:
            msg = f"rate_hz is {self.rate_hz}: more than 0 and at most 1000"
            raise ValueError(msg)
        if self.rate_hz is not None and self.rate_hz * self.max_age_ms > 1000 * _MOST_STEPS:
            msg = f"one value would serve for more than {_MOST_STEPS:,} readings: lower max_age_ms"
            raise ValueError(msg)


@dataclass(slots=True)
class JoinCounters:
    """Accounts of the values of one mapping; the module has the table.

    Attributes:
        values_total: Values taken, and those that were waiting at the start of the process.
        readings_total: Readings made of them.
    """

    values_total: int = 0
    readings_total: int = 0
    used_total: int = 0
    superseded_total: int = 0
    expired_total: int = 0
    incomplete_total: int = 0
    late_total: int = 0
    duplicates_total: int = 0
    dropped_total: int = 0


class Joined(NamedTuple):
    """A reading: event time and the number of every channel."""

    ts_ms: int
    values: dict[str, float]


class Joiner:
    """The values of one stream of one device that may still become part of a reading.

    >>> plan = JoinPlan(max_age_ms=2000, lateness_ms=0, emit="power")
    >>> joiner = Joiner(plan, ("power", "voltage"), JoinCounters())
    >>> joiner.add(1000, {"voltage": 230.5}), joiner.add(1400, {"power": 61.0})
    ([], [Joined(ts_ms=1400, values={'power': 61.0, 'voltage': 230.5})])
    """

    def __init__(
        self, plan: JoinPlan, channels: Sequence[str], counters: JoinCounters, state: bytes = b""
    ) -> None:
        """Prepare, or continue from `state`.

        Args:
            plan: How to join.
            channels: Channels of a reading; the trigger channel is one of them.
            counters: Accounts, updated here.
            state: What `Joiner.state` returned.

        Raises:
            ValueError: `state` is none of these channels.
        """
        self._plan = plan
        self._counters = counters
        self._newest_ms: int | None = None
        self._done_ms: int | None = None
        self._samples: dict[str, list[_Sample]] = {channel: [] for channel in channels}
        self._others = tuple(channel for channel in channels if channel != plan.emit)
        if state:
            self._newest_ms, self._done_ms, samples = orjson.loads(state)
            if samples.keys() != self._samples.keys():
                msg = f"the state has {', '.join(samples)}, not {', '.join(channels)}"
                raise ValueError(msg)
            self._samples = samples

    @classmethod
    def restored(cls, plan: JoinPlan, counters: JoinCounters, state: bytes) -> Joiner:
        """Return a joiner that continues from what `Joiner.state` returned.

        Raises:
            ValueError: `state` is no such thing.
        """
        try:
            channels = tuple(orjson.loads(state)[2])
            return cls(plan, channels, counters, state)
        except (IndexError, KeyError, TypeError) as exc:
            msg = f"not the state of a joiner: {state[:80]!r}"
            raise ValueError(msg) from exc

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of a reading."""
        return tuple(self._samples)

    @property
    def waiting(self) -> int:
        """Values that have not come to any account."""
        return sum(not sample[2] for samples in self._samples.values() for sample in samples)

    @property
    def kept(self) -> int:
        """Values in memory: those that wait, and those that may serve again."""
        return sum(map(len, self._samples.values()))

    @property
    def is_flushed(self) -> bool:
        """Whether `flush` would make no reading."""
        return self._newest_ms is None or self._done_ms == self._newest_ms

    def state(self) -> bytes:
        """Return everything that a later joiner needs to continue."""
        return orjson.dumps((self._newest_ms, self._done_ms, self._samples))

    def add(self, ts_ms: int, values: Mapping[str, float], *, is_dup: bool = False) -> list[Joined]:
        """Add values of one time, and return the readings that are complete now, by time.

        Args:
            ts_ms: Event time.
            values: Channel -> finite number.
            is_dup: Whether the message may have been taken before, so that what is older than the
                readings made is a duplicate and not late.
        """
        counters = self._counters
        counters.values_total += len(values)
        for channel, value in values.items():
            self._insert(channel, ts_ms, value, is_dup)
        if self._newest_ms is None or ts_ms > self._newest_ms:
            self._newest_ms = ts_ms
        made = self._at_once(ts_ms)
        made += self._release(self._newest_ms - self._plan.lateness_ms)
        if self.kept > _MOST_VALUES:
            made += self._release(self._middle_ms())
        made.sort(key=_TIME)
        return made

    def flush(self) -> list[Joined]:
        """Return the readings up to the newest time, because the device has fallen silent."""
        return [] if self._newest_ms is None else self._release(self._newest_ms)

    def drop(self) -> None:
        """Close the accounts: what still waits will not be part of a reading."""
        self._counters.dropped_total += self.waiting
        for samples in self._samples.values():
            samples.clear()

    # -- values -----------------------------------------------------------------------------

    def _insert(self, channel: str, ts_ms: int, value: float, is_dup: bool) -> None:
        """Keep a value, or bring it to its account."""
        counters, samples = self._counters, self._samples[channel]
        at = bisect_left(samples, ts_ms, key=_TIME)
        if at < len(samples) and samples[at][0] == ts_ms:
            if samples[at][1] == value:
                counters.duplicates_total += 1
            else:
                counters.superseded_total += 1  # two numbers for one moment: the first one counts
        elif self._is_late(channel, ts_ms, at):
            if is_dup:
                counters.duplicates_total += 1
            else:
                counters.late_total += 1
        else:
            samples.insert(at, [ts_ms, value, False])
            if self._done_ms is not None and ts_ms <= self._done_ms:
                self._forget(samples, self._done_ms)

    def _is_late(self, channel: str, ts_ms: int, at: int) -> bool:
        """Whether no reading can use a value any more; `at` is its place in its channel."""
        done_ms = self._done_ms
        if done_ms is None or ts_ms > done_ms:
            return False
        if channel == self._plan.emit:
            return True
        # It may still serve for the next reading if nothing newer is known for that.
        samples = self._samples[channel]
        has_newer = at < len(samples) and samples[at][0] <= done_ms
        return has_newer or done_ms - ts_ms >= self._plan.max_age_ms

    def _middle_ms(self) -> int:
        times = sorted(sample[0] for samples in self._samples.values() for sample in samples)
        return int(times[len(times) // 2])

    # -- readings ---------------------------------------------------------------------------

    def _at_once(self, ts_ms: int) -> list[Joined]:
        """Return the reading of a trigger if every channel has a value of exactly its time."""
        emit = self._plan.emit
        if emit is None or (self._done_ms is not None and ts_ms <= self._done_ms):
            return []
        row = []
        for samples in self._samples.values():
            at = bisect_left(samples, ts_ms, key=_TIME)
            if at == len(samples) or samples[at][0] != ts_ms:
                return []
            row.append(samples[at])
        trigger = row[list(self._samples).index(emit)]
        return [] if trigger[2] else [self._make(ts_ms, row)]

    def _release(self, until_ms: int) -> list[Joined]:
        """Make all readings up to a time, and forget what no later one can use."""
        if self._done_ms is not None and until_ms <= self._done_ms:
            return []
        made = list(self._triggered(until_ms) if self._plan.emit else self._gridded(until_ms))
        self._done_ms = until_ms
        for channel in self._others:
            self._forget(self._samples[channel], until_ms)
        return made

    def _triggered(self, until_ms: int) -> Iterable[Joined]:
        emit = self._plan.emit or ""
        triggers = self._samples[emit]
        end = bisect_right(triggers, until_ms, key=_TIME)
        for trigger in triggers[:end]:
            if trigger[2]:
                continue  # made at once
            row = [
                trigger if channel == emit else self._at(samples, trigger[0])
                for channel, samples in self._samples.items()
            ]
            if all(sample is not None for sample in row):
                yield self._make(trigger[0], row)
            else:
                self._counters.incomplete_total += 1
        del triggers[:end]

    def _gridded(self, until_ms: int) -> Iterable[Joined]:
        rate_hz = self._plan.rate_hz or 1.0
        starts = [samples[0][0] for samples in self._samples.values() if samples]
        if len(starts) < len(self._samples):
            return
        begin_ms = max(starts)
        if self._done_ms is not None:
            begin_ms = max(begin_ms, self._done_ms + 1)
        step = _step_from(begin_ms, rate_hz)
        while (t_ms := _step_ms(step, rate_hz)) <= until_ms:
            row = [self._at(samples, t_ms) for samples in self._samples.values()]
            if all(sample is not None for sample in row):
                yield self._make(t_ms, row)
                step += 1
                continue
            next_ms = t_ms
            for sample, samples in zip(row, self._samples.values(), strict=True):
                if sample is None:
                    at = bisect_right(samples, t_ms, key=_TIME)
                    if at == len(samples):
                        return
                    next_ms = max(next_ms, samples[at][0])
            step = max(step + 1, _step_from(next_ms, rate_hz))

    def _at(self, samples: list[_Sample], t_ms: int) -> _Sample | None:
        """Return the value that a channel has at a time; None: none that is fresh enough."""
        at = bisect_right(samples, t_ms, key=_TIME) - 1
        if at < 0 or t_ms - samples[at][0] > self._plan.max_age_ms:
            return None
        return samples[at]

    def _make(self, ts_ms: int, row: Sequence[_Sample | None]) -> Joined:
        values: dict[str, float] = {}
        for channel, sample in zip(self._samples, row, strict=True):
            if sample is not None:  # none of them is
                values[channel] = sample[1]
                self._counters.used_total += not sample[2]
                sample[2] = True
        self._counters.readings_total += 1
        return Joined(ts_ms, values)

    def _forget(self, samples: list[_Sample], done_ms: int) -> None:
        """Remove the values that no reading after `done_ms` can use, and close their accounts."""
        end = bisect_right(samples, done_ms, key=_TIME)
        max_age_ms = self._plan.max_age_ms
        if end and done_ms - samples[end - 1][0] < max_age_ms:
            end -= 1  # it may serve for the next reading
        for at in range(end):
            ts_ms, _, is_used = samples[at]
            if is_used:
                continue
            if at + 1 < len(samples) and samples[at + 1][0] - ts_ms <= max_age_ms:
                self._counters.superseded_total += 1
            else:
                self._counters.expired_total += 1
        del samples[:end]


def _step_from(ms: int, rate_hz: float) -> int:
    """Return the first step of the grid that is not before a time."""
    step = math.floor(ms * rate_hz / 1000)
    while _step_ms(step, rate_hz) < ms:
        step += 1
    return step


def _step_ms(step: int, rate_hz: float) -> int:
    """Return the time of a step of the grid, epoch ms."""
    return round(step * 1000 / rate_hz)
