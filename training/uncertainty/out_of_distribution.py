"""The out-of-distribution guard: distance of a window to all known classes, inside the graph.

A classifier is certain even far from everything it has learned: windows of a class that is left out
of training get another label with a probability near 1. The graph therefore measures the distance
of a window to the nearest known class, in eight statistics per channel (Mahalanobis, one covariance
for all classes). Beyond `max_distance`, the farthest that known windows of other people lie, it
shrinks the probabilities towards equal ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.students.statistics import GUARD, TensorWindows

__all__ = [
    "ClassDistance",
    "OutOfDistributionGuard",
    "fit_class_distance",
    "measure_distances",
    "shrink_probabilities",
]

_RIDGE = 0.01  # of the variance of a statistic: limits the weight of directions that hardly vary
_RAMP = 0.05  # of max_distance: the probabilities shrink gradually over this part of it
_BATCH = 2048


class ClassDistance(nn.Module):
    """Distance of scaled windows to the nearest known class.

    Args:
        middle: Subtracted from the statistics first, `[statistics]`.
        whiten: Brings the scatter within classes to the unit matrix, `[statistics, statistics]`.
        centres: Whitened means of the classes, `[classes, statistics]`.
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
        """Measure the distances `[batch]` of windows `[batch, length, channels]`."""
        whitened = (_statistics(windows) - self.middle) @ self.whiten
        squared = (whitened[:, None, :] - self.centres).square().sum(dim=2)
        nearest: Tensor = squared.amin(dim=1).sqrt()
        return nearest


class OutOfDistributionGuard(nn.Module):
    """A classifier whose probabilities shrink for windows far from every known class.

    The distance is the attribute `familiarity`, as in the initialisers of shipped graphs.

    Args:
        student: Gives probabilities `[batch, classes]`.
        distance: Gives the distance to the nearest known class.
        max_distance: See `shrink_probabilities`.
        ceiling: See `shrink_probabilities`.
    """

    def __init__(
        self, student: nn.Module, distance: ClassDistance, max_distance: float, ceiling: float
    ) -> None:
        super().__init__()
        self.student = student
        self.familiarity = distance
        self.max_distance = max_distance
        self.ceiling = ceiling

    def forward(self, windows: Tensor) -> Tensor:
        """Compute probabilities `[batch, classes]`."""
        return shrink_probabilities(
            self.student(windows), self.familiarity(windows), self.max_distance, self.ceiling
        )


def shrink_probabilities(
    probabilities: Tensor, distances: Tensor, max_distance: float, ceiling: float
) -> Tensor:
    """Mix the probabilities of far windows with equal ones; the order of the classes stays.

    Args:
        probabilities: Probabilities `[batch, classes]`.
        distances: Distances `[batch]` to the nearest known class.
        max_distance: No probability exceeds `ceiling` from this distance on; up to 0.95 of it
            nothing changes.
        ceiling: Largest probability of a far window, above 1 / classes.
    """
    classes = probabilities.shape[1]
    most = (1 - ceiling) / (1 - 1 / classes)
    share = most * ((distances / max_distance - 1 + _RAMP) / _RAMP).clamp(0, 1)[:, None]
    mixed: Tensor = probabilities * (1 - share) + share / classes
    return mixed


def measure_distances(distance: ClassDistance, scaled: Tensor) -> NDArray[np.float32]:
    """Measure the distances `[n]` of scaled windows `[n, length, channels]`."""
    with torch.no_grad():
        parts = [distance(part).numpy() for part in torch.split(scaled, _BATCH)]
    return np.asarray(np.concatenate(parts), dtype=np.float32)


def fit_class_distance(scaled: Tensor, labels: NDArray[np.int64]) -> ClassDistance:
    """Fit the distance to the windows a student learns from.

    Args:
        scaled: Windows `[n, length, channels]` as the graph gets them.
        labels: Class indices `[n]`; a class that does not occur has no centre.
    """
    statistics = torch.cat([_statistics(part) for part in torch.split(scaled, _BATCH)]).numpy()
    values = statistics.astype(np.float64)
    middle, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    values = (values - middle) / spread
    names, members = np.unique(labels, return_inverse=True)
    means = np.stack([values[members == index].mean(axis=0) for index in range(len(names))])
    scatter = values - means[members]
    covariance = scatter.T @ scatter / len(scatter) + _RIDGE * np.eye(values.shape[1])
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    return ClassDistance(middle, root / spread[:, None], means @ root)


def _statistics(windows: Tensor) -> Tensor:
    """Compute eight statistics per channel: `[batch, 8 * channels]`."""
    return torch.cat(TensorWindows(windows).columns(GUARD), dim=1)
