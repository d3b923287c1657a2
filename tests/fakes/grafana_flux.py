"""Grafana's handling of a Flux query: fill in variables, send it, turn the answer into frames.

It follows the InfluxDB data source of Grafana 9 to 13:

- The browser fills in template variables (`${name:regex}` and `${name}`).
- The server fills in `v.timeRangeStart`, `v.timeRangeStop`, `v.windowPeriod`, `v.defaultBucket`,
  `v.organization`.
- Each table of the answer becomes a frame. Columns of the group key become labels of the other
  columns (`_start` and `_stop` are dropped beside `_time` and `_value`). A single `_time` column
  is the time and has no labels; a single `_value` column beside it is the value.
"""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

TYPES = {
    "string": "text",
    "double": "float",
    "long": "int",
    "unsignedLong": "int",
    "boolean": "bool",
    "dateTime:RFC3339": "time",
    "dateTime:RFC3339Nano": "time",
    "duration": "int",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)|\[\[(\w+)\]\]")
_SPECIAL = re.compile(r"[\\^$*+?.()|\[\]{}/]")


class FluxFailed(Exception):
    """InfluxDB refused the query; the message is InfluxDB's."""


@dataclass(frozen=True)
class Field:
    """One column of a frame."""

    name: str
    type: str
    labels: Mapping[str, str]
    values: list[Any]


@dataclass(frozen=True)
class Frame:
    """One frame: columns, the time first."""

    fields: list[Field] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.fields[0].values)

    def column(self, name: str) -> Field:
        return next(column for column in self.fields if column.name == name)

    @property
    def is_wide_series(self) -> bool:
        """Whether alerting accepts the frame as a time series: one time and numbers only."""
        types = [column.type for column in self.fields]
        return types.count("time") == 1 and set(types[1:]) <= {"float", "int", "bool"} != set()


def interpolate(
    flux: str,
    *,
    start_ms: int,
    stop_ms: int,
    step_ms: int = 10_000,
    bucket: str,
    organization: str = "",
    variables: Mapping[str, Sequence[str] | str] | None = None,
) -> str:
    """The query as InfluxDB receives it; the value `ALL` stands for the custom all value `.*`.

    Raises:
        KeyError: The board has no such template variable.
    """
    known = variables or {}

    def fill(match: re.Match[str]) -> str:
        name, form = match[1] or match[3] or match[4], match[2] or ""
        if name.startswith("__"):
            return match[0]
        return _formatted(known[name], form)

    values = {
        "timeRangeStart": _rfc3339(start_ms),
        "timeRangeStop": _rfc3339(stop_ms),
        "windowPeriod": _go_duration(step_ms),
        "defaultBucket": f'"{bucket}"',
        "bucket": f'"{bucket}"',
        "organization": f'"{organization}"',
    }
    flux = _VARIABLE.sub(fill, flux)
    return re.sub(r"[a-zA-Z]+\.([a-zA-Z]+)", lambda match: values.get(match[1], match[0]), flux)


def _formatted(value: Sequence[str] | str, form: str) -> str:
    if value == "ALL":
        return ".*"
    values = [value] if isinstance(value, str) else list(value)
    if form == "regex":
        escaped = [_SPECIAL.sub(lambda match: "\\" + match[0], text) for text in values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
    if form == "json":
        return json.dumps(value)
    return values[0] if len(values) == 1 else "{" + ",".join(values) + "}"


def _rfc3339(ms: int) -> str:
    at = datetime.fromtimestamp(ms / 1000, timezone.utc)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _go_duration(ms: int) -> str:
    if ms < 1000:
        return f"{ms}ms"
    seconds = ms // 1000
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def send_query(url: str, token: str, org: str, flux: str) -> list[Frame]:
    """Send a query and return the frames of its answer.

    Raises:
        FluxFailed: InfluxDB refused the query, at once or within the answer.
    """
    body = {
        "query": flux,
        "dialect": {"annotations": ["group", "datatype", "default"], "header": True},
    }
    request = urllib.request.Request(
        f"{url}/api/v2/query?org={org}",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Token {token}",
            "Content-Type": "application/json",
            "Accept": "application/csv",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return frames_of(answer.read().decode())
    except urllib.error.HTTPError as exc:
        with exc:
            raise FluxFailed(f"{exc.read().decode()}\nin\n{flux}") from exc


def frames_of(text: str) -> list[Frame]:
    """The frames of an answer in annotated CSV."""
    frames: list[Frame] = []
    for part in re.split(r"\r?\n\r?\n", text.strip()):
        if part.strip():
            _add_frames(frames, list(csv.reader(io.StringIO(part))))
    return frames


def _add_frames(frames: list[Frame], lines: list[list[str]]) -> None:
    notes = {line[0]: line[1:] for line in lines if line and line[0].startswith("#")}
    rows = [line for line in lines if line and not line[0].startswith("#")]
    header = rows[0][1:]
    if header[:1] == ["error"]:
        raise FluxFailed(rows[1][1])
    groups = [flag == "true" for flag in notes["#group"]]
    types = [TYPES[name] for name in notes["#datatype"]]
    default = notes["#default"]
    data = [at for at, name in enumerate(header) if not (name in ("result", "table") and at < 2)]
    labels = [at for at in data if groups[at]]
    times = [at for at in data if not groups[at] and types[at] == "time"]
    others = [at for at in data if not groups[at] and types[at] != "time"]
    simple_time = [header[at] for at in times] == ["_time"]
    simple = simple_time and [header[at] for at in others] == ["_value"]
    current: tuple[str, ...] | None = None
    for row in rows[1:]:
        cells = [cell if cell != "" else default[at] for at, cell in enumerate(row[1:])]
        key = tuple(cells[at] for at in labels)
        if key != current:
            current = key
            found = {header[at]: cells[at] for at in labels if cells[at] != ""}
            found.pop("_measurement", None)
            frames.append(_new_frame(found, header, types, times, others, simple_time, simple))
        for column, at in zip(frames[-1].fields, [*times, *others], strict=True):
            column.values.append(_value(cells[at], types[at]))


def _new_frame(
    labels: dict[str, str],
    header: list[str],
    types: list[str],
    times: list[int],
    others: list[int],
    simple_time: bool,
    simple: bool,
) -> Frame:
    if simple:
        labels.pop("_start", None)
        labels.pop("_stop", None)
    value_name = labels.pop("_field", "Value") if simple else ""
    columns = [
        Field("Time" if simple else header[at], "time", {} if simple_time else labels, [])
        for at in times
    ]
    columns += [Field(value_name if simple else header[at], types[at], labels, []) for at in others]
    return Frame(columns)


def _value(cell: str, kind: str) -> Any:
    if cell == "":
        return "" if kind == "text" else None
    if kind == "float":
        return float(cell)
    if kind == "int":
        return int(cell)
    if kind == "bool":
        return cell == "true"
    if kind == "time":
        return datetime.fromisoformat(re.sub(r"\.\d+", "", cell).replace("Z", "+00:00"))
    return cell
