"""Labels given afterwards: `labels.jsonl`, as `kpstream record` keeps it, or written by hand.

    {"id": "a1", "kind": "failed", "at_ms": 1764412800000, "device": "P-07"}
    {"id": "a2", "kind": "span", "from_ms": 1764412800000, "to_ms": 1764416400000,
     "label": "climbing", "device": "P-07"}

What a label means stands in `ingest.labels`. In lines written by hand `site`, `stream` and
`recv_ms` may be left out: the label is then about the device of any site and about the stream of
the description, and a later line counts. `span` names the class of a stretch of time, and so does
`wrong` with a `label` and a stretch. `failed` ends a run of a machine, and `replaced` begins the
next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from ingest.errors import RefusedMessage
from ingest.labels import LabelRecord, current_labels, decode_label_record
from ingest.recordings import RecordingError
from training.datasets.own_description import several_faults
from training.errors import DataSetError

__all__ = ["OwnLabel", "of_device", "read_labels"]

_MOST_FAULTS = 20
_ANY_SITE = "any"


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label in force.

    Attributes:
        kind: `failed`, `replaced` or `span`.
        devices: Names by which a description may know the device that it is about.
        begin_ms: Event time from which it holds.
        end_ms: Event time until which it holds, excluded; `begin_ms` for a moment.
        label: Class of a span; "" for a moment.
    """

    kind: str
    devices: tuple[str, ...]
    begin_ms: int
    end_ms: int
    label: str


def read_labels(path: Path, stream: str) -> list[OwnLabel]:
    """Read the labels of one stream that are in force; a later one comes later.

    Raises:
        DataSetError: The file cannot be read, or lines are wrong; all of them at once.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        msg = f"cannot read the labels {path}: {exc.strerror}: correct labels in the description"
        raise DataSetError(msg) from exc
    records: list[LabelRecord] = []
    faults = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(_record(line, number, stream))
        except RecordingError as exc:
            faults.append(f"line {number}: {exc}")
    if faults:
        more = len(faults) - _MOST_FAULTS
        shown = faults[:_MOST_FAULTS] + ([f"and {more} more"] if more > 0 else [])
        raise DataSetError(several_faults(str(path), shown))
    current = sorted(current_labels(records).values(), key=lambda record: record.recv_ms)
    found = [_own(record) for record in current if record.address.stream == stream]
    return [one for one in found if one is not None]


def of_device(labels: Sequence[OwnLabel], device: str) -> list[OwnLabel]:
    """Return the labels of one device."""
    return [one for one in labels if device in one.devices]


def _record(line: bytes, number: int, stream: str) -> LabelRecord:
    """Decode a line; what may be left out is filled in."""
    try:
        table = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        msg = "it is not JSON"
        raise RecordingError(msg) from exc
    if not isinstance(table, dict) or not isinstance(table.get("device"), str):
        msg = "it is no JSON object that names a `device`"
        raise RecordingError(msg)
    whole = {"site": _ANY_SITE, "stream": stream, "recv_ms": number, **table}
    try:
        return decode_label_record(orjson.dumps(whole))
    except RefusedMessage as exc:
        raise RecordingError(str(exc)) from exc


def _own(record: LabelRecord) -> OwnLabel | None:
    label, address = record.label, record.address
    names: tuple[str, ...] = (address.device, f"{address.site}/{address.device}")
    names = names[:1] if address.site == _ANY_SITE else names
    if label.revoked or label.kind == "confirmed":
        return None
    if label.kind in ("failed", "replaced"):
        return OwnLabel(label.kind, names, label.from_ms, label.to_ms, "")
    if not label.label or label.from_ms == label.to_ms:
        return None
    return OwnLabel("span", names, label.from_ms, label.to_ms, label.label)
