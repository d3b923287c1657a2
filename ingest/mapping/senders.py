"""Who sent an object: site, device and stream, from the topic and the message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from ingest.mapping.errors import ObjectFault
from ingest.mapping.paths import ABSENT, Path, parse_path
from ingest.mapping.patterns import Template, parse_template
from ingest.mapping.schema import FromMessage, MappingTable
from ingest.topics import Address, is_name, readable_name

__all__ = ["Sender", "Senders", "has_device", "text_at"]

_MAX_NAME: Final = 500
_MAX_INT: Final = 10**18
_KEYS: Final = ("site", "device", "stream")


class Sender(NamedTuple):
    """The address of a sender, and the device's name before it became one of ours."""

    address: Address
    device: str


class Senders:
    """Names the senders of a mapping's objects.

    Attributes:
        places: The places that the names use.
    """

    def __init__(self, table: MappingTable) -> None:
        self._sources = tuple(map(_source, (table.site, table.device, table.stream)))
        self._devices = () if table.devices == ["*"] else tuple(table.devices)
        self.places = tuple(
            sorted({n for each in self._sources if isinstance(each, Template) for n in each.names})
        )

    def of_topic(self, places: Mapping[str, str]) -> Sender | None:
        """Return the sender; None if the topic alone does not name it."""
        filled = []
        for source in self._sources:
            if not isinstance(source, Template) or not places.keys() >= set(source.names):
                return None
            filled.append(source.fill(places))
        device = self._sources[1]
        raw = device.raw(places) if isinstance(device, Template) else ""
        return Sender(Address(*filled), raw)

    def is_foreign(self, places: Mapping[str, str]) -> bool:
        """Whether the topic alone says that the device is not of this mapping."""
        source = self._sources[1]
        if not self._devices or not isinstance(source, Template):
            return False
        if not places.keys() >= set(source.names):
            return False
        return not has_device(self._devices, (source.fill(places), source.raw(places)))

    def of_object(self, document: Any, each: Any, places: Mapping[str, str]) -> Sender | None:
        """Return the sender of an object; None if the mapping is not for this device.

        Raises:
            ObjectFault: The message does not name it.
        """
        names = []
        device = ""
        for key, source in zip(_KEYS, self._sources, strict=True):
            if isinstance(source, Template):
                name, raw = source.fill(places), source.raw(places)
            else:
                raw = text_at(source, document, each, key)
                name = raw if is_name(raw) else readable_name(raw)
            names.append(name)
            if key == "device":
                device = raw
                if self._devices and not has_device(self._devices, (name, raw)):
                    return None
        return Sender(Address(*names), device)


def has_device(patterns: Iterable[str], names: tuple[str, str]) -> bool:
    """Whether a device is one of `patterns`, by our name or by its own."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def text_at(path: Path, document: Any, each: Any, what: str) -> str:
    """Return a text that a message carries; numbers without a fraction and booleans count as text.

    Raises:
        ObjectFault: There is none.
    """
    value = path.of(document, each)
    if type(value) is str and 0 < len(value) <= _MAX_NAME:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int and -_MAX_INT < value < _MAX_INT:
        return str(value)
    kinds: dict[type, str] = {str: "an empty or too long text", dict: "an object", list: "an array"}
    shown = kinds.get(type(value), f"a {type(value).__name__}")
    if value is ABSENT or value is None:
        shown = "nothing"
    msg = f"{what}: the message has {shown} at {path.text}, not a text"
    raise ObjectFault(msg)


def _source(source: str | FromMessage) -> Template | Path:
    return parse_template(source) if isinstance(source, str) else parse_path(source.path)
