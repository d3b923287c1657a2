"""A batch of records of the log, prepared for a sink: points or lines, and dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest.clock import now_ms
from ingest.deadletter import DeadLetter
from ingest.errors import RefusalReason
from ingest.topics import ACCOUNTS, LABELS
from pipeline.errors import PointError
from pipeline.points.labels import read_label_point
from pipeline.points.lines import lines_of, to_line
from pipeline.points.pointblocks import count_points
from pipeline.points.points import Point
from pipeline.points.scorepoints import ScorePoints
from pipeline.stores.sinks import LineSink, RefusedLine, Sink

__all__ = [
    "Prepare",
    "Prepared",
    "Record",
    "Work",
    "joined",
    "prepare_lines",
    "prepare_points",
    "unreadable",
]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch, ready to be written.

    Attributes:
        write: Stores the batch, blocking; called again after `SinkUnavailable`, it continues.
        points: Number of points.
        end_ms: End of each score's window, epoch milliseconds, for the latency.
        dead_letters: Records of the batch that are unreadable.
    """

    write: Callable[[], list[RefusedLine]]
    points: int
    end_ms: Sequence[int]
    dead_letters: Sequence[DeadLetter]


Record = tuple[str, bytes]
"""Topic and value."""
Prepare = Callable[[Sequence[Record]], Prepared]


def prepare_lines(sink: LineSink) -> Prepare:
    """Prepare writes for a sink that takes lines, such as InfluxDB; the fast way."""

    def prepare(records: Sequence[Record]) -> Prepared:
        found = ScorePoints()
        dead_letters: list[DeadLetter] = []
        others: list[str] = []
        for topic, value in records:
            try:
                if topic == ACCOUNTS:
                    others += value.decode().splitlines()
                elif topic == LABELS:
                    others.append(to_line(read_label_point(value)))
                else:
                    found.add(value)
            except (PointError, UnicodeDecodeError) as exc:
                dead_letters.append(unreadable(value, str(exc)))
        found.finish()
        dead_letters += [unreadable(flawed.raw, flawed.detail) for flawed in found.flawed]
        lines = [*lines_of(found.points), *others]
        return Prepared(sink.writing(lines), len(lines), found.end_ms, dead_letters)

    return prepare


def prepare_points(sink: Sink) -> Prepare:
    """Prepare writes for a sink that takes points, such as the results file.

    Accounts are not stored there.
    """

    def prepare(records: Sequence[Record]) -> Prepared:
        found = ScorePoints()
        labels: list[Point] = []
        dead_letters: list[DeadLetter] = []
        for topic, value in records:
            try:
                if topic == LABELS:
                    labels.append(read_label_point(value))
                elif topic != ACCOUNTS:
                    found.add(value)
            except PointError as exc:
                dead_letters.append(unreadable(value, str(exc)))
        found.finish()
        dead_letters += [unreadable(flawed.raw, flawed.detail) for flawed in found.flawed]
        points = [*found.points, *labels]

        def write() -> list[RefusedLine]:
            refused = sink.write(points) if points else []
            why = RefusalReason.refused_point
            return [RefusedLine(to_line(item.point), why, item.reason) for item in refused]

        return Prepared(write, count_points(points), found.end_ms, dead_letters)

    return prepare


class Work:
    """A batch that is prepared and written in one go; used in the thread of the store."""

    def __init__(self, prepare: Callable[[], Prepared]) -> None:
        self._prepare = prepare
        self._batch: Prepared | None = None
        self.prepare_seconds = 0.0

    @property
    def batch(self) -> Prepared:
        """The prepared batch."""
        if self._batch is None:
            started = time.perf_counter()
            self._batch = self._prepare()
            self.prepare_seconds = time.perf_counter() - started
        return self._batch

    def write(self) -> list[RefusedLine]:
        """Write the batch, which is prepared once; called again after `SinkUnavailable`."""
        return self.batch.write() if self.batch.points else []


def joined(parts: Sequence[Prepared]) -> Prepared:
    """Return one batch that writes several, and continues after `SinkUnavailable`."""
    waiting = list(parts)
    refused: list[RefusedLine] = []

    def write() -> list[RefusedLine]:
        while waiting:
            refused.extend(waiting[0].write())
            waiting.pop(0)
        return refused

    return Prepared(
        write,
        sum(part.points for part in parts),
        [end for part in parts for end in part.end_ms],
        [letter for part in parts for letter in part.dead_letters],
    )


def unreadable(raw: bytes, detail: str) -> DeadLetter:
    """The dead letter of a record, or of a score, that cannot be read."""
    return DeadLetter(RefusalReason.unreadable, detail, "", now_ms(), raw, "store")
