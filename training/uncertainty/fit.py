"""Makes a trained student say how sure it is: scores of unseen windows in, manifest and graph out.

The mathematics is in `training.uncertainty.calibration` and
`training.uncertainty.out_of_distribution`; here it meets the student.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.manifest import Scaler
from models.tasks.classes import Unknown
from models.tasks.interval import Interval
from training.datasets.contract import DataSet
from training.distill import scale_windows
from training.evaluate import calibration_error
from training.export.artifact import Tempered, score_torch
from training.recipes import Recipe
from training.teachers.prompts import MAX_RUL
from training.uncertainty.calibration import (
    LEVEL,
    fit_doubt,
    fit_interval,
    fit_temperature,
    group_weights,
    interval_ends,
    share_inside,
    temper,
)
from training.uncertainty.out_of_distribution import (
    Cautious,
    Familiarity,
    fit_familiarity,
    hold_back,
    measure_distances,
)
from training.windows import WindowSet

__all__ = ["Doubt", "Unseen", "calibrate", "familiarity_of", "score_unseen"]


@dataclass(frozen=True, slots=True)
class Unseen:
    """Windows by a student that has not seen them.

    Attributes:
        scored: `[n]` cycles or `[n, classes]` probabilities.
        distances: `[n]` to what the student has seen; zeros where nothing asks for them.
    """

    scored: NDArray[np.float32]
    distances: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What calibration found.

    Attributes:
        interval: of RUL scores.
        unknown: of activities, where the recipe asks for it.
        measures: how it does on the windows it was fitted to; empty where nothing was fitted.
    """

    interval: Interval | None
    unknown: Unknown | None
    measures: dict[str, float]


def familiarity_of(
    data: DataSet, recipe: Recipe, scaler: Scaler, seen: WindowSet
) -> Familiarity | None:
    """What measures distances to `seen`; None where nothing asks for them."""
    if data.task == "rul" or not recipe.calibrate:
        return None
    return fit_familiarity(scale_windows(seen.windows, scaler, None), seen.labels)


def calibrate(
    data: DataSet,
    student: nn.Module,
    familiarity: Familiarity | None,
    held_out: WindowSet,
    known: Unseen,
) -> tuple[nn.Module, NDArray[np.float32], Doubt]:
    """Fit everything that says how sure the student is.

    Args:
        data: gives the task.
        student: as trained.
        familiarity: fitted to what `student` has seen; None leaves activities as they are.
        held_out: windows, labels and groups of `known`.
        known: what students say that have not seen the windows.

    Returns:
        The student as it ships, its scores on the held-out windows, and the parts of the manifest.
    """
    truth, groups, scored = held_out.labels, held_out.groups, known.scored
    if data.task == "rul":
        interval = fit_interval(truth, scored, groups, max_rul=MAX_RUL, level=LEVEL)
        low, high = (end.clip(0, MAX_RUL) for end in interval_ends(interval, scored))
        measures = {
            "interval_coverage": share_inside(interval, truth, scored, groups),
            "interval_width": float(group_weights(groups) @ (high - low)),
        }
        return student, scored, Doubt(interval, None, measures)
    if familiarity is None:
        return student, scored, Doubt(None, None, {})
    temperature = fit_temperature(truth, scored)
    tempered = temper(scored, temperature).astype(np.float32)
    reach, unknown = fit_doubt(tempered, known.distances, groups)
    ceiling = 0.999 * unknown.threshold
    cautious = Cautious(Tempered(student, temperature), familiarity, reach, ceiling)
    given = hold_back(
        torch.from_numpy(tempered), torch.from_numpy(known.distances), reach, ceiling
    ).numpy()
    measures = {
        "temperature": temperature,
        "reach": reach,
        "calibration_error": calibration_error(truth, given),
        "unknown_share": unknown.rejects,
    }
    return cautious.eval(), given, Doubt(None, unknown, measures)


def score_unseen(
    data: DataSet,
    recipe: Recipe,
    student: nn.Module,
    scaler: Scaler,
    seen: WindowSet,
    held_out: WindowSet,
) -> Unseen:
    """Score held-out windows and measure their distances to what was seen."""
    familiarity = familiarity_of(data, recipe, scaler, seen)
    distances = np.zeros(len(held_out), dtype=np.float32)
    if familiarity is not None:
        inputs = scale_windows(held_out.windows, scaler, None)
        distances = measure_distances(familiarity, inputs)
    return Unseen(score_torch(student, scaler, held_out.windows), distances)
