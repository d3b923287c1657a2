"""Paths into a message: compiled dotted paths, and JMESPath for what is richer.

A simple path is names and positions: `ENERGY.Power`, `readings[0].value`, `data[-1]`. A name with
other characters stands in quotes: `"Inlet temperature".value`. `$` is the whole message; `$.name`
begins there even where a path otherwise begins at one object of `each`. Every other path is an
expression of [JMESPath](https://jmespath.org).

Beside the functions of JMESPath there is `from_json(text)`, for JSON that stands as text in JSON.

A path of `each` may also go through all members of an array or object with `*`, and bind the keys
of an object to a place: `{device}.readings`.

JMESPath and not JSONPath (python-jsonpath 2.2), because it was 2 to 11 times as fast in the three
expressions measured (a filter, a projection, a dotted path; jmespath 1.1, Python 3.11), and because
its import took 12 ms of CPU time beside 55 ms. Simple paths are compiled here, because even the
dotted path took JMESPath 20 us.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import jmespath
import orjson
from jmespath import functions

from ingest.secrettext import error_text

__all__ = ["ABSENT", "EachPath", "Path", "parse_each", "parse_path"]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()
"""What a path returns where the message has nothing."""

_NAME: Final = r"[^\s.\[\]\"'*{}()|?&@`,!<>=$]+"
_STEP: Final = re.compile(rf'(?P<name>{_NAME})|"(?P<quoted>[^"]+)"|\[(?P<at>-?\d{{1,6}})\]')
_EACH_STEP: Final = re.compile(
    rf"{_STEP.pattern}|(?P<all>\*|\[\*\])|\{{(?P<place>[a-z][a-z0-9_]*)\}}"
)
_MAX_LENGTH: Final = 500


class _Functions(functions.Functions):  # type: ignore[misc]
    """The functions of JMESPath, and `from_json`."""

    @functions.signature({"types": ["string"]})  # type: ignore[untyped-decorator]
    def _func_from_json(self, text: str) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return None


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


@dataclass(frozen=True, slots=True)
class Path:
    """One parsed path.

    Attributes:
        text: As written.
        is_rooted: It begins at the whole message, not at the object of `each`.
        steps: Names and positions of a simple path; None for JMESPath.
        find: Returns what is there, or `ABSENT`; never raises for a parsed message.
    """

    text: str
    is_rooted: bool
    steps: tuple[str | int, ...] | None
    find: Callable[[Any], Any]

    def of(self, document: Any, each: Any) -> Any:
        """Return what is there: in the message, or in one object of it."""
        return self.find(document if self.is_rooted else each)

    def shown(self, each: str | None) -> str:
        """Return the path for a message; with `each`, how to write one of the whole message."""
        if each is None or self.is_rooted:
            return self.text
        return f"{self.text} in an object of each ($.{self.text} begins at the whole message)"


@dataclass(frozen=True, slots=True)
class EachPath:
    """A path to the objects of `each`.

    Attributes:
        text: As written.
        places: Places that it binds.
    """

    text: str
    places: tuple[str, ...]
    _steps: tuple[tuple[str, str | int], ...]

    def objects(self, document: Any) -> Iterator[tuple[Any, dict[str, str]]]:
        """Yield each object and the places on the way to it, in the order of the message.

        An array at the end yields its members, anything else itself.
        """
        yield from _objects(document, self._steps, {})


def parse_path(text: str) -> Path:
    """Parse a path.

    Raises:
        ValueError: It is none; the message says why.
    """
    _check_length(text)
    is_rooted, rest = _rooted(text)
    steps = _simple_steps(rest)
    if steps is not None:
        return Path(text, is_rooted, steps, _finder(steps))
    try:
        expression = jmespath.compile(rest)
    except Exception as exc:  # whatever its parser raises means: no path
        msg = f"{text[:80]!r} is neither a path like a.b[0] nor JMESPath: {error_text(exc)[:160]}"
        raise ValueError(msg) from exc
    return Path(text, is_rooted, None, _searcher(expression))


def parse_each(text: str) -> EachPath:
    """Parse a path of `each`.

    Raises:
        ValueError: It is none; the message says why.
    """
    _check_length(text)
    _, rest = _rooted(text)
    steps: list[tuple[str, str | int]] = []
    at = 0
    while at < len(rest):
        if rest[at] == "." and at > 0:
            at += 1
        found = _EACH_STEP.match(rest, at)
        if found is None:
            msg = f"{text[:80]!r}: write names, [n], * and {{place}}, joined by dots"
            raise ValueError(msg)
        kind = str(found.lastgroup)
        if kind == "at":
            steps.append((kind, int(found[kind])))
        else:
            steps.append(("name" if kind == "quoted" else kind, found[kind]))
        at = found.end()
    places = tuple(str(value) for kind, value in steps if kind == "place")
    if len(set(places)) != len(places):
        msg = f"{text[:80]!r}: a place occurs twice"
        raise ValueError(msg)
    return EachPath(text, places, tuple(steps))


def _check_length(text: str) -> None:
    if not 0 < len(text) <= _MAX_LENGTH:
        msg = f"a path has 1 to {_MAX_LENGTH} characters"
        raise ValueError(msg)


def _rooted(text: str) -> tuple[bool, str]:
    if text == "$":
        return True, ""
    if text.startswith("$."):
        return True, text[2:]
    if text.startswith("$["):
        return True, text[1:]
    return False, text


def _simple_steps(text: str) -> tuple[str | int, ...] | None:
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        if at > 0 and text[at] == ".":
            at += 1
        elif at > 0 and text[at] != "[":
            return None
        found = _STEP.match(text, at)
        if found is None:
            return None
        if found["at"] is not None:
            if at > 0 and text[at - 1] == ".":
                return None
            steps.append(int(found["at"]))
        else:
            steps.append(found["name"] or found["quoted"])
        at = found.end()
    return tuple(steps)


def _finder(steps: tuple[str | int, ...]) -> Callable[[Any], Any]:
    """Compile a simple path: names lead into objects only, positions into arrays only."""
    if len(steps) == 1 and isinstance(steps[0], str):
        name = steps[0]
        return lambda value: value.get(name, ABSENT) if type(value) is dict else ABSENT

    def find(value: Any) -> Any:
        for step in steps:
            if isinstance(step, str):
                if type(value) is not dict:
                    return ABSENT
                value = value.get(step, ABSENT)
            else:
                if type(value) is not list or not -len(value) <= step < len(value):
                    return ABSENT
                value = value[step]
        return value

    return find


def _searcher(expression: Any) -> Callable[[Any], Any]:
    def find(value: Any) -> Any:
        try:
            found = expression.search(value, _OPTIONS)
        except Exception:  # a function met a value of a type that it does not take
            return ABSENT
        return ABSENT if found is None else found

    return find


def _objects(
    value: Any, steps: tuple[tuple[str, str | int], ...], places: dict[str, str]
) -> Iterator[tuple[Any, dict[str, str]]]:
    for at, (kind, step) in enumerate(steps):
        if kind == "name":
            value = value.get(step, ABSENT) if type(value) is dict else ABSENT
        elif kind == "at":
            fits = type(value) is list and -len(value) <= int(step) < len(value)
            value = value[step] if fits else ABSENT
        else:
            rest = steps[at + 1 :]
            if kind == "place":
                members = value.items() if type(value) is dict else ()
                for key, member in members:
                    yield from _objects(member, rest, {**places, str(step): str(key)})
            elif type(value) in (dict, list):
                for member in value.values() if type(value) is dict else value:
                    yield from _objects(member, rest, places)
            return
        if value is ABSENT:
            return
    if type(value) is list:
        for member in value:
            yield member, places
    else:
        yield value, places
