"""Which streams have drifted, and since when: read from stored points of `drift`.

For people (`kpstream drift`) and for whoever decides whether to train again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from pipeline.drift.watch import ALL
from pipeline.points.measurements import DRIFT
from pipeline.stores.influxclient import InfluxClient
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["Reason", "reasons_in_influx", "reasons_in_results"]

_FIELDS = ("drifted", "since_ms", "version", "windows", "text")


@dataclass(frozen=True, slots=True)
class Reason:
    """A stream, or a device of it, that has drifted by its newest judgement.

    Attributes:
        gateway: Process that judged it.
        site: Site of the device; `*` for the stream as a whole.
        device: Name of the device; `*` for the stream as a whole.
        stream: Name of the stream.
        version: Version of the student that scored it.
        since_ms: When that process saw the drift first, epoch milliseconds.
        judged_ms: When it was judged last, epoch milliseconds.
        text: Why it is a drift.
    """

    gateway: str
    site: str
    device: str
    stream: str
    version: int
    since_ms: int
    judged_ms: int
    text: str

    @property
    def is_whole(self) -> bool:
        """Whether it is the stream as a whole that has drifted."""
        return self.device == ALL


def reasons_in_results(results: ResultsFile, since_ms: int = 0) -> list[Reason]:
    """What has drifted by a gateway's results file; streams as a whole come first.

    Args:
        results: The results file.
        since_ms: Leave out what was judged last before this time.
    """
    if not set(_FIELDS) <= set(results.fields(DRIFT.name)):
        return []
    rows = results.select(
        "SELECT s.tags, p.time_ns, p.drifted, p.since_ms, p.version, p.text "  # noqa: S608
        f'FROM _series s JOIN "points_{DRIFT.name}" p '
        "ON p.series = s.id AND p.time_ns = s.last_time_ns "
        "WHERE s.measurement = ? AND p.time_ns >= ?",
        (DRIFT.name, since_ms * 1_000_000),
    )
    names = ("judged_ms", "drifted", "since_ms", "version", "text")
    found = []
    for tags, time_ns, *fields in rows:
        values = dict(zip(names, (time_ns // 1_000_000, *fields), strict=True))
        found.append({**orjson.loads(tags), **values})
    return _reasons(found)


def reasons_in_influx(client: InfluxClient, bucket: str, since_ms: int) -> list[Reason]:
    """What has drifted by the points in InfluxDB; see `reasons_in_results`.

    Raises:
        SinkUnavailable: InfluxDB does not answer, or refuses the query.
    """
    flux = (
        "from(bucket: bucket)\n"
        "  |> range(start: time(v: since_ns))\n"
        f'  |> filter(fn: (r) => r._measurement == "{DRIFT.name}" and r.channel == "{ALL}")\n'
        "  |> last()\n"
        '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
    )
    rows = client.query(flux, {"bucket": bucket, "since_ns": since_ms * 1_000_000})
    return _reasons({**row, "judged_ms": round(row["_time"].timestamp() * 1000)} for row in rows)


def _reasons(rows: Iterable[Mapping[str, Any]]) -> list[Reason]:
    found = [
        Reason(
            row["gateway"],
            row["site"],
            row["device"],
            row["stream"],
            row["version"],
            row["since_ms"],
            row["judged_ms"],
            row["text"],
        )
        for row in rows
        if row["channel"] == ALL and row.get("drifted")
    ]
    return sorted(found, key=lambda r: (not r.is_whole, r.stream, r.site, r.device, r.gateway))
