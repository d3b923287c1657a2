"""The straight way through a plain object: all channels there, as numbers, at simple paths.

Most messages are plain, so this way decides what a message costs. It checks nothing that Python's
own operations or one comparison do not find: the root of all squares is an upper bound of every
number, and NaN where one is. An object that fails is not plain; the general way (`compiled`) then
reads the whole message again and names the fault. Both ways return the same readings; a property
test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from math import hypot
from operator import add, itemgetter, mul
from typing import Any, Final

from ingest.mapping.channels import ChannelRule
from ingest.mapping.eventtimes import EventTimes
from ingest.mapping.paths import Path
from ingest.payloads import MAX_FLOAT32, MAX_READINGS, YEAR_2000_MS, YEAR_2100_MS

__all__ = ["NOT_PLAIN", "Columns", "Straight", "straight"]

NOT_PLAIN: Final = (TypeError, KeyError, IndexError, ValueError, OverflowError, AttributeError)
"""What `Straight.read` raises for an object that is not plain."""
_TEXTS: Final = frozenset({"csv", "value"})
"""Formats whose values are texts."""

_Steps = tuple["str | int", ...]
Columns = Iterable[Sequence[float]]
"""One column per channel."""


class Straight:
    """Reads plain objects of one set of channels.

    Attributes:
        names: The channels, in the order of `read`.
    """

    __slots__ = ("_factors", "_groups", "_is_scaled", "_ms_name", "_offsets", "_times", "names")

    def __init__(self, rules: Sequence[ChannelRule], times: EventTimes) -> None:
        groups: dict[_Steps, list[ChannelRule]] = {}
        for rule in rules:
            groups.setdefault(_steps(rule.find)[:-1], []).append(rule)
        ordered = [rule for group in groups.values() for rule in group]
        self.names = tuple(rule.name for rule in ordered)
        self._groups = [
            (parent, _getter([_steps(rule.find)[-1] for rule in group]))
            for parent, group in groups.items()
        ]
        self._factors = tuple(rule.scale for rule in ordered)
        self._offsets = tuple(rule.offset for rule in ordered)
        self._is_scaled = not any(self._offsets)
        self._times = times
        self._ms_name = times.ms_name

    def read(self, document: Any, each: Any, recv_ms: int) -> tuple[Sequence[int], Columns]:
        """Return event times and columns of an object.

        Raises:
            one of NOT_PLAIN: The object is not plain.
        """
        values = self._values(each)
        if type(values[0]) is list:
            return self._columns(document, each, values, recv_ms)
        numbers: Iterable[float] = map(mul, values, self._factors)
        if not self._is_scaled:
            numbers = map(add, numbers, self._offsets)
        row = tuple(numbers)
        if not hypot(*row) <= MAX_FLOAT32:
            raise ValueError
        if self._ms_name is not None:
            time = each[self._ms_name]
            if type(time) is not int or not YEAR_2000_MS <= time < YEAR_2100_MS:
                raise ValueError
            return (time,), zip(row)
        ts_ms = self._times.of(document, each, 1, recv_ms)
        if not YEAR_2000_MS <= ts_ms[0] < YEAR_2100_MS:
            raise ValueError
        return ts_ms, zip(row)

    def table(
        self, document: Any, objects: Sequence[Any], recv_ms: int
    ) -> tuple[Sequence[int], Columns]:
        """Return event times and columns of several objects, one reading each.

        Raises:
            one of NOT_PLAIN: One of them is not plain.
        """
        if not 0 < len(objects) <= MAX_READINGS or self._times.is_received:
            raise ValueError
        found = zip(*map(self._values, objects), strict=True)
        columns = list(map(self._numbers, found, self._factors, self._offsets))
        if self._ms_name is None:
            times = [self._times.of(document, each, 1, recv_ms)[0] for each in objects]
            if len(objects) > 1 and self._times.is_shared:
                times = list(self._times.spread(times, recv_ms))
        else:
            times = list(map(itemgetter(self._ms_name), objects))
            if set(map(type, times)) != {int}:
                raise ValueError
        if min(times) < YEAR_2000_MS or max(times) >= YEAR_2100_MS:
            raise ValueError
        return times, columns

    def _values(self, each: Any) -> tuple[Any, ...]:
        """Return what an object has for each channel."""
        values: tuple[Any, ...] = ()
        for parent, getter in self._groups:
            inner = each
            for step in parent:
                inner = inner[step]
            values = values + getter(inner) if values else getter(inner)
        return values

    @staticmethod
    def _numbers(column: Sequence[Any], factor: float, offset: float) -> Sequence[float]:
        """Return the numbers of one channel."""
        numbers = list(map(mul, column, repeat(factor)))
        if offset:
            numbers = list(map(add, numbers, repeat(offset)))
        if not hypot(*numbers) <= MAX_FLOAT32:
            raise ValueError
        return numbers

    def _columns(
        self, document: Any, each: Any, values: tuple[Any, ...], recv_ms: int
    ) -> tuple[Sequence[int], Columns]:
        rows = len(values[0])
        if not 0 < rows <= MAX_READINGS or set(map(len, values)) != {rows}:
            raise ValueError
        if set(map(type, values)) != {list}:
            raise TypeError
        columns = list(map(self._numbers, values, self._factors, self._offsets))
        ts_ms = None if self._ms_name is None else each[self._ms_name]
        if type(ts_ms) is not list or len(ts_ms) != rows or set(map(type, ts_ms)) != {int}:
            ts_ms = self._times.of(document, each, rows, recv_ms)
        if min(ts_ms) < YEAR_2000_MS or max(ts_ms) >= YEAR_2100_MS:
            raise ValueError
        return ts_ms, columns


def straight(rules: Sequence[ChannelRule], times: EventTimes, format_: str) -> Straight | None:
    """Return the straight way for these channels; None: their objects are never plain."""
    if format_ in _TEXTS or not rules or times.is_since_receipt:
        return None
    for rule in rules:
        if not rule.is_plain or rule.find.is_rooted or not rule.find.steps:
            return None
        if format_ != "json" and not all(isinstance(step, str) for step in rule.find.steps):
            return None  # a position in a byte string is a number, too
    return Straight(rules, times)


def _steps(path: Path) -> _Steps:
    return path.steps or ()


def _getter(leaves: Sequence[str | int]) -> Callable[[Any], tuple[Any, ...]]:
    """Return the function that gets all leaves of an object, as a tuple."""
    if len(leaves) > 1:
        get: Callable[[Any], tuple[Any, ...]] = itemgetter(*leaves)
        return get
    leaf = leaves[0]
    return lambda inner: (inner[leaf],)
