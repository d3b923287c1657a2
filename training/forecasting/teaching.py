"""Products for a forecasting student by the name of its teacher, controls included.

The teachers with a language model are those of `training.teachers.forecast_teachers`. Three kinds
need none:

- `ridge`: the closed form of the student's own windows. A student starts from it, so it tells what
  the loss alone does.
- `ensemble`: the mean of three larger networks, trained as the student is.
- `NAME-shuffled`: the products of the teacher NAME, given to the wrong windows. What a student
  gains from them is not knowledge of the teacher.

All of them speak about windows that they have learned from, as the teachers with a language model
do.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import RecipeError
from training.forecasting.loop import TrainedForecaster, train_student
from training.forecasting.recipe import ForecastRecipe, format_forecast_recipe
from training.forecasting.start import fit_start
from training.forecasting.windows import blocks_of, training_windows, validation_windows
from training.students.normalise import Forecaster
from training.students.ridge import RidgeFactors
from training.teachers.forecast_teachers import FORECAST_TEACHERS, products_of
from training.teachers.products import (
    ProductRequest,
    Products,
    find_products,
    read_products,
    write_products,
)

__all__ = ["NETWORK_TEACHERS", "SHUFFLED", "TEACHERS", "WITHOUT_LUCK", "teacher_products"]

NETWORK_TEACHERS = ("ridge", "ensemble")
SHUFFLED = "-shuffled"
TEACHERS = (
    "none",
    *NETWORK_TEACHERS,
    *FORECAST_TEACHERS,
    *(f"{name}{SHUFFLED}" for name in ("llata", "timellm")),
)
"""Names that a recipe's key `teacher` may have."""
WITHOUT_LUCK = ("none", "ridge")
"""Teachers that no seed changes, so they have no second training."""
_MEMBERS: dict[str, tuple[dict[str, Any], ...]] = {
    "ridge": ({"student": "ridge", "epochs": 0},),
    "ensemble": tuple(
        {"student": "mlp", "width": 512, "rank": 64, "dropout": 0.3, "seed": 100 + number}
        for number in range(3)
    ),
}
_APART = 10  # between the seeds of the same member in two trainings of a teacher


def teacher_products(
    recipe: ForecastRecipe, data: SeriesSet, folder: Path, *, deadline_s: float = math.inf
) -> Products | None:
    """Return what the teacher of a recipe says about the student's training windows.

    A missing teacher is trained first; a second call reads its products.

    Args:
        recipe: Recipe of the student; `teacher` is one of `TEACHERS`.
        data: Series; the test part is not read.
        folder: Folder of the products of all teachers.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Returns:
        None if the recipe names no teacher, or if the deadline came first.

    Raises:
        RecipeError: There is no such teacher.
        TeacherError: The products are damaged.
        MissingExtraError: Its language model is not installed.
    """
    if recipe.teacher not in TEACHERS:
        msg = f"recipe: teacher is {recipe.teacher!r}, expected one of {', '.join(TEACHERS)}"
        raise RecipeError(msg)
    name = recipe.teacher.removesuffix(SHUFFLED)
    if name in NETWORK_TEACHERS:
        return _networks(name, recipe, data, folder, deadline_s)
    found = products_of(
        name,
        data,
        folder,
        length=recipe.length,
        horizon=recipe.horizon,
        stride=recipe.stride,
        share=recipe.share,
        with_features=recipe.features_weight > 0,
        seed=recipe.teacher_seed,
        deadline_s=deadline_s,
    )
    if found is None or name == recipe.teacher:
        return found
    return _shuffle(found, recipe.seed)


def _shuffle(products: Products, seed: int) -> Products:
    """Give every window the products of another one, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(products))
    return Products(
        products.forecasts[order],
        {stage: values[order] for stage, values in products.features.items()},
        {**products.header, "key": f"{products.header.get('key', '')}{SHUFFLED}-{seed}"},
    )


def _networks(
    name: str, recipe: ForecastRecipe, data: SeriesSet, folder: Path, deadline_s: float
) -> Products | None:
    """Train the networks of a teacher without a language model, or read their products."""
    plain = dataclasses.replace(
        recipe,
        teacher="none",
        teacher_seed=0,
        scales_weight=0.0,
        features_weight=0.0,
        seed=0,
        least_gain=0.0,
    )
    later = _APART * (0 if name in WITHOUT_LUCK else recipe.teacher_seed)
    members = [dataclasses.replace(plain, **changes) for changes in _MEMBERS[name]]
    members = [dataclasses.replace(member, seed=member.seed + later) for member in members]
    # Without keys at their default, so that a later key of recipes does not train a teacher anew.
    text = json.dumps([format_forecast_recipe(member, changed_only=True) for member in members])
    request = ProductRequest(
        name, {"members": text}, data.digest, recipe.length, recipe.horizon, recipe.stride
    )
    if (known := find_products(folder, request)) is not None:
        return known
    began = time.process_time()
    trained = _train(members, data, deadline_s)
    if trained is None:
        return None
    students = [one.student for one in trained]
    windows, held_out = (
        training_windows(data, recipe, recipe.stride),
        validation_windows(data, recipe),
    )
    apart = _forecast(students, held_out) - held_out.targets()
    write_products(
        folder,
        request,
        _forecast(students, windows),
        backbone="none",
        weights_hash="none",
        validation=float(np.square(apart, dtype=np.float64).mean()),
        best_passes=[one.best for one in trained],
        seconds=time.process_time() - began,
    )
    return read_products(folder, request)


def _train(
    members: list[ForecastRecipe], data: SeriesSet, deadline_s: float
) -> list[TrainedForecaster] | None:
    factors: RidgeFactors = fit_start(data, members[0])
    trained = []
    for member in members:
        done = train_student(member, data, factors=factors, deadline_s=deadline_s)
        if done is None:
            return None
        trained.append(done)
    return trained


@torch.no_grad()
def _forecast(students: list[Forecaster], windows: SeriesWindows) -> NDArray[np.float32]:
    """Return the mean of the students' p50, `[n, horizon, channels]`."""
    parts = []
    for inputs, _ in blocks_of(windows):
        found = [student(inputs) for student in students]
        parts.append(torch.stack([one[..., one.shape[3] // 2] for one in found]).mean(dim=0))
    forecasts: NDArray[np.float32] = torch.cat(parts).numpy()
    return forecasts
