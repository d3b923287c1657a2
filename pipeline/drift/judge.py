"""Whether counted windows have drifted from what a student has learned. Pure.

Four signs, each with its limit; docs/drift.md has how they were measured:

- **Shape**: the population stability index of a channel over a thousand windows is above the
  largest one that parts of training have among themselves (`Histogram.alone`, or `many` for twenty
  devices and more), times `_MARGIN`. Not for forecasts: their students normalise each window, so
  that levels which move with the seasons do no harm; their error tells.
- **Doubt**: more than `_DOUBTFUL` of the last two hundred windows have readings that are flagged
  (`pipeline.scoring.quality`).
- **Unknown**: more than `_UNKNOWN` of the last five hundred windows resemble no class, and four
  times as many as at calibration; somebody who does one thing for a while is no new class.
- **Error**: fewer than `_COVERED` of the readings lay inside their forecast interval of 80 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.manifest import Draft
from models.seen import stability_indices
from pipeline.drift.counts import FEWEST, LONGER, RECENT, SPAN, Counts

__all__ = ["ChannelShape", "Judgement", "judge"]

_MARGIN = 1.25
_LEAST = 0.25
"""No limit of a shape is below it: by custom, an index below it is a small change."""
_DOUBTFUL = 0.2
_UNKNOWN = 0.5
_TIMES = 4.0
_COVERED = 0.65


@dataclass(frozen=True, slots=True)
class ChannelShape:
    """How far the readings of a channel are from their shape in training.

    Attributes:
        channel: Name of the channel.
        psi: Population stability index.
        limit: Largest index that is no drift.
    """

    channel: str
    psi: float
    limit: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the newest windows of a stream, or of a device of it, look like.

    Attributes:
        shapes: Shape of each channel; empty if it is not judged yet, or never.
        windows: Windows over which the shapes are judged.
        devices: Devices among them, as far as they are counted.
        flagged: Share of doubtful windows among the last two hundred.
        unknown: Share of the last five hundred windows that resemble no class; None if it is not
            judged yet, or for a task without classes.
        covered: Share of readings inside their forecast interval; None for other tasks.
        reasons: Why it is a drift; empty if it is none.
    """

    shapes: tuple[ChannelShape, ...]
    windows: int
    devices: int
    flagged: float
    unknown: float | None
    covered: float | None
    reasons: tuple[str, ...]

    @property
    def has_drifted(self) -> bool:
        """Whether a sign is beyond its limit."""
        return bool(self.reasons)


def judge(
    counts: Counts, manifest: Draft, *, rejects: float | None, has_interval: bool
) -> Judgement | None:
    """Judge the newest full blocks; None if there are too few.

    Args:
        counts: Counts of the windows.
        manifest: Of the student that scored them.
        rejects: Share of unknown windows at calibration; None for a task without classes.
        has_interval: Whether each score tells how many readings its forecast covered.
    """
    if counts.blocks < RECENT:
        return None
    recent = counts.newest(RECENT)
    flagged = recent.flagged / recent.windows
    unknown = None
    if rejects is not None and counts.blocks >= LONGER:
        longer = counts.newest(LONGER)
        unknown = longer.unknown / longer.windows
    covered = recent.covered / recent.windows if has_interval else None
    whole = counts.newest(SPAN)
    shapes: tuple[ChannelShape, ...] = ()
    if counts.blocks >= FEWEST:
        shapes = _shapes(whole.bins, whole.is_fleet, manifest)
    reasons = [
        f"the readings of {shape.channel} have another shape than in training "
        f"(index {shape.psi:.2f}, limit {shape.limit:.2f})"
        for shape in sorted(shapes, key=lambda s: s.limit - s.psi)[:3]
        if shape.psi > shape.limit and not has_interval
    ]
    if flagged > _DOUBTFUL:
        reasons.insert(0, f"{flagged:.0%} of the windows are doubtful")
    if unknown is not None and rejects is not None and unknown > max(_UNKNOWN, _TIMES * rejects):
        reasons.append(f"{unknown:.0%} of the windows resemble no class")
    if covered is not None and covered < _COVERED:
        reasons.append(f"{covered:.0%} of the readings are inside the 80 % interval of forecasts")
    return Judgement(
        shapes,
        whole.windows,
        len(whole.devices),
        flagged,
        unknown,
        covered,
        tuple(reasons),
    )


def _shapes(bins: NDArray[np.int64], is_fleet: bool, manifest: Draft) -> tuple[ChannelShape, ...]:
    histogram = None if manifest.seen is None else manifest.seen.histogram
    if histogram is None:
        return ()
    limits = histogram.many if is_fleet else histogram.alone
    indices = stability_indices(bins, histogram.shares).tolist()
    return tuple(
        ChannelShape(name, index, max(_LEAST, _MARGIN * limit))
        for name, index, limit in zip(manifest.channel_names, indices, limits, strict=True)
    )
