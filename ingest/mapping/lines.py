"""CSV and InfluxDB line protocol as arrays of objects, one for each line.

A line that cannot be read is an `ObjectFault` in its place, so that the others are read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Any, Final

from ingest.mapping.errors import BodyFault, ObjectFault
from ingest.mapping.schema import CsvTable
from ingest.mapping.texts import text_of
from ingest.payloads import MAX_READINGS
from ingest.secrettext import error_text

__all__ = ["CsvReader", "read_line_protocol"]

_MAX_COLUMNS: Final = 1000
_INT64: Final = range(-(2**63), 2**64)


class CsvReader:
    """Reads CSV, as `[csv]` says: an object of texts for each row, or an array without names."""

    def __init__(self, table: CsvTable) -> None:
        self._delimiter = table.delimiter
        self._has_header = table.header
        self._columns = None if table.columns is None else tuple(table.columns)

    def __call__(self, payload: bytes) -> list[Any]:
        """Return the rows of a body.

        Raises:
            BodyFault: The body is not CSV.
        """
        rows = self._rows(text_of(payload))
        names = self._columns
        try:
            if self._has_header:
                header = tuple(name.strip() for name in next(rows, ()))
                names = names or header
                if not names or len(set(names)) != len(names):
                    msg = "the first line is no header with different names: set header = false"
                    raise BodyFault(msg)
            found: list[Any] = []
            for row in rows:
                if len(found) >= MAX_READINGS:
                    msg = f"more than {MAX_READINGS} rows in a message"
                    raise BodyFault(msg)
                found.append(_named(row, names))
        except csv.Error as exc:
            msg = f"the body is not CSV: {error_text(exc)}"
            raise BodyFault(msg) from exc
        if not found:
            msg = "the body has no rows"
            raise BodyFault(msg)
        return found

    def _rows(self, text: str) -> Iterator[list[str]]:
        lines = text.splitlines()
        if self._delimiter == "whitespace":
            rows: Iterator[list[str]] = map(str.split, lines)
        else:
            rows = csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True, strict=True)
        return (row for row in rows if row and row != [""])


def _named(row: list[str], names: tuple[str, ...] | None) -> Any:
    if names is None:
        return row if len(row) <= _MAX_COLUMNS else ObjectFault("a row has too many cells")
    if len(row) != len(names):
        return ObjectFault(f"a row has {len(row)} cells and there are {len(names)} columns")
    return dict(zip(names, row, strict=True))


_KEY: Final = r"(?:\\.|[^\\,= \n])+"
_MEASUREMENT: Final = re.compile(r"(?:\\.|[^\\, \n])+")
_TAG: Final = re.compile(rf",({_KEY})=({_KEY})")
_FIELD: Final = re.compile(rf'({_KEY})=(?:"((?:\\.|[^\\"])*)"|([^,\s"]+))')
_INTEGER: Final = re.compile(r"([+-]?\d{1,20})[iu]", re.ASCII)
_FLOAT: Final = re.compile(
    r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,4})?", re.ASCII
)
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}


def read_line_protocol(payload: bytes) -> list[Any]:
    """Return the lines of a body: measurement, tags, fields, and time if there is one.

    >>> read_line_protocol(b"cpu,host=press usage=1.5,n=3i 1700000000000000000")[0]["fields"]
    {'usage': 1.5, 'n': 3}

    Raises:
        BodyFault: The body has no lines, or too many.
    """
    found: list[Any] = []
    for line in text_of(payload).split("\n"):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if len(found) >= MAX_READINGS:
            msg = f"more than {MAX_READINGS} lines in a message"
            raise BodyFault(msg)
        try:
            found.append(_line(stripped))
        except ValueError as exc:
            found.append(ObjectFault(f"{stripped[:60]!r} is not line protocol: {exc}"))
    if not found:
        msg = "the body has no lines"
        raise BodyFault(msg)
    return found


def _line(line: str) -> dict[str, Any]:
    """Return one line.

    Raises:
        ValueError: It is not line protocol; the message says where.
    """
    start = _MEASUREMENT.match(line)
    if start is None:
        msg = "it has no measurement"
        raise ValueError(msg)
    at = start.end()
    tags = {}
    while (tag := _TAG.match(line, at)) is not None:
        tags[_plain(tag[1])] = _plain(tag[2])
        at = tag.end()
    if line[at : at + 1] != " ":
        msg = f"a space before the fields is missing at {line[at : at + 20]!r}"
        raise ValueError(msg)
    at += len(line[at:]) - len(line[at:].lstrip(" "))
    fields: dict[str, Any] = {}
    while (field := _FIELD.match(line, at)) is not None:
        quoted = field[2]
        fields[_plain(field[1])] = _plain(quoted) if quoted is not None else _value(field[3])
        at = field.end()
        if line[at : at + 1] != ",":
            break
        at += 1
    rest = line[at:].strip()
    if not fields or (rest and line[at] != " "):
        msg = f"fields like name=1.5 are missing at {line[at : at + 20]!r}"
        raise ValueError(msg)
    found: dict[str, Any] = {"measurement": _plain(start[0]), "tags": tags, "fields": fields}
    if rest:
        if re.fullmatch(r"-?[0-9]{1,20}", rest) is None:
            msg = f"{rest[:20]!r} is not a time"
            raise ValueError(msg)
        found["time"] = int(rest)
    return found


def _value(text: str) -> float | int | bool:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    integer = _INTEGER.fullmatch(text)
    if integer is not None and int(integer[1]) in _INT64:
        return int(integer[1])
    if _FLOAT.fullmatch(text) is not None:
        return float(text)
    msg = f"{text[:20]!r} is not a value"
    raise ValueError(msg)


def _plain(text: str) -> str:
    r"""Return a text without the backslashes before special characters."""
    return re.sub(r'\\([,= "\\])', r"\1", text) if "\\" in text else text
