"""Topic patterns with places, and names made of them.

A pattern is an MQTT filter in which a level may be a **place**, a name in braces: the level's text
becomes the value of the place. A level may also hold places beside fixed text; the first place then
takes as much as it can, and the filter, which cannot write such a level, takes every text there.

>>> pattern = parse_pattern("tele/{device}/SENSOR")
>>> pattern.filter, pattern.places("tele/plug-3/SENSOR"), pattern.places("tele/plug-3/STATE")
('tele/+/SENSOR', {'device': 'plug-3'}, None)
>>> parse_pattern("ha/{device}_temperature/state").places("ha/hall_2_temperature/state")
{'device': 'hall_2'}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from ingest.topics import is_name, readable_name

__all__ = ["Pattern", "Template", "TextChoice", "parse_pattern", "parse_template"]

_PLACE: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_MAX_LEVELS: Final = 32
_MAX_LENGTH: Final = 1000


@dataclass(frozen=True, slots=True)
class Pattern:
    """One parsed topic pattern.

    Attributes:
        text: As written.
        filter: The MQTT filter that takes its topics.
        names: Its places, in order.
    """

    text: str
    filter: str
    names: tuple[str, ...]
    _matches: re.Pattern[str]

    def places(self, topic: str) -> dict[str, str] | None:
        """Return the value of each place in `topic`; None if the topic does not fit."""
        found = self._matches.fullmatch(topic)
        return None if found is None else found.groupdict()


def parse_pattern(text: str) -> Pattern:
    """Parse a pattern.

    Raises:
        ValueError: It is none; the message says why.
    """
    if not 0 < len(text) <= _MAX_LENGTH or "\x00" in text:
        msg = f"a topic has 1 to {_MAX_LENGTH} characters"
        raise ValueError(msg)
    levels = text.split("/")
    if len(levels) > _MAX_LEVELS:
        msg = f"a topic has at most {_MAX_LEVELS} levels here"
        raise ValueError(msg)
    if levels[0].startswith("$"):
        msg = "a topic that begins with $ is the broker's own; write the filter without $share"
        raise ValueError(msg)
    names: list[str] = []
    filters, expressions = [], []
    for at, level in enumerate(levels):
        if level == "+":
            filters.append("+")
            expressions.append("[^/]*")
        elif level == "#" and at == len(levels) - 1:
            filters.append("#")
        else:
            found = _level(level)
            filters.append("+" if found.names else level)
            expressions.append(found.expression)
            names += found.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"the place {{{twice[0]}}} occurs twice; give one of them another name"
        raise ValueError(msg)
    expression = "/".join(expressions)
    if levels[-1] == "#":
        expression = f"{expression}(?:/.*)?" if expressions else ".*"
    matches = re.compile(rf"(?!\$){expression}", re.DOTALL)  # wildcards take no topic of the broker
    return Pattern(text, "/".join(filters), tuple(names), matches)


class TextChoice:
    """Texts, and patterns of texts with `*` and `?`, one of which a text must be.

    >>> choice = TextChoice(["ENERGY", "DS18B20*"])
    >>> choice.takes("ENERGY"), choice.takes("DS18B20-2"), choice.takes("Time"), choice.takes(None)
    (True, True, False, False)

    Attributes:
        texts: As written.
    """

    __slots__ = ("_patterns", "_plain", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._plain = frozenset(texts)
        self._patterns = tuple(text for text in texts if set(text) & set("*?["))

    def takes(self, text: str | None) -> bool:
        """Whether the text is one of them."""
        if text is None:
            return False
        return text in self._plain or any(fnmatchcase(text, each) for each in self._patterns)


class _Level(NamedTuple):
    """A level that is no wildcard: its regular expression, and the places in it."""

    expression: str
    names: tuple[str, ...]


def _level(level: str) -> _Level:
    """Parse a level of fixed text and places.

    Raises:
        ValueError: It is none; the message says why.
    """
    *parts, last = _PLACE.split(level)  # text, name, text, name, ..., text
    texts, names = [*parts[::2], last], tuple(parts[1::2])
    if any(set(text) & set("+#{}") for text in texts):
        msg = f"level {level!r}: + and # are whole levels, # only the last one; a place is {{name}}"
        raise ValueError(msg)
    if "" in texts[1:-1]:
        msg = f"level {level!r}: two places need a text between them"
        raise ValueError(msg)
    places = [f"(?P<{name}>[^/]+)" for name in names]
    middle = "".join(place + re.escape(text) for place, text in zip(places, texts[1:], strict=True))
    return _Level(re.escape(texts[0]) + middle, names)


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places, which becomes a name.

    Attributes:
        text: As written.
        names: The places in it.
    """

    text: str
    names: tuple[str, ...]

    def fill(self, places: Mapping[str, str]) -> str:
        """Return the name; a text that is no name becomes a readable part and a hash.

        >>> parse_template("{site}").fill({"site": "Plant 7"})
        'Plant-7-0953f1d8'

        Raises:
            KeyError: A place has no value.
        """
        text = self.raw(places)
        return text if is_name(text) else readable_name(text)

    def raw(self, places: Mapping[str, str]) -> str:
        """Return the text with the values of the places."""
        return _PLACE.sub(lambda found: places[found[1]], self.text)


def parse_template(text: str) -> Template:
    """Parse a text with places.

    Raises:
        ValueError: It is none; the message says why.
    """
    rest = _PLACE.sub("", text)
    if not text or "{" in rest or "}" in rest:
        msg = f"{text[:80]!r}: write a text, a {{place}}, or both; a place is of a-z 0-9 _"
        raise ValueError(msg)
    if text == rest and not is_name(text):
        rule = "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        msg = f"{text[:80]!r} is not a name: {rule}"
        raise ValueError(msg)
    return Template(text, tuple(dict.fromkeys(_PLACE.findall(text))))
