"""Anchors: the place of an activity among a student's features, from a few labelled windows. Pure.

A student of classes may have a second output, `features` (`models.tasks.classfeatures`). The mean
of the features of labelled windows is the **anchor** of their label; no training is needed. An
anchor gives a label that the student does not know, or a second place to one that it knows, such as
the way one person walks.

1. **Shrunk.** Where the student knows the label, the anchor is drawn to the centre of that class,
   which counts for some windows (`ClassFeatures.weights`): one odd example does little harm.
2. **Lead.** A window's lead is how much nearer it lies to the anchor than to the nearest other
   class, as the log odds of normal distributions of equal covariance (linear discriminant
   analysis). The covariance is that of the known windows in the manifest around their classes.
3. **Margin.** An anchor wins where its lead exceeds its margin. That is found among the known
   windows in the manifest, without the new activity: at most a stated share of them, over all
   anchors of a device, would change its label. It may be below 0 for a new label, whose windows
   differ more than those that the student learned to gather; a known label needs a lead.
4. **Reach.** A window much farther from the labelled ones than known windows lie from their own
   class does not get the label, so that an activity that nobody named stays unknown.

Elsewhere the student's answer stands. All of it is a matter of matrices of some ten thousand
numbers: milliseconds to place an anchor, microseconds a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.tasks.classes import ClassScores
from models.tasks.classfeatures import ClassFeatures

__all__ = ["Anchor", "AnchorSpace", "Anchors", "anchor_of", "discriminant"]

_RIDGE = 0.1
"""Share of the mean variance in the covariance; chosen on held-out people (docs/examples.md)."""
_REACH = 2.0
"""Times the squared distance within which 99 % of known windows lie from their class; the mean of
n windows lies off by itself, so it is 1 + 1/n times as much for an anchor."""
_REACH_QUANTILE = 0.99
_SUREST = 30.0
"""Largest log odds of an anchor."""
_LEAST = 1e-30

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """Where the labelled windows of one label lie.

    Attributes:
        label: The label.
        mean: Mean of their features, [size].
        windows: Number of windows.
    """

    label: str
    mean: _Floats
    windows: int


def anchor_of(label: str, features: NDArray[np.floating]) -> Anchor:
    """The anchor of labelled windows; their order does not matter, nor does a repetition of all.

    Args:
        label: The label.
        features: Features of the windows, [n, size], n at least 1.

    >>> anchor_of("climbing", np.array([[1.0, 0.0], [0.0, 1.0]])).mean.tolist()
    [0.5, 0.5]
    """
    return Anchor(label, features.astype(np.float64).mean(axis=0), len(features))


def discriminant(
    features: _Floats, classes: NDArray[np.int64], ridge: float = _RIDGE
) -> tuple[_Floats, _Floats]:
    """Fit class means and the inverse of their common covariance.

    Args:
        features: [n, size].
        classes: [n] class of each, from 0 without a hole.
        ridge: Share of the mean variance that every direction gets.

    Returns:
        Means [classes, size] and inverse covariance [size, size].
    """
    count = int(classes.max()) + 1
    means = np.stack([features[classes == each].mean(axis=0) for each in range(count)])
    apart = features - means[classes]
    covariance = apart.T @ apart / len(apart)
    size = len(covariance)
    spread = max(float(np.trace(covariance)) / size, 1e-9)
    covariance = (1 - ridge) * covariance + ridge * spread * np.eye(size)
    return means, np.linalg.inv(covariance)


class AnchorSpace:
    """The features of one student, ready for anchors; made once per student."""

    def __init__(self, labels: tuple[str, ...], features: ClassFeatures) -> None:
        """Prepare.

        Args:
            labels: Classes of the student.
            features: What known windows look like.
        """
        self.labels = labels
        self.size = features.size
        self._features = features
        sample, classes = features.sample_vectors(), features.sample_labels()
        known, places = np.unique(classes, return_inverse=True)
        means, self._inverse = discriminant(sample, places)
        # Where the sample has a class, its mean there: that of people not learned from.
        # A mean of vectors of length 1 is shorter, and so is then the centre of a class without.
        self._means = features.centre_vectors() * float(np.linalg.norm(means, axis=1).mean())
        self._means[known] = means
        self._sample, self._sample_classes = sample, classes
        own = self._distances(sample, means, places)
        self._reach = _REACH * float(np.quantile(own, _REACH_QUANTILE))

    def place(self, anchors: Sequence[Anchor]) -> Anchors:
        """Place the anchors that hold for one device; the order of them does not matter.

        Raises:
            ValueError: Two have one label, or a feature is of another size.
        """
        ordered = sorted(anchors, key=lambda each: each.label)
        labels = [each.label for each in ordered]
        if len(set(labels)) < len(labels):
            msg = f"two anchors of one label among {', '.join(labels)}"
            raise ValueError(msg)
        if any(len(each.mean) != self.size for each in ordered):
            msg = f"a feature of another size than {self.size}"
            raise ValueError(msg)
        points = np.stack([self._shrunk(each) for each in ordered])
        known = [self.labels.index(label) if label in self.labels else -1 for label in labels]
        allowed = self._features.sample_share / len(ordered)
        reach = np.array([self._reach * (1 + 1 / each.windows) for each in ordered])
        placed = Anchors(self, ordered, points, known, reach, np.zeros(len(ordered)))
        leads = self.leads(self._sample, placed)
        # No lead within reach of a new label is below half of it, so a lower margin means the same.
        # A known label already has its windows, so it gains only those that are nearest to it.
        least = np.where(np.array(known) < 0, -reach / 2, 0.0)
        margins = [
            _margin(leads[self._sample_classes != own, at], allowed) for at, own in enumerate(known)
        ]
        return replace(placed, margins=np.maximum(margins, least))

    def leads(self, features: NDArray[np.floating], anchors: Anchors) -> _Floats:
        """How much nearer windows lie to anchors than to other classes, [n, anchors].

        Minus infinity where a window is out of reach.
        """
        values, points = features.astype(np.float64), anchors.points
        odds, classes = self._odds(values, points), self._odds(values, self._means)
        best = np.stack([_best(classes, own) for own in anchors.known], axis=1)
        apart = [self._distances(values, each.mean[None], 0) for each in anchors.anchors]
        near = np.stack(apart, axis=1) <= anchors.reach
        return np.where(near, odds - best, -np.inf)

    @property
    def softness(self) -> float:
        """See `ClassFeatures.softness`."""
        return self._features.softness

    def _shrunk(self, anchor: Anchor) -> _Floats:
        if anchor.label not in self.labels:
            return anchor.mean
        own = self.labels.index(anchor.label)
        weight = self._features.weights[own]
        total = anchor.windows * anchor.mean + weight * self._means[own]
        shrunk: _Floats = total / (anchor.windows + weight)
        return shrunk

    def _odds(self, features: _Floats, points: _Floats) -> _Floats:
        """Log densities of windows around points, without what all points have in common."""
        turned = points @ self._inverse
        odds: _Floats = features @ turned.T - 0.5 * (turned * points).sum(axis=1)
        return odds

    def _distances(
        self, features: _Floats, points: _Floats, at: int | NDArray[np.int64]
    ) -> _Floats:
        """Squared Mahalanobis distance of each window to its point, [n]."""
        apart = features - points[at]
        distances: _Floats = ((apart @ self._inverse) * apart).sum(axis=1)
        return distances


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """Anchors in the space of one student, with their margins; see the module.

    Attributes:
        space: The space.
        anchors: In the order of their labels.
        points: Where they lie, [anchors, size].
        known: For each, the class of the student with its label; -1 for a new one.
        reach: [anchors] squared distance from the labelled windows beyond which each has no say.
        margins: [anchors] lead from which each wins.
    """

    space: AnchorSpace
    anchors: Sequence[Anchor]
    points: _Floats
    known: Sequence[int]
    reach: _Floats
    margins: _Floats

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the scores: those of the student, then the new ones."""
        new = [each.label for each, own in zip(self.anchors, self.known, strict=True) if own < 0]
        return (*self.space.labels, *new)

    def answer(self, scores: ClassScores) -> ClassScores:
        """The scores with the anchors' say.

        An anchor whose lead exceeds its margin has a larger probability than every other label, and
        no other one does. Rows without a valid score stay as they are.

        Args:
            scores: Scores of the student, with features.

        Raises:
            ValueError: They have no features.
        """
        if scores.features is None:
            msg = "anchors need the features of the windows"
            raise ValueError(msg)
        leads = self.space.leads(scores.features, self) - self.margins
        odds = np.clip(leads / self.space.softness, -_SUREST, _SUREST)
        logs = np.log(np.maximum(scores.probabilities.astype(np.float64), _LEAST))
        new = []
        for place, own in enumerate(self.known):
            claimed = _best(logs, own) + odds[:, place]
            if own < 0:
                new.append(claimed)
            else:
                logs[:, own] = np.maximum(logs[:, own], claimed)
        logs = np.concatenate([logs, *(each[:, None] for each in new)], axis=1)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        probabilities = np.where(scores.valid[:, None], shares, 0).astype(np.float32)
        claims = (leads > 0).any(axis=1) & scores.valid
        return replace(
            scores,
            labels=self.labels,
            probabilities=probabilities,
            winners=np.where(scores.valid, logs.argmax(axis=1), 0),
            known=scores.known | claims,
        )


def _best(odds: _Floats, besides: int) -> _Floats:
    """The largest of each row, [n], without one column; -1 leaves none out."""
    chosen = odds if besides < 0 else np.delete(odds, besides, axis=1)
    best: _Floats = chosen.max(axis=1)
    return best


def _margin(leads: _Floats, share: float) -> float:
    """The least margin that at most a share of the leads exceeds."""
    if not len(leads):
        return -np.inf
    ordered = np.sort(leads)[::-1]
    return float(ordered[min(int(share * len(ordered)), len(ordered) - 1)])
