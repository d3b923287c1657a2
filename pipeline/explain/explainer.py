"""Explanations and raw readings: scores, log and registry put together.

Blocking, so it is called in a `QuietThread` or in a process of its own; one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ScoreFailed
from models.explain import explain
from models.manifest import Manifest
from pipeline.errors import ExplainError, NoScore, NoStudent, ReadingsGone
from pipeline.explain.logscan import LogSource
from pipeline.explain.readings import RecentReadings, newest_readings
from pipeline.explain.rebuild import rebuild_window
from pipeline.explain.report import Report, make_report, report_json, seen_of
from pipeline.explain.scores import DeviceStream, StoredScore
from pipeline.explain.students import ExplainingStudents
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings

__all__ = [
    "Explained",
    "Explainer",
    "FindScore",
    "TurnValues",
    "explained_json",
    "readings_json",
]

FindScore = Callable[[DeviceStream, "int | None"], StoredScore]
"""Finds the newest score of a stream, or the one that was newest at an event time; raises NoScore.
"""

TurnValues = Callable[
    [tuple[str, str, str], NDArray[np.float32], Sequence[str]], NDArray[np.float32]
]
"""Turns readings of a device; see `pipeline.scoring.mounting.Mountings.turn_values`."""

_APART = 1e-3
"""Largest difference between a stored number and the same one made again, as a share of it."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A stored score with its explanation.

    Attributes:
        score: The score.
        report: The explanation.
        is_same_student: Whether the version that gave the score explains it.
        is_same_score: Whether the window rebuilt from the log has the score that was stored.
    """

    score: StoredScore
    report: Report
    is_same_student: bool
    is_same_score: bool


class Explainer:
    """Explains stored scores from the readings in the log.

    Args:
        find_score: Finds a score, in the results file of a gateway or in the log of a site.
        log: The log.
        registry: Folder of the registry.
        settings: Settings by which streams are windowed.
        turn: Turns readings of a device that is mounted otherwise, as scoring does.
    """

    def __init__(
        self,
        find_score: FindScore,
        log: LogSource,
        registry: Path,
        settings: PipelineSettings,
        turn: TurnValues = lambda _device, values, _channels: values,
    ) -> None:
        self.students = ExplainingStudents(registry)
        self._find_score = find_score
        self._log = log
        self._settings = settings
        self._turn = turn

    def explain(self, where: DeviceStream, at_ms: int | None, max_bytes: int) -> Explained:
        """Explain the newest score of a stream, or the one that was newest at `at_ms`.

        Args:
            where: Device and stream.
            at_ms: Event time; None: now.
            max_bytes: Size of the log to search, from its end.

        Raises:
            ExplainError: It cannot be explained; the subclass and the message say why.
            LogError: The log cannot be read.
            SinkError: The results file cannot be read.
            LogUnavailable: Kafka does not answer.
        """
        score = self._find_score(where, at_ms)
        student = self.students.student(score.model, score.version)
        manifest = student.manifest
        if manifest.stream != where.stream or manifest.task != score.task.name:
            msg = (
                f"{manifest.name} v{manifest.version} answers {manifest.task!r} from the stream "
                f"{manifest.stream!r}, not {score.task.name!r} from {where.stream!r}"
            )
            raise NoStudent(msg)
        rate_hz = None if score.run_ms is None else manifest.rate_hz
        spec = replace(stream_plan(manifest, self._settings).spec, rate_hz=rate_hz)
        try:
            window = rebuild_window(self._log, score, spec, manifest.channel_names, max_bytes)
            values = self._turn(
                (where.site, where.device, where.stream), window.values, manifest.channel_names
            )
            explanation = explain(student, values)
        except ScoreFailed as exc:
            raise ExplainError(str(exc)) from exc
        same_student = manifest.version == score.version
        field = score.task.answer.headline_field
        return Explained(
            score,
            make_report(explanation, manifest, values, window.ts_ms),
            same_student,
            not same_student or _is_same(score.fields.get(field), explanation.fields.get(field)),
        )

    def readings(self, where: DeviceStream, last: int, max_bytes: int) -> dict[str, Any]:
        """The newest raw readings of a stream, with the range of each channel in training.

        Raises:
            LogError: The log cannot be read.
        """
        manifest = self._manifest(where)
        channels = None if manifest is None else manifest.channel_names
        try:
            found = newest_readings(self._log, where, channels, last, max_bytes)
        except ReadingsGone:
            empty = np.empty((0, 0), dtype=np.float32)
            found = RecentReadings((), np.empty(0, dtype=np.int64), empty)
        return readings_json(found, manifest)

    def _manifest(self, where: DeviceStream) -> Manifest | None:
        """The manifest of the student that scored the stream last; None without a score."""
        try:
            score = self._find_score(where, None)
            return self.students.student(score.model, score.version).manifest
        except (NoScore, NoStudent):
            return None


def explained_json(explained: Explained) -> dict[str, Any]:
    """An explained score as JSON-able data; `docs/http-api.md` lists the keys."""
    score, report = explained.score, explained.report
    return {
        "site": score.where.site,
        "device": score.where.device,
        "stream": score.where.stream,
        "task": score.task.name,
        "title": score.task.title,
        "model": score.model,
        "version": score.version,
        "start_ms": score.start_ms,
        "end_ms": score.end_ms,
        "readings": score.readings,
        "score": dict(score.fields),
        "is_same_student": explained.is_same_student,
        "is_same_score": explained.is_same_score,
        "explanation": report_json(report),
    }


def readings_json(found: RecentReadings, manifest: Manifest | None) -> dict[str, Any]:
    """Raw readings as JSON-able data; `docs/http-api.md` lists the keys."""
    units = [channel.unit for channel in manifest.channels] if manifest else []
    return {
        "channels": [
            {
                "name": name,
                "unit": units[place] if units else "",
                "seen": seen_of(manifest, place) if manifest else None,
            }
            for place, name in enumerate(found.channels)
        ],
        "readings": [
            [at, *row] for at, row in zip(found.ts_ms.tolist(), found.values.tolist(), strict=True)
        ],
    }


def _is_same(stored: Any, made: Any) -> bool:
    if isinstance(stored, (int, float)) and isinstance(made, (int, float)):
        return abs(stored - made) <= _APART * max(1.0, abs(stored))
    return bool(stored == made)
