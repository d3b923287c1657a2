"""How odd a window is: statistics of its backtest, and their calibration. Pure numpy.

The graph forecasts the newest readings of a window from the readings before them, so a window
carries its own error. Five statistics of every channel are compared with those of calibration
windows; the anomaly score is the share of calibration windows that are less odd. It needs neither
labels nor state and is the same after any restart.

Training calls `anomaly_statistics` and `fit_anomaly_table` on windows that the student has not
learned from; a gateway calls `anomaly_statistics` and
`AnomalyScorer`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.fields import Float32, Frozen

__all__ = [
    "LEVELS",
    "STATISTICS",
    "AnomalyScorer",
    "AnomalyScores",
    "AnomalyTable",
    "anomaly_statistics",
    "fit_anomaly_table",
]

STATISTICS = ("size", "peak", "shift", "spread", "stuck")
"""What is measured in every channel; see `anomaly_statistics`."""

LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Shares of calibration windows at the knots of a table: denser where alarms are raised."""

_SMALLEST_WIDTH = 0.01
"""Least half width of a forecast interval, in training deviations: a channel that stood still in
the look-back has an interval of no width, and any reading would be infinitely odd."""

_LEAST_SHARE = 1e-9
_LARGEST = 1e30  # of a statistic, so that it is finite in float32

Knots = Annotated[tuple[Float32, ...], Field(min_length=len(LEVELS), max_length=len(LEVELS))]


class AnomalyTable(Frozen):
    """The statistics of calibration windows at the shares `LEVELS`.

    Attributes:
        windows: Number of calibration windows.
        channels: For every channel, for every one of `STATISTICS`, its value at each level.
        combined: The largest share among channels and statistics, at each level.
        alarm: Anomaly score from which a window raises an alarm.
    """

    windows: Annotated[int, Field(ge=1)]
    channels: Annotated[
        tuple[
            Annotated[
                tuple[Knots, ...], Field(min_length=len(STATISTICS), max_length=len(STATISTICS))
            ],
            ...,
        ],
        Field(min_length=1, max_length=256),
    ]
    combined: Knots
    alarm: Annotated[Float32, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _ascending(self) -> AnomalyTable:
        for knots in (self.combined, *(knots for channel in self.channels for knots in channel)):
            if any(right < left for left, right in itertools.pairwise(knots)):
                msg = f"the knots {knots} of an anomaly table are not in ascending order"
                raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class AnomalyScores:
    """How odd the windows of a batch are.

    Attributes:
        score: [batch] float32 share of calibration windows that are less odd, from 0 to 1.
        channel: [batch] int64 index of the oddest channel.
        oddness: [batch, channels] float32, how rare the oddest statistic of each channel is: 1 is
            one calibration window in ten, 3 one in a thousand. The score knows the largest only.
    """

    score: NDArray[np.float32]
    channel: NDArray[np.int64]
    oddness: NDArray[np.float32]


def anomaly_statistics(
    windows: NDArray[np.float32],
    backtest: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Measure every channel of every window.

    The residual of a reading is its distance from p50, divided by half the width of p10 to p90 (at
    least 1 % of the training deviation). `size` is the mean of the absolute residuals, `peak` the
    largest, `shift` the absolute value of their mean, `spread` the deviation of the steps between
    the newest readings relative to that of the steps before them, in either direction, and `stuck`
    the number of readings at the end of the window that equal the newest one.

    Args:
        windows: `[batch, length + steps, channels]` in raw units; the newest `steps` readings are
            those of the backtest.
        backtest: `[batch, steps, channels, 3]` p10, p50, p90 in raw units.
        spread: `[channels]` training deviation of each channel, raw units.

    Returns:
        `[batch, channels, len(STATISTICS)]` float32.
    """
    # Few calls and few passes: of one window, the calls of numpy take longer than the sums.
    steps = backtest.shape[1]
    least = np.maximum(_SMALLEST_WIDTH * spread.astype(np.float64), np.finfo(np.float32).tiny)
    values, fan = windows.astype(np.float64), backtest.astype(np.float64)
    found = np.empty((len(windows), len(spread), len(STATISTICS)))
    residual = values[:, -steps:] - fan[..., 1]
    residual /= np.maximum((fan[..., 2] - fan[..., 0]) / 2, least)
    found[..., 2] = np.abs(residual.sum(axis=1) / steps)
    np.abs(residual, out=residual)
    found[..., 0] = residual.sum(axis=1) / steps
    found[..., 1] = residual.max(axis=1)
    moves = np.abs(values[:, 1:] - values[:, :-1])
    newest = moves[:, -steps:].sum(axis=1) / steps
    before = moves[:, :-steps].sum(axis=1) / max(1, moves.shape[1] - steps)
    floor = 1e-3 * least
    found[..., 3] = np.abs(np.log((newest + floor) / (before + floor)))
    # The distance of the last reading that differs from the newest; 0 where none does.
    equal = (windows[:, ::-1] == windows[:, -1:]).argmin(axis=1)
    found[..., 4] = np.where(equal > 0, equal, windows.shape[1])
    return np.minimum(found, _LARGEST).astype(np.float32)


def fit_anomaly_table(statistics: NDArray[np.float32], *, alarm_share: float) -> AnomalyTable:
    """Calibrate on windows that the student has not learned from.

    Args:
        statistics: `[windows, channels, len(STATISTICS)]` from `anomaly_statistics`.
        alarm_share: Share of ordinary windows that may raise an alarm.

    Raises:
        ValueError: There are fewer than two windows.
    """
    if len(statistics) < 2:
        msg = f"an anomaly table needs at least two calibration windows, not {len(statistics)}"
        raise ValueError(msg)
    knots = _quantiles(statistics.reshape(len(statistics), -1))
    channels, kinds = statistics.shape[1:]
    largest = _Knots(knots).shares(statistics.reshape(len(statistics), -1)).max(axis=1)
    combined = _quantiles(largest[:, None])
    return AnomalyTable(
        windows=len(statistics),
        channels=tuple(
            tuple(tuple(row.tolist()) for row in channel)
            for channel in knots.reshape(channels, kinds, len(LEVELS))
        ),
        combined=tuple(combined[0].tolist()),
        alarm=float(min(max(1 - alarm_share, 0.5), 1 - 1e-6)),
    )


class AnomalyScorer:
    """Scores windows by a table; what depends on the table alone is computed once.

    Args:
        table: Calibration of the student's channels.
    """

    def __init__(self, table: AnomalyTable) -> None:
        self._channels = _Knots(np.array(table.channels, dtype=np.float64).reshape(-1, len(LEVELS)))
        self._combined = _Knots(np.array([table.combined]))

    def score(self, statistics: NDArray[np.float32]) -> AnomalyScores:
        """Score statistics `[batch, channels, len(STATISTICS)]`; the score grows with each of them.

        Beyond the last knot a share approaches 1 without reaching it, so that two very odd channels
        can still be told apart.
        """
        batch = len(statistics)
        shares = self._channels.shares(statistics.reshape(batch, -1)).reshape(statistics.shape)
        largest = shares.max(axis=2)
        score = self._combined.shares(largest.max(axis=1)[:, None])[:, 0]
        oddness = -np.log10(np.maximum(1 - largest, _LEAST_SHARE))
        return AnomalyScores(
            score.astype(np.float32), largest.argmax(axis=1), oddness.astype(np.float32)
        )


def _quantiles(columns: NDArray[np.floating]) -> NDArray[np.float64]:
    """Knots `[columns, levels]` of `[windows, columns]`."""
    found = np.quantile(columns.astype(np.float64), LEVELS, axis=0).T
    return np.maximum.accumulate(found.astype(np.float32), axis=1).astype(np.float64)


class _Knots:
    """Knots `[columns, levels]` of calibration windows, ready to be looked up.

    Equal knots (a channel that never stands still has `stuck` 1 at nearly all levels) give the
    share of windows that are strictly below. All columns are done at once: a gateway asks for
    single windows, where a loop over columns took longer than the graph.
    """

    def __init__(self, knots: NDArray[np.float64]) -> None:
        count = len(LEVELS)
        levels = np.array(LEVELS)[(knots[:, :, None] > knots[:, None, :]).sum(axis=2)]
        width = np.diff(knots, axis=1)
        # The segments of a column: below the first knot, between two knots, beyond the last one.
        # A value there has the share `base + rise * (value - start)`; beyond is done apart.
        segments = np.zeros((len(knots), count + 1, 3))
        start, base, rise = np.moveaxis(segments, 2, 0)
        start[:, 1:], base[:, 0], base[:, 1:] = knots, LEVELS[0], levels
        rise[:, 1:-1] = np.diff(levels, axis=1) / np.where(width > 0, width, 1)
        self._segments = segments.reshape(-1, 3)
        self._first = np.arange(len(knots)) * (count + 1)
        self._knots = knots
        self._end, middle = knots[:, -1], knots[:, count // 2]
        least = np.maximum(self._end - middle, 1e-3 * np.abs(self._end))
        self._scale = np.maximum(least, 1e-9)

    def shares(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of calibration windows below each value `[batch, columns]`."""
        # The segment of each value, left knot < value <= right knot, [batch, columns].
        place = (values[:, :, None] > self._knots).sum(axis=2)
        place += self._first
        segments = self._segments.take(place, axis=0)
        shares: NDArray[np.float64] = segments[..., 2] * (values - segments[..., 0])
        shares += segments[..., 1]
        past = values > self._end
        if past.any():
            # Half of what is left at the last knot's distance from the middle, then ever less.
            beyond = np.maximum(values - self._end, 0) / self._scale
            above = LEVELS[-1] + (1 - LEVELS[-1]) * (beyond / (1 + beyond))
            shares = np.where(past, above, shares)
        return shares
