"""The points of records of the log topic `scores`, as a store writes them. Pure.

Scores of one student become a block of points straight from their columns, those of many records
together. Where a column is odd they are taken apart, down to single scores, so that a flawed score
affects no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.tasks.registry import TASKS
from pipeline.errors import PointError
from pipeline.points.pointblocks import PointBlock, blocks_of
from pipeline.points.points import Point
from pipeline.points.scorecolumns import ScoreColumns, join_scores, parse_scores
from pipeline.points.scores import checked_points, score_form

__all__ = ["FlawedScore", "ScorePoints"]

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class FlawedScore:
    """A score that makes no point: the record as JSON, and the reason."""

    raw: bytes
    detail: str


class ScorePoints:
    """Points made of records of the log, and the scores that cannot become points.

    Points of one series stay in the order of their scores.

    Attributes:
        points: The points, single ones and blocks.
        end_ms: End of the window of each score that has points, epoch milliseconds.
        flawed: Scores without a point.
    """

    def __init__(self) -> None:
        self.points: list[Point | PointBlock] = []
        self.end_ms: list[int] = []
        self.flawed: list[FlawedScore] = []
        # Task, stream and model -> the keys of the scores that wait, and the scores.
        self._waiting: dict[_Key, tuple[_Key, list[ScoreColumns]]] = {}

    def add(self, value: bytes) -> None:
        """Add a record of the topic; its points are there after `finish`.

        Raises:
            PointError: `value` is no record of scores; nothing is added.
        """
        for part in parse_scores(value):
            if isinstance(part, ScoreColumns):
                self._wait(part)
            else:
                self.finish()
                self._add_score(part)

    def finish(self) -> None:
        """Make the points of all that was added."""
        waiting, self._waiting = self._waiting, {}
        for _, parts in waiting.values():
            self._make(parts)

    def _wait(self, part: ScoreColumns) -> None:
        columns = part.columns
        task, stream, model = columns.get("task"), columns.get("stream"), columns.get("model")
        if not type(task) is type(stream) is type(model) is str:
            self.finish()
            self._make([part])
            return
        key, form = (task, stream, model), _form(columns)
        known = self._waiting.get(key)
        if known is not None and known[0] == form:
            known[1].append(part)
            return
        if known is not None:
            self._make(known[1])  # in the order in which they came
        self._waiting[key] = form, [part]

    def _make(self, parts: Sequence[ScoreColumns]) -> None:
        """Make points of scores of one form: in one block, or a block a record, or one by one."""
        if self._add_block(parts[0] if len(parts) == 1 else join_scores(parts)):
            return
        for part in parts:
            if len(parts) == 1 or not self._add_block(part):
                for record in part.records():
                    self._add_score(record)

    def _add_block(self, scores: ScoreColumns) -> bool:
        """Add blocks, followed by the details of their scores; False if anything is odd."""
        blocks = blocks_of(scores)
        if not blocks:
            return False
        task = TASKS[scores.columns["task"]]
        details: list[Point] = []
        if task.details is not None:
            try:
                for record in scores.records():
                    details += score_form(task).details(record)
            except PointError:
                return False
        self.points += [*blocks, *details]
        for block in blocks:
            self.end_ms += block.time_ms
        return True

    def _add_score(self, record: Any) -> None:
        try:
            self.points += checked_points(record)
        except PointError as exc:
            self.flawed.append(FlawedScore(orjson.dumps([record]), str(exc)))
        else:
            self.end_ms.append(record["end_ms"])


def _form(columns: Mapping[str, Any]) -> _Key:
    """The keys of columns, with those inside of objects: scores of one form can be joined."""
    if dict not in map(type, columns.values()):
        return tuple(columns)
    return tuple(_forms(columns))


def _forms(columns: Mapping[str, Any]) -> Iterator[object]:
    for name, column in columns.items():
        yield (name, _form(column)) if type(column) is dict else name
