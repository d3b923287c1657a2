"""What one message becomes: readings, and what was left out or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ingest.errors import RefusalReason, RefusedMessage
from ingest.topics import Address

__all__ = ["Block", "Extract", "Faults", "Piece", "blocks_of", "merged"]

_SHOWN: Final = 3
_SKIPPED: Final = 100


@dataclass(slots=True)
class Piece:
    """One reading; with `[join]`, the part of one that a message carries.

    Attributes:
        address: Who measured it.
        ts_ms: Event time, epoch ms.
        is_received_time: The time is that of receipt.
        values: Channel -> finite number.
        channels: The channels of a whole reading of this stream.
    """

    address: Address
    ts_ms: int
    is_received_time: bool
    values: dict[str, float]
    channels: tuple[str, ...]


@dataclass(slots=True)
class Block:
    """Readings of one sender with the same channels, in columns.

    Attributes:
        address: Who measured them.
        ts_ms: Event times, epoch ms.
        is_received_time: The times are those of receipt.
        values: Channel -> one finite number per event time.
        channels: The channels of a whole reading of this stream.
    """

    address: Address
    ts_ms: Sequence[int]
    is_received_time: bool
    values: dict[str, Sequence[float]]
    channels: tuple[str, ...]


@dataclass(slots=True)
class Extract:
    """What one message becomes.

    Attributes:
        blocks: Its readings, in columns, in the order of the message.
        skipped: Channels without a value, each with the reason.
        ignored: Objects that the mapping leaves out: `when` or `devices` do not fit, or there is a
            `[join]` and the device says that it has no value.
        refused: Refusal of a part of the message, beside `blocks`.
    """

    blocks: list[Block] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    ignored: int = 0
    refused: RefusedMessage | None = None

    @property
    def readings(self) -> list[Piece]:
        """The readings one by one, in the order of the message."""
        return [
            Piece(
                block.address,
                ts_ms,
                block.is_received_time,
                {channel: column[at] for channel, column in block.values.items()},
                block.channels,
            )
            for block in self.blocks
            for at, ts_ms in enumerate(block.ts_ms)
        ]

    def skip(self, detail: str) -> None:
        """Note why a channel has no value."""
        if len(self.skipped) < _SKIPPED and detail not in self.skipped:
            self.skipped.append(detail)


class Faults:
    """The faults of one message."""

    def __init__(self, mapping: str) -> None:
        self._mapping = mapping
        self._found: list[tuple[RefusalReason, str]] = []
        self._count = 0

    def add(self, reason: RefusalReason, detail: str) -> None:
        """Note that a reading is refused."""
        self._count += 1
        if len(self._found) < _SHOWN and (reason, detail) not in self._found:
            self._found.append((reason, detail))

    def refusal(self) -> RefusedMessage | None:
        """Return one refusal for all faults; None: there were none."""
        if not self._found:
            return None
        shown = "; ".join(detail for _, detail in self._found)[:600]
        rest = f" ({self._count} readings are refused)" if self._count > 1 else ""
        return RefusedMessage(self._found[0][0], f"{self._mapping}: {shown}{rest}")


def merged(pieces: Iterable[Piece]) -> list[Piece]:
    """Join the pieces of one sender and time, as long as none has a channel of another."""
    found: dict[tuple[Address, int], Piece] = {}
    kept = []
    for piece in pieces:
        first = found.get((piece.address, piece.ts_ms))
        if first is None or not first.values.keys().isdisjoint(piece.values):
            found[piece.address, piece.ts_ms] = piece
            kept.append(piece)
        else:
            first.values.update(piece.values)
    return kept


def blocks_of(pieces: Iterable[Piece]) -> list[Block]:
    """Return the readings in columns: neighbours of one sender with the same channels."""
    found: list[Block] = []
    times: list[int] = []
    columns: dict[str, list[float]] = {}
    for piece in pieces:
        last = found[-1] if found else None
        if last is None or last.address != piece.address or columns.keys() != piece.values.keys():
            times, columns = [], {channel: [] for channel in piece.values}
            values: dict[str, Sequence[float]] = {**columns}
            block = Block(piece.address, times, piece.is_received_time, values, piece.channels)
            found.append(block)
        times.append(piece.ts_ms)
        for channel, value in piece.values.items():
            columns[channel].append(value)
    return found
