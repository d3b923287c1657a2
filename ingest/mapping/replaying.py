"""Dead letters of mapped devices through the mended mappings: readings of our own form. Pure.

A replay may not simply publish the raw bytes to their topic again: a mapping that takes the time of
receipt would give them the time of the replay, and the values of `[join]` would be older than what
their device has sent since, so all of them would be late. So they are read here, with the time at
which they were received, and channels that come apart are joined among each other in the order of
their times. The readings then go to the topics of our own form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import orjson

from ingest.deadletter import DeadLetter
from ingest.errors import RefusedMessage
from ingest.mapping.compiled import CompiledMapping
from ingest.mapping.extract import Block, Piece
from ingest.mapping.joining import JoinCounters, Joiner
from ingest.mapping.store import JoinKey
from ingest.topics import MQTT_PREFIX

__all__ = ["Remapped", "remap"]

_MOST_READINGS = 2000
"""Readings in one message."""


@dataclass(slots=True)
class Remapped:
    """What becomes of dead letters with the mappings as they are now.

    Attributes:
        messages: Messages in our own form, as dead letters of their topics.
        done: Ids of dead letters all of whose values are in `messages`.
        refused: Dead letters that are refused again, each with the reason.
        without_partner: Values by mapping that no reading uses, because other channels are not
            among the dead letters.
        ignored: Dead letters that a mapping leaves out (`devices`, `when`).
        others: Dead letters that no mapping takes.
    """

    messages: list[DeadLetter] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    refused: list[tuple[DeadLetter, str]] = field(default_factory=list)
    without_partner: dict[str, int] = field(default_factory=dict)
    ignored: int = 0
    others: list[DeadLetter] = field(default_factory=list)


def remap(
    dead_letters: Iterable[DeadLetter],
    mappings: Sequence[CompiledMapping],
    prefix: str = MQTT_PREFIX,
) -> Remapped:
    """Read dead letters with mappings.

    Args:
        dead_letters: Messages that a bridge refused.
        mappings: The mappings, none of which claims a topic of another one.
        prefix: Prefix of the topics of our own form.
    """
    found = Remapped()
    apart: dict[JoinKey, list[tuple[Piece, DeadLetter]]] = {}
    for dead_letter in dead_letters:
        topic = dead_letter.mqtt_topic
        mapping = None
        if dead_letter.source == "bridge" and not topic.startswith(f"{prefix}/"):
            mapping = next((m for m in mappings if m.match(topic) is not None), None)
        if mapping is None:
            found.others.append(dead_letter)
            continue
        try:
            extract = mapping.read(topic, dead_letter.raw, dead_letter.recv_ms)
        except RefusedMessage as exc:
            found.refused.append((dead_letter, str(exc)))
            continue
        if extract.refused is not None:
            found.refused.append((dead_letter, str(extract.refused)))
        elif not extract.blocks:
            found.ignored += 1
        if mapping.join is None:
            found.messages += [_message(block, dead_letter, prefix) for block in extract.blocks]
            if extract.refused is None and extract.blocks:
                found.done.append(dead_letter.id)
            continue
        for piece in extract.readings:
            apart.setdefault((mapping.name, piece.address), []).append((piece, dead_letter))
    _join(found, apart, {each.name: each for each in mappings}, prefix)
    return found


def _join(
    found: Remapped,
    apart: dict[JoinKey, list[tuple[Piece, DeadLetter]]],
    mappings: dict[str, CompiledMapping],
    prefix: str,
) -> None:
    """Join the values of each stream in the order of their times."""
    open_ids: set[str] = {each.id for each, _ in found.refused}
    done: dict[str, None] = {}
    for (name, address), pieces in apart.items():
        rule = mappings[name].join
        first, last = pieces[0][0], pieces[-1][1]
        if rule is None or (rule.emit is not None and rule.emit not in first.channels):
            detail = f"{name}: the stream {address.stream} has no channel that join.emit names"
            found.refused += [(dead_letter, detail) for _, dead_letter in pieces]
            open_ids.update(dead_letter.id for _, dead_letter in pieces)
            continue
        counters = JoinCounters()
        plan = rule.plan(is_received_time=first.is_received_time)
        joiner = Joiner(plan, first.channels, counters)
        readings = []
        for piece, _ in sorted(pieces, key=lambda each: each[0].ts_ms):
            readings += joiner.add(piece.ts_ms, piece.values)
        readings += joiner.flush()
        for at in range(0, len(readings), _MOST_READINGS):
            part = readings[at : at + _MOST_READINGS]
            times = [each.ts_ms for each in part]
            values: dict[str, Sequence[float]] = {
                channel: [each.values[channel] for each in part] for channel in first.channels
            }
            block = Block(address, times, False, values, first.channels)
            found.messages.append(_message(block, last, prefix))
        ids = {dead_letter.id: None for _, dead_letter in pieces}
        unused = counters.values_total - counters.used_total - counters.duplicates_total
        if unused:
            found.without_partner[name] = found.without_partner.get(name, 0) + unused
            open_ids.update(ids)
        done |= ids
    found.done += [each for each in done if each not in open_ids]


def _message(block: Block, origin: DeadLetter, prefix: str) -> DeadLetter:
    """Return readings as a message in our own form."""
    return DeadLetter(
        reason=origin.reason,
        detail=origin.detail,
        mqtt_topic=block.address.mqtt_topic(prefix),
        recv_ms=origin.recv_ms,
        raw=orjson.dumps({"ts": block.ts_ms, "values": block.values}),
        source=origin.source,
    )
