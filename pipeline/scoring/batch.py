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
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.secrettext import error_text
from models.manifest import Manifest
from models.tasks.contract import Scores
from models.tasks.quality import QUALITY
from models.tasks.registry import TASKS
from pipeline.points.scores import ScoreHead, ScoreRecord
from pipeline.scoring.quality import QualityChecks

if TYPE_CHECKING:
    from pipeline.windows.devices import ClosedWindow
    from pipeline.windows.spec import Window

__all__ = [
    "Health",
    "OnScored",
    "Rescue",
    "Scored",
    "Scorer",
    "Unscored",
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

    closed: ClosedWindow
    reason: str


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
    """The outcome of a batch: each window is in `records` or in `unscored`."""

    records: list[ScoreRecord] = field(default_factory=list)
    unscored: list[Unscored] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)


OnScored = Callable[[Sequence["ClosedWindow"], Scored], None]
"""Called with the windows of a batch and their outcome; it returns at once."""


class Rescue(Protocol):
    """Finds a student in place of one that fails; see `pipeline.scoring.contests`."""

    def __call__(
        self, failed: Scorer, windows: NDArray[np.float32], scores: Scores | None, error: str
    ) -> tuple[Scorer, Scores] | None:
        """The student that takes over, with its scores of the same windows; None if none does."""


def score_windows(
    closed: Sequence[ClosedWindow],
    student_of: Callable[[str], Scorer | None],
    scored_ms: int,
    rescue: Rescue | None = None,
    checks: QualityChecks | None = None,
) -> Scored:
    """Score windows of any devices and streams.

    Args:
        closed: Closed windows, with values [length, channels] float32 in raw units.
        student_of: Returns the student of a stream; None if no student scores it.
        scored_ms: Processing time of the records, epoch milliseconds.
        rescue: Asked when a student raises, or gives no finite score to a finite window.
        checks: The checks of the students that score, kept from call to call.

    Returns:
        Records grouped by stream, and in the given order within a stream. A window is unscored if
        its numbers are not finite, its shape is not the student's, no student scores its stream, or
        the student raises over it.
    """
    checks = QualityChecks() if checks is None else checks
    groups: dict[str, list[ClosedWindow]] = {}
    for item in closed:
        groups.setdefault(item.stream, []).append(item)
    scored = Scored()
    for stream, group in groups.items():
        student = student_of(stream)
        if student is None:
            reason = f"no student scores the stream {stream!r}"
            scored.unscored += [Unscored(item, reason) for item in group]
        else:
            _score_group(group, student, checks, scored_ms, scored, rescue)
    return scored


def score_and_report(
    student_of: Callable[[str], Scorer | None],
    on_scored: OnScored | None,
    closed: Sequence[ClosedWindow],
    *,
    scored_ms: int,
    rescue: Rescue | None = None,
    checks: QualityChecks | None = None,
) -> Scored:
    """Score windows as `score_windows` does, and report the batch to `on_scored`."""
    scored = score_windows(closed, student_of, scored_ms, rescue, checks)
    if on_scored is not None:
        on_scored(closed, scored)
    return scored


def _score_group(
    group: list[ClosedWindow],
    student: Scorer,
    checks: QualityChecks,
    scored_ms: int,
    scored: Scored,
    rescue: Rescue | None,
) -> None:
    manifest = student.manifest
    shape = (manifest.window.length, len(manifest.channels))
    fitting = [item for item in group if item.window.values.shape == shape]
    for item in group:
        if item.window.values.shape != shape:
            reason = f"window of shape {item.window.values.shape}, {manifest.name} needs {shape}"
            scored.unscored.append(Unscored(item, reason))
    if not fitting:
        return
    windows = np.stack([item.window.values for item in fitting])
    found: Scores | str = _scores_of(student, windows)
    if rescue is not None and _has_failed(found, windows):
        scores, error = (None, found) if isinstance(found, str) else (found, "")
        rescued = rescue(student, windows, scores, error)
        if rescued is not None:
            student, found = rescued
    for part, scores_or_error in _parts(student, windows, found):
        items = fitting[part]
        qualities = checks.of(student.manifest).flags(
            windows[part],
            [item.window.rate_hz for item in items],
            [item.window.made_up for item in items],
        )
        _add_part(items, student.manifest, scores_or_error, qualities, scored_ms, scored)


def _scores_of(student: Scorer, windows: NDArray[np.float32]) -> Scores | str:
    """The scores, or what the student raised: whatever it is, it must not stop other streams."""
    try:
        return student.score(windows)
    except Exception as exc:
        return error_text(exc, named=True)


def _has_failed(found: Scores | str, windows: NDArray[np.float32]) -> bool:
    if isinstance(found, str):
        return True
    missing = windows[~found.valid]
    return bool(np.isfinite(missing).all(axis=(1, 2)).any())


def _parts(
    student: Scorer, windows: NDArray[np.float32], found: Scores | str, start: int = 0
) -> Iterator[tuple[slice, Scores | str]]:
    """The windows in parts, ever smaller around the windows over which the student raises."""
    if isinstance(found, str) and len(windows) > 1:
        middle = len(windows) // 2
        for at, half in ((start, windows[:middle]), (start + middle, windows[middle:])):
            yield from _parts(student, half, _scores_of(student, half), at)
    else:
        yield slice(start, start + len(windows)), found


def _add_part(
    items: list[ClosedWindow],
    manifest: Manifest,
    scores: Scores | str,
    qualities: list[str],
    scored_ms: int,
    scored: Scored,
) -> None:
    title = f"{manifest.name} v{manifest.version}"
    if isinstance(scores, str):
        scored.unscored += [Unscored(item, f"{title} failed over it: {scores}") for item in items]
        return
    answer = TASKS[manifest.task].answer
    if windows := int(scores.valid.sum()):
        student_name = (manifest.name, manifest.version)
        scored.health.append(Health(student_name, windows, answer.health(scores)))
    rows = answer.record_fields(scores)
    for item, is_valid, fields, quality in zip(
        items, scores.valid.tolist(), rows, qualities, strict=True
    ):
        if is_valid:
            head = _head(item, manifest, scored_ms)
            rates = _rate_fields(item.window)
            scored.records.append({**head, **fields, **rates, QUALITY: quality})
        else:
            reason = f"{title} gave no finite score for this window"
            scored.unscored.append(Unscored(item, reason))


def _head(item: ClosedWindow, manifest: Manifest, scored_ms: int) -> ScoreHead:
    window = item.window
    return {
        "task": manifest.task,
        "site": item.site,
        "device": item.device,
        "stream": item.stream,
        "model": manifest.name,
        "version": manifest.version,
        "start_ms": window.start_ms,
        "end_ms": window.end_ms,
        "readings": window.readings,
        "gaps": window.gaps,
        "recv_ms": window.recv_ms,
        "scored_ms": scored_ms,
    }


def _rate_fields(window: Window) -> dict[str, float | int]:
    """The fields that only scores of resampled windows have."""
    if window.rate_hz is None or window.run_ms is None:
        return {}
    return {"made_up": window.made_up, "rate_hz": window.rate_hz, "run_ms": window.run_ms}
