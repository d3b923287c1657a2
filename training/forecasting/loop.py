"""The training loop of forecasting students.

Guarantees:

- The same recipe and data give the same weights, bit by bit, on one machine.
- An interrupted run that continues from its folder gives the weights of an uninterrupted run.
- A network that starts from the ridge is never worse than the ridge on the validation windows: the
  untrained start is a candidate, and a pass must be better than it by `least_gain`. Validation
  alone chooses among the passes.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.checkpoints import STATE_FILE, read_state, write_state
from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import DataSetError, RecipeError
from training.forecasting.losses import (
    band_loss,
    bounded_consistency,
    forecast_loss,
    geometry_loss,
    multi_scale_loss,
)
from training.forecasting.recipe import ForecastRecipe, format_forecast_recipe
from training.forecasting.start import fit_start
from training.forecasting.windows import (
    blocks_of,
    series_of,
    training_windows,
    validation_windows,
)
from training.students.forecasters import build_forecaster
from training.students.normalise import Forecaster
from training.students.ridge import RidgeFactors
from training.teachers.products import Products

__all__ = ["Pass", "TrainedForecaster", "forecast_error", "train_student"]

_WARM_UP_STEPS = 100
_LARGEST_GRADIENT = 1.0
_UNTRAINED = ("ridge",)


@dataclass(frozen=True, slots=True)
class Pass:
    """One point of the learning curve; pass 0 is the untrained student.

    Attributes:
        number: Passes done.
        epochs: Passes at most.
        loss: Mean training loss; nan for pass 0.
        validation: Mean squared error on the validation windows.
    """

    number: int
    epochs: int
    loss: float
    validation: float


@dataclass(frozen=True, slots=True)
class TrainedForecaster:
    """The student of the best pass, in evaluation mode; the band is not set yet.

    Attributes:
        student: The student.
        ridge: The ridge that it started from, as a student.
        factors: That ridge as it was fitted.
        best: Best pass; 0: the untrained start.
        validation: Mean squared error of the student on the validation windows.
        ridge_validation: That of the ridge.
        passes: The learning curve.
        seconds: Computing time: fit of the ridge, passes, validation.
    """

    student: Forecaster
    ridge: Forecaster
    factors: RidgeFactors
    best: int
    validation: float
    ridge_validation: float
    passes: tuple[Pass, ...]
    seconds: float


def train_student(
    recipe: ForecastRecipe,
    data: SeriesSet,
    *,
    products: Products | None = None,
    factors: RidgeFactors | None = None,
    folder: Path | None = None,
    on_pass: Callable[[Pass], None] = lambda done: None,
    deadline_s: float = math.inf,
) -> TrainedForecaster | None:
    """Train a student.

    Args:
        recipe: All settings.
        data: Series; the test part is not read.
        products: What the teacher of the recipe says about `training_windows(data, recipe,
            recipe.stride)`; None if the recipe names no teacher.
        factors: The fitted ridge of the same data and recipe, if it is at hand.
        folder: Keeps the state after every pass; an interrupted run continues from it.
        on_pass: Called after every pass; it cannot change the weights.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Returns:
        The student, or None if the deadline came first; call again to continue.

    Raises:
        CheckpointError: `folder` holds the state of another run or cannot be read.
        DataSetError: The data are too short, or the products are of other windows.
        RecipeError: The recipe names a teacher and there are no products, or the reverse: the
            lineage would be wrong.
    """
    _check_teacher(recipe, products)
    with _one_thread_one_seed(recipe.seed):
        run = _Run(recipe, data, products, factors)
        if folder is not None:
            run.read(folder / STATE_FILE)
        if not run.passes:
            run.validate(math.nan)
            on_pass(run.passes[-1])
        while not run.finished:
            if time.monotonic() >= deadline_s:
                return None
            run.one_pass()
            if folder is not None:
                run.write(folder / STATE_FILE)
            on_pass(run.passes[-1])
        return run.result()


def forecast_error(student: Forecaster, windows: SeriesWindows) -> float:
    """Mean squared error of p50 over all windows, steps and channels, standardised."""
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in blocks_of(windows):
            series = inputs.transpose(1, 2).reshape(-1, inputs.shape[1])
            truth = targets.transpose(1, 2).reshape(-1, targets.shape[1])
            total += float((student.forecast(series)[0] - truth).square().sum(dtype=torch.float64))
            count += truth.numel()
    return total / count


@dataclass(slots=True)
class _Progress:
    step: int = 0
    seconds: float = 0.0
    best: int = 0
    passes: list[Pass] = field(default_factory=list)


class _Run:
    """Weights, their average, the best so far, the optimiser and the progress."""

    def __init__(
        self,
        recipe: ForecastRecipe,
        data: SeriesSet,
        products: Products | None,
        factors: RidgeFactors | None,
    ) -> None:
        began = time.perf_counter()
        self.recipe, self.products = recipe, products
        self.windows = training_windows(data, recipe, recipe.stride)
        self.known = validation_windows(data, recipe)
        _check_products(products, self.windows, data)
        self.factors = factors or fit_start(data, recipe)
        self.student = self._build(recipe.student)
        self.average = copy.deepcopy(self.student).eval()
        self.best = copy.deepcopy(self.average.state_dict())
        self.optimiser = torch.optim.AdamW(self._groups(), weight_decay=recipe.weight_decay)
        self.identity = _identity(recipe, data, products)
        self.progress = _Progress(seconds=time.perf_counter() - began)

    @property
    def passes(self) -> list[Pass]:
        return self.progress.passes

    @property
    def finished(self) -> bool:
        recipe, done = self.recipe, len(self.passes) - 1
        late = done - self.progress.best >= recipe.patience
        return recipe.student in _UNTRAINED or done >= recipe.epochs or late

    def result(self) -> TrainedForecaster:
        self.average.load_state_dict(self.best)
        ridge = self._build("ridge").eval()
        return TrainedForecaster(
            student=self.average.eval(),
            ridge=ridge,
            factors=self.factors,
            best=self.progress.best,
            validation=self.passes[self.progress.best].validation,
            ridge_validation=forecast_error(ridge, self.known),
            passes=tuple(self.passes),
            seconds=self.progress.seconds,
        )

    def one_pass(self) -> None:
        began = time.perf_counter()
        recipe = self.recipe
        self.student.train()
        order = np.asarray(torch.randperm(len(self.windows)))
        count = recipe.steps or math.ceil(len(order) / recipe.batch_size)
        order = np.resize(order, count * recipe.batch_size) if recipe.steps else order
        batches = [
            order[at : at + recipe.batch_size] for at in range(0, len(order), recipe.batch_size)
        ]
        total = 0.0
        for chosen in batches:
            self._set_rate(len(batches) * recipe.epochs)
            loss = self._loss(chosen)
            self.optimiser.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.student.body.parameters(), _LARGEST_GRADIENT)
            self.optimiser.step()
            self._update_average()
            total += float(loss.detach())
        self.progress.seconds += time.perf_counter() - began
        self.validate(total / len(batches))

    def validate(self, loss: float) -> None:
        began = time.perf_counter()
        error, number = forecast_error(self.average, self.known), len(self.passes)
        self.passes.append(Pass(number, self.recipe.epochs, loss, error))
        best = self.progress.best
        asked = 1 - self.recipe.least_gain if best == 0 else 1.0
        if error < asked * self.passes[best].validation:
            self.progress.best = number
            self.best = copy.deepcopy(self.average.state_dict())
        self.progress.seconds += time.perf_counter() - began

    def _loss(self, chosen: NDArray[np.int64]) -> Tensor:
        recipe, student, products = self.recipe, self.student, self.products
        series = torch.from_numpy(series_of(self.windows.inputs(chosen)))
        truth = torch.from_numpy(series_of(self.windows.targets(chosen)))
        forecast, deviation, features = student.forecast(series)
        loss = forecast_loss(forecast, truth, recipe)
        if products is not None:
            teacher = torch.from_numpy(series_of(products.forecasts[chosen].astype(np.float32)))
            loss = loss + recipe.teacher_weight * bounded_consistency(forecast, truth, teacher)
            if recipe.scales_weight:
                loss = loss + recipe.scales_weight * multi_scale_loss(forecast, teacher)
            if recipe.features_weight and products.features:
                stages = [values[chosen] for values in products.features.values()]
                known = np.concatenate(stages, axis=2).astype(np.float32)
                rows = torch.from_numpy(known.reshape(len(series), -1))
                loss = loss + recipe.features_weight * geometry_loss(features, rows)
        if student.width is not None:
            apart = ((truth - forecast.detach()) / student.scale(deviation))[:, student.knots]
            loss = loss + band_loss(student.knot_widths(features), apart)
        return loss

    def _build(self, student: str) -> Forecaster:
        recipe = self.recipe
        return build_forecaster(
            student,
            self.factors,
            width=recipe.width,
            rank=recipe.rank,
            patch=recipe.patch,
            blocks=recipe.blocks,
            members=recipe.members,
            dropout=recipe.dropout,
            power=recipe.band_power,
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters with their rate: the ridge inside a network moves slowly."""
        slow: list[nn.Parameter] = []
        fast: list[nn.Parameter] = []
        for name, weights in self.student.named_parameters():
            (slow if name.startswith("body.start.") else fast).append(weights)
        groups: list[dict[str, Any]] = [{"params": fast, "lr": 0.0, "share": 1.0}]
        if slow:
            groups.append({"params": slow, "lr": 0.0, "share": self.recipe.start_rate})
        return groups

    def _set_rate(self, steps: int) -> None:
        step = self.progress.step
        rate = self.recipe.learning_rate * min(1.0, (step + 1) / _WARM_UP_STEPS)
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.progress.step += 1

    @torch.no_grad()
    def _update_average(self) -> None:
        step = self.progress.step
        decay = min(self.recipe.average_decay, (1 + step) / (10 + step))
        for mean, new in zip(self.average.parameters(), self.student.parameters(), strict=True):
            mean.lerp_(new, 1 - decay)

    def write(self, path: Path) -> None:
        progress = self.progress
        state = {
            "identity": self.identity,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best,
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "progress": [progress.step, progress.seconds, progress.best],
            "passes": [[one.number, one.loss, one.validation] for one in progress.passes],
        }
        write_state(path, state)

    def read(self, path: Path) -> None:
        state = read_state(path, self.identity)
        if state is None:
            return
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        step, seconds, best = state["progress"]
        passes = [Pass(one[0], self.recipe.epochs, one[1], one[2]) for one in state["passes"]]
        self.progress = _Progress(step, seconds, best, passes)


def _check_teacher(recipe: ForecastRecipe, products: Products | None) -> None:
    """Refuse a run whose lineage would name a teacher that taught nothing, or hide one."""
    if recipe.teacher != "none" and products is None:
        msg = (
            f"recipe: teacher is {recipe.teacher!r}, but there are no products of it: make them "
            "with training.forecasting.teaching.teacher_products, or set teacher to 'none'"
        )
        raise RecipeError(msg)
    if recipe.teacher == "none" and products is not None:
        msg = (
            "recipe: teacher is 'none', but there are products: name their teacher, or leave the "
            "products out"
        )
        raise RecipeError(msg)


def _check_products(products: Products | None, windows: SeriesWindows, data: SeriesSet) -> None:
    """Refuse products of other windows; those of one device may be of more windows than needed."""
    if products is None or len(products) == len(windows):
        return
    if len(products) < len(windows) or len(data.devices) > 1:
        msg = (
            f"the teacher speaks about {len(products)} training windows, the recipe has "
            f"{len(windows)}: run the teacher with the recipe's length, horizon, stride and share"
        )
        raise DataSetError(msg)


def _identity(recipe: ForecastRecipe, data: SeriesSet, products: Products | None) -> str:
    key = "" if products is None else products.header.get("key", "")
    text = f"{format_forecast_recipe(recipe)}{data.digest}{key}"
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@contextmanager
def _one_thread_one_seed(seed: int) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the last bit, depends on it
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
