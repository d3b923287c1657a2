"""From closed windows to score records: one batch per student, across devices. Pure.

The student of a stream is looked up once per call, so a new version takes over between two batches
and never inside one. The identity of a record (site, device, stream, model, end_ms) and its numbers
depend only on the window, so the same window scored twice is the same point.

A student that fails harms its own stream only, and there only the windows over which it fails:
these have no score, and are counted with the reason. If it is on probation, the student that ran
before it scores the whole batch instead (`Rescue`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ingest.secrettext import error_text
from models.manifest import Manifest
from models.tasks.classes import ClassScores
from models.tasks.contract import Scores
from models.tasks.quality import QUALITY
from models.tasks.registry import TASKS
from pipeline.points.scorecolumns import ScoreColumns, encode_scores
from pipeline.scoring.anchoring import AnchorsOf
from pipeline.scoring.quality import QualityChecks
from pipeline.windows.windowbatch import WindowBatch, join_batches

if TYPE_CHECKING:
    from models.session import Student  # ONNX Runtime; this file is pure

__all__ = [
    "Health",
    "OnScored",
    "Rescue",
    "Scored",
    "Scorer",
    "StudentScores",
    "Unscored",
    "encode_by_partition",
    "score_and_report",
    "score_windows",
]


class Scorer(Protocol):
    """Scores a batch: `models.session.Student`, or a fake in a test."""

    @property
    def manifest(self) -> Manifest:
        """Model, version and decoding of the student."""

    def score(self, windows: NDArray[np.float32]) -> Scores:
        """Score [batch, length, channels] float32 windows in raw units, one row each."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """A window without a score, with the reason; it is counted, never dropped silently."""

    site: str
    device: str
    stream: str
    end_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class StudentScores:
    """The scores that one student gave: `scores` has one row for each of `windows`, in order."""

    windows: WindowBatch
    scores: ScoreColumns


@dataclass(frozen=True, slots=True)
class Health:
    """Figures of the scores that one student gave in a batch.

    Attributes:
        student: Name and version of the student.
        windows: Windows with a score.
        means: Means over these windows; see `Answer.health`.
    """

    student: tuple[str, int]
    windows: int
    means: Mapping[str, float]


@dataclass(slots=True)
class Scored:
    """The outcome of a batch: each window is in `parts` or in `unscored`."""

    parts: list[StudentScores] = field(default_factory=list)
    unscored: list[Unscored] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)


OnScored = Callable[[Sequence[WindowBatch], Scored], None]
"""Called with the windows of a batch and their outcome; it returns at once."""


class Rescue(Protocol):
    """Finds a student in place of one that fails; see `pipeline.scoring.contests`."""

    def __call__(
        self, failed: Scorer, windows: NDArray[np.float32], scores: Scores | None, error: str
    ) -> tuple[Scorer, Scores] | None:
        """The student that takes over, with its scores of the same windows; None if none does."""


def score_windows(
    batches: Sequence[WindowBatch],
    student_of: Callable[[str], Scorer | None],
    scored_ms: int,
    rescue: Rescue | None = None,
    checks: QualityChecks | None = None,
    anchors: AnchorsOf | None = None,
) -> Scored:
    """Score windows of any devices and streams.

    Args:
        batches: Closed windows, with values in raw units.
        student_of: Returns the student of a stream; None if no student scores it.
        scored_ms: Processing time of the records, epoch milliseconds.
        rescue: Asked when a student raises, or gives no finite score to a finite window.
        checks: The checks of the students that score, kept from call to call.
        anchors: Finds the anchors from examples, if there are some.

    Returns:
        Scores grouped by stream, and in the given order within a stream. A window is unscored if
        its numbers are not finite, its shape is not the student's, no student scores its stream, or
        the student raises over it.
    """
    checks = QualityChecks() if checks is None else checks
    groups: dict[str, list[WindowBatch]] = {}
    for batch in batches:
        if len(batch):
            groups.setdefault(batch.stream, []).append(batch)
    scored = Scored()
    for stream, group in groups.items():
        student = student_of(stream)
        for windows in join_batches(group):
            if student is None:
                _leave(windows, f"no student scores the stream {stream!r}", scored)
            else:
                student = _score_batch(windows, student, checks, scored_ms, scored, rescue, anchors)
    return scored


def score_and_report(
    student_of: Callable[[str], Scorer | None],
    on_scored: OnScored | None,
    batches: Sequence[WindowBatch],
    *,
    scored_ms: int,
    rescue: Rescue | None = None,
    checks: QualityChecks | None = None,
    anchors: AnchorsOf | None = None,
) -> Scored:
    """Score windows as `score_windows` does, and report the batch to `on_scored`."""
    scored = score_windows(batches, student_of, scored_ms, rescue, checks, anchors)
    if on_scored is not None:
        on_scored(batches, scored)
    return scored


def encode_by_partition(scored: Scored) -> list[tuple[int, bytes]]:
    """Records of the topic `scores`, each with the partition of its devices."""
    groups: dict[int, list[ScoreColumns]] = {}
    for part in scored.parts:
        partition = part.windows.partition
        if (partition == partition[0]).all():
            groups.setdefault(int(partition[0]), []).append(part.scores)
            continue
        for number in np.flatnonzero(np.bincount(partition)).tolist():
            rows = np.flatnonzero(partition == number)
            groups.setdefault(number, []).append(part.scores.take(rows))
    return [(number, value) for number, group in groups.items() for value in encode_scores(group)]


def _score_batch(
    windows: WindowBatch,
    student: Scorer,
    checks: QualityChecks,
    scored_ms: int,
    scored: Scored,
    rescue: Rescue | None,
    anchors: AnchorsOf | None,
) -> Scorer:
    """Score windows of one shape; returns the student that scores from now on."""
    manifest, values = student.manifest, windows.values
    shape = (manifest.window.length, len(manifest.channels))
    if values.shape[1:] != shape:
        reason = f"window of shape {values.shape[1:]}, {manifest.name} needs {shape}"
        _leave(windows, reason, scored)
        return student
    placed = None if anchors is None else anchors(manifest)
    found: Scores | str = _scores_of(student, values, placed is not None)
    if rescue is not None and _has_failed(found, values):
        scores, error = (None, found) if isinstance(found, str) else (found, "")
        rescued = rescue(student, values, scores, error)
        if rescued is not None:
            student, found = rescued
    for rows, scores_or_error in _parts(student, values, found, featured=placed is not None):
        part = windows if rows == slice(0, len(windows)) else windows.take(rows)
        if isinstance(scores_or_error, str):
            title = f"{student.manifest.name} v{student.manifest.version}"
            _leave(part, f"{title} failed over it: {scores_or_error}", scored)
        elif placed is None or getattr(scores_or_error, "features", None) is None:
            _add_scores(part, student.manifest, scores_or_error, checks, scored_ms, scored)
        else:
            featured = cast(ClassScores, scores_or_error)
            for chosen, some in placed.parts(part.senders, featured, part.values):
                own = part if len(chosen) == len(part) else part.take(chosen)
                _add_scores(own, student.manifest, some, checks, scored_ms, scored)
    return student


def _scores_of(
    student: Scorer, windows: NDArray[np.float32], featured: bool = False
) -> Scores | str:
    """The scores, or what the student raised: whatever it is, it must not stop other streams."""
    try:
        if featured:
            return cast("Student", student).score_with_features(windows)[0]
        return student.score(windows)
    except Exception as exc:
        return error_text(exc, named=True)


def _has_failed(found: Scores | str, windows: NDArray[np.float32]) -> bool:
    if isinstance(found, str):
        return True
    if found.valid.all():
        return False
    missing = windows[~found.valid]
    return bool(np.isfinite(missing).all(axis=(1, 2)).any())


def _parts(
    student: Scorer,
    windows: NDArray[np.float32],
    found: Scores | str,
    start: int = 0,
    *,
    featured: bool = False,
) -> Iterator[tuple[slice, Scores | str]]:
    """The windows in parts, ever smaller around the windows over which the student raises."""
    if isinstance(found, str) and len(windows) > 1:
        middle = len(windows) // 2
        for at, half in ((start, windows[:middle]), (start + middle, windows[middle:])):
            again = _scores_of(student, half, featured)
            yield from _parts(student, half, again, at, featured=featured)
    else:
        yield slice(start, start + len(windows)), found


def _add_scores(
    windows: WindowBatch,
    manifest: Manifest,
    scores: Scores,
    checks: QualityChecks,
    scored_ms: int,
    scored: Scored,
) -> None:
    answer = TASKS[manifest.task].answer
    size = int(scores.valid.sum())
    if size:
        student_name = (manifest.name, manifest.version)
        scored.health.append(Health(student_name, size, answer.health(scores)))
    quality = checks.of(manifest).flags(
        windows.values, windows.rate_hz, windows.made_up, answer.unfamiliar(scores)
    )
    columns = {
        **_head(windows, manifest, scored_ms),
        **answer.columns(scores),
        **_rate_columns(windows),
        QUALITY: quality,
    }
    found = ScoreColumns(len(windows), columns)
    if size < len(windows):
        title = f"{manifest.name} v{manifest.version}"
        missing = windows.take(np.flatnonzero(~scores.valid))
        _leave(missing, f"{title} gave no finite score for this window", scored)
        rows = np.flatnonzero(scores.valid)
        windows, found = windows.take(rows), found.take(rows)
    if size:
        scored.parts.append(StudentScores(windows, found))


def _leave(windows: WindowBatch, reason: str, scored: Scored) -> None:
    """Note windows that have no score."""
    for (site, device), end_ms in zip(windows.senders, windows.end_ms.tolist(), strict=True):
        scored.unscored.append(Unscored(site, device, windows.stream, end_ms, reason))


def _head(windows: WindowBatch, manifest: Manifest, scored_ms: int) -> dict[str, Any]:
    """The columns of every score; see `pipeline.points.scores.ScoreHead`."""
    sites, devices = zip(*windows.senders, strict=True)
    return {
        "task": manifest.task,
        "site": list(sites),
        "device": list(devices),
        "stream": windows.stream,
        "model": manifest.name,
        "version": manifest.version,
        "start_ms": windows.start_ms,
        "end_ms": windows.end_ms,
        "readings": windows.readings,
        "gaps": windows.gaps,
        "recv_ms": windows.recv_ms,
        "scored_ms": scored_ms,
    }


def _rate_columns(windows: WindowBatch) -> dict[str, Any]:
    """The columns that only scores of resampled windows have."""
    if windows.rate_hz is None or windows.run_ms is None:
        return {}
    return {"made_up": windows.made_up, "rate_hz": windows.rate_hz, "run_ms": windows.run_ms}
