"""The channels of a mapping: where a value is, and what number it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.mapping.paths import Path, parse_path
from ingest.mapping.patterns import TextChoice
from ingest.mapping.schema import ChannelTable, MappingTable
from ingest.mapping.values import Converter, converter

__all__ = ["ChannelRule", "When", "channel_rules", "fits", "when_of"]

When = Mapping[str, TextChoice]
"""Places, and the values that they must have."""


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """One channel of a mapping.

    Attributes:
        name: Its name.
        path: Where its value is, as text.
        source_unit: Unit of the value in the message; None: not given.
        unit: Unit of the channel; None: not given.
        scale: The number of the channel is `value * scale + offset`, conversion included.
        offset: See `scale`.
        is_plain: The value is a number or a boolean: neither looked up nor read from text.
        when: The channel exists only where places have these values.
        find: The parsed path.
        convert: Returns the number of a value.
    """

    name: str
    path: str
    source_unit: str | None
    unit: str | None
    scale: float
    offset: float
    is_plain: bool
    when: When
    find: Path = field(repr=False)
    convert: Converter = field(repr=False)


def channel_rules(
    channels: Mapping[str, ChannelTable], table: MappingTable
) -> tuple[ChannelRule, ...]:
    """Return the rules of channels, with the defaults of the file, in their order."""
    return tuple(_rule(name, each, table) for name, each in channels.items())


def when_of(when: Mapping[str, list[str]]) -> When:
    """Return the conditions of a `when` table."""
    return {place: TextChoice(texts) for place, texts in when.items()}


def fits(when: When, places: Mapping[str, str]) -> bool:
    """Whether all places have one of their values."""
    return all(choice.takes(places.get(place)) for place, choice in when.items())


def _rule(name: str, channel: ChannelTable, table: MappingTable) -> ChannelRule:
    path = parse_path(channel.path or table.channel_path(name))
    scale, offset = channel.factors
    to_scale, to_offset = channel.unit_factors
    values = channel.values
    if values is not None:
        values = {text: number * to_scale + to_offset for text, number in values.items()}
    read = converter(
        scale,
        offset,
        values=values,
        text=table.has_texts if channel.text is None else channel.text,
        decimal=table.decimal,
        missing=frozenset(("", *(text.strip() for text in table.missing))),
    )
    return ChannelRule(
        name,
        path.text,
        channel.unit,
        channel.to or channel.unit,
        scale,
        offset,
        values is None,
        when_of(channel.when),
        path,
        read,
    )
