"""Where the windows of a class without examples lie, and how much a window looks like them.

A **view** turns a window into numbers (`training.students.movement`, or the features of a student)
and knows the means of the known classes in them, and the scatter within a class. What a language
model or rules say about the classes is a **likeness**, a kernel between classes. A Gaussian process
over the classes, with that kernel, predicts the mean of the new class in every number of the view,
and how uncertain the prediction is. It learns from the means of the known classes only.

The **score** of a window is a log likelihood ratio, times two: its squared distance to the nearest
known class, minus that to the predicted class, whose scatter is wider by the uncertainty. A window
scores high if it is far from all known classes (novelty) *and* near the prediction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BEYOND",
    "CLAMP",
    "Likeness",
    "PlacedClass",
    "View",
    "distances",
    "fit_view",
    "likeness",
    "limit_reach",
    "place_class",
    "score_class",
    "score_whitened",
]

Floats = NDArray[np.float64]

CLAMP = 30.0
"""Largest whitened coordinate: bounds the rounding of windows far from everything."""
BEYOND = 100.0
"""What a window loses for each unit of squared distance beyond the reach."""
_REACH = 4.0
_NEARLY_ALL = 0.99


@dataclass(frozen=True, slots=True)
class View:
    """Known classes in the numbers of one view.

    Attributes:
        middle: Subtracted from the numbers, `[p]`.
        spread: Divides them then, `[p]`.
        means: Means of the known classes in these units, `[classes, p]`.
        scatter: Covariance within a class, `[p, p]`; every class counts the same.
    """

    middle: Floats
    spread: Floats
    means: Floats
    scatter: Floats


@dataclass(frozen=True, slots=True)
class Likeness:
    """A kernel between the known classes and the new one.

    Attributes:
        known: Among the known classes, `[classes, classes]`.
        new: Of the new class with them, `[classes]`.
        own: Of the new class with itself.
    """

    known: Floats
    new: Floats
    own: float

    def plus(self, other: Likeness, share: float) -> Likeness:
        """Add `share` of another likeness."""
        return Likeness(
            self.known + share * other.known,
            self.new + share * other.new,
            self.own + share * other.own,
        )


@dataclass(frozen=True, slots=True)
class PlacedClass:
    """What scores windows for one new class in one view.

    Attributes:
        middle: Subtracted from the numbers, `[p]`.
        whiten: Maps them to coordinates with scatter 1 within a class, `[p, p]`.
        known: Known classes in these coordinates, `[classes, p]`.
        new: Predicted class, `[p]`.
        weights: One over the predicted variance of the new class, `[p]`.
        reach: Largest squared distance to the new class. Without it, a window unlike everything
            might be a little less unlike the new class, and get its name.
    """

    middle: Floats
    whiten: Floats
    known: Floats
    new: Floats
    weights: Floats
    reach: float = math.inf


def fit_view(values: NDArray[np.float32], labels: NDArray[np.int64], ridge: float) -> View:
    """Fit a view to windows of the known classes.

    Args:
        values: Numbers of the windows `[n, p]`.
        labels: Class of each window `[n]`; `means` has one row per class, in ascending order.
        ridge: Added to the scatter, in units of the total variance of a number: keeps numbers that
            hardly vary within a class from deciding alone.
    """
    numbers = values.astype(np.float64)
    middle, spread = numbers.mean(axis=0), numbers.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    numbers = (numbers - middle) / spread
    names, places = np.unique(labels, return_inverse=True)
    means = np.stack([numbers[places == place].mean(axis=0) for place in range(len(names))])
    apart = numbers - means[places]
    weights = 1 / np.bincount(places)[places] / len(names)
    scatter = (apart * weights[:, None]).T @ apart + ridge * np.eye(numbers.shape[1])
    return View(middle, spread, means, scatter)


def likeness(known: Floats, new: Floats) -> Likeness:
    """Compare descriptions: products of vectors, centred on the known classes.

    Args:
        known: Vectors of the known classes `[classes, width]`.
        new: Vector of the new one `[width]`.
    """
    centre = known.mean(axis=0)
    vectors, other = known - centre, new - centre
    unit = max(float(np.mean(np.square(vectors).sum(axis=1))), 1e-9)
    return Likeness(vectors @ vectors.T / unit, vectors @ other / unit, float(other @ other) / unit)


def place_class(
    view: View, likenesses: list[Likeness], columns: NDArray[np.int64], noise: float, width: float
) -> PlacedClass:
    """Predict where a class lies, from what it is like.

    Args:
        view: Known classes.
        likenesses: Kernels; more than one where numbers depend on different facts.
        columns: Index of the kernel of each number `[p]`.
        noise: Variance of a class mean that no description explains, as a share of the variance
            between classes.
        width: Share of the uncertainty that widens the predicted class.
    """
    centre = view.means.mean(axis=0)
    apart = view.means - centre
    new, variance = centre.copy(), np.square(apart).mean(axis=0)
    for index, kernel in enumerate(likenesses):
        mine = columns == index
        gain = np.linalg.solve(kernel.known + noise * np.eye(len(apart)), kernel.new)
        new[mine] += gain @ apart[:, mine]
        variance[mine] *= max(kernel.own - float(kernel.new @ gain), 0.0)
    root = np.linalg.cholesky(np.linalg.inv(view.scatter))
    grown, turn = np.linalg.eigh(root.T @ (width * variance[:, None] * root))
    whiten = root @ turn
    return PlacedClass(
        view.middle,
        whiten / view.spread[:, None],
        view.means @ whiten,
        new @ whiten,
        1 / (1 + np.maximum(grown, 0)),
    )


def score_class(placed: PlacedClass, values: NDArray[np.float32]) -> Floats:
    """Score windows `[n, p]`: how much nearer the new class is than any known one, `[n]`."""
    return score_whitened(placed, (values.astype(np.float64) - placed.middle) @ placed.whiten)


def score_whitened(placed: PlacedClass, at: Floats) -> Floats:
    """Score windows in whitened coordinates `[n, p]`; see `score_class`."""
    known, new = distances(placed, at)
    return known - new - BEYOND * np.maximum(new - placed.reach, 0)


def distances(placed: PlacedClass, at: Floats) -> tuple[Floats, Floats]:
    """Squared distances `[n]` of whitened windows to the nearest known class and to the new one."""
    at = at.clip(-CLAMP, CLAMP)
    known = np.square(at[:, None] - placed.known).sum(axis=2).min(axis=1)
    return np.asarray(known), np.asarray(np.square(at - placed.new) @ placed.weights)


def limit_reach(placed: PlacedClass, values: NDArray[np.float32]) -> PlacedClass:
    """Set the reach from windows of known classes `[n, p]`, by people not learned from.

    Nearly all of them lie within a distance of their own class. The prediction of a class without
    examples is off by more, and its windows lie within some multiple of that.
    """
    known, _ = distances(placed, (values.astype(np.float64) - placed.middle) @ placed.whiten)
    return replace(placed, reach=_REACH * float(np.quantile(known, _NEARLY_ALL)))
