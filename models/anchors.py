"""Anchors: the place of an activity among a student's features, from a few labelled windows. Pure.

A student of classes may have a second output, `features` (`models.tasks.classfeatures`). Beside
plain statistics of a window they are its vector, and the mean vector of labelled windows is the
**anchor** of their label; no training is needed. An
anchor gives a label that the student does not know, or a second place to one that it knows, such as
the way one person walks.

1. **Shrunk.** Where the student knows the label, the anchor is drawn to the centre of that class,
   which counts for some windows (`ClassFeatures.weights`): one odd example does little harm. The
   student may know it by a text alone; the manifest then has a centre, and no known window of it.
2. **Lead.** A window's lead is how much nearer it lies to the anchor than to the nearest other
   class, as the log odds of normal distributions of equal covariance (linear discriminant
   analysis). The covariance is that of the known windows in the manifest around their classes:
   those of people that the student has not learned from, and of others (`ClassFeatures.learned`),
   because few people do not show how people differ.
3. **Margin.** An anchor wins where its lead exceeds its margin. That is found among the known
   windows in the manifest, without the new activity: at most a stated share of them, over all
   anchors of a device, would change its label. It is larger for a device that gave the examples,
   because all that one person does differs a little from others in the same way. It may be below 0
   for a new label, whose windows differ more than those that the student learned to gather; a label
   that was learned needs a lead.
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
from models.windowstatistics import window_statistics

__all__ = ["Anchor", "AnchorSpace", "Anchors", "anchor_of", "discriminant", "margin_of"]

_RIDGE = 0.3
"""Share of the covariance that is taken from its diagonal alone; chosen on held-out people
(docs/results/examples.md)."""
_FOLDS = 4
_REACH = 2.0
"""Times the squared distance within which 99 % of known windows lie from their class; the mean of
n windows lies off by itself, so it is 1 + 1/n times as much for an anchor."""
_REACH_QUANTILE = 0.99
_SUREST = 30.0
"""Largest log odds of an anchor."""
_LEAST = 1e-30
_LEAST_SHARE = 0.01  # of the mean variance: numbers that never vary among known windows

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """Where the labelled windows of one label lie.

    Attributes:
        label: The label.
        mean: Mean of their vectors (`AnchorSpace.vectors`), [size].
        windows: Number of windows.
        is_shared: Whether it holds for other people than those who gave the windows.
    """

    label: str
    mean: _Floats
    windows: int
    is_shared: bool = False


def anchor_of(label: str, features: NDArray[np.floating], *, is_shared: bool = False) -> Anchor:
    """The anchor of labelled windows; their order does not matter, nor does a repetition of all.

    Args:
        label: The label.
        features: Vectors of the windows, [n, size], n at least 1.
        is_shared: See `Anchor`.

    >>> anchor_of("climbing", np.array([[1.0, 0.0], [0.0, 1.0]])).mean.tolist()
    [0.5, 0.5]
    """
    return Anchor(label, features.astype(np.float64).mean(axis=0), len(features), is_shared)


def discriminant(
    features: _Floats, classes: NDArray[np.int64], ridge: float = _RIDGE
) -> tuple[_Floats, _Floats]:
    """Fit class means and the inverse of their common covariance.

    Args:
        features: [n, size].
        classes: [n] class of each, from 0 without a hole.
        ridge: Share that the variances alone have in it.

    Returns:
        Means [classes, size] and inverse covariance [size, size].
    """
    count = int(classes.max()) + 1
    means = np.stack([features[classes == each].mean(axis=0) for each in range(count)])
    apart = features - means[classes]
    covariance = apart.T @ apart / len(apart)
    spread = max(float(np.trace(covariance)) / len(covariance), 1e-9)
    own = np.diag(np.diag(covariance) + _LEAST_SHARE * spread)
    return means, np.linalg.inv((1 - ridge) * covariance + ridge * own)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Class means [classes, size] and the inverse of their common covariance [size, size]."""

    means: _Floats
    inverse: _Floats

    def odds(self, vectors: _Floats, points: _Floats) -> _Floats:
        """Log densities of windows around points, without what all points have in common."""
        turned = points @ self.inverse
        odds: _Floats = vectors @ turned.T - 0.5 * (turned * points).sum(axis=1)
        return odds

    def distances(self, vectors: _Floats, points: _Floats) -> _Floats:
        """Squared Mahalanobis distance of each window to its point, or to one for all, [n]."""
        apart = vectors - points
        distances: _Floats = ((apart @ self.inverse) * apart).sum(axis=1)
        return distances


class AnchorSpace:
    """The features of one student, ready for anchors; made once per student."""

    def __init__(self, labels: tuple[str, ...], features: ClassFeatures) -> None:
        """Prepare.

        Args:
            labels: Classes of the student.
            features: What known windows look like.
        """
        self.labels = labels
        self._features = features
        vectors, statistics = features.sample_vectors(), features.statistics
        self._sample = _joined(vectors, None if statistics is None else statistics.sample())
        self._classes, self.people = features.sample_labels(), features.people()
        self._learned = _joined(*features.learned_vectors())
        self._learned_classes = features.learned_labels()
        self.size = self._sample.shape[1]
        rows = np.arange(len(self._sample))
        # One more than classes, so that -1, a label that the student does not know, is False.
        self.was_learned = np.isin(np.arange(len(labels) + 1), self._classes)
        self._fit = self._fitted(rows)
        self._folds = [
            (fold, self._fit if len(fold) == len(rows) else self._fitted(np.delete(rows, fold)))
            for fold in _folds(self._classes, self.people)
        ]
        own = [
            fit.distances(self._sample[fold], fit.means[self._classes[fold]])
            for fold, fit in self._folds
        ]
        self._reach = _REACH * float(np.quantile(np.concatenate(own), _REACH_QUANTILE))

    def vectors(
        self, features: NDArray[np.floating], windows: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Windows as the space sees them: features, with statistics where the manifest has some.

        Args:
            features: Features of the windows, [n, features].
            windows: The same windows, [n, length, channels] in raw units.
        """
        needs = self._features.statistics is not None
        return self.vectors_of(features, window_statistics(windows) if needs else None)

    def vectors_of(
        self, features: NDArray[np.floating], statistics: NDArray[np.float32] | None
    ) -> NDArray[np.float64]:
        """The same from statistics that are known already, [n, statistics]."""
        own, found = self._features.statistics, None
        if own is not None and statistics is not None:
            found = own.standardised(statistics)
        return _joined(features.astype(np.float64), found)

    def place(self, anchors: Sequence[Anchor]) -> Anchors:
        """Place the anchors that hold for one device; the order of them does not matter.

        Raises:
            ValueError: Two have one label, or a vector is of another size.
        """
        ordered = sorted(anchors, key=lambda each: each.label)
        labels = [each.label for each in ordered]
        if len(set(labels)) < len(labels):
            msg = f"two anchors of one label among {', '.join(labels)}"
            raise ValueError(msg)
        if any(len(each.mean) != self.size for each in ordered):
            msg = f"a vector of another size than {self.size}"
            raise ValueError(msg)
        points = np.stack([self._shrunk(each) for each in ordered])
        known = [self.labels.index(label) if label in self.labels else -1 for label in labels]
        reach = np.array([self._reach * (1 + 1 / each.windows) for each in ordered])
        placed = Anchors(self, ordered, points, known, reach, np.zeros(len(ordered)))
        leads = self.sample_leads(placed)
        margins = []
        for at, own in enumerate(known):
            rows = self._classes != own
            allowed = self._features.sample_share
            if ordered[at].is_shared:
                allowed = self._features.shared_share or allowed
            margins.append(margin_of(leads[rows, at], self.people[rows], allowed / len(ordered)))
        # No lead within reach of a new label is below half of it, so a lower margin means the same.
        # A label that was learned has its windows, so it gains only those that are nearest to it.
        least = np.where(self.was_learned[known], 0.0, -reach / 2)
        return replace(placed, margins=np.maximum(margins, least))

    def leads(self, vectors: _Floats, anchors: Anchors) -> _Floats:
        """How much nearer windows lie to anchors than to other classes, [n, anchors].

        Minus infinity where a window is out of reach.

        Args:
            vectors: See `vectors`.
            anchors: Anchors of this space.
        """
        return _leads(self._fit, vectors, anchors)

    def sample_leads(self, anchors: Anchors) -> _Floats:
        """The leads of the known windows in the manifest, as if their people were not in it.

        A covariance fits the windows that it was made of better than others, so those of each
        person are compared by one that was made without them.
        """
        leads = np.full((len(self._sample), len(anchors.points)), -np.inf)
        for fold, fit in self._folds:
            leads[fold] = _leads(fit, self._sample[fold], anchors)
        return leads

    @property
    def softness(self) -> float:
        """See `ClassFeatures.softness`."""
        return self._features.softness

    def _fitted(self, rows: NDArray[np.int64]) -> _Fit:
        """Fit some of the sample, and all learned windows; a class without any has its centre."""
        classes = np.concatenate([self._classes[rows], self._learned_classes])
        vectors = np.concatenate([self._sample[rows], self._learned])
        known, places = np.unique(classes, return_inverse=True)
        means, inverse = discriminant(vectors, places)
        # A mean of vectors of length 1 is shorter, and so is then the centre of a class without.
        # Nothing tells its statistics: they are those of all.
        own = self._features.size
        length = float(np.linalg.norm(means[:, :own], axis=1).mean())
        every = np.tile(means.mean(axis=0), (len(self.labels), 1))
        every[:, :own] = length * self._features.centre_vectors()
        every[known] = means
        return _Fit(every, inverse)

    def _shrunk(self, anchor: Anchor) -> _Floats:
        if anchor.label not in self.labels:
            return anchor.mean
        own = self.labels.index(anchor.label)
        part = slice(None if self.was_learned[own] else self._features.size)
        weight = self._features.weights[own]
        shrunk: _Floats = anchor.mean.copy()
        total = anchor.windows * anchor.mean[part] + weight * self._fit.means[own, part]
        shrunk[part] = total / (anchor.windows + weight)
        return shrunk


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

    def answer(self, scores: ClassScores, windows: NDArray[np.float32]) -> ClassScores:
        """The scores with the anchors' say.

        An anchor whose lead exceeds its margin has a larger probability than every other label, and
        no other one does. Rows without a valid score stay as they are.

        Args:
            scores: Scores of the student, with features.
            windows: The windows, [n, length, channels] in raw units.

        Raises:
            ValueError: The scores have no features.
        """
        if scores.features is None:
            msg = "anchors need the features of the windows"
            raise ValueError(msg)
        return self.answer_vectors(scores, self.space.vectors(scores.features, windows))

    def answer_vectors(self, scores: ClassScores, vectors: _Floats) -> ClassScores:
        """The same from vectors that are known already (`AnchorSpace.vectors_of`)."""
        leads = self.space.leads(vectors, self) - self.margins
        odds = np.clip(leads / self.space.softness, -_SUREST, _SUREST)
        logs = np.log(np.maximum(scores.probabilities.astype(np.float64), _LEAST))
        new = []
        for place, own in enumerate(self.known):
            claimed = _best(logs, own) + odds[:, place]
            if own < 0:
                new.append(claimed)
            elif self.space.was_learned[own]:
                logs[:, own] = np.maximum(logs[:, own], claimed)
            else:  # the examples know better than the text that it was named by
                logs[:, own] = claimed
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


def margin_of(leads: _Floats, people: NDArray[np.int64], share: float) -> float:
    """Find the least margin that at most a share of a new person's leads exceeds.

    People differ, and few are in a sample. So it is not the quantile of all windows, but the least
    margin at which the mean share over people, plus one standard error of it, is at most `share`.

    Args:
        leads: Of known windows, [n].
        people: Person of each, [n].
        share: Largest share.

    Returns:
        The margin; minus infinity where no known window is in reach.
    """
    if not len(leads):
        return -np.inf
    ordered = np.sort(leads)
    tried = np.unique(ordered[int(len(ordered) * (1 - 2 * share)) :])
    beyond = []
    for person in np.unique(people):
        own = np.sort(leads[people == person])
        beyond.append(1 - np.searchsorted(own, tried, side="right") / len(own))
    table = np.stack(beyond)
    error = np.zeros(len(tried))
    if len(table) > 1:
        error = table.std(axis=0, ddof=1) / np.sqrt(len(table))
    fits = np.flatnonzero(table.mean(axis=0) + error <= share)
    return float(tried[fits[0]]) if len(fits) else float(ordered[-1])


def _leads(fit: _Fit, vectors: _Floats, anchors: Anchors) -> _Floats:
    odds, classes = fit.odds(vectors, anchors.points), fit.odds(vectors, fit.means)
    best = np.stack([_best(classes, own) for own in anchors.known], axis=1)
    apart = [fit.distances(vectors, each.mean) for each in anchors.anchors]
    return np.where(np.stack(apart, axis=1) <= anchors.reach, odds - best, -np.inf)


def _joined(features: _Floats, statistics: _Floats | None) -> _Floats:
    if statistics is None:
        return features
    scaled = statistics / np.sqrt(statistics.shape[1])
    joined: _Floats = np.concatenate([features, scaled], axis=1)
    joined /= np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-9)
    return joined


def _folds(classes: NDArray[np.int64], people: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows in up to four folds of whole people; one with all rows where that cannot be."""
    names = np.unique(people)
    count = min(_FOLDS, len(names))
    folds = [np.flatnonzero(np.isin(people, names[at::count])) for at in range(count)]
    rest = [np.delete(classes, fold) for fold in folds]
    whole = len(set(classes))
    if count < 2 or any(len(set(each)) < whole for each in rest):
        return [np.arange(len(classes))]
    return folds
