"""Topic patterns with places, and names made of them.

A pattern is an MQTT filter in which a level may be a **place**, a name in braces: the level's text
becomes the value of the place.

>>> pattern = parse_pattern("tele/{device}/SENSOR")
>>> pattern.filter, pattern.places("tele/plug-3/SENSOR"), pattern.places("tele/plug-3/STATE")
('tele/+/SENSOR', {'device': 'plug-3'}, None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ingest.topics import is_name, readable_name

__all__ = ["Pattern", "Template", "parse_pattern", "parse_template"]

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
        place = _PLACE.fullmatch(level)
        if place is not None:
            if place[1] in names:
                msg = f"the place {level} occurs twice; give one of them another name"
                raise ValueError(msg)
            names.append(place[1])
            filters.append("+")
            expressions.append(f"(?P<{place[1]}>[^/]+)")
        elif level == "+":
            filters.append("+")
            expressions.append("[^/]*")
        elif level == "#" and at == len(levels) - 1:
            filters.append("#")
        elif set(level) & set("+#{}"):
            msg = f"level {level!r}: +, # and {{place}} are whole levels, # only the last one"
            raise ValueError(msg)
        else:
            filters.append(level)
            expressions.append(re.escape(level))
    expression = "/".join(expressions)
    if levels[-1] == "#":
        expression = f"{expression}(?:/.*)?" if expressions else ".*"
    return Pattern(text, "/".join(filters), tuple(names), re.compile(expression, re.DOTALL))


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
