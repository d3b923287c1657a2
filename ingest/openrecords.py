"""Records of the topic `readings` that are being filled: accepted messages in, columns out.

Messages of one partition with the same stream and channels share a block, as long as each sender's
messages keep their order: a message whose sender already has one in a later block begins a new
block. A record that has reached one of its bounds takes no more messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import numpy as np

from ingest.blocks import Block, encode_record
from ingest.messages import Tick, encode_envelope
from ingest.payloads import MAX_PAYLOAD_BYTES
from ingest.topics import Address

__all__ = ["LARGEST_CELLS", "OpenRecords", "Sender"]

LARGEST_CELLS = MAX_PAYLOAD_BYTES // 8
"""Most numbers of one message in a block, times included. A longer one stays JSON, because `0,`
takes two bytes there and eight in a block."""
_MOST_READINGS = 20_000
"""Most readings in one record: a record is windowed in one go (some 20 ms) and acked as a whole."""
_MESSAGE_BYTES, _SENDER_BYTES, _BLOCK_BYTES = 20, 8, 200


@dataclass(slots=True)
class Sender:
    """One stream of one device, and the block that its last message went to.

    Attributes:
        address: Its address.
        partition: Its partition of the topic `readings`.
        clock: Name of the device, as the owner of a clock.
        block: Number of the block.
        index: Its place among the senders of that block.
    """

    address: Address
    partition: int
    clock: str = ""
    block: int = -1
    index: int = 0

    def __post_init__(self) -> None:
        self.clock = f"{self.address.site}/{self.address.device}"


class OpenRecords:
    """The records of one load.

    Args:
        most_messages: Most messages in one record.
        most_bytes: Most bytes in one record, up to one message more.
        first: Number of the first block; greater than those of all earlier loads.
    """

    def __init__(self, most_messages: int, most_bytes: int, first: int = 0) -> None:
        self.next_number = first
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._records: dict[int, list[_OpenRecord]] = {}
        self._ticks: dict[int, Tick] = {}

    @property
    def partitions_heard(self) -> list[int]:
        """Partitions with readings."""
        return list(self._records)

    def add(
        self,
        sender: Sender,
        recv_ms: int,
        ts_ms: int | Sequence[int],
        values: Mapping[str, Any],
    ) -> None:
        """Add a checked message of at most `LARGEST_CELLS` numbers.

        Args:
            sender: Its sender.
            recv_ms: Time of receipt, epoch ms.
            ts_ms: Event time of its only reading, or event times.
            values: Channel -> number, or a number for each event time.
        """
        if type(ts_ms) is not int and len(ts_ms) == 1:  # type: ignore[arg-type]
            ts_ms, values = ts_ms[0], {name: column[0] for name, column in values.items()}  # type: ignore[index]
        is_single = type(ts_ms) is int
        readings = 1 if is_single else len(ts_ms)  # type: ignore[arg-type]
        record = self._record(sender.partition, readings)
        channels = tuple(values)
        key = (sender.address.stream, channels, is_single)
        block = record.open.get(key)
        if block is None or sender.block > block.number:
            block = record.open[key] = _OpenBlock(self._number(), *key)
            record.parts.append(block)
            record.size += _BLOCK_BYTES + sum(map(len, channels)) + 4 * len(channels)
        if sender.block != block.number:
            sender.block, sender.index = block.number, len(block.senders)
            block.senders.append((sender.address.site, sender.address.device))
            record.size += _SENDER_BYTES + len(sender.clock)
        block.sender.append(sender.index)
        block.recv_ms.append(recv_ms)
        record.messages += 1
        record.readings += readings
        record.size += _MESSAGE_BYTES + 8 * readings * (1 + len(channels))
        if is_single:
            block.ts_ms.append(ts_ms)  # type: ignore[arg-type]
            block.columns[0].frombytes(block.pack(*values.values()))
        else:
            block.counts.append(readings)
            block.ts_ms.extend(ts_ms)  # type: ignore[arg-type]
            for mine, column in zip(block.columns, values.values(), strict=True):
                mine.fromlist(column if type(column) is list else list(column))

    def add_body(self, sender: Sender, recv_ms: int, readings: int, body: bytes) -> None:
        """Add a checked message as its JSON body."""
        record = self._record(sender.partition, readings)
        line = encode_envelope(*sender.address, recv_ms, body)
        record.parts.append(line)
        record.messages += 1
        record.readings += readings
        record.size += len(line)
        sender.block = self._number()

    def add_tick(self, partitions: Iterable[int], tick: Tick) -> None:
        """Add a tick after everything in the load; a later tick replaces it."""
        for partition in partitions:
            self._ticks[partition] = tick

    def leave_blocks(self) -> None:
        """Begin new blocks, because the caller has forgotten the blocks of its senders."""
        for records in self._records.values():
            records[-1].open.clear()

    def encode(self) -> Iterator[tuple[int, bytes]]:
        """Yield partition and value of each record; per partition in order, ticks last."""
        for partition in self._records.keys() | self._ticks.keys():
            *before, last = self._records.get(partition) or [_OpenRecord()]
            for record in before:
                yield partition, encode_record(record.closed())
            tick = self._ticks.get(partition)
            yield partition, encode_record([*last.closed(), *([] if tick is None else [tick])])

    def _record(self, partition: int, readings: int) -> _OpenRecord:
        """The record of a partition that takes the next message."""
        records = self._records.get(partition)
        if records is None:
            records = self._records[partition] = [_OpenRecord()]
        record = records[-1]
        if record.messages and (
            record.size >= self._most_bytes
            or record.messages >= self._most_messages
            or record.readings + readings > _MOST_READINGS
        ):
            record = _OpenRecord()
            records.append(record)
        return record

    def _number(self) -> int:
        self.next_number += 1
        return self.next_number


@dataclass(slots=True)
class _OpenRecord:
    """Blocks and JSON messages in order, and the blocks that take more."""

    parts: list[_OpenBlock | bytes] = field(default_factory=list)
    open: dict[tuple[str, tuple[str, ...], bool], _OpenBlock] = field(default_factory=dict)
    messages: int = 0
    readings: int = 0
    size: int = 0

    def closed(self) -> list[Block | Tick | bytes]:
        return [part if isinstance(part, bytes) else part.closed() for part in self.parts]


class _OpenBlock:
    """Columns that grow; of messages with one reading, all values stand in one column by rows."""

    __slots__ = (
        "channels",
        "columns",
        "counts",
        "is_single",
        "number",
        "pack",
        "recv_ms",
        "sender",
        "senders",
        "stream",
        "ts_ms",
    )

    def __init__(
        self, number: int, stream: str, channels: tuple[str, ...], is_single: bool
    ) -> None:
        self.number = number
        self.stream = stream
        self.channels = channels
        self.is_single = is_single
        self.senders: list[tuple[str, str]] = []
        self.sender, self.counts = array("i"), array("q")
        self.recv_ms, self.ts_ms = array("q"), array("q")
        self.columns = [array("d") for _ in ((0,) if is_single else channels)]
        self.pack = Struct(f"{len(channels)}d").pack  # twice as fast as a list into the array

    def closed(self) -> Block:
        columns = [np.frombuffer(column) for column in self.columns]
        messages = len(self.recv_ms)
        if self.is_single:
            counts = np.ones(messages, np.int64)
            values = columns[0].reshape(messages, len(self.channels))
        else:
            counts = np.frombuffer(self.counts, np.int64)
            values = np.stack(columns, axis=1)
        return Block(
            stream=self.stream,
            channels=self.channels,
            senders=tuple(self.senders),
            sender=np.frombuffer(self.sender, np.int32),
            recv_ms=np.frombuffer(self.recv_ms, np.int64),
            counts=counts,
            ts_ms=np.frombuffer(self.ts_ms, np.int64),
            values=values,
        )
