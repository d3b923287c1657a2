"""From closed windows to score records: one batch per student, across devices. Pure.

The student of a stream is looked up once per call, so a new version takes over between two
micro-batches and never inside one. A record's identity (site, device, stream, model, end_ms) and
its numbers depend on the window alone: the same window scored twice gives the same point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.tasks.contract import Scores
from models.tasks.registry import find_task
from pipeline.points.scores import ScoreHead, ScoreRecord

if TYPE_CHECKING:
    from pipeline.windows.devices import ClosedWindow

__all__ = ["Scored", "Scorer", "Unscored", "score_windows"]


class Scorer(Protocol):
    """What scores a batch: `models.session.Student`, or a fake in a test."""

    @property
    def manifest(self) -> Manifest:
        """Which model and version, and how to read its output."""

    def score(self, windows: NDArray[np.float32]) -> Scores:
        """Score [batch, length, channels] float32 windows in raw units, one row each."""


@dataclass(frozen=True, slots=True)
class Unscored:
    """A window without a score, and why; it is counted, never dropped in silence."""

    closed: ClosedWindow
    reason: str


@dataclass(slots=True)
class Scored:
    """What became of a batch of windows: `records` and `unscored` together are all of them."""

    records: list[ScoreRecord] = field(default_factory=list)
    unscored: list[Unscored] = field(default_factory=list)


def score_windows(
    closed: Sequence[ClosedWindow],
    student_of: Callable[[str], Scorer | None],
    scored_ms: int,
) -> Scored:
    """Score windows of any devices and streams.

    Args:
        closed: Windows as the windower closed them, values [length, channels] float32, raw.
        student_of: Finds the student of a stream; None when nothing scores it.
        scored_ms: Processing time to write into the records, epoch milliseconds.

    Returns:
        Records grouped by stream, within a stream in the order given. A window whose numbers are
        not finite, whose shape is not the student's, or whose stream has no student is unscored.

    Raises:
        ScoreFailed: The student's runtime refused; no window of the call has a record.
    """
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
            _score_group(group, student, scored_ms, scored)
    return scored


def _score_group(
    group: list[ClosedWindow], student: Scorer, scored_ms: int, scored: Scored
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
    scores = student.score(np.stack([item.window.values for item in fitting]))
    rows = find_task(manifest.task).answer.record_fields(scores)
    for item, is_valid, fields in zip(fitting, scores.valid.tolist(), rows, strict=True):
        if is_valid:
            scored.records.append({**_head(item, manifest, scored_ms), **fields})
        else:
            reason = f"{manifest.name} v{manifest.version} gave no finite score for this window"
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
