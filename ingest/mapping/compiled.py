"""A mapping at work: from one message to its readings. Pure.

A message becomes readings in these steps:

1. The topic gives the places and, with them, the channels that the topic can carry.
2. The body becomes a document (`bodies`).
3. `each` finds the objects in it; without `each`, the document is the one object.
4. Each object has site, device, stream, a time, and a value per channel. Values that are arrays
   are columns: one reading per row.
5. Objects of one message with the same sender and time are one reading.

What is wrong with one object harms this object only: the other readings are kept, and
`Extract.refused` says what was refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.bodies import body_reader
from ingest.mapping.channels import ChannelRule, channel_rules, fits, when_of
from ingest.mapping.errors import BodyFault, ObjectFault, ValueFault
from ingest.mapping.eventtimes import EventTimes
from ingest.mapping.extract import Block, Extract, Faults, Piece, blocks_of, merged
from ingest.mapping.file import MappingFile
from ingest.mapping.paths import ABSENT, parse_each
from ingest.mapping.patterns import parse_pattern
from ingest.mapping.schema import JoinRule, overridden
from ingest.mapping.senders import Sender, Senders, has_device
from ingest.mapping.straight import NOT_PLAIN, Straight, straight
from ingest.payloads import MAX_PAYLOAD_BYTES, MAX_READINGS, YEAR_2000_MS, YEAR_2100_MS, unit_advice
from ingest.topicfilters import takes_topic
from ingest.topics import Address

__all__ = ["Block", "ChannelRule", "CompiledMapping", "Extract", "Piece", "compile_mapping"]

_MAX_ROUTES: Final = 20_000
_MAX_TOPIC: Final = 500
_SHOWN: Final = 3


@dataclass(slots=True)
class _Kind:
    """What the places of an object decide.

    Attributes:
        sender: Who sent it.
        rules: The channels that it can carry; none: the mapping leaves it out.
        whole: The channels of a whole reading of its stream.
        straight: The way of plain objects, if they can be plain.
    """

    sender: Sender | None = None
    rules: Sequence[ChannelRule] = ()
    whole: tuple[str, ...] = ()
    straight: Straight | None = None


@dataclass(slots=True)
class _Route:
    """What a topic decides: places, and the kind of all objects if no place is in the message."""

    places: dict[str, str]
    kind: _Kind | None


def compile_mapping(file: MappingFile) -> CompiledMapping:
    """Compile a mapping file."""
    return CompiledMapping(file)


class CompiledMapping:
    """One mapping file, ready for messages.

    Attributes:
        name: Name of the file.
        filters: MQTT filters of its topics.
        digest: Digest of the file's content.
        join: How channels that come apart are joined; None: every message brings whole readings.
        channels: All channels of the file.
    """

    def __init__(self, file: MappingFile) -> None:
        table = file.table
        self.name = file.name
        self.digest = file.digest
        self.join: JoinRule | None = table.join
        self.channels = channel_rules(table.channels, table)
        self._patterns = [parse_pattern(topic) for topic in table.topic]
        self.filters = tuple(dict.fromkeys(pattern.filter for pattern in self._patterns))
        self._format = table.format
        self._body = body_reader(table)
        self._each = None if table.each_text is None else parse_each(table.each_text)
        self._when = when_of(table.when)
        self._senders = Senders(table)
        self._times = EventTimes(table.times)
        self._overrides = [
            (each.devices, channel_rules(overridden(table.channels, each.channels), table))
            for each in table.override
        ]
        self._deciding = sorted(
            {*self._when, *self._senders.places, *(p for r in self.channels for p in r.when)}
            | {place for _, rules in self._overrides for rule in rules for place in rule.when}
        )
        self._routes: dict[str, _Route] = {}
        self._kinds: dict[tuple[str | None, ...], _Kind] = {}

    def match(self, topic: str) -> Mapping[str, str] | None:
        """Return the places of a topic; None if the mapping does not take it."""
        for pattern in self._patterns:
            places = pattern.places(topic)
            if places is not None:
                return None if self._senders.is_foreign(places) else places
        return None

    def read(self, topic: str, payload: bytes, recv_ms: int) -> Extract:
        """Return the readings of one message.

        Without `[join]`, each is whole. A topic that only the filter takes has none: a filter is
        wider than a pattern with text beside a place, or with `devices`.

        Raises:
            RefusedMessage: Nothing of the message is a reading: `missing_channel` if channels are
                missing, else `mapping`.
        """
        route = self._routes.get(topic) or self._route(topic)
        if route is None:
            return Extract(ignored=1)
        if len(payload) > MAX_PAYLOAD_BYTES:
            detail = f"{len(payload)} bytes; a message may have at most {MAX_PAYLOAD_BYTES}"
            raise self._refused(detail)
        try:
            document = self._body(payload)
        except BodyFault as exc:
            raise self._refused(str(exc)) from exc
        try:
            kind = route.kind or self._kind_of(route, document)
            if kind is not None and kind.straight is not None:
                return self._straight(kind.straight, kind, document, recv_ms)
        except NOT_PLAIN:
            pass  # the general way decides, and names the fault
        return self._general(route, document, recv_ms)

    def _route(self, topic: str) -> _Route | None:
        """Return what the topic decides; remembered, because devices send on the same topics.

        None if only the filter takes the topic.

        Raises:
            RefusedMessage: The mapping does not take the topic.
        """
        places = self.match(topic)
        if places is None and any(takes_topic(each, topic) for each in self.filters):
            return None
        if places is None:
            detail = f"the mapping does not take the topic {topic[:200]!r}"
            raise self._refused(detail)
        in_message = self._senders.in_message or (self._each is not None and self._each.places)
        route = _Route(dict(places), None if in_message else self._kind(places))
        if len(topic) <= _MAX_TOPIC:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def _kind_of(self, route: _Route, document: Any) -> _Kind | None:
        """Return the kind of a message that is one object; None: it may have several.

        Raises:
            ObjectFault: The message does not name the sender.
        """
        if self._each is not None:
            return None
        return self._kind(self._senders.with_message(route.places, document, document))

    def _kind(self, places: Mapping[str, str]) -> _Kind:
        """Return what the places of an object decide; remembered like routes.

        Raises:
            ObjectFault: The message does not name the sender.
        """
        key = tuple(map(places.get, self._deciding))
        found = self._kinds.get(key)
        if found is None:
            found = self._new_kind(places)
            if len(self._kinds) >= _MAX_ROUTES:
                self._kinds.clear()
            self._kinds[key] = found
        return found

    def _new_kind(self, places: Mapping[str, str]) -> _Kind:
        present = {place: texts for place, texts in self._when.items() if place in places}
        if not fits(present, places):
            return _Kind()
        sender = self._senders.of(places)
        if len(present) < len(self._when):
            return _Kind()  # a place is absent, and no name needs it
        if sender is None:
            return _Kind()
        rules = tuple(rule for rule in self._rules_of(sender) if fits(rule.when, places))
        whole = self._whole(places)
        is_part = self.join is None and len(rules) != len(whole)
        way = None if is_part else straight(rules, self._times, self._format)
        return _Kind(sender, rules, whole, way)

    def _rules_of(self, sender: Sender) -> Sequence[ChannelRule]:
        """Return the channels of a device: those of the last override that names it, or all."""
        for devices, rules in reversed(self._overrides):
            if has_device(devices, (sender.address.device, sender.device)):
                return rules
        return self.channels

    def _whole(self, places: Mapping[str, str]) -> tuple[str, ...]:
        """Return the channels of a whole reading.

        A channel belongs to the streams whose address fits its `when`: where a place in the address
        has another value, the channel is one of another stream.
        """
        known = {name: places[name] for name in self._senders.places}
        return tuple(
            rule.name
            for rule in self.channels
            if fits({p: texts for p, texts in rule.when.items() if p in known}, known)
        )

    def _straight(self, way: Straight, kind: _Kind, document: Any, recv_ms: int) -> Extract:
        """Return the readings of a message whose objects are all plain.

        Raises:
            one of NOT_PLAIN: One is not.
        """
        if kind.sender is None:
            raise TypeError
        address, received, whole = kind.sender.address, self._times.is_received, kind.whole
        if self._each is None:
            ts_ms, columns = way.read(document, document, recv_ms)
            values = dict(zip(way.names, columns))  # noqa: B905  # as many by construction, and costly
            return Extract([Block(address, ts_ms, received, values, whole)], [], 0, None)
        objects = [each for each, _ in self._each.objects(document)]
        if self.join is not None and len(way.names) != len(whole):
            raise ValueError  # parts of readings may have to be put together
        ts_ms, columns = way.table(document, objects, recv_ms)
        values = dict(zip(way.names, columns))  # noqa: B905  # as above
        return Extract([Block(address, ts_ms, received, values, whole)], [], 0, None)

    def _general(self, route: _Route, document: Any, recv_ms: int) -> Extract:
        """Return the readings of any message.

        Raises:
            RefusedMessage: There are none.
        """
        extract, faults = Extract(), Faults(self.name)
        pieces: list[Piece] = []
        objects = self._objects(route, document)
        for each, places in objects:
            try:
                pieces += self._pieces(document, each, places, recv_ms, extract)
            except ObjectFault as exc:
                faults.add(RefusalReason.mapping, str(exc))
            if len(pieces) > MAX_READINGS:
                detail = f"more than {MAX_READINGS} readings in a message"
                raise self._refused(detail)
        if self._times.is_since_receipt:
            _end_at_receipt(pieces, recv_ms)
        if len(objects) > 1:
            pieces = merged(pieces)
            if self._times.is_shared:
                pieces = self._spread(pieces, recv_ms, faults)
        extract.blocks = blocks_of(self._kept(pieces, extract, faults))
        extract.refused = faults.refusal()
        if extract.refused is not None and not extract.blocks:
            raise extract.refused
        return extract

    def _objects(self, route: _Route, document: Any) -> list[tuple[Any, dict[str, str]]]:
        if self._each is None:
            return [(document, route.places)]
        found = list(islice(self._each.objects(document), MAX_READINGS + 1))
        if len(found) > MAX_READINGS:
            detail = f"more than {MAX_READINGS} objects at {self._each.text}"
            raise self._refused(detail)
        if not found:
            detail = f"the message has nothing at {self._each.text}"
            raise self._refused(detail)
        return [
            (each, {**route.places, **places} if places else route.places) for each, places in found
        ]

    def _pieces(
        self, document: Any, each: Any, places: Mapping[str, str], recv_ms: int, extract: Extract
    ) -> list[Piece]:
        """Return the readings of one object, complete or not.

        Raises:
            ObjectFault: It has none.
        """
        if isinstance(each, ObjectFault) and self._format != "packed":
            raise each
        kind = self._kind(self._senders.with_message(places, document, each))
        sender, whole, received = kind.sender, kind.whole, self._times.is_received
        if sender is None or not kind.rules:
            extract.ignored += 1
            return []
        _check_packed(each if type(document) is list else document)
        if kind.straight is not None:
            try:
                ts_ms, numbers = kind.straight.read(document, each, recv_ms)
            except NOT_PLAIN:
                pass
            else:
                names = kind.straight.names
                return [
                    Piece(sender.address, ts, received, dict(zip(names, row, strict=True)), whole)
                    for ts, row in zip(ts_ms, zip(*numbers, strict=True), strict=True)
                ]
        raws = [(rule, rule.find.of(document, each)) for rule in kind.rules]
        rows = _row_count(raws)
        times = self._times.of(document, each, rows or 1, recv_ms)
        columns = {rule.name: _column(rule, raw, rows, extract) for rule, raw in raws}
        if self.join is not None and _has_no_value(columns, raws):
            extract.ignored += 1
            return []
        return [
            Piece(
                sender.address,
                ts_ms,
                received,
                {
                    name: value
                    for name, column in columns.items()
                    if (value := column[at]) is not None
                },
                whole,
            )
            for at, ts_ms in enumerate(times)
        ]

    def _spread(self, pieces: Sequence[Piece], recv_ms: int, faults: Faults) -> list[Piece]:
        """Give the readings of each sender times of their own."""
        by_sender: dict[Address, list[Piece]] = {}
        for piece in pieces:
            by_sender.setdefault(piece.address, []).append(piece)
        kept = []
        for found in by_sender.values():
            try:
                times = self._times.spread([piece.ts_ms for piece in found], recv_ms)
            except ObjectFault as exc:
                faults.add(RefusalReason.mapping, str(exc))
                continue
            for piece, ts_ms in zip(found, times, strict=True):
                piece.ts_ms = ts_ms
                kept.append(piece)
        return kept

    def _kept(self, pieces: Sequence[Piece], extract: Extract, faults: Faults) -> Iterator[Piece]:
        """Yield the readings to keep.

        Refused are those without a value or with a time of another century, and without `[join]`
        those that lack a channel.
        """
        for piece in pieces:
            lacking = [name for name in piece.channels if name not in piece.values]
            if lacking and (self.join is None or not piece.values):
                why = "; ".join(extract.skipped[:_SHOWN])
                shown = ", ".join(lacking[:10])
                detail = f"{piece.address.stream} needs {shown}" + (f": {why}" if why else "")
                faults.add(RefusalReason.missing_channel, detail)
            elif not YEAR_2000_MS <= piece.ts_ms < YEAR_2100_MS:
                advice = unit_advice(piece.ts_ms).partition(",")[0]
                hint = f"{advice}: check form in [time]" if advice else "set the device's clock"
                detail = f"event time {piece.ts_ms} ms is not in the years 2000 to 2099: {hint}"
                faults.add(RefusalReason.mapping, detail)
            else:
                yield piece

    def _refused(self, detail: str) -> RefusedMessage:
        return RefusedMessage(RefusalReason.mapping, f"{self.name}: {detail}")


def _check_packed(document: Any) -> None:
    """Raise the fault of packed numbers, in a message or object that the mapping is for."""
    packed = document.get("packed") if type(document) is dict else None
    if isinstance(packed, ObjectFault):
        raise packed


def _column(rule: ChannelRule, raw: Any, rows: int | None, extract: Extract) -> list[float | None]:
    """Return the numbers of a channel; a single value holds for all rows.

    Raises:
        ObjectFault: A value is no number.
    """
    if raw is ABSENT:
        extract.skip(f"{rule.name}: the message has nothing at {rule.path}")
        return [None] * (rows or 1)
    try:
        if type(raw) is list:
            numbers = [rule.convert(cell) for cell in raw]
        else:
            numbers = [rule.convert(raw)] * (rows or 1)
    except ValueFault as exc:
        msg = f"{rule.name}: {exc} (at {rule.path})"
        raise ObjectFault(msg) from exc
    if None in numbers:
        extract.skip(f"{rule.name}: no value at {rule.path}")
    return numbers


def _has_no_value(
    columns: Mapping[str, Sequence[float | None]], raws: Sequence[tuple[ChannelRule, Any]]
) -> bool:
    """Whether an object holds its channels, but says that it has a value of none of them."""
    if any(value is not None for column in columns.values() for value in column):
        return False
    return any(raw is not ABSENT for _, raw in raws)


def _row_count(raws: Sequence[tuple[ChannelRule, Any]]) -> int | None:
    """Return the common length of the columns; None: there are none.

    Raises:
        ObjectFault: Their lengths differ, or there are too many rows.
    """
    lengths = {len(raw) for _, raw in raws if type(raw) is list}
    if not lengths:
        return None
    if len(lengths) > 1:
        shown = ", ".join(f"{r.name} {len(raw)}" for r, raw in raws if type(raw) is list)[:200]
        msg = f"the columns have different lengths: {shown}"
        raise ObjectFault(msg)
    rows = lengths.pop()
    if not 0 < rows <= MAX_READINGS:
        msg = f"columns of {rows} values; a message has 1 to {MAX_READINGS} readings"
        raise ObjectFault(msg)
    return rows


def _end_at_receipt(pieces: Sequence[Piece], recv_ms: int) -> None:
    """Turn offsets into times: the largest one was measured at receipt."""
    last = max((piece.ts_ms for piece in pieces), default=0)
    for piece in pieces:
        piece.ts_ms += recv_ms - last
        piece.is_received_time = True
