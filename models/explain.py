"""Why a student gave a score: which channels, in which span of the window, moved it. Pure.

By occlusion: the readings of one channel in one span of the window are replaced by neutral ones,
and the student scores again. How far the answer moves is the effect of these readings. An answer
chooses what is neutral (`Answer.neutral`):

- `middle`: the median of the channel in training (`Manifest.seen`), so that the question is "what
  if these readings had been usual?". A student whose manifest has no `seen` gets the mean of the
  channel in the window instead, which cannot show the effect of a level that lasts for the whole
  window.
- `mixed`: the middle for all readings of a channel. For a span, a straight line from the reading
  before it to the one after it: "what if nothing special had happened here?".
- `expected`: the newest readings as the student expected them in its backtest: "what if they had
  come as forecast?". For a span of the readings before those, a straight line. (A line in place of
  the newest readings would be odd in itself: a sensor that is stuck.)

Effects of spans do not add up to the effect of the whole channel, because students are not linear.
A student that scales by operating condition sees readings of one channel without the others as
unusual, so its effects are rough. Occlusion is as old as Zeiler & Fergus (ECCV 2014, section 4.1);
it needs no gradients, which ONNX Runtime does not give.

A few hundred runs of the student: some milliseconds to some tens of them. Never on the hot path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import ScoreFailed
from models.manifest import Manifest
from models.session import Student
from models.tasks.columns import row_of
from models.tasks.moved import Moved, Neutral
from models.tasks.registry import find_task

__all__ = ["SPANS", "Baseline", "Effect", "Explanation", "cut_spans", "explain"]

SPANS = 10
"""Spans of a window: enough to see when, few enough to read."""

Baseline = Literal["middle", "mean", "line", "expected"]
"""What readings were replaced by; see the text of this module. `mean` is in place of `middle`."""

_AT_ONCE = 64
"""Windows with replaced readings that are in memory at the same time."""

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """The effect of the readings on one number of the answer, in its unit.

    Above 0 where the readings have raised the number. What is below the noise of the student is 0.

    Attributes:
        name: The number.
        unit: Its unit; "1" for a probability or a score from 0 to 1.
        spans: [spans, channels] float64, of each channel's readings in each span.
        channels: [channels] float64, of all readings of each channel.
    """

    name: str
    unit: str
    spans: NDArray[np.float64]
    channels: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Which readings moved a score.

    Attributes:
        fields: The score itself, as in its record.
        spans: Half-open ranges of readings of the window, oldest first.
        effects: At least one, in the order of the answer.
        order: Places of the channels in the manifest, the most important one first.
        baseline: What the readings of a whole channel were replaced by.
        span_baseline: What those of a span were replaced by.
    """

    fields: Mapping[str, Any]
    spans: tuple[_Span, ...]
    effects: tuple[Effect, ...]
    order: tuple[int, ...]
    baseline: Baseline
    span_baseline: Baseline

    @property
    def effect(self) -> Effect:
        """The effect that orders the channels: the first one that is not 0 everywhere."""
        return _first_effect(self.effects)

    def strongest_span(self, channel: int) -> int:
        """Number of the span in which the readings of a channel (its place) mattered most."""
        return int(np.abs(self.effect.spans[:, channel]).argmax())


def cut_spans(length: int, count: int = SPANS) -> tuple[_Span, ...]:
    """Cut a window into spans of nearly equal length, at most one per reading.

    >>> cut_spans(7, 3)
    ((0, 2), (2, 4), (4, 7))
    """
    ends = [length * number // min(count, length) for number in range(min(count, length) + 1)]
    return tuple(pairwise(ends))


def explain(student: Student, window: NDArray[np.float32], spans: int = SPANS) -> Explanation:
    """Explain the score of one window.

    Args:
        student: The student that scored it.
        window: [length, channels] float32 in raw units, as it was scored.
        spans: Number of spans of the window; a short window has fewer.

    Raises:
        ValueError: The shape differs from [length, channels] of the manifest.
        ScoreFailed: The window has no score, or ONNX Runtime refused a batch.
    """
    manifest = student.manifest
    task = find_task(manifest.task)
    before = student.score(window[None])
    if not before.valid[0]:
        msg = f"{manifest.name} v{manifest.version} gives no finite score for this window"
        raise ScoreFailed(msg)
    baselines = _baselines(task.answer.neutral, manifest)
    newest = task.answer.expected(before)
    occlusion = _Occlusion(window, manifest, *baselines, None if newest is None else newest[0])
    cut = cut_spans(len(window), spans)
    parts = [
        (task.answer.moved(before, scores, manifest.decoding), scores.valid)
        for scores in map(student.score, occlusion.batches(cut))
    ]
    effects = tuple(
        _effect([(moved[number], valid) for moved, valid in parts], len(cut))
        for number in range(len(parts[0][0]))
    )
    fields = row_of(task.answer.columns(before), 0)
    return Explanation(fields, cut, effects, _order(_first_effect(effects)), *baselines)


def _baselines(neutral: Neutral, manifest: Manifest) -> tuple[Baseline, Baseline]:
    """What the readings of a whole channel, and those of a span, are replaced by."""
    if neutral == "expected":
        return "expected", "expected"
    level: Baseline = "mean" if manifest.seen is None else "middle"
    return level, "line" if neutral == "mixed" else level


@dataclass(frozen=True, slots=True, eq=False)
class _Occlusion:
    """A window, and what its readings are replaced by.

    Attributes:
        window: [length, channels] float32.
        manifest: Manifest of the student.
        whole: Baseline of a whole channel.
        partly: Baseline of a span.
        expected: [steps, channels] the newest readings as expected; None for other baselines.
    """

    window: NDArray[np.float32]
    manifest: Manifest
    whole: Baseline
    partly: Baseline
    expected: NDArray[np.float32] | None

    def batches(self, spans: Sequence[_Span]) -> Iterator[NDArray[np.float32]]:
        """The window with one part replaced: every span, then the whole, each by channel."""
        length, channels = self.window.shape
        parts = [(span, place, self.partly) for span in spans for place in range(channels)]
        parts += [((0, length), place, self.whole) for place in range(channels)]
        for at in range(0, len(parts), _AT_ONCE):
            chosen = parts[at : at + _AT_ONCE]
            batch = np.repeat(self.window[None], len(chosen), axis=0)
            for row, ((first, end), place, baseline) in enumerate(chosen):
                batch[row, first:end, place] = self._neutral(first, end, place, baseline)
            yield batch

    def _neutral(
        self, first: int, end: int, place: int, baseline: Baseline
    ) -> float | NDArray[np.float32]:
        """Neutral readings [end - first] of a channel, or one number for all of them."""
        readings = self.window[:, place]
        if baseline == "line":
            return _line(readings, first, end)
        if baseline == "expected" and self.expected is not None:
            return self._expected(first, end, place)
        if baseline == "middle" and self.manifest.seen is not None:
            return self.manifest.seen.middle[place]
        return float(readings.mean())

    def _expected(self, first: int, end: int, place: int) -> NDArray[np.float32]:
        """The newest readings as expected; before them a line, or as they are in a whole channel.

        A whole look-back cannot be replaced: what is expected comes from it.
        """
        readings = self.window[:, place]
        newest = self.expected[:, place] if self.expected is not None else readings[:0]
        cut = len(readings) - len(newest)
        before = readings[first : min(end, cut)]
        if len(before) and (first, end) != (0, len(readings)):
            before = _line(readings, first, min(end, cut))
        return np.concatenate([before, newest[max(first - cut, 0) : max(end - cut, 0)]])


def _line(readings: NDArray[np.float32], first: int, end: int) -> NDArray[np.float32]:
    """A line from the reading before the span to the one after it; flat where one is missing."""
    around = [at for at in (first - 1, end) if 0 <= at < len(readings)] or [first]
    return np.interp(np.arange(first, end), around, readings[around]).astype(np.float32)


def _effect(parts: Sequence[tuple[Moved, NDArray[np.bool_]]], spans: int) -> Effect:
    """Join the batches of one number; a row without a finite score has no effect."""
    moved = parts[0][0]
    change = np.concatenate([np.where(valid, part.change, 0.0) for part, valid in parts])
    change[np.abs(change) <= moved.noise] = 0
    table = change.reshape(spans + 1, -1)
    return Effect(moved.name, moved.unit, table[:-1], table[-1])


def _first_effect(effects: Sequence[Effect]) -> Effect:
    moving = (effect for effect in effects if effect.spans.any() or effect.channels.any())
    return next(moving, effects[0])


def _order(effect: Effect) -> tuple[int, ...]:
    """Channels by the effect of all their readings, then by that of their spans."""
    whole, spans = np.abs(effect.channels), np.abs(effect.spans).sum(axis=0)
    return tuple(int(place) for place in np.lexsort((-spans, -whole)))
