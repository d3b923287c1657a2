"""Which score is meant, where there is no results file: scores in the log, from the newest back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingest.topics import SCORES, device_key, partition_of
from models.tasks.registry import find_task
from pipeline.errors import NoScore
from pipeline.explain.logscan import LogSource
from pipeline.explain.scores import DeviceStream, StoredScore, stands, utc
from pipeline.points.measurements import SCORE_FIELDS
from pipeline.points.scores import decode_scores, score_form

__all__ = ["find_logged_score", "find_logged_streams"]

_MOST_BYTES = 256_000_000


def find_logged_score(
    source: LogSource, where: DeviceStream, at_ms: int | None = None
) -> StoredScore:
    """The newest score of a stream in the log, or the one that was newest at `at_ms`.

    A score stands for no longer than its window is long, so a time in a silence has none.

    Args:
        source: The log.
        where: Device and stream.
        at_ms: Event time; None: now.

    Raises:
        NoScore: There is none within the last 256 MB of the device's partition.
        PointError: A record of the log is not score records.
    """
    later_ms: int | None = None
    for record in _records(source, where):
        if DeviceStream(record["site"], record["device"], record["stream"]) != where:
            continue
        if at_ms is None or record["end_ms"] - 1 <= at_ms:
            score = _stored(where, record)
            if at_ms is not None and not stands(score, at_ms):
                raise NoScore(_nothing_there(where, at_ms, score.end_ms, later_ms))
            return score
        later_ms = record["end_ms"]
    raise NoScore(_nothing_there(where, at_ms, None, later_ms))


def find_logged_streams(source: LogSource, site: str, device: str) -> list[DeviceStream]:
    """Streams of a device that have scores in the log, by name.

    Raises:
        NoScore: There is none.
        PointError: A record of the log is not score records.
    """
    found = {
        record["stream"]
        for record in _records(source, DeviceStream(site, device, ""))
        if (record["site"], record["device"]) == (site, device)
    }
    if not found:
        msg = f"no score of {site}/{device} in the log: are the names of site and device right?"
        raise NoScore(msg)
    return [DeviceStream(site, device, stream) for stream in sorted(found)]


def _records(source: LogSource, where: DeviceStream) -> Iterator[dict[str, Any]]:
    partitions, spent = source.partitions(SCORES), 0
    if not partitions:
        return
    partition = partition_of(device_key(where.site, where.device), partitions)
    own = f'"{where.device}"'.encode()
    for value in source.read_back(SCORES, partition):
        spent += len(value or b"")
        if spent > _MOST_BYTES:
            return
        if value is not None and own in value:
            yield from reversed(decode_scores(value))


def _stored(where: DeviceStream, record: dict[str, Any]) -> StoredScore:
    task = find_task(record["task"])
    own = {field.name for field in SCORE_FIELDS}
    fields = {
        name: value for name, value in score_form(task).point(record).fields if name not in own
    }
    return StoredScore(
        where,
        task,
        record["model"],
        record["version"],
        record["start_ms"],
        record["end_ms"],
        record["readings"],
        record.get("run_ms"),
        fields,
    )


def _nothing_there(
    where: DeviceStream, at_ms: int | None, before_ms: int | None, later_ms: int | None
) -> str:
    name = "/".join(where)
    if at_ms is None:
        return f"no score of {name} in the log"
    near = [f"the last one before is of {utc(before_ms - 1)}"] if before_ms else []
    near += [f"the first one after is of {utc(later_ms - 1)}"] if later_ms else []
    return f"no score of {name} at {utc(at_ms)}; {', '.join(near) or 'the log has none'}"
