"""Windows of three data sets brought together: one rate, one length, one unit, no orientation.

| set | place of wear | rate | unit |
|---|---|---|---|
| UCI HAR | waist | 50 Hz | g, rad/s |
| WISDM (windowed copy) | trouser pocket | 20 Hz | standardised per person, gravity removed |
| SPSW, phone | trouser pocket | 103 Hz | m/s2, rad/s |
| SPSW, watch | wrist | 103 Hz | m/s2, rad/s |

Every window becomes 48 readings at 20 Hz (2.4 s); a faster stream gives the mean of each step, as
on a gateway. Devices point in different directions, so only lengths and parts along gravity stay:

- `physical`: length of the acceleration minus 1 g, its part along gravity, its part across (all in
  g), angular velocity (rad/s).
- `relative`: for pairs with WISDM, which has no units. Every axis is first standardised with all
  windows of its person (no label is read), as the source of WISDM did. Then the lengths of the
  acceleration, of its difference to the window's mean, and of its steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.datasets.contract import DataSet
from training.windows import WindowSet, join_windows

__all__ = ["Form", "common_windows", "resample_windows"]

Form = Literal["physical", "relative"]
Floats = NDArray[np.floating]

RATE_HZ, LENGTH = 20.0, 48
_G = 9.80665  # m/s2
_LEAST = 1e-6


def common_windows(data: DataSet, form: Form) -> WindowSet:
    """Bring all windows of a data set, with those of its test people, into the common form.

    Returns:
        Windows `[n, 48, 4]` (physical) or `[n, 48, 3]` (relative), with the labels of the set.
    """
    whole = join_windows([data.train, *([] if data.test is None else [data.test])])
    rate_hz = data.rate_hz or RATE_HZ
    starts = [0] if data.length / rate_hz < 2 * LENGTH / RATE_HZ else [0, data.length // 2]
    parts = []
    for start in starts:
        cut = resample_windows(whole.windows[:, start:], rate_hz)
        parts.append(replace(whole, windows=cut))
    joined = join_windows(parts)
    names = [channel.name for channel in data.channels]
    kind = "total_acc" if "total_acc_x" in names else "acc"
    acceleration = joined.windows[:, :, [names.index(f"{kind}_{axis}") for axis in "xyz"]]
    if form == "relative":
        made = _relative(acceleration, joined.groups)
    else:
        unit = _G if data.channels[names.index(f"{kind}_x")].unit == "m/s2" else 1.0
        kind = "body_gyro" if "body_gyro_x" in names else "gyro"
        gyro = joined.windows[:, :, [names.index(f"{kind}_{axis}") for axis in "xyz"]]
        made = _physical(acceleration / unit, gyro)
    return replace(joined, windows=np.ascontiguousarray(made, dtype=np.float32))


def resample_windows(windows: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """Resample windows `[n, length, channels]` to 48 readings at 20 Hz, by the mean of each step.

    >>> ramp = np.arange(120, dtype=np.float32)[None, :, None]
    >>> resample_windows(ramp, 50.0)[0, :3, 0].round().tolist()
    [1.0, 3.0, 6.0]
    """
    readings = np.arange(windows.shape[1])[:, None] / rate_hz
    steps = np.arange(LENGTH)[None] / RATE_HZ
    until = np.minimum(readings + 1 / rate_hz, steps + 1 / RATE_HZ)
    share = np.maximum(until - np.maximum(readings, steps), 0)
    share /= share.sum(axis=0)
    return np.asarray(np.einsum("nlc,lt->ntc", windows, share), dtype=np.float32)


def _physical(acceleration: Floats, gyro: Floats) -> Floats:
    middle = acceleration.mean(axis=1, keepdims=True)
    down = middle / np.maximum(np.linalg.norm(middle, axis=2, keepdims=True), _LEAST)
    along = (acceleration * down).sum(axis=2)
    across = np.linalg.norm(acceleration - along[..., None] * down, axis=2)
    length = np.linalg.norm(acceleration, axis=2)
    rest = along - along.mean(axis=1, keepdims=True)
    return np.stack([length - 1, rest, across, np.linalg.norm(gyro, axis=2)], axis=2)


def _relative(acceleration: Floats, people: NDArray[np.int64]) -> Floats:
    scaled = np.empty_like(acceleration)
    for person in np.unique(people):
        mine = acceleration[people == person]
        spread = np.maximum(mine.std(axis=(0, 1)), _LEAST)
        scaled[people == person] = (mine - mine.mean(axis=(0, 1))) / spread
    moved = scaled - scaled.mean(axis=1, keepdims=True)
    steps = np.diff(scaled, axis=1, prepend=scaled[:, :1])
    return np.stack([np.linalg.norm(part, axis=2) for part in (scaled, moved, steps)], axis=2)
