"""Scaling per operating condition, inside the student's graph.

Engines of FD002 and FD004 fly under six conditions that move every sensor far more than wear does.
One affine scaler per channel (all that a manifest says) cannot take that out. So the settings are
input channels of the student, and its graph begins with this: find the nearest known condition of
every reading, scale the sensors by what was normal under it, drop the settings. The manifest's
scaler is then the identity.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import DataSetError

__all__ = ["SETTINGS", "ConditionScaling", "fit_conditions"]

SETTINGS = 3
"""The first channels of a window: altitude, Mach number, throttle resolver angle."""
_MAX_CONDITIONS = 32
_BEYOND = 2.0  # how far outside the range seen in training a scaled sensor may lie


class ConditionScaling(nn.Module):
    """`[batch, length, settings + sensors]` raw to `[batch, length, sensors]`, about 0 to 1.

    The difference to the lowest value is taken before it is scaled: 0.5 rpm of wear on 2388 rpm
    would lose half its digits in x * scale + offset.

    Args:
        centres: `[conditions, settings]` of the known conditions.
        reach: `[settings]` what a setting is divided by before distances are taken.
        low: `[conditions, sensors]` lowest value seen under a condition.
        scale: `[conditions, sensors]` 1 / (highest - lowest); 0 where a sensor did not move.
    """

    centres: Tensor
    reach: Tensor
    low: Tensor
    scale: Tensor

    def __init__(
        self,
        centres: NDArray[np.float64],
        reach: NDArray[np.float64],
        low: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> None:
        super().__init__()
        for name, values in (
            ("centres", centres / reach),
            ("reach", reach),
            ("low", low),
            ("scale", scale),
        ):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))

    def forward(self, windows: Tensor) -> Tensor:
        """See the class."""
        settings = windows[:, :, : self.reach.shape[0]] / self.reach
        sensors = windows[:, :, self.reach.shape[0] :]
        apart = (settings[:, :, None, :] - self.centres).square().sum(dim=3)
        nearest = apart.argmin(dim=2)
        scaled: Tensor = (sensors - self.low[nearest]) * self.scale[nearest]
        return scaled.clamp(-_BEYOND, 1 + _BEYOND)


def fit_conditions(windows: NDArray[np.float32]) -> ConditionScaling:
    """Find the conditions in windows `[n, length, 3 + sensors]` that a student may see.

    A condition is a value of the first setting (altitude, thousands of feet) rounded to a whole
    number, as in the literature: 0, 10, 20, 25, 35, 42. Sensors are scaled min-max under each.

    Raises:
        DataSetError: the settings take more values than a set of conditions would.
    """
    readings = windows.reshape(-1, windows.shape[2]).astype(np.float64)
    names, members = np.unique(np.round(readings[:, 0]), return_inverse=True)
    if len(names) > _MAX_CONDITIONS:
        msg = (
            f"the first setting takes {len(names)} values: these are no operating conditions; "
            "set conditions = false in the recipe"
        )
        raise DataSetError(msg)
    parts = [readings[members == index] for index in range(len(names))]
    centres = np.stack([part[:, :SETTINGS].mean(axis=0) for part in parts])
    low = np.stack([part[:, SETTINGS:].min(axis=0) for part in parts])
    spread = np.stack([np.ptp(part[:, SETTINGS:], axis=0) for part in parts])
    reach = np.ptp(centres, axis=0)
    # Sensors that rest in every window of a condition may still flicker by the last digit.
    moves = spread > 1e-6 * np.maximum(np.abs(low), 1.0)
    scale = np.where(moves, 1 / np.where(moves, spread, 1), 0.0)
    return ConditionScaling(centres, np.where(reach > 0, reach, 1.0), low, scale)
