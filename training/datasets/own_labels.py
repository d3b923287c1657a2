"""Labels given afterwards: `labels.jsonl`, one JSON object a line, as `kpstream record` exports it.

    {"id": "a1", "kind": "failed", "at_ms": 1700000000000, "device": "P-07", "stream": "pump"}
    {"id": "a2", "kind": "span", "from_ms": 1, "to_ms": 2, "label": "climbing", "device": "P-07"}

A later line with the same `id` replaces an earlier one, and `"revoked": true` takes it back. `span`
names the class of a stretch of time, [from_ms, to_ms). `failed` ends a run of a machine, and
`replaced` begins the next one. `confirmed` and `wrong` are about a score, not about readings; with
a label and a stretch of time they count as a span.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.datasets.own_description import several_faults
from training.errors import DataSetError

__all__ = ["LabelRecord", "read_labels"]

_KINDS = ("failed", "replaced", "span", "confirmed", "wrong")
_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label in force.

    Attributes:
        kind: `failed`, `replaced` or `span`.
        device: Device that it is about.
        begin_ms: Event time from which it holds.
        end_ms: Event time until which it holds, excluded; `begin_ms` for a moment.
        label: Class of a span; "" for a moment.
    """

    kind: str
    device: str
    begin_ms: int
    end_ms: int
    label: str


def read_labels(path: Path, stream: str) -> list[LabelRecord]:
    """Read the labels of one stream that are in force, in order of the lines.

    Raises:
        DataSetError: The file cannot be read, or lines are wrong; all of them at once.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        msg = f"cannot read the labels {path}: {exc.strerror}: correct labels in the description"
        raise DataSetError(msg) from exc
    except UnicodeDecodeError as exc:
        msg = f"{path} is not UTF-8 text: export the labels again"
        raise DataSetError(msg) from exc
    known: dict[str, LabelRecord | None] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            table = json.loads(line)
            if not isinstance(table, dict):
                msg = "it is no JSON object"
                raise ValueError(msg)
            if table.get("stream", stream) == stream:
                name = str(table["id"]) if "id" in table else f"line {number}"
                known.pop(name, None)  # the later line also comes later among overlapping spans
                known[name] = None if table.get("revoked") is True else _record(table)
        except (ValueError, RecursionError) as exc:
            faults.append(f"line {number}: {exc}")
    if faults:
        more = len(faults) - _MOST_FAULTS
        shown = faults[:_MOST_FAULTS] + ([f"and {more} more"] if more > 0 else [])
        raise DataSetError(several_faults(str(path), shown))
    return [record for record in known.values() if record is not None]


def _record(table: dict[str, Any]) -> LabelRecord | None:
    kind, device = table.get("kind"), table.get("device")
    if kind not in _KINDS:
        msg = f"kind is {kind!r}, expected one of {', '.join(_KINDS)}"
        raise ValueError(msg)
    if not isinstance(device, str) or not device:
        msg = "it names no device: add it"
        raise ValueError(msg)
    if kind in ("failed", "replaced"):
        (at_ms,) = _times(table, "at_ms")
        return LabelRecord(kind, device, at_ms, at_ms, "")
    if kind != "span" and not ("label" in table and {"from_ms", "to_ms"} <= table.keys()):
        return None
    begin_ms, end_ms = _times(table, "from_ms", "to_ms")
    label = table.get("label")
    if not isinstance(label, str) or not label.strip():
        msg = "it has no label: name the class"
        raise ValueError(msg)
    if end_ms <= begin_ms:
        msg = f"to_ms {end_ms} is not after from_ms {begin_ms}"
        raise ValueError(msg)
    return LabelRecord("span", device, begin_ms, end_ms, label.strip())


def _times(table: dict[str, Any], *keys: str) -> Iterable[int]:
    for key in keys:
        value = table.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            msg = f"{key} is {value!r}, expected epoch milliseconds"
            raise ValueError(msg)
        yield value
