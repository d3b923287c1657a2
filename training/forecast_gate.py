"""The gate of a forecasting student: it is published only if it is better on held-out time.

Held-out time is the last part of what comes before the test part: no student learns from it, and no
band is calibrated on it (`SeriesSet.before_test`). On its windows a new student is compared with
each rival: the running student, the ridge and the seasonal-naive forecast. It must beat them all.

Neighbouring windows share most of their readings, so windows are no independent examples. They are
grouped by blocks of time, and the paired interval draws blocks. A block is one horizon long or one
season, whichever is longer: windows two blocks apart share no target, and every block holds every
hour of the season. Devices at the same time are in the same block, because they share weather and
orders. Fewer than 5 blocks are refused: then all of them favour the worse student by chance with a
probability of 6 % or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.tasks.contract import Task
from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import DataSetError
from training.evaluate import (
    Comparison,
    Rival,
    compare_groups,
    group_errors,
    noise_of_gain,
)

if TYPE_CHECKING:  # it needs ONNX Runtime, which --help does not
    from models.session import Student

__all__ = [
    "FEWEST_BLOCKS",
    "Forecast",
    "HeldOutTime",
    "Judged",
    "Verdict",
    "cut_held_out",
    "judge",
    "repeat_season",
    "student_forecast",
]

FEWEST_BLOCKS = 5
_MOST_WINDOWS = 4000  # more of them, nearer to each other, narrow no interval
_BATCH = 256
_OF_BAND = {"pinball", "coverage"}  # measures that a forecast without p10 and p90 lacks

Forecast = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Standardised look-backs `[n, length, channels]` to standardised forecasts `[n, horizon, channels,
q]`: p10, p50 and p90 (q = 3), or p50 alone (q = 1)."""


@dataclass(frozen=True, slots=True)
class HeldOutTime:
    """Windows of the held-out time.

    Attributes:
        windows: The windows; their look-back serves the rival that needs the longest one.
        blocks: Block of time of every window, `[n]`.
        block_ms: Length of a block.
    """

    windows: SeriesWindows
    blocks: NDArray[np.int64]
    block_ms: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A forecast on the held-out time.

    Attributes:
        name: Name for tables.
        errors: Error of every window, `[n]`; see `window_errors` of the task's answer.
        measures: Measures of the task, NaN where they need a band that the forecast lacks.
    """

    name: str
    errors: NDArray[np.float64]
    measures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A new student against its rivals.

    Attributes:
        new: The new student.
        rivals: The forecasts that it must beat.
        gains: Comparison with each rival, by blocks of time; a positive gain favours the student.
    """

    new: Judged
    rivals: tuple[Judged, ...]
    gains: tuple[Comparison, ...]

    def against(self, headline: str, held_out: HeldOutTime) -> tuple[Rival, ...]:
        """The rivals, each with the gain of the student in the headline measure.

        The measure is the mean of the errors of all windows.
        """
        found = []
        for rival, comparison in zip(self.rivals, self.gains, strict=True):
            apart = rival.errors - self.new.errors
            noise = noise_of_gain(partial(_mean_of, apart), held_out.blocks)
            value = rival.measures[headline]
            found.append(
                Rival(rival.name, comparison, rival.measures, value, float(apart.mean()), noise)
            )
        return tuple(found)

    @classmethod
    def of(cls, new: Judged, rivals: tuple[Judged, ...], held_out: HeldOutTime) -> Verdict:
        """Compare a new student with its rivals."""
        fresh = group_errors(new.errors, held_out.blocks)
        gains = tuple(
            compare_groups(group_errors(rival.errors, held_out.blocks), fresh) for rival in rivals
        )
        return cls(new, rivals, gains)


def _mean_of(values: NDArray[np.float64], places: NDArray[np.int64]) -> float:
    return float(values[places].mean())


def cut_held_out(data: SeriesSet, length: int, horizon: int) -> HeldOutTime:
    """Cut the windows of the held-out time.

    Args:
        data: Set without its test part (`SeriesSet.before_test`): its last part is held out.
        length: Readings in the longest look-back that a rival needs.
        horizon: Readings in the forecast.

    Raises:
        DataSetError: The held-out time is too short for one window, or for enough blocks.
    """
    every = data.windows("test", length, horizon)
    stride = -(-len(every) // _MOST_WINDOWS)
    windows = data.windows("test", length, horizon, stride) if stride > 1 else every
    block_ms = max(horizon, data.period) * data.step_ms
    times = windows.times_ms()
    blocks = (times - times.min()) // block_ms
    found = len(np.unique(blocks))
    if found < FEWEST_BLOCKS:
        msg = (
            f"{data.name}: the held-out time has {found} blocks of {block_ms // data.step_ms} "
            f"readings, which is too few to compare on; {FEWEST_BLOCKS} are needed: use longer "
            "recordings, a longer validation part, or a shorter horizon"
        )
        raise DataSetError(msg)
    return HeldOutTime(windows, blocks, block_ms)


def judge(task: Task, name: str, forecast: Forecast, held_out: HeldOutTime) -> Judged:
    """Measure a forecast on the held-out time."""
    windows = held_out.windows
    errors: list[NDArray[np.float64]] = []
    sums: dict[str, float] = {}
    for at in range(0, len(windows), _BATCH):
        part = slice(at, at + _BATCH)
        truth, values = windows.targets(part), forecast(windows.inputs(part))
        without = _OF_BAND if values.shape[3] == 1 else set()
        values = np.broadcast_to(values, (*truth.shape, 3))
        measures = task.measure(truth, values)
        errors.append(task.answer.window_errors(truth, values))
        # Every measure of a forecast is a mean over windows, so a part weighs by their number.
        for key in measures.keys() - {"windows"} - without:
            sums[key] = sums.get(key, 0.0) + measures[key] * len(truth) / len(windows)
    order = [measure.name for measure in task.measures]
    return Judged(name, np.concatenate(errors), {key: sums.get(key, math.nan) for key in order})


def student_forecast(student: Student, data: SeriesSet, horizon: int) -> Forecast:
    """Return the forecast of an artifact as the gateway makes it: raw windows in, raw units out.

    Args:
        student: Loaded artifact.
        data: Set whose units the look-backs have.
        horizon: Steps to compare; at most those of the student.
    """
    length = student.manifest.window.length
    mean, deviation = data.mean.astype(np.float32), data.deviation.astype(np.float32)

    def forecast(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        raw = student.score(inputs[:, -length:] * deviation + mean).values[:, :horizon]
        return (raw - mean[:, None]) / deviation[:, None]

    return forecast


def repeat_season(period: int, horizon: int) -> Forecast:
    """Return the seasonal-naive forecast: the newest season, again and again.

    >>> repeat_season(2, 3)(np.array([[[1], [2], [3]]], dtype=np.float32))[0, :, 0, 0].tolist()
    [2.0, 3.0, 2.0]
    """
    places = np.arange(horizon) % period - period
    return lambda inputs: inputs[:, places, :, None]
