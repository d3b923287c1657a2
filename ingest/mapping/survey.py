"""A survey of recorded messages: what kinds there are, and which numbers, texts and times. Pure.

It is the first half of a draft (`drafting`). Messages are of one kind if their topics have the same
number of levels, and their bodies the same format and mostly the same content. Everything that a
message can grow is bounded: depth, members, text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from ingest.mapping.errors import BodyFault
from ingest.mapping.lines import read_line_protocol
from ingest.mapping.paths import parse_path
from ingest.mapping.recorded import RecordedMessage

__all__ = [
    "Document",
    "Kind",
    "Leaf",
    "Rows",
    "Step",
    "expression",
    "is_number_text",
    "json_of",
    "leaves_of",
    "path_text",
    "survey",
]

Step: TypeAlias = "str | int"

_DEEPEST = 12
_MOST_LEAVES = 400
_MOST_POSITIONS = 4
_MOST_ROWS = 1000
_ALIKE = 0.5
_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One number, text, truth value or column of numbers in a document.

    Attributes:
        steps: Names and positions on the way to it.
        value: The value.
    """

    steps: tuple[Step, ...]
    value: Any

    @property
    def is_number(self) -> bool:
        """Whether it is a number, or a column of numbers."""
        return _is_number(self.value) or isinstance(self.value, list)


@dataclass(frozen=True, slots=True)
class Document:
    """A message that could be read.

    Attributes:
        message: The message.
        format: Its format, as a mapping file names it.
        content: What is in it.
        rows: How it is written, if it is CSV.
    """

    message: RecordedMessage
    format: str
    content: Any
    rows: Rows | None = None

    @property
    def levels(self) -> list[str]:
        """Levels of its topic."""
        return self.message.topic.split("/")


@dataclass(slots=True)
class Kind:
    """Messages of one kind.

    Attributes:
        format: Their format.
        documents: The messages.
        names: Names of the members with numbers in them.
    """

    format: str
    documents: list[Document] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    @property
    def topics(self) -> list[str]:
        """Their topics, sorted."""
        return sorted({each.message.topic for each in self.documents})


def survey(messages: Iterable[RecordedMessage]) -> tuple[list[Kind], list[RecordedMessage]]:
    """Return the kinds of messages, the richest one first, and the messages without numbers."""
    kinds: list[Kind] = []
    others: list[RecordedMessage] = []
    for message in messages:
        document = _read(message)
        names = set() if document is None else _names(document)
        if document is None or not names:
            others.append(message)
            continue
        kind = next((each for each in kinds if _belongs(document, names, each)), None)
        if kind is None:
            kind = Kind(document.format)
            kinds.append(kind)
        kind.documents.append(document)
        kind.names |= names
    kinds.sort(key=lambda kind: -len(kind.names) * len(kind.documents))
    return kinds, others


def leaves_of(content: Any) -> list[Leaf]:
    """Return the numbers, texts and columns of a document, in its order.

    An array of objects is not entered: it is for `each`.

    >>> [(path_text(leaf.steps), leaf.value) for leaf in leaves_of({"a": {"b c": 1}, "d": [2, 3]})]
    [('a."b c"', 1), ('d[0]', 2), ('d[1]', 3)]
    """
    found: list[Leaf] = []
    is_row = isinstance(content, list) and not any(isinstance(x, (dict, list)) for x in content)
    if is_row:
        return [Leaf((at,), cell) for at, cell in enumerate(content[:_MOST_LEAVES])]
    for leaf in _walk(content, ()):
        found.append(leaf)
        if len(found) >= _MOST_LEAVES:
            break
    return found


def path_text(steps: Sequence[Step]) -> str | None:
    """Return the path of a mapping file for steps; None if no simple path leads there.

    >>> path_text(("params", "em:0", 1)), path_text(("a b",)), path_text(()), path_text(('x"y',))
    ('params.em:0[1]', '"a b"', '$', None)
    """
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if _is_simple((step,), step) else f'"{step}"'
        text += f".{name}" if text else name
    text = text or "$"
    return text if _is_simple(tuple(steps), text) else None


def expression(steps: Sequence[Step]) -> str:
    """Return the JMESPath expression for steps.

    >>> expression(("params", "em:0", 1))
    'params."em:0"[1]'
    """
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", step) else json.dumps(step)
        text += f".{name}" if text else name
    return text or "@"


def json_of(message: RecordedMessage) -> Any:
    """Return the content of a message in JSON; None if it is none."""
    try:
        return orjson.loads(message.payload)
    except orjson.JSONDecodeError:
        return None


def is_number_text(text: str) -> bool:
    """Whether a text is a number."""
    return _NUMBER.fullmatch(text.strip()) is not None


def _is_simple(steps: tuple[Step, ...], text: str) -> bool:
    try:
        return parse_path(text).steps == steps
    except ValueError:
        return False


def _read(message: RecordedMessage) -> Document | None:
    """Return a message as a document; None if its format is none of those that a draft knows."""
    payload = message.payload
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return _binary(message)
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if is_number_text(bare):
        return Document(message, "value", bare)
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        points = _points(payload)
        if points is not None:
            return Document(message, "line-protocol", points)
        rows = _rows(text)
        return None if rows is None else Document(message, "csv", rows.content, rows)
    return Document(message, "json", content) if isinstance(content, (dict, list)) else None


def _binary(message: RecordedMessage) -> Document | None:
    """Return a message of one of the binary formats."""
    import cbor2
    import msgpack

    for format_, read in (("cbor", cbor2.loads), ("msgpack", msgpack.unpackb)):
        try:
            content = read(message.payload)
        except Exception:  # noqa: S112  # whatever a reader raises means: another format
            continue
        if isinstance(content, (dict, list)):
            return Document(message, format_, content)
    return None


def _points(payload: bytes) -> list[Any] | None:
    """Return the lines of a line protocol; None if one of them is none."""
    try:
        points = read_line_protocol(payload)
    except BodyFault:
        return None
    return points if all(isinstance(point, dict) for point in points) else None


@dataclass(frozen=True, slots=True)
class Rows:
    """A body of CSV.

    Attributes:
        delimiter: What separates its cells.
        has_header: Its first line names the columns.
        content: Its rows: objects, or arrays without a header; cells with numbers are numbers.
    """

    delimiter: str
    has_header: bool
    content: list[Any]


def _rows(text: str) -> Rows | None:
    """Return rows of at least two cells, one of them a number; None if there are none."""
    lines = [line for line in text.splitlines() if line.strip()][:_MOST_ROWS]
    for delimiter in (";", "\t", ","):
        cells = [[cell.strip() for cell in line.split(delimiter)] for line in lines]
        if not cells or len(cells[0]) < 2 or len({len(row) for row in cells}) != 1:
            continue
        is_named = all(cell and not is_number_text(cell) for cell in cells[0])
        has_header = is_named and len(cells) > 1 and len(set(cells[0])) == len(cells[0])
        body = [list(map(_cell, row)) for row in cells[has_header:]]
        if any(_is_number(cell) for row in body for cell in row):
            named = [dict(zip(cells[0], row, strict=True)) for row in body]
            return Rows(delimiter, has_header, named if has_header else body)
    return None


def _cell(text: str) -> Any:
    return float(text) if is_number_text(text) else text


def _names(document: Document) -> set[str]:
    """Return the names of the numbers in a document, without positions; by these it is known."""
    if document.format == "value":
        return {"$"}
    return {
        ".".join(step for step in steps if isinstance(step, str))
        for steps in _number_steps(document.content, (), 0)
    }


def _number_steps(content: Any, steps: tuple[Step, ...], depth: int) -> Iterator[tuple[Step, ...]]:
    """Yield the way to every number, through arrays of objects too."""
    if depth > _DEEPEST:
        return
    if isinstance(content, dict):
        for key, value in list(content.items())[:_MOST_LEAVES]:
            yield from _number_steps(value, (*steps, str(key)), depth + 1)
    elif isinstance(content, list):
        for value in content[:3]:
            yield from _number_steps(value, (*steps, 0), depth + 1)
    elif _is_number(content):
        yield steps


def _belongs(document: Document, names: set[str], kind: Kind) -> bool:
    first = kind.documents[0]
    if (document.format, len(document.levels)) != (kind.format, len(first.levels)):
        return False
    return len(names & kind.names) > _ALIKE * min(len(names), len(kind.names))


def _walk(content: Any, steps: tuple[Step, ...]) -> Iterator[Leaf]:
    if len(steps) > _DEEPEST:
        return
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _walk(value, (*steps, str(key)))
    elif isinstance(content, list):
        if not content or isinstance(content[0], (dict, list)):
            return
        if len(content) > _MOST_POSITIONS and all(map(_is_number, content)):
            yield Leaf(steps, content)
        elif len(content) <= _MOST_POSITIONS:
            for at, value in enumerate(content):
                yield from _walk(value, (*steps, at))
    else:
        yield Leaf(steps, content)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)
