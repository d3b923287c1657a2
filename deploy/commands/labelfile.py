"""A file of labelled spans, as CSV with a header or as JSON lines. Pure.

| column | meaning |
|---|---|
| `device` | SITE/DEVICE/STREAM; or a part of it, after `site` and before `stream` |
| `site`, `stream` | the rest of it, where `device` has not all three |
| `from`, `to` | beginning and end, epoch milliseconds or ISO 8601, UTC without an offset |
| `activity` | what the device did |
| `id` | name of the label; without it, it follows from the columns above |
| `by` | who says so |
| `example` | `device` or `all`: windows like these are called so from now on |

A label without an id has the same one whenever it is read, so a file that is published twice gives
each label once.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import click
import orjson

from deploy.commands.eventtime import epoch_ms
from ingest.errors import RefusedMessage
from ingest.labels import ExampleFor, Label, decode_label, encode_label
from ingest.topics import LABELS, Address, parse_topic

__all__ = ["WHOM", "Fault", "Spans", "read_spans"]

WHOM: Mapping[str, ExampleFor] = {"": "", "device": "device", "all": "stream"}
"""What `--example` and the column say, as labels do."""
_NEEDED = ("device", "from", "to", "activity")
_COLUMNS = ("site", "device", "stream", "from", "to", "activity", "id", "by", "example")


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that is no label.

    Attributes:
        line: Its number, from 1.
        why: The reason.
    """

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Spans:
    """What a file says.

    Attributes:
        labels: Labels with the stream that each is about; each once.
        faults: Lines that are none.
        repeated: Lines that say what an earlier line says.
    """

    labels: list[tuple[Address, Label]]
    faults: list[Fault]
    repeated: int


def read_spans(
    lines: Iterable[str], *, by: str, example: str, now_ms: int, future_ms: int
) -> Spans:
    """Read and check all lines; blank ones do not count.

    Args:
        lines: Lines of the file.
        by: Who says so, where a line does not say it.
        example: For whom spans are examples, where a line does not say it: "", `device`, `all`.
        now_ms: The time now, epoch milliseconds.
        future_ms: How far ahead of it a label may end.
    """
    found: dict[tuple[Address, str], tuple[int, Label]] = {}
    faults, repeated = [], 0
    for number, row in _rows(lines):
        try:
            if isinstance(row, str):
                raise _BadLine(row)
            address, label = _label(row, by, example)
            label.check_past(now_ms, future_ms)
        except RefusedMessage as exc:
            faults.append(Fault(number, exc.detail))
            continue
        except _BadLine as exc:
            faults.append(Fault(number, str(exc)))
            continue
        first, same = found.setdefault((address, label.id), (number, label))
        if same != label:
            why = f"the id {label.id!r} is that of another label of this stream, in line {first}"
            faults.append(Fault(number, why))
        elif first != number:
            repeated += 1
    labels = [(address, label) for (address, _), (_, label) in found.items()]
    return Spans(labels, faults, repeated)


class _BadLine(Exception):
    """A line is no label; its text is the reason."""


def _rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with the numbers of their lines; a text is the reason why there is no row."""
    rest = iter(lines)
    blank = 0
    for line in rest:
        if line.strip():
            break
        blank += 1
    else:
        return
    every = chain([line], rest)
    if line.lstrip().startswith(("{", "[")):
        for number, each in enumerate(every, blank + 1):
            if each.strip():
                yield number, _object(each)
        return
    reader = csv.reader(every, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader)]
        if why := _misfit(names):
            yield blank + 1, why
            return
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            number = blank + reader.line_num
            if len(values) != len(names):
                yield number, f"{len(values)} values instead of {len(names)}"
            else:
                yield number, dict(zip(names, (value.strip() for value in values), strict=True))
    except csv.Error as exc:
        yield blank + reader.line_num, f"no CSV: {exc}"


def _object(line: str) -> dict[str, Any] | str:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        return f"no JSON: {exc}"
    if type(found) is not dict:
        return "no JSON object: a file of JSON lines has one in each line"
    return _misfit([*found]) or found


def _misfit(names: list[str]) -> str:
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown:
        return f"unknown column {unknown[0][:80]!r}; there are {', '.join(_COLUMNS)}"
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        return f"no column {', '.join(missing)}"
    return "a column twice" if len(set(names)) < len(names) else ""


def _label(row: Mapping[str, Any], by: str, example: str) -> tuple[Address, Label]:
    texts = {name: _text(name, row[name]) for name in row}
    place = "/".join(texts[name] for name in ("site", "device", "stream") if texts.get(name))
    try:
        address = parse_topic(f"{LABELS}/{place}", LABELS)
    except RefusedMessage as exc:
        msg = f"{place!r:.80} is not SITE/DEVICE/STREAM, such as hall-1/ada/imu"
        raise _BadLine(msg) from exc
    from_ms, to_ms = (_time(name, texts[name]) for name in ("from", "to"))
    whom = texts.get("example") or example
    if whom not in WHOM:
        msg = f"example {whom!r:.80} is none of device, all"
        raise _BadLine(msg)
    if from_ms >= to_ms:
        msg = f"from {texts['from']} is not before to {texts['to']}"
        raise _BadLine(msg)
    name = texts.get("id") or _own_id(address, from_ms, to_ms, texts["activity"])
    who = texts.get("by") or by
    label = Label(name, "span", from_ms, to_ms, texts["activity"], by=who, example=WHOM[whom])
    return address, decode_label(encode_label(label))


def _text(name: str, value: Any) -> str:
    if type(value) is int and name in ("from", "to"):
        return str(value)
    if type(value) is not str:
        msg = f"{name} is {value!r:.80}, not text"
        raise _BadLine(msg)
    return value.strip()


def _time(name: str, text: str) -> int:
    try:
        return epoch_ms(text, name)
    except click.BadParameter as exc:
        msg = f"{name} {exc.message}"
        raise _BadLine(msg) from exc


def _own_id(address: Address, from_ms: int, to_ms: int, activity: str) -> str:
    said = "\n".join((*address, str(from_ms), str(to_ms), activity))
    return f"span-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
