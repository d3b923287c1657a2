"""The objects of a kind of messages: where `each` finds them, and what tells them apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.mapping.guesses import TimeGuess
from ingest.mapping.paths import ABSENT, parse_each, parse_path
from ingest.mapping.survey import Document, Kind, Leaf, Step, leaves_of, path_text
from ingest.mapping.times import time_reader

__all__ = ["Item", "Objects", "find_objects", "objects_at", "place_name"]

_SELECTORS = (
    "name", "sensor", "type", "channel", "metric", "tag", "quantity", "property", "parameter",
    "measurement", "n", "key", "id", "cpu", "device", "unit",
)  # fmt: skip
_SERIES = ("id", "mac", "serial", "sensor_id", "sensor", "name", "cpu", "unit", "channel", "device")
_MOST_SELECTED = 64
_MOST_ITEMS = 20_000
_ALIKE = 0.5


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a message: a reading, or a part of one.

    Attributes:
        document: The message.
        content: The object.
        leaves: What is in it.
    """

    document: Document
    content: Any
    leaves: Sequence[Leaf]

    def text_at(self, path: str) -> str | None:
        """Return the text at a path, or None."""
        value = parse_path(path).find(self.content)
        return value if isinstance(value, str) and value else None

    def number_at(self, path: str) -> str | None:
        """Return the whole number at a path as text, or None."""
        value = parse_path(path).find(self.content)
        return str(value) if type(value) is int else None

    def time_ms(self, path: str, guess: TimeGuess | None) -> int | None:
        """Return the event time at a path, or None."""
        value = parse_path(path).find(self.content)
        if guess is None or value is ABSENT:
            return None
        try:
            return time_reader(guess.form, guess.format, guess.zone)(value)
        except (ValueError, OverflowError):
            return None


@dataclass(slots=True)
class Objects:
    """The objects of all messages of a kind.

    Attributes:
        kind: The messages.
        each: Path of `each`; None: a message is one object.
        items: The objects.
        root_leaves: What is in the first message outside of its objects.
        key_place: Place of `each` that names the device, or None.
        selector: Path of the text that tells which channel an object carries, or None.
        selector_place: Name of its place.
        series: Path of the text that tells apart what comes at the same time, or None.
    """

    kind: Kind
    each: str | None = None
    items: list[Item] = field(default_factory=list)
    root_leaves: Sequence[Leaf] = ()
    key_place: str | None = None
    selector: str | None = None
    selector_place: str = ""
    series: str | None = None

    def selected_share_times(self, time_path: str) -> bool:
        """Whether the objects of a message have the same time, whatever they select."""
        times: dict[int, set[str]] = {}
        for item in self.items:
            value = parse_path(time_path).find(item.content)
            times.setdefault(id(item.document), set()).add(repr(value))
        return all(len(each) == 1 for each in times.values())


def find_objects(kind: Kind) -> Objects:
    """Find the objects in the messages of a kind."""
    found = Objects(kind)
    first = kind.documents[0].content
    if kind.format == "csv":
        found.each = "$"
    elif kind.format != "value":
        found.each = _members(kind)
        found.key_place = None if found.each is None else "name"
        found.each = found.each or _array(first)
    for document in kind.documents:
        for content in objects_at(document.content, found.each):
            leaves = [Leaf((), content)] if kind.format == "value" else leaves_of(content)
            found.items.append(Item(document, content, leaves))
            if len(found.items) >= _MOST_ITEMS:
                break
    if found.each is not None and isinstance(first, dict):
        found.root_leaves = leaves_of(first)
    if found.each is not None:
        _select(found)
    if found.selector is None and kind.format != "value":
        _find_series(found)
    return found


def objects_at(content: Any, each: str | None) -> list[Any]:
    """Return the objects of a document: those at a path of `each`, or the document itself."""
    return [content] if each is None else [one for one, _ in parse_each(each).objects(content)]


def _array(content: Any) -> str | None:
    """Return the path of the shallowest array of objects with numbers, `$` for the root."""
    if isinstance(content, list):
        return "$" if _has_numbers(content) else None
    level: list[tuple[tuple[Step, ...], Any]] = [((), content)]
    while level and len(level[0][0]) < 6:
        following: list[tuple[tuple[Step, ...], Any]] = []
        for steps, value in level:
            if not isinstance(value, dict):
                continue
            for key, member in value.items():
                path = (*steps, str(key))
                if isinstance(member, list) and _has_numbers(member):
                    text = path_text(path)
                    own = sum(leaf.is_number for leaf in leaves_of(content))
                    inner = sum(leaf.is_number for leaf in leaves_of(member[0]))
                    if text is not None and inner + 1 >= own:
                        return text
                following.append((path, member))
        level = following[:200]
    return None


def _has_numbers(members: list[Any]) -> bool:
    return any(
        isinstance(member, dict) and any(leaf.is_number for leaf in leaves_of(member))
        for member in members[:3]
    )


def _members(kind: Kind) -> str | None:
    """Return `{name}` if the members of the messages are alike: the keys are names, not fields."""
    contents = [document.content for document in kind.documents[:50]]
    if not all(isinstance(content, dict) and content for content in contents):
        return None
    keys: set[str] = set()
    shapes: list[set[str]] = []
    for content in contents:
        for key, member in content.items():
            inner = member[0] if isinstance(member, list) and member else member
            if not isinstance(inner, dict):
                return None
            keys.add(str(key))
            shapes.append({str(path_text(x.steps)) for x in leaves_of(inner) if x.is_number})
    common = set.intersection(*shapes)
    if len(keys) < 2 or not common:
        return None
    return "{name}" if all(len(common) > _ALIKE * len(shape) for shape in shapes) else None


def _select(found: Objects) -> None:
    """Find the text that tells which channel an object carries."""
    for path in _SELECTORS:
        texts = [item.text_at(path) for item in found.items]
        given = {text for text in texts if text is not None}
        if None in texts or not 1 < len(given) <= _MOST_SELECTED:
            continue
        if sum(any(c.isdigit() for c in text) or ":" in text for text in given) > len(given) / 2:
            if max(sum(leaf.is_number for leaf in item.leaves) for item in found.items) > 2:
                continue  # names of devices: their objects are whole readings
        found.selector, found.selector_place = path, place_name(path)
        return


def _find_series(found: Objects) -> None:
    """Find a text by which messages of one topic differ: they are of several things, not of one."""
    for path in _SERIES:
        for prefix in ("", "tags."):
            texts: dict[str, set[str]] = {}
            for item in found.items:
                text = item.text_at(prefix + path) or item.number_at(prefix + path)
                if text is None:
                    break
                texts.setdefault(item.document.message.topic, set()).add(text)
            else:
                if any(1 < len(each) <= _MOST_SELECTED for each in texts.values()):
                    found.series = prefix + path
                    return


def place_name(path: str) -> str:
    """Return a name for the place of a path."""
    last = path.rsplit(".", 1)[-1].lower()
    is_free = last.isascii() and last.isidentifier() and last not in ("device", "site", "stream")
    return last if is_free else "part"
