"""A trial of a mapping: what recorded messages become, without a broker, a log or a gateway. Pure.

`try_mapping` reads messages as the bridge does and keeps what each becomes. It then describes each
stream found: how many readings, at which rate, and how far the clock of the device is from ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median

from ingest.errors import RefusedMessage
from ingest.mapping.compiled import CompiledMapping
from ingest.mapping.extract import Piece
from ingest.mapping.joining import JoinCounters, Joined, Joiner
from ingest.mapping.recorded import BadLine, RecordedMessage
from ingest.mapping.schema import JoinRule
from ingest.topics import Address

__all__ = ["Outcome", "StreamFound", "Trial", "rate_of", "try_mapping"]

_FEWEST_TIMES = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message becomes.

    Attributes:
        message: The message.
        is_foreign: The mapping does not take its topic.
        readings: Readings in it; with `[join]`, the parts of readings that it carries.
        skipped: Channels without a value, each with the reason.
        ignored: Objects that the mapping leaves out on purpose (`when`, `devices`).
        refused: Refusal of all of it, or of a part of it beside `readings`.
    """

    message: RecordedMessage
    is_foreign: bool = False
    readings: Sequence[Piece] = ()
    skipped: Sequence[str] = ()
    ignored: int = 0
    refused: RefusedMessage | None = None


@dataclass(slots=True)
class StreamFound:
    """One stream of one device.

    Attributes:
        address: Whose it is.
        readings: Number of its readings; with `[join]`, of those that the join makes.
        parts: With `[join]`, number of the parts of readings; else 0.
        channels: Channels of a whole reading.
        seen: Channels for which a value has come.
        is_received_time: Its readings have the time of receipt.
        first_ms: Earliest event time.
        last_ms: Latest event time.
        rate_hz: Readings per second; None if there are too few, or if their times are not known.
        clock_offset_ms: Median of event time minus time of receipt, of messages whose time of
            receipt is known and whose event time is the device's; None if there are none.
    """

    address: Address
    readings: int = 0
    parts: int = 0
    channels: tuple[str, ...] = ()
    seen: set[str] = field(default_factory=set)
    is_received_time: bool = False
    first_ms: int = 0
    last_ms: int = 0
    rate_hz: float | None = None
    clock_offset_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial.

    Attributes:
        outcomes: What each message becomes, in order.
        bad_lines: Lines that are no messages.
        streams: The streams found, in the order of their first reading.
        skipped: Channels without a value, each with the reason and the number of messages.
        whole: Readings that the join has made; without `[join]`, empty.
        joined: What became of the values that were joined; None without `[join]`.
    """

    outcomes: Sequence[Outcome]
    bad_lines: Sequence[BadLine]
    streams: Sequence[StreamFound]
    skipped: Counter[str]
    whole: Sequence[Piece] = ()
    joined: JoinCounters | None = None

    @property
    def refused(self) -> int:
        """Messages that are refused, wholly or in part, and lines that are no messages."""
        return sum(each.refused is not None for each in self.outcomes) + len(self.bad_lines)

    @property
    def foreign(self) -> int:
        """Messages whose topic the mapping does not take."""
        return sum(each.is_foreign for each in self.outcomes)


def try_mapping(
    mapping: CompiledMapping, items: Iterable[RecordedMessage | BadLine], now_ms: int
) -> Trial:
    """Read messages with a mapping.

    Args:
        mapping: The mapping.
        items: Messages, and lines that are none.
        now_ms: Time of receipt of messages whose recording does not tell it, epoch ms.
    """
    outcomes, bad_lines = [], []
    for item in items:
        if isinstance(item, BadLine):
            bad_lines.append(item)
        else:
            outcomes.append(_outcome(mapping, item, now_ms))
    skipped = Counter(text for each in outcomes for text in each.skipped)
    streams = _streams(outcomes)
    if mapping.join is None:
        return Trial(outcomes, bad_lines, streams, skipped)
    counters = JoinCounters()
    whole = _join(mapping.join, outcomes, counters)
    _describe_joined(streams, whole)
    return Trial(outcomes, bad_lines, streams, skipped, whole, counters)


def _join(rule: JoinRule, outcomes: Sequence[Outcome], counters: JoinCounters) -> list[Piece]:
    """Return the readings that a bridge makes of these messages, and after them falls silent."""
    joiners: dict[Address, tuple[Joiner, Piece]] = {}
    whole: list[Piece] = []

    def keep(first: Piece, made: Iterable[Joined]) -> None:
        for ts_ms, values in made:
            piece = replace(first, ts_ms=ts_ms, values=values)
            whole.append(piece)

    for outcome in outcomes:
        for piece in outcome.readings:
            if piece.address not in joiners:
                plan = rule.plan(is_received_time=piece.is_received_time)
                joiners[piece.address] = (Joiner(plan, piece.channels, counters), piece)
            joiner, first = joiners[piece.address]
            keep(first, joiner.add(piece.ts_ms, piece.values))
    for joiner, first in joiners.values():
        keep(first, joiner.flush())
    return whole


def _describe_joined(streams: Sequence[StreamFound], whole: Sequence[Piece]) -> None:
    """Let the streams tell of whole readings, and keep the number of parts."""
    times: dict[Address, list[int]] = {}
    for piece in whole:
        times.setdefault(piece.address, []).append(piece.ts_ms)
    for stream in streams:
        stream.parts, stream.readings = stream.readings, len(times.get(stream.address, ()))
        is_known = stream.rate_hz is not None or not stream.is_received_time
        stream.rate_hz = rate_of(times.get(stream.address, ())) if is_known else None


def _outcome(mapping: CompiledMapping, message: RecordedMessage, now_ms: int) -> Outcome:
    if mapping.match(message.topic) is None:
        return Outcome(message, is_foreign=True)
    recv_ms = now_ms if message.recv_ms is None else message.recv_ms
    try:
        extract = mapping.read(message.topic, message.payload, recv_ms)
    except RefusedMessage as exc:
        return Outcome(message, refused=exc)
    return Outcome(
        message,
        readings=extract.readings,
        skipped=extract.skipped,
        ignored=extract.ignored,
        refused=extract.refused,
    )


def _streams(outcomes: Sequence[Outcome]) -> list[StreamFound]:
    found: dict[Address, StreamFound] = {}
    times: dict[Address, list[int]] = {}
    offsets: dict[Address, list[int]] = {}
    for outcome in outcomes:
        recv_ms = outcome.message.recv_ms
        for piece in outcome.readings:
            stream = found.setdefault(piece.address, StreamFound(piece.address))
            stream.readings += 1
            stream.channels = piece.channels
            stream.seen |= piece.values.keys()
            stream.is_received_time |= piece.is_received_time
            if not piece.is_received_time or recv_ms is not None:
                times.setdefault(piece.address, []).append(piece.ts_ms)
            if not piece.is_received_time and recv_ms is not None:
                offsets.setdefault(piece.address, []).append(piece.ts_ms - recv_ms)
    for address, stream in found.items():
        if address in times:
            stream.first_ms, stream.last_ms = min(times[address]), max(times[address])
            stream.rate_hz = rate_of(times[address])
        if address in offsets:
            stream.clock_offset_ms = round(median(offsets[address]))
    return list(found.values())


def rate_of(times_ms: Iterable[int]) -> float | None:
    """Return the readings per second, gaps left out; None for fewer than three event times.

    >>> rate_of([0, 20, 40, 60, 5000, 5020]), rate_of([0, 20])
    (50.0, None)
    """
    ordered = sorted(set(times_ms))
    if len(ordered) < _FEWEST_TIMES:
        return None
    steps = [later - earlier for earlier, later in pairwise(ordered)]
    usual = median(steps)
    steady = [step for step in steps if step <= 2 * usual]
    return 1000 * len(steady) / sum(steady)
