"""Single messages as blocks, so that every record takes one path through the windows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ingest.blocks import Block
from ingest.messages import Batch, Tick, Unreadable

__all__ = ["joined", "part_of"]


def joined(
    items: Iterable[Block | Batch | Tick | Unreadable],
) -> Iterator[Block | Tick | Unreadable]:
    """The items of a record with its single messages as blocks.

    Messages of one stream that have the same channels share a block, up to the next tick or block.
    So the order of arrival stays the same for each device and stream.
    """
    waiting: dict[str, list[Batch]] = {}
    for item in items:
        if isinstance(item, Batch):
            run = waiting.setdefault(item.stream, [])
            if run and run[0].values.keys() != item.values.keys():
                yield _block(waiting.pop(item.stream))
                run = waiting.setdefault(item.stream, [])
            run.append(item)
        else:
            if not isinstance(item, Unreadable):
                yield from map(_block, waiting.values())
                waiting = {}
            yield item
    yield from map(_block, waiting.values())


def _block(batches: Sequence[Batch]) -> Block:
    """Messages of one stream with the same channels, at least one, as a block."""
    first = batches[0]
    channels = tuple(first.values)
    senders: dict[tuple[str, str], int] = {}
    sender = [senders.setdefault((each.site, each.device), len(senders)) for each in batches]
    columns = [
        [value for each in batches for value in each.values[channel]] for channel in channels
    ]
    return Block(
        stream=first.stream,
        channels=channels,
        senders=tuple(senders),
        sender=np.array(sender, dtype=np.int32),
        recv_ms=np.array([each.recv_ms for each in batches], dtype=np.int64),
        counts=np.array([len(each.ts_ms) for each in batches], dtype=np.int64),
        ts_ms=np.concatenate([each.ts_ms for each in batches]),
        values=np.array(columns, dtype=np.float64).T,
    )


def part_of(block: Block, senders: NDArray[np.bool_]) -> Block:
    """The messages of some senders of a block, chosen by `senders`, bool `[senders]`."""
    messages = senders[block.sender]
    readings = np.repeat(messages, block.counts)
    place = (np.cumsum(senders) - 1).astype(np.int32)
    return Block(
        stream=block.stream,
        channels=block.channels,
        senders=tuple(compress(block.senders, senders.tolist())),
        sender=place[block.sender[messages]],
        recv_ms=block.recv_ms[messages],
        counts=block.counts[messages],
        ts_ms=block.ts_ms[readings],
        values=block.values[readings],
    )
