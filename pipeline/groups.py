"""Cut parts of many rows, such as batches of windows, into groups of bounded size. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

__all__ = ["cut_groups"]


class _Rows(Protocol):
    """What has a number of rows and can give some of them."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def take(self: _Part, rows: slice, /) -> _Part:
        """Some of the rows."""
        ...


_Part = TypeVar("_Part", bound=_Rows)


def cut_groups(parts: Sequence[_Part], most: int) -> Iterator[list[_Part]]:
    """Yield the parts in groups of at most `most` rows, in order; a part is cut where one ends."""
    group: list[_Part] = []
    room = most
    for part in parts:
        start = 0
        while start < len(part):
            stop = min(start + room, len(part))
            is_whole = stop - start == len(part)
            group.append(part if is_whole else part.take(slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield group
                group, room = [], most
    if group:
        yield group
