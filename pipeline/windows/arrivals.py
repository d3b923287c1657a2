"""Messages of many records that take one step through a slab together. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.blocks import Block
from ingest.errors import RefusalReason
from pipeline.windows.refusals import Refusal, refusals_of

__all__ = ["Arrival", "Arrivals", "Place"]


class Place(NamedTuple):
    """Where a record is.

    Attributes:
        number: Number of the record in the life of the worker.
    """

    partition: int
    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A block of which all messages go into windows.

    Attributes:
        at: Slot of the device of each message, int64 `[m]`.
    """

    partition: int
    block: Block
    at: NDArray[np.intp]


class Arrivals:
    """Arrivals in the order of the log, as columns over all their messages and readings.

    Attributes:
        at: Slot of the device of each message, int64 `[m]`.
        counts: See `Block`; as the next three.
        recv_ms: See there.
        ts_ms: See there.
        values: Values in the order of the channels of a student, float32 `[n, channels]`.
    """

    def __init__(self, parts: Sequence[Arrival], channels: tuple[str, ...]) -> None:
        self._parts = parts
        blocks = [part.block for part in parts]
        self.at = np.concatenate([part.at for part in parts])
        self.counts = np.concatenate([block.counts for block in blocks])
        self.recv_ms = np.concatenate([block.recv_ms for block in blocks])
        self.ts_ms = np.concatenate([block.ts_ms for block in blocks])
        self.values = np.concatenate([_in_order(block, channels) for block in blocks]).astype(
            np.float32
        )  # the one place where a number of a window becomes float32

    def messages_of(self, readings: NDArray[np.intp]) -> NDArray[np.int64]:
        """How many of some readings each message has, `[m]`."""
        messages = np.searchsorted(np.cumsum(self.counts), readings, side="right")
        return np.bincount(messages, minlength=len(self.counts)).astype(np.int64)

    def refusals(
        self, readings: NDArray[np.intp], reason: RefusalReason | None, detail: str
    ) -> Iterator[Refusal]:
        """Refusals of some readings, ascending indices into all; see `refusals_of`."""
        start = 0
        for part in self._parts:
            stop = start + len(part.block.ts_ms)
            here = readings[(readings >= start) & (readings < stop)] - start
            if len(here):
                yield from refusals_of(part.partition, part.block, here, reason, detail)
            start = stop


def _in_order(block: Block, channels: tuple[str, ...]) -> NDArray[np.float64]:
    """The values of a block in the order of `channels`; others are omitted."""
    if block.channels == channels:
        return block.values
    place = {name: at for at, name in enumerate(block.channels)}
    return block.values[:, [place[name] for name in channels]]
