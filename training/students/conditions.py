"""The preprocessor that scales per operating condition, inside the student's graph.

Engines of FD002 and FD004 fly under six conditions that move every sensor far more than wear does.
One affine scaler per channel, the only kind that a manifest can express, cannot remove this.
Therefore the settings are input channels of the student, and its graph begins with three steps:
find the nearest known condition of every reading, scale the sensors by their range under it, drop
the settings. The manifest's scaler is then the identity.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import DataSetError

__all__ = ["SETTINGS", "ConditionScaling", "fit_conditions", "fit_preprocessor"]

SETTINGS = 3
"""The first channels of a window: altitude, Mach number, throttle resolver angle."""
_MAX_CONDITIONS = 32
_BEYOND = 2.0  # how far outside the range seen in training a scaled sensor may lie


class ConditionScaling(nn.Module):
    """Scale raw `[batch, length, settings + sensors]` to `[batch, length, sensors]`, 0 to 1.

    The lowest value is subtracted before scaling, because 0.5 rpm of wear on 2388 rpm would lose
    half its digits in x * scale + offset.

    Args:
        centres: Settings of the known conditions `[conditions, settings]`.
        ranges: Range of each setting `[settings]`; settings are divided by it before distances
            are computed.
        low: Lowest value of each sensor under a condition `[conditions, sensors]`.
        scale: 1 / (highest - lowest) `[conditions, sensors]`; 0 where a sensor did not move.

    The buffer of `ranges` is named `reach`, as the initialiser in shipped graphs.
    """

    centres: Tensor
    reach: Tensor
    low: Tensor
    scale: Tensor

    def __init__(
        self,
        centres: NDArray[np.float64],
        ranges: NDArray[np.float64],
        low: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> None:
        super().__init__()
        for name, values in (
            ("centres", centres / ranges),
            ("reach", ranges),
            ("low", low),
            ("scale", scale),
        ):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))

    def forward(self, windows: Tensor) -> Tensor:
        """Scale raw windows; see the class for the shapes."""
        sensors = windows[:, :, self.reach.shape[0] :]
        nearest = self._apart(windows).argmin(dim=2)
        scaled: Tensor = (sensors - self.low[nearest]) * self.scale[nearest]
        return scaled.clamp(-_BEYOND, 1 + _BEYOND)

    def apart(self, windows: Tensor) -> Tensor:
        """Measure how far the settings of raw windows are from known conditions, `[batch]`.

        The mean over the readings of the distance to the nearest known condition, in ranges of the
        settings.
        """
        nearest: Tensor = self._apart(windows).amin(dim=2).sqrt().mean(dim=1)
        return nearest

    def _apart(self, windows: Tensor) -> Tensor:
        """Squared distances of readings to conditions, `[batch, length, conditions]`."""
        settings = windows[:, :, : self.reach.shape[0]] / self.reach
        squared: Tensor = (settings[:, :, None, :] - self.centres).square().sum(dim=3)
        return squared


def fit_preprocessor(scaling: str, windows: NDArray[np.float32]) -> nn.Module | None:
    """Fit the part of the graph between scaler and encoder; None where there is none.

    Args:
        scaling: See `training.datasets.contract.DataSet`.
        windows: Raw windows that a student may see.
    """
    return fit_conditions(windows) if scaling == "conditions" else None


def fit_conditions(windows: NDArray[np.float32]) -> ConditionScaling:
    """Find the conditions in windows `[n, length, 3 + sensors]` that a student may see.

    A condition is a value of the first setting (altitude, thousands of feet) rounded to a whole
    number, as in the literature: 0, 10, 20, 25, 35, 42. Sensors are scaled min-max under each.

    Raises:
        DataSetError: The settings take too many values to be a set of conditions.
    """
    readings = windows.reshape(-1, windows.shape[2]).astype(np.float64)
    names, members = np.unique(np.round(readings[:, 0]), return_inverse=True)
    if len(names) > _MAX_CONDITIONS:
        msg = (
            f"the first setting takes {len(names)} values, so these are no operating conditions: "
            "set conditions = false in the recipe"
        )
        raise DataSetError(msg)
    parts = [readings[members == index] for index in range(len(names))]
    centres = np.stack([part[:, :SETTINGS].mean(axis=0) for part in parts])
    low = np.stack([part[:, SETTINGS:].min(axis=0) for part in parts])
    spread = np.stack([np.ptp(part[:, SETTINGS:], axis=0) for part in parts])
    ranges = np.ptp(centres, axis=0)
    # A sensor that is constant under a condition may still flicker in the last digit.
    moves = spread > 1e-6 * np.maximum(np.abs(low), 1.0)
    scale = np.where(moves, 1 / np.where(moves, spread, 1), 0.0)
    return ConditionScaling(centres, np.where(ranges > 0, ranges, 1.0), low, scale)
