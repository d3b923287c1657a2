"""All joiners of a process: one for each stream of a device, bounded, with checkpoints.

The table changes with every message. `checkpoint` returns what has changed, to be written to
`ingest.mapping.store` before the messages are acknowledged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import orjson

from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.compiled import CompiledMapping
from ingest.mapping.extract import Piece
from ingest.mapping.joining import JoinCounters, Joined, Joiner
from ingest.mapping.store import JoinCheckpoint, JoinKey, JoinStore
from ingest.roster import Elapsed, Roster, RosterLimits
from ingest.topics import Address

__all__ = ["JOIN_LIMITS", "Joins"]

log = logging.getLogger(__name__)

_DAY_MS = 86_400_000
JOIN_LIMITS = RosterLimits(
    most=10_000,
    most_strangers=5_000,
    keep_ms=30 * _DAY_MS,
    keep_stranger_ms=_DAY_MS,
    protect_ms=_DAY_MS,
)
"""A stream of a device is known once it had a reading."""
_MOST_VALUES = 1_000_000
"""Values of all joiners. Above it, a device that sends has no lateness."""
_EXPIRE_EVERY_MS = 60_000
_SILENCE_MS = 250
"""A device counts as silent this long after its lateness is over."""

Made = tuple[str, Address, list[Joined]]
"""Mapping, stream of a device, and readings of it."""


@dataclass(slots=True)
class _Stream:
    """One stream of a device.

    Attributes:
        joiner: Its values.
        digest: Digest of the mapping that the values were read with.
        is_received_time: Its times are those of receipt.
        lateness_ms: Lateness of the mapping.
        heard_ms: Time at which its last message came; 0: in an earlier process.
        kept: Values in the joiner when they were counted last.
    """

    joiner: Joiner
    digest: str
    is_received_time: bool
    lateness_ms: int
    heard_ms: int = 0
    kept: int = 0

    def state(self) -> bytes:
        head = orjson.dumps((self.digest, self.is_received_time))
        return head + b"\n" + self.joiner.state()


class Joins:
    """The joiners of all mappings.

    Attributes:
        gone_total: Streams whose values were given up, because their device was silent for too long
            or had to make room.
    """

    def __init__(self, store: JoinStore, limits: RosterLimits = JOIN_LIMITS) -> None:
        """Prepare; `restore` reads the store."""
        self.gone_total = 0
        self._store = store
        self._roster = Roster[JoinKey](limits)
        self._elapsed = Elapsed()
        self._expired_ms = 0
        self._streams: dict[JoinKey, _Stream] = {}
        self._unflushed: dict[JoinKey, None] = {}
        self._changed: dict[JoinKey, None] = {}
        self._gone: dict[JoinKey, None] = {}
        self._values = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def waiting(self) -> int:
        """Values that may still become part of a reading."""
        return sum(stream.joiner.waiting for stream in self._streams.values())

    def restore(
        self, mappings: Iterable[CompiledMapping], counters: Callable[[str], JoinCounters]
    ) -> None:
        """Continue from the store; values of a mapping that has changed are given up."""
        current = {each.name: each for each in mappings}
        for key, row in self._store.rows():
            mapping = current.get(key[0])
            stream = None if mapping is None else _restored(mapping, row, counters(key[0]))
            if stream is None:
                self._gone[key] = None
                continue
            counters(key[0]).values_total += stream.joiner.waiting
            self._streams[key] = stream
            self._roster.restore(key, 0, is_known=True)
            self._count(stream)
            self._unflushed[key] = None
        if self._gone:
            log.warning(
                "values of %d streams are given up: they were read with a mapping that has changed",
                len(self._gone),
            )

    def add(
        self,
        mapping: CompiledMapping,
        pieces: Sequence[Piece],
        recv_ms: int,
        counters: JoinCounters,
        *,
        is_dup: bool,
    ) -> tuple[list[Made], RefusedMessage | None]:
        """Add the values of one message.

        Returns:
            The readings that are complete now, and the first refusal.
        """
        made: list[Made] = []
        refused: RefusedMessage | None = None
        now_ms = self._elapsed.advance(recv_ms)
        if now_ms - self._expired_ms >= _EXPIRE_EVERY_MS:
            self._expired_ms = now_ms
            for key in self._roster.expire(now_ms):
                self._remove(key)
        for piece in pieces:
            key = (mapping.name, piece.address)
            try:
                stream = self._stream(key, mapping, piece, counters)
            except RefusedMessage as exc:
                refused = refused or exc
                continue
            stream.heard_ms = recv_ms
            readings = stream.joiner.add(piece.ts_ms, piece.values, is_dup=is_dup)
            if self._count(stream) > _MOST_VALUES:
                readings += stream.joiner.flush()
                self._count(stream)
            self._note(key, stream)
            if readings:
                made.append((*key, readings))
                self._roster.know(key, now_ms)
            else:
                self._roster.hear(key, now_ms)
        return made, refused

    def due(self, now_ms: int, quiet_since_ms: int) -> list[Made]:
        """Return the readings of devices that have fallen silent, up to their newest values."""
        made: list[Made] = []
        for key in list(self._unflushed):
            stream = self._streams[key]
            silent_ms = now_ms - max(stream.heard_ms, quiet_since_ms)
            if 0 <= silent_ms < stream.lateness_ms + _SILENCE_MS:
                continue
            made += self._flush(key, stream)
        return made

    def give_up(self, mapping: CompiledMapping) -> list[Made]:
        """Return what can be made of the values of a mapping, and forget them.

        The mapping has changed or was removed, so later values do not go with them.
        """
        made: list[Made] = []
        for key in [key for key in self._streams if key[0] == mapping.name]:
            made += self._flush(key, self._streams[key])
            self._roster.discard(key)
            self._remove(key)
        return made

    def checkpoint(self) -> JoinCheckpoint | None:
        """Return what has changed since the last checkpoint; None: nothing."""
        if not (self._changed or self._gone):
            return None
        rows = {key: self._streams[key].state() for key in self._changed}
        found = JoinCheckpoint(rows, list(self._gone))
        self._changed, self._gone = {}, {}
        return found

    # -- streams ----------------------------------------------------------------------------

    def _stream(
        self, key: JoinKey, mapping: CompiledMapping, piece: Piece, counters: JoinCounters
    ) -> _Stream:
        """Return a stream; create it if it is unknown.

        Raises:
            RefusedMessage: It cannot have readings, or there is no room for it.
        """
        stream = self._streams.get(key)
        if stream is not None:
            return stream
        rule = mapping.join
        if rule is None or (rule.emit is not None and rule.emit not in piece.channels):
            detail = (
                f"{mapping.name}: the stream {piece.address.stream} has no channel "
                f"{'' if rule is None else rule.emit}, which join.emit names"
            )
            raise RefusedMessage(RefusalReason.mapping, detail)
        gone = self._roster.admit(key, self._elapsed.ms)
        if gone is None:
            limits = self._roster.limits
            detail = (
                f"{mapping.name}: no room to join the channels of {'/'.join(piece.address)}: "
                f"{len(self)} of {limits.most} streams, {self._roster.strangers} of "
                f"{limits.most_strangers} that had no reading yet"
            )
            raise RefusedMessage(RefusalReason.too_many_devices, detail)
        for each in gone:
            self._remove(each)
        plan = rule.plan(is_received_time=piece.is_received_time)
        joiner = Joiner(plan, piece.channels, counters)
        stream = _Stream(joiner, mapping.digest, piece.is_received_time, plan.lateness_ms)
        self._streams[key] = stream
        self._gone.pop(key, None)
        return stream

    def _flush(self, key: JoinKey, stream: _Stream) -> list[Made]:
        readings = stream.joiner.flush()
        self._count(stream)
        self._note(key, stream)
        if not readings:
            return []
        self._roster.know(key, self._elapsed.ms)
        return [(*key, readings)]

    def _note(self, key: JoinKey, stream: _Stream) -> None:
        """Note that a stream has changed."""
        self._changed[key] = None
        if stream.joiner.is_flushed:
            self._unflushed.pop(key, None)
        else:
            self._unflushed[key] = None

    def _count(self, stream: _Stream) -> int:
        """Return the number of values of all joiners."""
        kept = stream.joiner.kept
        self._values += kept - stream.kept
        stream.kept = kept
        return self._values

    def _remove(self, key: JoinKey) -> None:
        stream = self._streams.pop(key)
        self.gone_total += 1
        self._values -= stream.kept
        stream.joiner.drop()
        self._unflushed.pop(key, None)
        self._changed.pop(key, None)
        self._gone[key] = None


def _restored(mapping: CompiledMapping, row: bytes, counters: JoinCounters) -> _Stream | None:
    """Return the stream of a row; None if the mapping has changed since."""
    head, _, state = row.partition(b"\n")
    digest, is_received = orjson.loads(head)
    if digest != mapping.digest or mapping.join is None:
        return None
    plan = mapping.join.plan(is_received_time=is_received)
    joiner = Joiner.restored(plan, counters, state)
    return _Stream(joiner, digest, is_received, plan.lateness_ms)
