"""What is stressed, from labelled windows, from engines, or from recorded series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task
from training.datasets.series import SeriesSet
from training.errors import DataSetError
from training.stress.measure import Compute
from training.stress.plan import Material, window_spec
from training.stress.runs import Cut, Run, join_runs
from training.windows import WindowSet

__all__ = ["material_of_engines", "material_of_series", "material_of_windows"]


def material_of_windows(windows: WindowSet, manifest: Manifest) -> Material:
    """Take all windows of a set, and the runs that those which overlap were cut from."""
    at_end = isinstance(find_task(manifest.task).answer, NumberAnswer)
    hop = manifest.window.hop
    runs = join_runs(windows.windows, windows.labels, windows.groups, hop, at_end=at_end)
    plain = Cut(windows.windows, windows.labels, np.zeros(len(windows), np.int64))
    return Material(plain, runs, at_end)


def material_of_engines(
    engines: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    windows: WindowSet,
    manifest: Manifest,
) -> Material:
    """Take the last window of each engine.

    Args:
        engines: Readings `[cycles, channels]` and RUL `[cycles]` of each engine.
        windows: The last window of each.
        manifest: Manifest of the student.
    """
    most = 3 * manifest.window.length  # half of the readings may be lost
    runs = [Run(series[-most:], labels[-most:]) for series, labels in engines]
    plain = Cut(windows.windows, windows.labels, np.arange(len(windows)))
    return Material(plain, runs, at_end=True, last_only=True)


def material_of_series(
    sets: Sequence[SeriesSet], manifest: Manifest, every: int
) -> tuple[Material, Compute]:
    """Take each n-th window of the test parts of some sets.

    Args:
        sets: Recordings.
        manifest: Manifest of a student that forecasts.
        every: n.

    Returns:
        The material, and the mean squared error in the training deviations of each recording, with
        the same weight for each.

    Raises:
        DataSetError: A test part is too short, or a stretch of it is missing.
    """
    decoding: Any = manifest.decoding
    length, horizon = manifest.window.length, int(decoding.horizon)
    runs, means, deviations = [], [], []
    for one in sets:
        for rows, scaled, times, (_, begin, end) in zip(
            one.series, one.standardised(), one.times_ms, one.borders, strict=True
        ):
            places = np.arange(max(0, begin - length), end - horizon)
            if len(places) < length or (np.diff(times[places]) != one.step_ms).any():
                msg = (
                    f"{one.title}: a test part needs {length} + {horizon} readings without a "
                    "missing stretch: move the borders of the parts"
                )
                raise DataSetError(msg)
            means.append(one.mean)
            deviations.append(one.deviation)
            runs.append(Run(rows[places], scaled[places[:, None] + np.arange(1, horizon + 1)]))
    mean, deviation = np.stack(means), np.stack(deviations)

    def compute(truth: NDArray[Any], values: NDArray[np.float32], run: NDArray[np.int64]) -> float:
        middle = (values[..., 1] - mean[run, None]) / deviation[run, None]
        errors = ((middle - truth) ** 2).mean(axis=(1, 2))
        return float(np.mean([errors[run == one].mean() for one in np.unique(run)]))

    material = Material(Cut.none(), runs, at_end=True, every=every)
    plain = material.cut(runs, window_spec(manifest), manifest.rate_hz)
    return Material(plain, runs, at_end=True, every=every), compute
