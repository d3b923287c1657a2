"""Who sent an object: site, device and stream, from places of the topic and of the message.

A name that the message carries (`device = { path = "..." }`) is a place, too, so that places alone
decide who sent an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from ingest.mapping.errors import ObjectFault
from ingest.mapping.paths import Path, parse_path
from ingest.mapping.patterns import parse_template
from ingest.mapping.schema import MappingTable
from ingest.topics import Address

__all__ = ["Sender", "Senders", "has_device"]

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
        in_message: The places that the message carries.
    """

    def __init__(self, table: MappingTable) -> None:
        self.in_message = {name: parse_path(path) for name, path in table.places.items()}
        templates = []
        for key in _KEYS:
            source = getattr(table, key)
            if not isinstance(source, str):
                self.in_message[f"its_{key}"] = parse_path(source.path)
                source = f"{{its_{key}}}"
            templates.append(parse_template(source))
        self._templates = tuple(templates)
        self._device = templates[1]
        self._devices = () if table.devices == ["*"] else tuple(table.devices)
        self._each = table.each
        self.places = tuple(sorted({name for each in templates for name in each.names}))

    def of(self, places: Mapping[str, str]) -> Sender | None:
        """Return the sender; None if the mapping is not for this device.

        Raises:
            ObjectFault: A place has no value.
        """
        for key, template in zip(_KEYS, self._templates, strict=True):
            for name in template.names:
                if name not in places:
                    where = self.in_message[name].shown(self._each)
                    msg = f"{key}: the message has no text at {where}"
                    raise ObjectFault(msg)
        if self.is_foreign(places):
            return None
        names = [template.fill(places) for template in self._templates]
        return Sender(Address(*names), self._device.raw(places))

    def is_foreign(self, places: Mapping[str, str]) -> bool:
        """Whether these places say already that the device is not of this mapping."""
        if not self._devices or not places.keys() >= set(self._device.names):
            return False
        return not has_device(self._devices, (self._device.fill(places), self._device.raw(places)))

    def with_message(
        self, places: Mapping[str, str], document: Any, each: Any
    ) -> Mapping[str, str]:
        """Return the places with those that the message carries; one without a text is absent."""
        if not self.in_message:
            return places
        found = {**places}
        for name, path in self.in_message.items():
            text = _text(path, document, each)
            if text is not None:
                found[name] = text
        return found


def has_device(patterns: Iterable[str], names: tuple[str, str]) -> bool:
    """Whether a device is one of `patterns`, by our name or by its own."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _text(path: Path, document: Any, each: Any) -> str | None:
    """Return a text of a message; integers and booleans count as text."""
    value = path.of(document, each)
    if type(value) is str and 0 < len(value) <= _MAX_NAME:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int and -_MAX_INT < value < _MAX_INT:
        return str(value)
    return None
