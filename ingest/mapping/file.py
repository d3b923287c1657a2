"""The mapping file: its keys, their defaults, and every fault of a file at once.

```toml
topic = "tele/{device}/SENSOR"        # one or a list; {place}, + and a last #
format = "json"
site = "plant-7"                      # text with places, or { path = "..." } into the message
device = "{device}"
stream = "power"
devices = ["press-*"]                 # optional: only these devices
each = "readings"                     # optional: one object there is one reading

[time]                                # absent: the time of receipt
path = "Time"
form = "iso8601"
zone = "Europe/Berlin"                # for times without an offset

[channels]
power = { path = "ENERGY.Power", unit = "kW", to = "W" }
door = { path = "Door", values = { open = 1, closed = 0 } }
T24 = "Engine.T24"                    # a text is the path

[join]                                # optional: channels that come apart
max_age_ms = 2000
lateness_ms = 1000                    # optional: how much later than a newer message one may come
emit = "power"                        # a trigger channel, or rate_hz = 1
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ingest.errors import MappingInvalid
from ingest.mapping.paths import parse_each
from ingest.mapping.patterns import Pattern, parse_pattern, parse_template
from ingest.mapping.schema import (
    LINE_FORMATS,
    OWN_PLACES,
    BaseTable,
    ChannelTable,
    CsvTable,
    JoinRule,
    MappingTable,
    OverrideTable,
    PackedTable,
    TimeTable,
    overridden,
)
from ingest.tomltables import fault_list, parse_toml, table_faults

__all__ = ["MappingFile", "parse_mapping", "read_mapping_file"]

_MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A valid mapping file.

    Attributes:
        name: Its name, without `.toml`.
        digest: Digest of its content; it changes with every key.
        table: Its content.
    """

    name: str
    digest: str
    table: MappingTable


def read_mapping_file(path: Path) -> MappingFile:
    """Read a mapping file.

    Raises:
        MappingInvalid: The file is missing, is not TOML, or is no mapping; with all its faults.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as exc:
        msg = f"cannot read the mapping {path} ({exc.strerror}); check KPSTREAM_INGEST_MAPPINGS"
        raise MappingInvalid(msg) from exc
    except UnicodeDecodeError as exc:
        msg = f"the mapping {path} is not UTF-8: save it as UTF-8 text"
        raise MappingInvalid(msg) from exc
    if len(raw) > _MAX_FILE_BYTES:
        msg = f"the mapping {path} is larger than {_MAX_FILE_BYTES // 1024} KiB"
        raise MappingInvalid(msg)
    return parse_mapping(text, path.stem, str(path))


def parse_mapping(text: str, name: str, where: str | None = None) -> MappingFile:
    """Parse the text of a mapping file.

    Args:
        text: The TOML.
        name: Name of the mapping.
        where: What messages call it; default: the name.

    Raises:
        MappingInvalid: The text is not TOML, or is no mapping; with all its faults.
    """
    what = f"the mapping {where or name}"
    try:
        table = MappingTable.model_validate(parse_toml(text))
    except ValidationError as exc:
        raise MappingInvalid(fault_list(what, table_faults(exc, _TABLES))) from exc
    except ValueError as exc:
        msg = f"{what} is not TOML: {exc}"
        raise MappingInvalid(msg) from exc
    faults = list(_cross_faults(table))
    if faults:
        raise MappingInvalid(fault_list(what, faults))
    digest = hashlib.sha256(
        table.model_dump_json(by_alias=True, exclude_defaults=True).encode()
    ).hexdigest()[:32]
    return MappingFile(name, digest, table)


_TABLES: dict[str, type[BaseModel]] = {
    "": MappingTable,
    "channels": ChannelTable,
    "time": TimeTable,
    "join": JoinRule,
    "csv": CsvTable,
    "packed": PackedTable,
    "override": OverrideTable,
    "base": BaseTable,
}


def _cross_faults(table: MappingTable) -> Iterator[str]:
    """Yield the faults that lie between the keys of a sound file."""
    patterns = [parse_pattern(topic) for topic in table.topic]
    of_message = {*table.places, *(parse_each(table.each).places if table.each else ())}
    for pattern in patterns:
        known = {*pattern.names, *of_message}
        twice = sorted(set(pattern.names) & of_message)
        if twice:
            yield f"places: {', '.join(twice)} is a place of the topic {pattern.text}, too"
        for key in ("site", "device", "stream"):
            text = getattr(table, key)
            lacking = set(parse_template(text).names) - known if isinstance(text, str) else set()
            if lacking:
                shown = ", ".join(f"{{{name}}}" for name in sorted(lacking))
                yield (
                    f"{key}: the topic {pattern.text} has no place {shown}: "
                    f'add it there, or write {key} = "a fixed name"'
                )
    for name in sorted(_everywhere(patterns, of_message) & OWN_PLACES):
        yield f"places: {{{name}}} is a place of kpstream itself; give yours another name"
    for key in ("csv", "packed"):
        if (getattr(table, key) is not None) and table.format != key:
            yield f'{key}: the format is {table.format}: write format = "{key}", or remove it'
    if table.format == "packed" and table.packed is None:
        yield "packed: the format needs a table [packed] with format and fields"
    if table.each is not None and table.format in (*LINE_FORMATS, "value"):
        yield f"each: in the format {table.format} every line is one reading; remove it"
    everywhere = _everywhere(patterns, of_message)
    for key, when in [("when", table.when)] + [
        (f"channels.{name}.when", channel.when) for name, channel in table.channels.items()
    ]:
        for place in when:
            if place not in everywhere:
                yield f"{key}: there is no place {{{place}}}; there are {_listed(everywhere)}"
    for at, override in enumerate(table.override):
        for name, keys in override.channels.items():
            place = f"override.{at}.channels.{name}"
            if name not in table.channels:
                yield f"{place}: there is no such channel; there are {_listed(table.channels)}"
                continue
            try:
                overridden(table.channels, {name: keys})
            except ValidationError as exc:
                yield from table_faults(exc, _TABLES, place.split("."))
    if table.join is not None and table.join.emit not in (None, *table.channels):
        known_channels = _listed(table.channels)
        yield f"join.emit: there is no channel {table.join.emit}; there are {known_channels}"


def _everywhere(patterns: Iterable[Pattern], of_message: set[str]) -> set[str]:
    return {*(name for pattern in patterns for name in pattern.names), *of_message}


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))[:200] or "none"
