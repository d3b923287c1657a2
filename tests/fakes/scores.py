"""Scores and closed windows as the tests write them: one by one, not as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from models.tasks.columns import Columns, row_of
from pipeline.points.scorecolumns import ScoreColumns, encode_scores
from pipeline.points.scores import ScoreRecord
from pipeline.scoring.batch import Health, Rescue, Scored, Scorer, Unscored, score_windows
from pipeline.windows.spec import Window
from pipeline.windows.windowbatch import WindowBatch


@dataclass(frozen=True)
class Closed:
    """A closed window with the device that it belongs to."""

    site: str
    device: str
    stream: str
    window: Window


def batches_of(closed: Iterable[Any], partition: int = 0) -> list[WindowBatch]:
    """Closed windows as batches, one for each stream and shape."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for item in closed:
        window = item.window
        kind = (item.stream, window.values.shape, window.rate_hz is None)
        groups.setdefault(kind, []).append(item)
    return [_batch_of(group, partition) for group in groups.values()]


def rows_of(columns: Columns, size: int) -> list[dict[str, Any]]:
    """The fields of each of `size` windows, as plain data."""
    return [row_of(columns, row) for row in range(size)]


@dataclass(frozen=True)
class Outcome:
    """What became of closed windows; the scores one by one."""

    records: list[ScoreRecord]
    unscored: list[Unscored]
    health: list[Health]


def score_closed(
    closed: Iterable[Any],
    student_of: Callable[[str], Scorer | None],
    scored_ms: int,
    rescue: Rescue | None = None,
) -> Outcome:
    """Score closed windows."""
    scored = score_windows(batches_of(closed), student_of, scored_ms, rescue)
    return Outcome(records_of(scored), scored.unscored, scored.health)


def records_of(scored: Scored) -> list[ScoreRecord]:
    """The scores of an outcome, one by one."""
    return [record for part in scored.parts for record in part.scores.records()]


def columns_of(records: Sequence[ScoreRecord]) -> list[ScoreColumns]:
    """Scores as columns, those of one form together."""
    groups: dict[tuple[Any, ...], list[ScoreRecord]] = {}
    one_for_all = ("task", "stream", "model", "version", "scored_ms")
    for record in records:
        kind = (*(record[name] for name in one_for_all), *record, _labels(record))
        groups.setdefault(kind, []).append(record)
    return [
        ScoreColumns(
            len(group),
            {
                name: value if name in one_for_all else _column([each[name] for each in group])
                for name, value in group[0].items()
            },
        )
        for group in groups.values()
    ]


def encode_records(records: Sequence[ScoreRecord]) -> bytes:
    """A value of the topic `scores` with these scores, as this version writes it."""
    (value,) = encode_scores(columns_of(records)) or [b'{"scores":[]}']
    return value


def encode_old(records: Sequence[Any]) -> bytes:
    """A value of the topic `scores` as versions before the columns wrote it."""
    return orjson.dumps(records)


def _labels(record: ScoreRecord) -> tuple[str, ...]:
    return tuple(key for value in record.values() if isinstance(value, dict) for key in value)


def _column(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _column([value[key] for value in values]) for key in values[0]}
    return values


def _batch_of(items: Sequence[Any], partition: int) -> WindowBatch:
    windows = [item.window for item in items]

    def numbers(name: str, kind: type = np.int64) -> Any:
        return np.array([getattr(window, name) for window in windows], kind)

    is_rated = windows[0].rate_hz is not None
    return WindowBatch(
        stream=items[0].stream,
        senders=[(item.site, item.device) for item in items],
        partition=np.full(len(items), partition, np.int32),
        values=np.stack([window.values for window in windows]),
        start_ms=numbers("start_ms"),
        end_ms=numbers("end_ms"),
        readings=numbers("readings"),
        gaps=numbers("gaps"),
        recv_ms=numbers("recv_ms"),
        made_up=numbers("made_up", np.float64),
        rate_hz=numbers("rate_hz", np.float64) if is_rated else None,
        run_ms=numbers("run_ms") if is_rated else None,
    )
