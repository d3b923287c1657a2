"""Familiarity of students that answer a number: distance to what was learned, inside the graph.

A student of remaining life is certain even under conditions that it has never seen. The graph
therefore measures how far the mean of the newest readings is from that of training windows. A worn
machine is not lost, so the distance is one to the nearest stage of wear: training windows are put
into stages by their label, each with its own mean and covariance (Mahalanobis), shrunk towards that
of all stages together. Where several sets of machines are joined, each stage is put into two halves
(2-means), because machines that fail in different ways wear in different directions. For students
with operating conditions the readings are those that the graph has scaled per condition, and the
distance of the settings to the nearest known condition counts as one more statistic.

The limit is a quantile of distances of engines that the student has not learned from. Of joined
sets it is the quantile of the set whose engines differ most among themselves, so that it rejects no
set more often than it may. How fast the interval widens beyond it is found with made-up shifts:
readings of such engines, offset by a random amount in a random direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.tasks.familiarity import MAX_DISTANCE, Familiarity, widen
from models.tasks.number import Interval
from training.scoring import score_scaled
from training.students.conditions import ConditionScaling
from training.uncertainty.calibration import (
    LEVEL,
    group_weights,
    interval_ends,
    weighted_quantile,
)

__all__ = [
    "REJECTS",
    "FamiliarStudent",
    "Shifted",
    "StageDistance",
    "fit_familiarity",
    "fit_limit",
    "fit_stage_distance",
    "join_shifted",
    "make_shifted",
    "measure_stage_distances",
]

REJECTS = 0.03
"""Largest share of windows of new engines beyond the limit, at calibration, in each joined set:
below the 5 % that are allowed, because the engines of another draw differ."""
_STAGES = (0.08, 0.2, 0.4, 0.64, 0.88)
"""Edges of the stages of wear, as shares of the largest number."""
_SHRINK = 0.3  # share of the covariance of all stages in that of a stage
_RIDGE = 0.05  # of the mean variance: limits the weight of directions that hardly vary
_ROUNDS = 30  # of 2-means
_MOST_CHANNELS = 32  # a covariance of more channels would be larger than the student
_SETTINGS = 0.01  # ranges of the settings that count as one deviation, or more where they vary
_LEAST = 1e-6  # of a deviation
_WIDEST = 1e6  # of a scaled reading: infinities would cancel to nan
_BATCH = 2048

_SHIFTS = 3  # made-up shifts per engine
_MOST_SHIFTED = 3000
_SMALLEST, _LARGEST = 0.3, 6.0  # size of a shift, in deviations of training
_WIDTHS = (8.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.1)
_BINS = (1.0, 1.5, 2.0, 3.0, 5.0, np.inf)
"""Candidates of `whole`, and bins of distance in which the interval must cover, both in limits."""
_FEWEST = 50  # windows of a bin that are worth a judgement


class StageDistance(nn.Module):
    """Distance of windows, as the encoder reads them, to the nearest stage of wear.

    Args:
        centres: Mean of each stage, or of each half of it, `[stages, channels]`.
        whiten: Brings the scatter of a stage to the unit matrix: `[stages, channels, channels]`, or
            `[stages, channels]` for a diagonal one.
        readings: Newest readings of a window that are looked at.
        settings: Distance of settings to known conditions that counts as one deviation.
    """

    middle: Tensor
    centres: Tensor
    whiten: Tensor

    def __init__(
        self,
        centres: NDArray[np.float64],
        whiten: NDArray[np.float64],
        readings: int,
        settings: float = 1.0,
    ) -> None:
        super().__init__()
        self.readings = readings
        self.settings = settings
        self.is_diagonal = whiten.ndim == 2
        middle = centres.mean(axis=0)
        centres = centres - middle
        if not self.is_diagonal:  # one matrix product for all stages
            centres = np.einsum("sc,scd->sd", centres, whiten)
            whiten = np.concatenate(list(whiten), axis=1)
        for name, values in (("middle", middle), ("centres", centres), ("whiten", whiten)):
            self.register_buffer(name, torch.from_numpy(values.astype(np.float32)))

    def forward(self, windows: Tensor, apart: Tensor | None = None) -> Tensor:
        """Measure the distances `[batch]`, from 0 to `MAX_DISTANCE`.

        Args:
            windows: Windows `[batch, length, channels]`.
            apart: Distances `[batch]` of their settings to known conditions, in ranges.
        """
        means = windows[:, -self.readings :].mean(dim=1).clamp(-_WIDEST, _WIDEST) - self.middle
        if self.is_diagonal:
            whitened = (means[:, None] - self.centres) * self.whiten
        else:
            whitened = (means @ self.whiten).reshape(-1, *self.centres.shape) - self.centres
        squared = whitened.square().sum(dim=2).amin(dim=1)
        if apart is not None:
            squared = squared + (apart / self.settings).square()
        distance: Tensor = squared.sqrt().clamp(0, MAX_DISTANCE)
        return distance


class FamiliarStudent(nn.Module):
    """A student that gives its number and the distance of the window to what it has learned.

    Args:
        student: Gives numbers `[batch]`; its part between scaler and encoder is computed once.
        distance: Fitted to the windows that the student has learned from.
    """

    def __init__(self, student: nn.Module, distance: StageDistance) -> None:
        super().__init__()
        self.student = student
        self.familiarity = distance
        self.eval()  # torch.onnx.export would else leave the student in training mode

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Compute numbers `[batch]` and distances `[batch]` of scaled windows."""
        conditions, body = _parts(self.student)
        if conditions is None:
            return body(windows), self.familiarity(windows)
        read = conditions(windows)
        return body(read), self.familiarity(read, conditions.apart(windows))


@dataclass(frozen=True, slots=True)
class Shifted:
    """Windows of engines that a student has not learned from, moved away from what was learned.

    Attributes:
        scored: Numbers `[n]`.
        distances: Distances `[n]`.
        labels: Truths `[n]`.
        groups: Engines `[n]`.
        switches: Whether the operating settings switch in the window, `[n]`.
    """

    scored: NDArray[np.float32]
    distances: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    switches: NDArray[np.bool_]


def fit_stage_distance(
    scaled: Tensor,
    labels: NDArray[np.int64],
    largest: int,
    readings: int,
    conditions: nn.Module | None = None,
    *,
    has_halves: bool = False,
) -> StageDistance:
    """Fit the distance to the windows that a student learns from.

    Args:
        scaled: Windows `[n, length, channels]` as the graph gets them.
        labels: Numbers `[n]`.
        largest: Largest number.
        readings: Fewest readings of a window: older ones may be copies of the first one, which
            would count many times over.
        conditions: The student's part that scales per condition, if it has one.
        has_halves: Put each stage into two halves.
    """
    means, aparts = [], []
    for part in torch.split(scaled, _BATCH):  # all of them at once would double the memory
        read, apart = _read(part, conditions)
        means.append(read[:, -readings:].mean(dim=1))
        if apart is not None:
            aparts.append(apart)
    settings = max(_SETTINGS, 2 * float(torch.cat(aparts).mean())) if aparts else 1.0
    values = torch.cat(means).numpy().astype(np.float64)
    spread = np.maximum(values.std(axis=0), _LEAST)
    values /= spread
    stages = np.digitize(labels, np.multiply(_STAGES, largest))
    if has_halves:
        stages *= 2
        for stage in np.unique(stages):
            own = stages == stage
            stages[own] += _halves(values[own])
    names, members = np.unique(stages, return_inverse=True)
    centres = np.stack([values[members == index].mean(axis=0) for index in range(len(names))])
    scatter = values - centres[members]
    pooled = scatter.T @ scatter / len(scatter)
    roots = []
    for index in range(len(names)):
        own = scatter[members == index]
        covariance = (1 - _SHRINK) * (own.T @ own / len(own)) + _SHRINK * pooled
        ridge = max(_RIDGE * float(np.trace(covariance)) / len(covariance), _LEAST)
        covariance += ridge * np.eye(len(covariance))
        if len(covariance) > _MOST_CHANNELS:
            roots.append(1 / np.sqrt(np.diag(covariance)) / spread)
        else:
            roots.append(np.linalg.cholesky(np.linalg.inv(covariance)) / spread[:, None])
    return StageDistance(centres * spread, np.stack(roots), readings, settings)


def _halves(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Put points `[n, channels]` into two halves, 0 and 1: 2-means, from the main direction on."""
    main = np.linalg.eigh(np.atleast_2d(np.cov(values.T, bias=True)))[1][:, -1]
    along = values @ main
    halves: NDArray[np.int64] = (along > np.median(along)).astype(np.int64)
    for _ in range(_ROUNDS):
        if len(np.unique(halves)) < 2:
            break  # all points are the same
        centres = np.stack([values[halves == half].mean(axis=0) for half in (0, 1)])
        found = np.square(values[:, None] - centres).sum(axis=2).argmin(axis=1)
        if np.array_equal(found, halves):
            break
        halves = found
    return halves


def measure_stage_distances(
    student: nn.Module, distance: StageDistance, scaled: Tensor
) -> NDArray[np.float32]:
    """Measure the distances `[n]` of windows as the graph of `student` gets them."""
    conditions = _parts(student)[0]
    parts = [_measure(distance, *_read(part, conditions)) for part in torch.split(scaled, _BATCH)]
    return np.concatenate(parts)


def make_shifted(
    student: nn.Module,
    distance: StageDistance,
    scaled: Tensor,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    switches: NDArray[np.bool_],
) -> Shifted:
    """Offset windows of engines that a student has not learned from, and score them.

    Every engine gets three offsets, each a random direction of the channels, times a size that is
    drawn evenly on a logarithmic scale, in deviations of the windows.

    Args:
        student: Student that has not seen the windows.
        distance: Distance to what it has learned.
        scaled: Windows `[n, length, channels]` as the graph gets them.
        labels: Numbers `[n]`.
        groups: Engines `[n]`.
        switches: Whether the operating settings switch in the window, `[n]`.
    """
    conditions, body = _parts(student)
    random = np.random.default_rng(0)
    count = len(labels)
    at = np.unique(np.linspace(0, count - 1, min(count, _MOST_SHIFTED // _SHIFTS)).astype(int))
    read, apart = _read(scaled[torch.from_numpy(at)], conditions)
    spread = read.mean(dim=1).std(dim=0, correction=0).clamp_min(_LEAST).numpy()
    engines, members = np.unique(groups[at], return_inverse=True)
    scored, distances = [], []
    for _ in range(_SHIFTS):
        directions = random.normal(size=(len(engines), len(spread)))
        sizes = np.exp(random.uniform(np.log(_SMALLEST), np.log(_LARGEST), (len(engines), 1)))
        offsets = torch.from_numpy((directions * sizes * spread)[members].astype(np.float32))
        moved = read + offsets[:, None]
        scored.append(score_scaled(body, moved))
        distances.append(_measure(distance, moved, apart))
    return Shifted(
        np.concatenate(scored),
        np.concatenate(distances),
        np.tile(labels[at], _SHIFTS),
        np.tile(groups[at], _SHIFTS),
        np.tile(switches[at], _SHIFTS),
    )


def join_shifted(parts: Sequence[Shifted]) -> Shifted | None:
    """Join the shifts of several folds; None of none."""
    if not parts:
        return None
    return Shifted(
        np.concatenate([part.scored for part in parts]),
        np.concatenate([part.distances for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.switches for part in parts]),
    )


def fit_limit(
    distances: NDArray[np.float32], groups: NDArray[np.int64], sets: NDArray[np.int64] | None = None
) -> float:
    """Find the smallest distance beyond which at most `REJECTS` of the windows of each set are.

    Arguments as for `fit_familiarity`.
    """
    weights, sets = group_weights(groups), np.zeros_like(groups) if sets is None else sets
    limit = max(
        weighted_quantile(distances[own].astype(np.float64), weights[own], 1 - REJECTS)
        for own in (sets == one for one in np.unique(sets))
    )
    return float(np.float32(min(max(limit, _LEAST), MAX_DISTANCE / 2)))


def fit_familiarity(
    distances: NDArray[np.float32],
    groups: NDArray[np.int64],
    shifted: Shifted,
    interval: Interval,
    largest: int,
    sets: NDArray[np.int64] | None = None,
) -> Familiarity:
    """Fit the limit of familiarity, and how fast the interval widens beyond it.

    Args:
        distances: Distances `[n]` of windows of engines that the student has not learned from.
        groups: Engines `[n]`; each has the same weight.
        shifted: Made-up shifts of such windows.
        interval: Calibrated interval.
        largest: Largest number.
        sets: Which of several joined sets each window is of, `[n]`; None for a single one.

    Returns:
        The rule. At most `REJECTS` of the windows of each set are beyond its limit. Its interval
        covers the shifted windows with the level of the interval at every distance beyond the
        limit, as far as enough of them are there.
    """
    limit, weights = fit_limit(distances, groups, sets), group_weights(groups)
    rejects = min(float(weights[distances > limit].sum()), 1.0)
    rules = [
        Familiarity(limit=limit, whole=min(width * limit, MAX_DISTANCE), rejects=rejects)
        for width in _WIDTHS
    ]
    return next((rule for rule in rules if _covers(rule, shifted, interval, largest)), rules[-1])


def _covers(rule: Familiarity, shifted: Shifted, interval: Interval, largest: int) -> bool:
    ends = interval_ends(interval, shifted.scored, shifted.switches)
    low, high = (end.clip(0, largest).astype(np.float32) for end in ends)
    low, high = widen(low, high, shifted.distances, rule, (0, largest))
    inside = (low <= shifted.labels) & (shifted.labels <= high)
    places = np.digitize(shifted.distances / rule.limit, _BINS)
    for place in range(1, len(_BINS)):
        own = places == place
        if own.sum() >= _FEWEST and inside[own].mean() < LEVEL:
            return False
    return True


def _parts(student: nn.Module) -> tuple[ConditionScaling | None, nn.Module]:
    """The part of a student that scales per condition, if it has one, and the rest."""
    if isinstance(student, nn.Sequential) and isinstance(student[0], ConditionScaling):
        return student[0], student[1]
    return None, student


def _read(scaled: Tensor, conditions: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Windows as the encoder reads them, and the distances of their settings."""
    if not isinstance(conditions, ConditionScaling):
        return scaled, None
    with torch.no_grad():
        parts = torch.split(scaled, _BATCH)
        read = torch.cat([conditions(part) for part in parts])
        return read, torch.cat([conditions.apart(part) for part in parts])


def _measure(distance: StageDistance, read: Tensor, apart: Tensor | None) -> NDArray[np.float32]:
    parts = torch.split(read, _BATCH)
    settings = [None] * len(parts) if apart is None else torch.split(apart, _BATCH)
    with torch.no_grad():
        found = [distance(*both).numpy() for both in zip(parts, settings, strict=True)]
    return np.asarray(np.concatenate(found), dtype=np.float32)
