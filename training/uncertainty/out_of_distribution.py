"""How far a window is from everything a student has learned from, computed inside its graph.

A classifier is sure of itself also where it has never been: leave an activity out of the training,
and its windows get the name of another one with a probability near 1. So the graph measures the
distance of a window to the nearest activity it knows, in eight statistics per channel (Mahalanobis,
one covariance for all activities), and beyond what known windows of other people reach it takes its
probabilities back towards "any of them".
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.students.statistics import GUARD, TensorWindows

__all__ = ["Cautious", "Familiarity", "fit_familiarity", "hold_back", "measure_distances"]

_RIDGE = 0.01  # of the variance of a statistic: keeps directions that hardly vary from deciding
_RAMP = 0.05  # of the reach: over it the share that is taken back grows from nothing to all


class Familiarity(nn.Module):
    """Distance of scaled windows to the nearest known activity.

    Args:
        middle: `[statistics]` subtracted first.
        whiten: `[statistics, statistics]` brings the scatter within activities to the unit matrix.
        centres: `[activities, statistics]` means of the activities, whitened.
    """

    middle: Tensor
    whiten: Tensor
    centres: Tensor

    def __init__(
        self,
        middle: NDArray[np.float64],
        whiten: NDArray[np.float64],
        centres: NDArray[np.float64],
    ) -> None:
        super().__init__()
        for name, values in (("middle", middle), ("whiten", whiten), ("centres", centres)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))

    def forward(self, windows: Tensor) -> Tensor:
        """Distances `[batch]` of windows `[batch, length, channels]`."""
        known = (_statistics(windows) - self.middle) @ self.whiten
        apart = (known[:, None, :] - self.centres).square().sum(dim=2)
        nearest: Tensor = apart.amin(dim=1).sqrt()
        return nearest


class Cautious(nn.Module):
    """A classifier that is not sure of what is unlike all it knows.

    Args:
        student: gives probabilities `[batch, classes]`.
        familiarity: gives distances.
        reach: see `hold_back`.
        ceiling: see `hold_back`.
    """

    def __init__(
        self, student: nn.Module, familiarity: Familiarity, reach: float, ceiling: float
    ) -> None:
        super().__init__()
        self.student = student
        self.familiarity = familiarity
        self.reach = reach
        self.ceiling = ceiling

    def forward(self, windows: Tensor) -> Tensor:
        """Probabilities `[batch, classes]`."""
        return hold_back(self.student(windows), self.familiarity(windows), self.reach, self.ceiling)


def hold_back(probabilities: Tensor, distances: Tensor, reach: float, ceiling: float) -> Tensor:
    """Mix the probabilities of far windows with equal ones; the order of the classes stays.

    Args:
        probabilities: `[batch, classes]`.
        distances: `[batch]`.
        reach: from this distance on no probability is above `ceiling`; up to 0.95 of it nothing
            changes.
        ceiling: above 1 / classes.
    """
    classes = probabilities.shape[1]
    most = (1 - ceiling) / (1 - 1 / classes)
    share = most * ((distances / reach - 1 + _RAMP) / _RAMP).clamp(0, 1)[:, None]
    mixed: Tensor = probabilities * (1 - share) + share / classes
    return mixed


def measure_distances(familiarity: Familiarity, scaled: Tensor) -> NDArray[np.float32]:
    """Distances `[n]` of windows `[n, length, channels]`."""
    with torch.no_grad():
        parts = [familiarity(part).numpy() for part in torch.split(scaled, 2048)]
    return np.asarray(np.concatenate(parts), dtype=np.float32)


def fit_familiarity(scaled: Tensor, labels: NDArray[np.int64]) -> Familiarity:
    """Fit on the windows a student learns from.

    Args:
        scaled: `[n, length, channels]` as the graph gets them.
        labels: `[n]`; an activity that does not occur has no centre.
    """
    known = torch.cat([_statistics(part) for part in torch.split(scaled, 2048)]).numpy()
    values = known.astype(np.float64)
    middle, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    values = (values - middle) / spread
    names, members = np.unique(labels, return_inverse=True)
    means = np.stack([values[members == index].mean(axis=0) for index in range(len(names))])
    scatter = values - means[members]
    covariance = scatter.T @ scatter / len(scatter) + _RIDGE * np.eye(values.shape[1])
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    return Familiarity(middle, root / spread[:, None], means @ root)


def _statistics(windows: Tensor) -> Tensor:
    """Compute eight statistics per channel: `[batch, 8 * channels]`."""
    return torch.cat(TensorWindows(windows).columns(GUARD), dim=1)
