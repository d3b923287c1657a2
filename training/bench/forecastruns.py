"""One forecasting run of the ledger: train, set the band, measure, export, describe as a line.

Validation chooses (pass, penalty, rank), and together with the training part it sets the band; the
test part is scored once, by the student of that choice. The ridge of the same windows is scored
beside it, so each line has its paired difference.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest import Scaler
from training.bench.forecastplan import ForecastRun
from training.bench.shifts import DISTURBANCES, disturb
from training.candidate import code_revision
from training.datasets import series_sources
from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import DataSetError, ExportError
from training.forecasting.evaluate import (
    Measured,
    last_value,
    measure_baseline,
    measure_student,
    paired_interval,
    seasonal_naive,
)
from training.forecasting.export import (
    ForecastGraph,
    check_graph,
    export_forecaster,
    largest_difference,
    quantize_forecaster,
    run_graph,
    time_graph,
)
from training.forecasting.loop import TrainedForecaster, forecast_error, train_student
from training.forecasting.quantiles import set_bands
from training.forecasting.recipe import ForecastRecipe
from training.forecasting.start import fit_start
from training.students.ridge import RidgeFactors
from training.teachers.products import Products

__all__ = ["do_forecast_run", "read_series"]

_CHECKED = 128  # windows of the export check
_BLOCK_DAYS = 7
_MANY = 20_000  # windows of an unseen set, of which every `_STRIDE`th is then taken
_STRIDE = 7  # shares no factor with a day


@lru_cache(maxsize=8)
def read_series(name: str, folder: Path) -> SeriesSet:
    """Read a data set of the plans, or one that its students forecast unseen."""
    return series_sources.read_series(name, folder)


def do_forecast_run(
    run: ForecastRun,
    data: SeriesSet,
    products: Products | None = None,
    transfers: Sequence[SeriesSet] = (),
) -> dict[str, Any]:
    """Make one run and describe it as a line of the results file.

    Args:
        run: Run of a plan.
        data: Its data set.
        products: Products of the teacher that the recipe names.
        transfers: Sets that the student forecasts without having seen them.
    """
    began, recipe = time.perf_counter(), run.recipe
    trained = train_student(recipe, data, products=products, factors=_ridge_of(_Key(recipe, data)))
    if trained is None:  # impossible without a deadline
        msg = f"run {run.digest} stopped before its last pass: run the command again"
        raise ExportError(msg)
    set_bands(trained, data, recipe)
    test = data.windows("test", recipe.length, recipe.horizon)
    found = measure_student(trained.student, test)
    return {
        "benchmark": run.benchmark,
        "length": recipe.length,
        "horizon": recipe.horizon,
        "student": run.student,
        "teacher": recipe.teacher,
        "teacher_seed": recipe.teacher_seed,
        "share": recipe.share,
        "seed": recipe.seed,
        "config": run.digest,
        "data": data.digest[:16],
        "revision": code_revision(),
        "seconds": round(time.perf_counter() - began, 1),
        "training_seconds": round(trained.seconds, 1),
        "best_pass": trained.best,
        "validation": {
            "mse": _short(trained.validation),
            "ridge_mse": _short(trained.ridge_validation),
        },
        "test": _measures(found),
        **_teacher_of(products),
        **_beside(trained, found, test, data),
        "shifts": _shifts(trained, recipe, test, transfers),
        **_graph(trained, data, recipe),
    }


class _Key:
    """A recipe without the settings that do not change its ridge, for the cache."""

    def __init__(self, recipe: ForecastRecipe, data: SeriesSet) -> None:
        self.recipe, self.data = recipe, data
        self.key = (
            data.digest,
            *(recipe.length, recipe.horizon, recipe.share),
            *(recipe.ridge_stride, recipe.validation_stride),
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.key == other.key


@lru_cache(maxsize=2)
def _ridge_of(key: _Key) -> RidgeFactors:
    return fit_start(key.data, key.recipe)


def _beside(
    trained: TrainedForecaster, found: Measured, test: SeriesWindows, data: SeriesSet
) -> dict[str, Any]:
    """The ridge and the naive forecasts on the same windows."""
    ridge = measure_student(trained.ridge, test)
    block = max(test.horizon, _BLOCK_DAYS * data.period)
    apart = paired_interval(found.window_errors, ridge.window_errors, block)
    naive = measure_baseline(seasonal_naive(data.period, test.horizon), test)
    last = measure_baseline(last_value(test.horizon), test)
    return {
        "ridge": _measures(ridge),
        "against_ridge": {
            "difference": _short(apart.difference),
            "low": _short(apart.low),
            "high": _short(apart.high),
        },
        "seasonal_naive": {"mse": _short(naive.mse), "mae": _short(naive.mae)},
        "last_value": {"mse": _short(last.mse), "mae": _short(last.mae)},
    }


def _teacher_of(products: Products | None) -> dict[str, Any]:
    """The teacher's own validation error, and its computing time."""
    if products is None:
        return {}
    header = products.header
    error = header.get("validation", header.get("validation_mse"))
    return {
        "teacher_validation": None if error is None else {"mse": _short(error)},
        "teacher_seconds": header.get("cpu_seconds", header.get("seconds")),
    }


def _shifts(
    trained: TrainedForecaster,
    recipe: ForecastRecipe,
    test: SeriesWindows,
    transfers: Sequence[SeriesSet],
) -> dict[str, Any]:
    """Errors of student and ridge under conditions that training did not have."""
    found: dict[str, Any] = {}
    for one in transfers:
        try:
            windows = _unseen_windows(one, recipe)
        except DataSetError:
            continue  # its test part is shorter than the horizon
        naive = measure_baseline(seasonal_naive(one.period, recipe.horizon), windows)
        found[one.name] = _both_errors(trained, windows) | {"naive_mse": _short(naive.mse)}
    return found | {kind: _both_errors(trained, disturb(test, kind)) for kind in DISTURBANCES}


def _unseen_windows(data: SeriesSet, recipe: ForecastRecipe) -> SeriesWindows:
    windows = data.windows("test", recipe.length, recipe.horizon)
    if len(windows) <= _MANY:
        return windows
    return data.windows("test", recipe.length, recipe.horizon, _STRIDE)


def _both_errors(trained: TrainedForecaster, windows: SeriesWindows) -> dict[str, float]:
    return {
        "mse": _short(forecast_error(trained.student, windows)),
        "ridge_mse": _short(forecast_error(trained.ridge, windows)),
    }


def _graph(trained: TrainedForecaster, data: SeriesSet, recipe: ForecastRecipe) -> dict[str, Any]:
    """Size, parity and time of the exported graph, in float32 and in eight bits."""
    length = recipe.length + recipe.backtest
    scaler = data.scaler()
    graph = ForecastGraph(trained.student, scaler, recipe.backtest)
    known = data.windows("validation", length, recipe.horizon)
    some = np.unique(np.linspace(0, len(known) - 1, _CHECKED).astype(int))
    scaled = known.inputs(some)
    numbers = sum(weights.numel() for weights in trained.student.parameters())
    try:
        onnx = export_forecaster(graph, len(data.channels))
        parity = check_graph(onnx, graph, scaler, scaled)
    except ExportError as exc:
        return {"parameters": numbers, "export_error": str(exc)}
    seen = data.windows("train", length, recipe.horizon)
    several = np.unique(np.linspace(0, len(seen) - 1, 4 * _CHECKED).astype(int))
    times = time_graph(onnx, scaled)
    return {
        "parameters": numbers,
        "onnx_bytes": len(onnx),
        "parity": float(f"{parity:.2g}"),
        "latency_ms_p50": times.p50_ms,
        "latency_ms_p99": times.p99_ms,
        "int8": _eight_bits(onnx, seen.inputs(several), scaled, scaler),
    }


def _eight_bits(
    onnx: bytes, learned: NDArray[np.float32], scaled: NDArray[np.float32], scaler: Scaler
) -> dict[str, Any]:
    """Size, difference and time in eight bits, or the reason why it was refused."""
    try:
        small = quantize_forecaster(onnx, learned, scaler, scaled)
    except ExportError as exc:
        return {"refused": str(exc)}
    apart = largest_difference(run_graph(small, scaled), run_graph(onnx, scaled), scaler)
    times = time_graph(small, scaled)
    return {
        "bytes": len(small),
        "difference": float(f"{apart:.2g}"),
        "latency_ms_p50": times.p50_ms,
        "latency_ms_p99": times.p99_ms,
    }


def _measures(found: Measured) -> dict[str, Any]:
    return {
        "mse": _short(found.mse),
        "mae": _short(found.mae),
        "pinball": _short(found.pinball),
        "coverage": _short(found.mean_coverage),
        "coverage_low": _short(float(found.coverage.min())),
        "coverage_high": _short(float(found.coverage.max())),
        "steps_near": _short(found.steps_near),
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
