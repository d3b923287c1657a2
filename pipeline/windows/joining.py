"""What the records of several partitions hold, as few blocks and ticks as possible. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from ingest.blocks import Block
from ingest.messages import Batch, Tick, Unreadable

__all__ = ["Item", "Record", "Shared", "in_step", "joined", "part_of", "rounds_of"]

Item = Block | Batch | Tick | Unreadable
Record = tuple[int, int, Sequence[Item]]
"""Partition, offset, items."""
Shared = tuple[Block | Tick | Unreadable, NDArray[np.int32]]
"""An item, and its partitions: of each sender of a block, of each record with the same tick."""


def rounds_of(records: Iterable[Record]) -> list[list[Record]]:
    """Records in rounds with one record of a partition at most, in the order of each partition.

    >>> records = [(0, 5, ()), (0, 6, ()), (1, 9, ())]
    >>> [[offset for _, offset, _ in each] for each in rounds_of(records)]
    [[5, 9], [6]]
    """
    rounds: list[list[Record]] = []
    taken: dict[int, int] = {}
    for record in records:
        at = taken.get(record[0], 0)
        taken[record[0]] = at + 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(record)
    return rounds


def in_step(records: Iterable[Record]) -> Iterator[Shared]:
    """The items of records of different partitions, with what can be done at once as one item.

    Partitions have no device in common. So blocks of one stream with the same channels are joined,
    and equal ticks are one, as long as the order within each partition stays the same.
    """
    queues = {partition: deque(joined(items)) for partition, _, items in records}
    while queues := {partition: queue for partition, queue in queues.items() if queue}:
        only_ticks = all(isinstance(queue[0], Tick) for queue in queues.values())
        together: dict[Hashable, list[tuple[int, Block | Tick | Unreadable]]] = {}
        for partition, queue in queues.items():
            head = queue[0]
            alike: Hashable = partition
            if isinstance(head, Tick):
                if not only_ticks:
                    continue
                alike = head
            elif isinstance(head, Block):
                alike = head.stream, head.channels
            together.setdefault(alike, []).append((partition, queue.popleft()))
        for found in together.values():
            yield from _shared(found)


def _shared(found: Sequence[tuple[int, Block | Tick | Unreadable]]) -> Iterator[Shared]:
    first = found[0][1]
    if not isinstance(first, Block):
        yield first, np.array([partition for partition, _ in found], dtype=np.int32)
        return
    blocks = [(partition, item) for partition, item in found if isinstance(item, Block)]
    partitions = [np.full(len(block.senders), at, dtype=np.int32) for at, block in blocks]
    senders = tuple(sender for _, block in blocks for sender in block.senders)
    if len(blocks) == 1 or len(set(senders)) < len(senders):  # a device in two partitions: foreign
        yield from ((block, at) for (_, block), at in zip(blocks, partitions, strict=True))
        return
    first_sender = np.cumsum([0, *(len(at) for at in partitions[:-1])], dtype=np.int32)
    block = Block(
        stream=first.stream,
        channels=first.channels,
        senders=senders,
        sender=np.concatenate(
            [block.sender + n for (_, block), n in zip(blocks, first_sender, strict=True)]
        ),
        recv_ms=np.concatenate([block.recv_ms for _, block in blocks]),
        counts=np.concatenate([block.counts for _, block in blocks]),
        ts_ms=np.concatenate([block.ts_ms for _, block in blocks]),
        values=np.concatenate([block.values for _, block in blocks]),
    )
    yield block, np.concatenate(partitions)


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
