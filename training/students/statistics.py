"""Statistics of a window, per channel: one definition for students, guard and baselines.

A statistic has one name and two implementations. `TensorWindows` computes it in torch, inside the
graph of a student; `ArrayWindows` computes it in numpy, for baselines that are not exported. Both
agree to float32 rounding, but not to the last bit, so neither replaces the other: the shipped
graphs and the figures of the ledger depend on their own sums.

| statistic | meaning |
|---|---|
| `mean`, `deviation` | mean and standard deviation |
| `lowest`, `highest`, `newest` | smallest, largest and last reading |
| `newest_fifth` | mean of the last fifth of the window |
| `slope` | least-squares slope per half a window |
| `step` | mean absolute difference between neighbouring readings |
| `log_power`, `log_step_power` | logarithm of the variance, and of the mean squared step (torch) |
| `slow_band`, `fast_band` | log mean amplitude of low and high frequencies (numpy) |

The constants below name the choice of each user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "BASELINE",
    "GUARD",
    "SPECTRAL",
    "TREND",
    "ArrayWindows",
    "TensorWindows",
    "count_readings",
    "spectrum_matrices",
    "tail_matrix",
]

GUARD = ("mean", "deviation", "lowest", "highest", "newest", "newest_fifth", "slope", "step")
"""The out-of-distribution guard (`training.uncertainty.out_of_distribution`)."""
BASELINE = (*GUARD, "slow_band", "fast_band")
"""The classical baselines (`training.classical`)."""
TREND = ("deviation", "highest", "lowest", "newest")
"""The students `statistics`, `trend` and `aged`, beside the means and slopes of `tail_matrix`."""
SPECTRAL = ("mean", "log_power", "highest", "lowest", "log_step_power")
"""The student `spectral`, beside the powers of `spectrum_matrices`."""

_TAILS = (5, 10, 20, 30, 50, 70, 100)  # newest readings
_BINS = 32  # lowest frequencies
_FIFTH = 5
_LEAST_VARIANCE = 1e-8  # keeps the gradient of the square root finite


class TensorWindows:
    """Statistics of a batch in torch, exported as plain ONNX operators.

    Args:
        windows: `[batch, length, channels]`, or another order with time in dimension `time`.
        time: Dimension of time, 1 or 2.

    Every statistic is `[batch, channels]`.
    """

    def __init__(self, windows: Tensor, time: int = 1) -> None:
        self.windows = windows
        self.time = time
        self._centre = windows.mean(dim=time)
        self.centred = windows - self._centre[self._index(None)]

    def columns(self, names: Sequence[str]) -> list[Tensor]:
        """Compute the named statistics, in order."""
        return [getattr(self, f"_{name}")() for name in names]

    def _mean(self) -> Tensor:
        return self._centre

    def _deviation(self) -> Tensor:
        variance = self.centred.square().mean(dim=self.time)
        return variance.clamp_min(_LEAST_VARIANCE).sqrt()

    def _lowest(self) -> Tensor:
        return self.windows.amin(dim=self.time)

    def _highest(self) -> Tensor:
        return self.windows.amax(dim=self.time)

    def _newest(self) -> Tensor:
        return self.windows[self._index(-1)]

    def _newest_fifth(self) -> Tensor:
        length = self.windows.shape[self.time]
        first = length - max(1, length // _FIFTH)
        return self.windows[self._index(slice(first, None))].mean(dim=self.time)

    def _slope(self) -> Tensor:
        weights = _slope_weights(self.windows.shape[self.time], self.windows.dtype)
        shaped = weights[None, :, None] if self.time == 1 else weights[None, None, :]
        return (self.windows * shaped).sum(dim=self.time)

    def _step(self) -> Tensor:
        return self._steps(self.windows).abs().mean(dim=self.time)

    def _log_power(self) -> Tensor:
        return torch.log(self.centred.square().mean(dim=self.time) + 1e-4)

    def _log_step_power(self) -> Tensor:
        return torch.log(self.centred_steps.square().mean(dim=self.time) + 1e-5)

    @cached_property
    def centred_steps(self) -> Tensor:
        """Differences between neighbouring centred readings."""
        return self._steps(self.centred)

    def _steps(self, windows: Tensor) -> Tensor:
        return windows[self._index(slice(1, None))] - windows[self._index(slice(None, -1))]

    def _index(self, at: int | slice | None) -> tuple[int | slice | None, ...]:
        return (*(slice(None),) * self.time, at)


class ArrayWindows:
    """Statistics of a batch in numpy.

    Args:
        windows: `[n, length, channels]` float32.

    Every statistic is `[n, channels]`.
    """

    def __init__(self, windows: NDArray[np.float32]) -> None:
        self.windows = windows
        centred = windows - windows.mean(axis=1, keepdims=True)
        self._amplitudes = np.abs(np.fft.rfft(centred, axis=1))
        self._split = max(2, self._amplitudes.shape[1] // 6)

    def table(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Compute the named statistics, in order: `[n, len(names) * channels]` float32."""
        parts = [getattr(self, f"_{name}")() for name in names]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _mean(self) -> Any:
        return self.windows.mean(axis=1)

    def _deviation(self) -> Any:
        return self.windows.std(axis=1)

    def _lowest(self) -> Any:
        return self.windows.min(axis=1)

    def _highest(self) -> Any:
        return self.windows.max(axis=1)

    def _newest(self) -> Any:
        return self.windows[:, -1]

    def _newest_fifth(self) -> Any:
        return self.windows[:, -max(1, self.windows.shape[1] // _FIFTH) :].mean(axis=1)

    def _slope(self) -> Any:
        time = np.linspace(-1, 1, self.windows.shape[1], dtype=np.float32)
        summed = np.einsum("nlc,l->nc", self.windows, time)
        return summed / np.float32((time**2).sum())

    def _step(self) -> Any:
        return np.abs(np.diff(self.windows, axis=1)).mean(axis=1)

    def _slow_band(self) -> Any:
        return np.log1p(self._amplitudes[:, 1 : self._split].mean(axis=1))

    def _fast_band(self) -> Any:
        return np.log1p(self._amplitudes[:, self._split :].mean(axis=1))


def count_readings(windows: Tensor, length: int) -> Tensor:
    """Count the readings of windows that are padded in front, `[batch]` float32, from 1 on.

    A stream pads by repeating the first reading (`models.features.pad_front`), so the count is the
    number of readings from the last of these on.

    Args:
        windows: `[batch, length, channels]`.
        length: Readings in a window.
    """
    differs = (windows - windows[:, :1]).abs().amax(dim=2) > 0
    from_there = torch.arange(length + 1, 1, -1, dtype=windows.dtype)
    return (differs.to(windows.dtype) * from_there).amax(dim=1).clamp_min(1)


def tail_matrix(length: int) -> Tensor:
    """Weights that give mean and slope of the newest readings: `[length, 2 * tails]`.

    The tails are the newest 5, 10, 20, 30, 50, 70 and 100 readings, as far as `length` allows, and
    the whole window where it is shorter than 5.
    """
    columns = []
    for newest in [newest for newest in _TAILS if newest <= length] or [length]:
        for weights in (torch.full((newest,), 1 / newest), _slope_weights(newest)):
            columns.append(torch.cat([torch.zeros(length - newest), weights]))
    return torch.stack(columns, dim=1)


def spectrum_matrices(length: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of a windowed Fourier transform, `[length, bins]` each.

    Bin i holds frequency i + 1 per window; there are 32 bins, or half of `length` if that is less.
    """
    bins = min(_BINS, length // 2)
    angle = torch.arange(length)[:, None] * torch.arange(1, bins + 1) * (2 * math.pi / length)
    taper = torch.hann_window(length, periodic=False)[:, None] / length
    return torch.cos(angle) * taper, torch.sin(angle) * taper


def _slope_weights(length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    time = torch.linspace(-1, 1, length, dtype=dtype) if length > 1 else torch.ones(1, dtype=dtype)
    return time / time.square().sum()
