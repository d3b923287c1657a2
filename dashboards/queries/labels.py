"""Queries over the labels that people give to devices. Pure."""

from __future__ import annotations

from dashboards.queries.flux import Where, read
from dashboards.queries.query import table
from dashboards.queries.stages import PIVOT
from pipeline.points.measurements import LABEL

__all__ = ["DEVICE_LABELS"]

_FIELDS = ("id", "label", "to_ms", "recv_ms", "by", "revoked")

DEVICE_LABELS = table(
    "device_labels",
    [
        *read(LABEL, _FIELDS, Where.selected("site"), Where.selected("device")),
        PIVOT,
        # As `ingest.labels.later_of`: of one id, a revocation counts, or else the later record.
        "map(fn: (r) => ({r with gone: if exists r.revoked then r.revoked else 0}))",
        'group(columns: ["site", "device", "stream", "id"])',
        'sort(columns: ["gone", "recv_ms"])',
        "tail(n: 1)",
        "filter(fn: (r) => r.gone == 0)",
        "map(fn: (r) => ({_time: r._time, timeEnd: time(v: r.to_ms * 1000000), "
        'text: if r.label == "" then r.kind else if r.kind == "span" then r.label '
        'else r.kind + ": " + r.label, '
        'tags: r.stream + (if r.by == "" then "" else "," + r.by)}))',
    ],
    {"_time": "time", "timeEnd": "time", "text": "text", "tags": "text"},
    sort=["_time"],
    kind="annotations",
    may_be_empty=True,
)
"""Labels that hold, of the selected devices; a span has an end."""
