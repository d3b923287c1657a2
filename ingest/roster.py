"""Who may have state: keys that peers chose, bounded in age and number, the living protected.

Whoever may publish can make up names. Every table with such keys therefore has a `Roster`, which
says who gets state and who has to go:

- A key is a *stranger* until it is known to be real (`know`); its table decides what proves that.
- A key that has been silent for `keep_ms` goes, a stranger after `keep_stranger_ms`.
- If there is no room for a newcomer, the stranger that has been silent longest goes, then the known
  key that has been silent longest, but none that was heard within `protect_ms`.
- If nobody may go, the newcomer is refused (`RefusalReason.too_many_devices`).

A roster does no more than keep account of keys; the table deletes what the roster names. It has no
clock: time comes in as `Elapsed` milliseconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Elapsed", "Roster", "RosterLimits"]

K = TypeVar("K", bound=Hashable)

_MOST_STEP_MS = 60_000
_SETTLE_MS = 60_000
"""Time for which even a stranger stays. What it has sent is committed then, so that a replay after
a crash does not meet a device whose state is gone."""


def _anybody(_key: Hashable) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class RosterLimits:
    """The limits of one table.

    Attributes:
        most: Most keys.
        most_strangers: Most strangers among them.
        keep_ms: Silence after which a key goes.
        keep_stranger_ms: Silence after which a stranger goes.
        protect_ms: A known key that was heard within this time never goes for a newcomer.
    """

    most: int
    most_strangers: int
    keep_ms: int
    keep_stranger_ms: int
    protect_ms: int


class Elapsed:
    """Time that has passed while messages came, whatever the clock did.

    A step of the clock counts as a minute at most, so no wrong clock makes everybody silent for
    days. Time in which the process is off does not count.
    """

    def __init__(self) -> None:
        self.ms = 0
        self._last_ms: int | None = None

    def advance(self, now_ms: int) -> int:
        """Note the time of a message, epoch milliseconds; returns the time elapsed.

        >>> elapsed = Elapsed()
        >>> [elapsed.advance(ms) for ms in (1_000, 2_500, 2_000, 10**12)]
        [0, 1500, 1500, 61500]
        """
        last_ms = self._last_ms
        if last_ms is None or now_ms < last_ms - _MOST_STEP_MS:  # the clock was set back
            self._last_ms = now_ms
        elif now_ms > last_ms:
            self.ms += min(now_ms - last_ms, _MOST_STEP_MS)
            self._last_ms = now_ms
        return self.ms


class Roster(Generic[K]):
    """The keys of one table, each with the time at which it was heard last.

    >>> roster = Roster[str](RosterLimits(2, 2, 10**9, 10**8, 10**7))
    >>> roster.admit("a", 0), roster.admit("b", 0), roster.admit("c", 1)
    ([], [], None)
    >>> roster.know("a", 100_000)
    >>> roster.admit("c", 100_000)  # "b" is a stranger and has been silent for longer than a minute
    ['b']
    """

    def __init__(self, limits: RosterLimits) -> None:
        self.limits = limits
        self._strangers: OrderedDict[K, int] = OrderedDict()
        self._known: OrderedDict[K, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def __contains__(self, key: K) -> bool:
        return key in self._known or key in self._strangers

    @property
    def strangers(self) -> int:
        """Number of strangers."""
        return len(self._strangers)

    def admit(self, key: K, now_ms: int, may_go: Callable[[K], bool] = _anybody) -> list[K] | None:
        """Add a newcomer; returns who has to go for it, None if there is no room.

        Args:
            key: The newcomer.
            now_ms: See `Elapsed`.
            may_go: Whether the table can do without a key now.
        """
        gone = []
        limits = self.limits
        if len(self._strangers) >= limits.most_strangers or len(self) >= limits.most:
            leaving = self._leaving(now_ms)
            if leaving is None or not may_go(leaving):
                return None
            self.discard(leaving)
            gone.append(leaving)
        self._strangers[key] = now_ms
        return gone

    def _leaving(self, now_ms: int) -> K | None:
        stranger = next(iter(self._strangers), None)
        if stranger is not None and now_ms - self._strangers[stranger] >= _SETTLE_MS:
            return stranger
        known = next(iter(self._known), None)
        has_room = len(self._strangers) < self.limits.most_strangers
        if known is not None and has_room:
            if now_ms - self._known[known] >= self.limits.protect_ms:
                return known
        return None

    def hear(self, key: K, now_ms: int) -> None:
        """Note that a key was heard; no effect on one that is not in the roster."""
        for keys in (self._known, self._strangers):
            if key in keys:
                keys[key] = now_ms
                keys.move_to_end(key)
                return

    def know(self, key: K, now_ms: int) -> None:
        """Note that a key is known to be real, and was heard."""
        self._strangers.pop(key, None)
        self._known[key] = now_ms
        self._known.move_to_end(key)

    def restore(self, key: K, heard_ms: int, *, is_known: bool) -> None:
        """Add a key from saved state; in the order in which they were heard, the oldest first."""
        (self._known if is_known else self._strangers)[key] = heard_ms

    def trim(self) -> list[K]:
        """Remove and return the strangers above their limit, the longest silent ones first."""
        gone: list[K] = []
        while len(self._strangers) > self.limits.most_strangers:
            gone.append(self._strangers.popitem(last=False)[0])
        return gone

    def expire(
        self, now_ms: int, may_go: Callable[[K], bool] = _anybody, most: int = 500
    ) -> list[K]:
        """Remove and return keys that have been silent for too long, at most `most` of them."""
        limits = self.limits
        gone: list[K] = []
        for keys, keep_ms in (
            (self._strangers, limits.keep_stranger_ms),
            (self._known, limits.keep_ms),
        ):
            while keys and len(gone) < most:
                key, heard_ms = next(iter(keys.items()))
                if now_ms - heard_ms < keep_ms or not may_go(key):
                    break
                del keys[key]
                gone.append(key)
        return gone

    def discard(self, key: K) -> None:
        """Remove a key, if it is there."""
        self._strangers.pop(key, None)
        self._known.pop(key, None)
