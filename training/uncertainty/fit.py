"""Calibration of a trained student: held-out scores in, parts of manifest and graph out.

`training.uncertainty.calibration` and `training.uncertainty.out_of_distribution` contain the
mathematics; this file applies it to a student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.manifest import Scaler
from models.tasks.classes import Unknown
from models.tasks.familiarity import Familiarity
from models.tasks.number import Interval, NumberAnswer
from training.datasets.contract import DataSet
from training.evaluate import calibration_error, calibration_floor
from training.recipes import Recipe
from training.scoring import scale_windows, score_torch
from training.students.conditions import SETTINGS, fit_preprocessor
from training.uncertainty.calibration import (
    LEVEL,
    OperatingSettings,
    cross_coverage,
    fit_interval_by_settings,
    fit_tempering,
    fit_unknown,
    group_weights,
    interval_ends,
    late_windows,
    temper,
)
from training.uncertainty.familiarity import (
    FamiliarStudent,
    Shifted,
    StageDistance,
    fit_familiarity,
    fit_stage_distance,
    join_shifted,
    make_shifted,
    measure_stage_distances,
)
from training.uncertainty.out_of_distribution import (
    ClassDistance,
    OutOfDistributionGuard,
    fit_class_distance,
    measure_distances,
    shrink_probabilities,
)
from training.uncertainty.tempered import Tempered
from training.windows import WindowSet

__all__ = [
    "Calibration",
    "HeldOutScores",
    "calibrate",
    "covered",
    "distance_of",
    "join_held_out",
    "late_share",
    "score_held_out",
]

_SWITCH = 0.1  # of the range of a setting: a larger change within a window is a switch


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Scores of windows by a student that has not seen them.

    Attributes:
        scored: Numbers `[n]` or probabilities `[n, classes]`.
        distances: Distances `[n]` to the known classes or stages of wear; zeros where there is no
            guard.
        shifted: Made-up shifts of the windows of a student of numbers.
    """

    scored: NDArray[np.float32]
    distances: NDArray[np.float32]
    shifted: Shifted | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The result of `calibrate`.

    Attributes:
        interval: Interval of the numbers; None for classes and for tasks without intervals.
        unknown: Threshold of the unknown class, where the recipe has `calibrate`.
        familiar: Rule for unfamiliar windows, for numbers with an interval.
        measures: Measures on the windows that were used for fitting; empty where nothing was
            fitted.
    """

    interval: Interval | None = None
    unknown: Unknown | None = None
    familiar: Familiarity | None = None
    measures: dict[str, float] = field(default_factory=dict)


def distance_of(
    data: DataSet, recipe: Recipe, scaler: Scaler, seen: WindowSet
) -> ClassDistance | StageDistance | None:
    """Fit the distance to the classes or stages of `seen`; None where the student has no guard."""
    answer = data.contract.answer
    if isinstance(answer, NumberAnswer):
        if not answer.has_interval or "familiar" not in data.contract.decoding.model_fields:
            return None
        conditions = fit_preprocessor(data.scaling, seen.windows)
        scaled = scale_windows(seen.windows, scaler, None)
        readings = data.min_readings or data.length
        return fit_stage_distance(
            scaled,
            seen.labels,
            data.num_answers - 1,
            readings,
            conditions,
            has_halves=len(data.sets) > 1,
        )
    if not recipe.calibrate:
        return None
    return fit_class_distance(scale_windows(seen.windows, scaler, None), seen.labels)


def score_held_out(
    data: DataSet,
    recipe: Recipe,
    student: nn.Module,
    scaler: Scaler,
    seen: WindowSet,
    held_out: WindowSet,
) -> HeldOutScores:
    """Score held-out windows and measure their distances to the classes or stages of `seen`."""
    distance = distance_of(data, recipe, scaler, seen)
    scored = score_torch(student, scaler, held_out.windows)
    if distance is None:
        return HeldOutScores(scored, np.zeros(len(held_out), dtype=np.float32))
    inputs = scale_windows(held_out.windows, scaler, None)
    if isinstance(distance, StageDistance):
        distances = measure_stage_distances(student, distance, inputs)
        settings = _settings_of(data, held_out)
        switches = np.zeros(len(held_out), np.bool_) if settings is None else settings.switches
        shifted = make_shifted(
            student, distance, inputs, held_out.labels, held_out.groups, switches
        )
        return HeldOutScores(scored, distances, shifted)
    return HeldOutScores(scored, measure_distances(distance, inputs))


def join_held_out(
    parts: Sequence[HeldOutScores], places: Sequence[NDArray[np.int64]]
) -> HeldOutScores:
    """Join the scores of the folds.

    Args:
        parts: Scores of each fold.
        places: Places of its windows among all; each place is in one fold.
    """
    order = np.argsort(np.concatenate(places))
    return HeldOutScores(
        np.concatenate([part.scored for part in parts])[order],
        np.concatenate([part.distances for part in parts])[order],
        join_shifted([part.shifted for part in parts if part.shifted is not None]),
    )


def calibrate(
    data: DataSet,
    student: nn.Module,
    distance: ClassDistance | StageDistance | None,
    held_out: WindowSet,
    known: HeldOutScores,
) -> tuple[nn.Module, NDArray[np.float32], Calibration]:
    """Fit the uncertainty of a student.

    Args:
        data: Gives the task.
        student: Student as trained.
        distance: Distance fitted to the windows that `student` has seen; None fits no guard.
        held_out: Windows, labels and groups of `known`.
        known: Scores of students that have not seen the windows.

    Returns:
        The student as it ships, its scores on the held-out windows, and the parts of the manifest.
    """
    answer = data.contract.answer
    if isinstance(answer, NumberAnswer):
        if not answer.has_interval:
            return student, known.scored, Calibration()
        calibration = _calibrate_number(data, held_out, known)
        if calibration.familiar is not None and isinstance(distance, StageDistance):
            student = FamiliarStudent(student, distance)
        return student, known.scored, calibration
    if not isinstance(distance, ClassDistance):
        return student, known.scored, Calibration()
    return _calibrate_classes(student, distance, held_out, known)


def _calibrate_number(data: DataSet, held_out: WindowSet, known: HeldOutScores) -> Calibration:
    truth, groups, largest = held_out.labels, held_out.groups, data.num_answers - 1
    scored, familiar = known.scored, None
    late, settings = late_windows(truth, groups, largest), _settings_of(data, held_out)
    interval = fit_interval_by_settings(
        truth[late],
        scored[late],
        groups[late],
        None if settings is None else settings.where(late),
        max_rul=largest,
        level=LEVEL,
    )
    switches = None if settings is None else settings.switches
    low, high = (end.clip(0, largest) for end in interval_ends(interval, scored, switches))
    inside = covered(data, held_out, scored)
    measures = {
        "interval_coverage": late_share(inside, held_out, largest),
        "interval_coverage_all": float(group_weights(groups) @ inside),
        "interval_width": float(group_weights(groups[late]) @ (high - low)[late]),
    }
    if known.shifted is not None:
        familiar = fit_familiarity(
            known.distances, groups, known.shifted, interval, largest, data.sets_of(groups)
        )
        measures["unfamiliar_share"] = familiar.rejects
    return Calibration(interval=interval, familiar=familiar, measures=measures)


def covered(data: DataSet, windows: WindowSet, scored: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which truths lie in intervals that were calibrated on other groups, `[n]`.

    Args:
        data: Data of a student of numbers.
        windows: Windows, labels and groups.
        scored: Numbers `[n]` of students that have not seen the windows.
    """
    settings, largest = _settings_of(data, windows), data.num_answers - 1
    return cross_coverage(
        windows.labels, scored, windows.groups, settings, max_rul=largest, level=LEVEL
    )


def late_share(inside: NDArray[np.bool_], windows: WindowSet, largest: int) -> float:
    """Compute the share of `inside` in the last part of each life; groups weigh the same."""
    late = late_windows(windows.labels, windows.groups, largest)
    return float(group_weights(windows.groups[late]) @ inside[late])


def _settings_of(data: DataSet, windows: WindowSet) -> OperatingSettings | None:
    """Tell in which windows the operating settings switch; None for data without settings."""
    if data.scaling != "conditions":
        return None
    settings = windows.windows[:, :, :SETTINGS]
    lowest, highest = settings.min(axis=1), settings.max(axis=1)
    ranges = (highest.max(axis=0) - lowest.min(axis=0)).astype(np.float64)
    channels = np.flatnonzero(ranges > 0)
    if not len(channels):
        return None
    spreads = tuple(float(np.float32(_SWITCH * ranges[place])) for place in channels)
    switches = ((highest - lowest)[:, channels] > np.array(spreads, np.float32)).any(axis=1)
    return OperatingSettings(tuple(channels.tolist()), spreads, switches)


def _calibrate_classes(
    student: nn.Module, distance: ClassDistance, held_out: WindowSet, known: HeldOutScores
) -> tuple[nn.Module, NDArray[np.float32], Calibration]:
    truth = held_out.labels
    temperature, doubt = fit_tempering(truth, known.scored)
    tempered = temper(known.scored, temperature, doubt).astype(np.float32)
    max_distance, unknown = fit_unknown(tempered, known.distances, held_out.groups)
    ceiling = 0.999 * unknown.threshold
    certain = Tempered(student, temperature, doubt)
    guard = OutOfDistributionGuard(certain, distance, max_distance, ceiling)
    scored = shrink_probabilities(
        torch.from_numpy(tempered), torch.from_numpy(known.distances), max_distance, ceiling
    ).numpy()
    measures = {
        "temperature": temperature,
        "doubt": doubt,
        "reach": max_distance,  # the key of published manifests
        "calibration_error": calibration_error(truth, scored),
        "calibration_error_if_exact": calibration_floor(scored)[0],
        "unknown_share": unknown.rejects,
    }
    return guard.eval(), scored, Calibration(unknown=unknown, measures=measures)
