"""Labels as points. Pure."""

from __future__ import annotations

import zlib

from ingest.errors import RefusedMessage
from ingest.labels import LabelRecord, decode_label_record
from pipeline.errors import PointError
from pipeline.points.measurements import LABEL
from pipeline.points.points import FieldValue, Point

__all__ = ["label_point", "read_label_point"]


def label_point(record: LabelRecord) -> Point:
    """The point of a label; see `LABEL`.

    The same label again overwrites its point. Only a revocation has the field `revoked`, so it
    stays when the label itself comes later.
    """
    label = record.label
    values = (*record.address, label.kind)
    fields: dict[str, FieldValue] = {
        "id": label.id,
        "label": label.label,
        "from_ms": label.from_ms,
        "to_ms": label.to_ms,
        "recv_ms": record.recv_ms,
        "by": label.by,
    }
    if label.revoked:
        fields["revoked"] = 1
    time_ns = label.from_ms * 1_000_000 + zlib.crc32(label.id.encode()) % 1_000_000
    return Point(
        LABEL.name, tuple(zip(LABEL.tags, values, strict=True)), tuple(fields.items()), time_ns
    )


def read_label_point(value: bytes) -> Point:
    """The point of a record of the log topic `labels`.

    Raises:
        PointError: It is no label.
    """
    try:
        return label_point(decode_label_record(value))
    except RefusedMessage as exc:
        raise PointError(exc.detail) from exc
