"""Runs: the continuous readings that overlapping windows were cut from, and what may befall them.

Other rates and lost readings need more than one window. A run is cut again by the windower of the
product (`pipeline.windows.spec.slice_windows`, which a stream is proven to equal).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.windows.spec import Window, WindowSpec, slice_windows

__all__ = ["Cut", "Run", "at_rate", "cut_runs", "join_runs", "lost"]

_LOBES = 8
_STEP_MS = 1000  # between readings that have no rate


@dataclass(frozen=True, slots=True)
class Run:
    """Continuous readings of one device, each with the truth of a window.

    Attributes:
        values: Readings `[n, channels]`.
        truth: `[n, ...]` the truth of a window whose deciding reading is this one.
        kept: Places of the readings that arrive, ascending; None for all.
    """

    values: NDArray[np.float32]
    truth: NDArray[Any]
    kept: NDArray[np.intp] | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Windows that were cut from runs.

    Attributes:
        windows: `[n, length, channels]`.
        truth: `[n, ...]`.
        run: `[n]` number of the run.
        made_up: `[n]` share of made-up readings; None without resampling.
        rates_hz: `[n]` measured rate; None without resampling.
    """

    windows: NDArray[np.float32]
    truth: NDArray[Any]
    run: NDArray[np.int64]
    made_up: NDArray[np.float64] | None = None
    rates_hz: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.windows)

    @classmethod
    def none(cls) -> Cut:
        """No window."""
        nothing = np.empty(0, np.int64)
        return cls(np.empty((0, 0, 0), np.float32), nothing, nothing)


def join_runs(
    windows: NDArray[np.float32],
    truth: NDArray[Any],
    groups: NDArray[np.int64],
    hop: int,
    *,
    at_end: bool,
) -> list[Run]:
    """Join neighbouring windows of a group that overlap into runs; `cut_runs` gives them back.

    >>> series = np.arange(6, dtype=np.float32)[:, None]
    >>> windows = np.stack([series[0:3], series[1:4], series[3:6]])
    >>> runs = join_runs(windows, np.array([5, 4, 3]), np.zeros(3), 1, at_end=True)
    >>> [run.values.ravel().tolist() for run in runs], runs[0].truth.tolist()
    ([[0.0, 1.0, 2.0, 3.0], [3.0, 4.0, 5.0]], [5, 5, 5, 4])

    Args:
        windows: `[n, length, channels]`, those of a run one after the other.
        truth: `[n]`.
        groups: `[n]`.
        hop: Readings between the starts of neighbours.
        at_end: Whether the newest reading of a window decides its truth: each reading then has that
            of the first window that ends with it or after it. Else the reading in the middle does,
            and each has the truth of the window whose middle is nearest.
    """
    if not len(windows):
        return []
    length = windows.shape[1]
    follows = (groups[:-1] == groups[1:]) & (hop < length)
    if hop < length:
        follows &= (windows[:-1, hop:] == windows[1:, : length - hop]).all(axis=(1, 2))
    runs = []
    for part in np.split(np.arange(len(windows)), np.flatnonzero(~follows) + 1):
        values = np.concatenate([windows[part[0]], *windows[part[1:], length - hop :]])
        at = np.arange(len(values))
        of = -(-(at - length + 1) // hop) if at_end else np.rint((at - length / 2) / hop)
        runs.append(Run(values, truth[part][of.astype(np.intp).clip(0, len(part) - 1)]))
    return runs


def cut_runs(
    runs: Sequence[Run],
    spec: WindowSpec,
    sent_hz: float | None,
    *,
    at_end: bool,
    last_only: bool = False,
    every: int = 1,
) -> Cut:
    """Cut runs into windows as a gateway does.

    Args:
        runs: Runs.
        spec: Rules of the windows; its `rate_hz` resamples.
        sent_hz: Rate of the readings; None where they have none.
        at_end: Whether the newest reading decides the truth of a window; else the one in its
            middle.
        last_only: Keep the last window of each run alone.
        every: Keep each n-th window of a run, counted from its end.
    """
    step_ms = _STEP_MS if sent_hz is None else 1000 / sent_hz
    found = [
        (number, window, run.truth[_deciding(run, window, step_ms, at_end)])
        for number, run in enumerate(runs)
        for window in _chosen(_windows_of(run, spec, step_ms), last_only, every)
    ]
    if not found:
        return Cut.none()
    numbers, windows, truth = zip(*found, strict=True)
    is_resampled = spec.rate_hz is not None
    return Cut(
        np.stack([window.values for window in windows]),
        np.stack(truth),
        np.array(numbers),
        np.array([window.made_up for window in windows]) if is_resampled else None,
        np.array([window.rate_hz for window in windows]) if is_resampled else None,
    )


def at_rate(run: Run, factor: float) -> Run:
    """The run as a sensor of another rate would have sent it; a factor of 1 changes nothing.

    Band-limited interpolation (Lanczos, 8 lobes) between the readings, without a filter before
    slower rates: what moves faster than half of the new rate is seen as something slower, as with a
    sensor that reads now and then.

    Args:
        run: Run without lost readings.
        factor: New rate as a multiple of that of the run.
    """
    if factor == 1:
        return run
    count = len(run.values)
    at = np.arange(int((count - 1) * factor) + 1) / factor
    first = np.floor(at).astype(np.intp)
    near = first[:, None] + np.arange(1 - _LOBES, _LOBES + 1)
    apart = at[:, None] - near
    weights = np.sinc(apart) * np.sinc(np.clip(apart / _LOBES, -1, 1))
    weights /= weights.sum(axis=1, keepdims=True)
    rows = run.values[np.clip(near, 0, count - 1)].astype(np.float64)
    values = np.einsum("nk,nkc->nc", weights, rows).astype(np.float32)
    return Run(values, run.truth[np.minimum(np.rint(at).astype(np.intp), count - 1)])


def lost(run: Run, share: float, burst: int, seed: int) -> Run:
    """The run without a share of its readings, lost in bursts; its first and last one arrive.

    Args:
        run: Run.
        share: Share of the readings that are lost, below 1.
        burst: Readings lost in a row.
        seed: Seed of the places.
    """
    count = len(run.values)
    bursts = round(share * count / burst)
    arrives = np.ones(count, np.bool_)
    slots = np.random.default_rng(seed).permutation(max(1, count // burst))[:bursts]
    for slot in slots.tolist():
        arrives[slot * burst : (slot + 1) * burst] = False
    arrives[[0, -1]] = True
    return Run(run.values, run.truth, np.flatnonzero(arrives))


def _windows_of(run: Run, spec: WindowSpec, step_ms: float) -> list[Window]:
    places = np.arange(len(run.values)) if run.kept is None else run.kept
    return slice_windows(np.rint(places * step_ms).astype(np.int64), run.values[places], spec)


def _chosen(windows: list[Window], last_only: bool, every: int) -> list[Window]:
    return windows[-1:] if last_only else windows[::-1][::every][::-1]


def _deciding(run: Run, window: Window, step_ms: float, at_end: bool) -> int:
    """Place of the reading that decides the truth of a window."""
    at_ms = window.end_ms - 1 if at_end else (window.start_ms + window.end_ms) // 2
    return min(round(at_ms / step_ms), len(run.truth) - 1)
