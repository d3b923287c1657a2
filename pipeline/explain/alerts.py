"""Explains alert-level scores in the background and stores the explanations as points.

The scoring thread only looks at the scores and puts windows in a line. When the line is full, the
explanation is left out and counted; a score never waits. A device that stays at alert level would
fill any line, and every explanation of it says much the same, so a stream that was explained a
short time ago waits in a slower line of its own.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ingest.clock import steady_ms as process_steady_ms
from models.errors import ScoreFailed
from models.explain import explain
from models.tasks.registry import TASKS
from pipeline.errors import ExplainError, LineFull, PointError, SinkError
from pipeline.explain.report import make_report, steady_times
from pipeline.explain.students import ExplainingStudents
from pipeline.points.points import Point, explanation_point
from pipeline.points.scores import ScoreRecord
from pipeline.scoring.batch import Scored, StudentScores
from pipeline.status.view import Measure
from pipeline.windows.spec import Window

__all__ = ["AlertExplainer", "WaitingLine"]

log = logging.getLogger(__name__)

_AGAIN_MS = 600_000
_MOST_PLACES = 10_000


class WaitingLine(Protocol):
    """Where the work is done: a `QuietThread`, or a test."""

    @property
    def is_full(self) -> bool:
        """Whether `submit` would raise."""

    def submit(self, work: Callable[[], None]) -> Any:
        """Put work in the line.

        Raises:
            LineFull: The line is full.
        """


class AlertExplainer:
    """Looks for alert-level scores among new ones, and explains them.

    Args:
        students: Loads the students that explain; used in the threads of the lines only.
        store: Stores a point; called in the threads of the lines.
        line: Where explanations are made.
        again: Where those of streams are made that were explained within the last ten minutes; None
            for the same line.
        steady_ms: Monotonic milliseconds.

    Attributes:
        explained_total: Explanations stored.
        dropped_total: Alert-level scores without an explanation, because the line was full or the
            explanation could not be made or stored.
    """

    def __init__(
        self,
        students: ExplainingStudents,
        store: Callable[[Point], None],
        line: WaitingLine,
        again: WaitingLine | None = None,
        *,
        steady_ms: Callable[[], int] = process_steady_ms,
    ) -> None:
        self._students = students
        self._store = store
        self._line = line
        self._again = line if again is None else again
        self._steady_ms = steady_ms
        self._explained_ms: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self.explained_total = 0
        self.dropped_total = 0

    def look(self, scored: Scored) -> None:
        """Take note of the alert-level scores of a batch; never raises, never waits."""
        for part in scored.parts:
            task = TASKS[part.scores.columns["task"]]
            if task.needs_attention is None:
                continue
            alarming = task.alarming(part.scores.columns, len(part.scores))
            for row in np.flatnonzero(alarming).tolist():
                self._take(part, row)

    def measures(self) -> list[Measure]:
        """The counters, for `/metrics`."""
        return [
            Measure(
                "explanations_total",
                "Alert-level scores explained.",
                self.explained_total,
                grows=True,
            ),
            Measure(
                "explanations_dropped_total",
                "Alert-level scores left without an explanation.",
                self.dropped_total,
                grows=True,
            ),
        ]

    def _take(self, part: StudentScores, row: int) -> None:
        place, now_ms = (*part.windows.senders[row], part.windows.stream), self._steady_ms()
        known_ms = self._explained_ms.get(place)
        is_new = known_ms is None or now_ms - known_ms >= _AGAIN_MS
        line = self._line if is_new else self._again
        if line.is_full:
            self.dropped_total += 1
            return
        if is_new:
            self._explained_ms[place] = now_ms
            self._explained_ms.move_to_end(place)
            if len(self._explained_ms) > _MOST_PLACES:
                self._explained_ms.popitem(last=False)
        record, window = part.scores.record(row), part.windows.window(row)
        try:
            line.submit(lambda: self._explain(record, window, is_told=is_new))
        except LineFull:
            self.dropped_total += 1

    def _explain(self, record: ScoreRecord, window: Window, *, is_told: bool) -> None:
        try:
            self._store(self._point(record, window))
        except (ExplainError, ScoreFailed, PointError, SinkError) as exc:
            self.dropped_total += 1
            where = f"{record['site']}/{record['device']}/{record['stream']}"
            if is_told:  # else every score of a machine that is due would be a line in the log
                log.warning("the alert-level score of %s has no explanation: %s", where, exc)
        else:
            self.explained_total += 1

    def _point(self, record: ScoreRecord, window: Window) -> Point:
        student = self._students.student(record["model"], record["version"])
        length = len(window.values)
        times = steady_times(window.start_ms, window.end_ms, length, window.readings)
        explanation = explain(student, window.values)
        report = make_report(explanation, student.manifest, window.values, times)
        first = report.channels[0]
        return explanation_point(
            record,
            channel=first.name,
            span_ms=report.spans[first.strongest],
            importance=first.effect,
            text=report.text,
            version=report.version,
        )
