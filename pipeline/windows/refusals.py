"""What becomes of records: windows, and as bodies of messages what no window takes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ingest.blocks import Block
from ingest.errors import RefusalReason
from ingest.messages import Unreadable
from ingest.payloads import encode_payload
from ingest.topics import Address
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["Outcome", "Refusal", "refusals_of"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Readings that will never be windowed; they become dead letters, or go to ``late``.

    Attributes:
        partition: Partition of the record that had them.
        reason: ``None`` for late readings, which are an output of their own and no fault.
        body: A message in the batch form that holds only the refused readings.
    """

    partition: int
    address: Address
    reason: RefusalReason | None
    detail: str
    recv_ms: int
    body: bytes


@dataclass(slots=True)
class Outcome:
    """The result of records: windows to score, refused and late readings.

    Attributes:
        unreadable: With the partition of the record.
        readings: Number of readings that were not applied before.
    """

    windows: list[WindowBatch] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    late: list[Refusal] = field(default_factory=list)
    unreadable: list[tuple[int, Unreadable]] = field(default_factory=list)
    readings: int = 0


def refusals_of(
    partition: int,
    block: Block,
    readings: NDArray[np.intp],
    reason: RefusalReason | None,
    detail: str,
) -> Iterator[Refusal]:
    """One refusal for each message of a block that has some of the readings.

    Args:
        partition: See `Refusal`.
        block: The messages.
        readings: Indices into the readings of the block, ascending.
        reason: See `Refusal`.
        detail: See `Refusal`.
    """
    ends = np.cumsum(block.counts)
    messages = np.searchsorted(ends, readings, side="right")
    for message in dict.fromkeys(messages.tolist()):
        which = readings[messages == message]
        columns = block.values[which].T.tolist()
        site, device = block.senders[block.sender[message]]
        yield Refusal(
            partition,
            Address(site, device, block.stream),
            reason,
            detail,
            int(block.recv_ms[message]),
            encode_payload(
                block.ts_ms[which].tolist(), dict(zip(block.channels, columns, strict=True))
            ),
        )
