"""One complete run: train, set the band, calibrate the anomaly score, export, prove parity.

The training part gives the weights, the validation part every choice and the anomaly score, both
together the band. The test part is not read.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact, write_artifact
from models.describe import describe_series
from models.features import unscale
from models.manifest import Draft, Lineage, WindowShape
from models.session import Student
from models.tasks.anomaly import AnomalyTable, anomaly_statistics, fit_anomaly_table
from models.tasks.quantiles import ForecastDecoding
from training.candidate import code_revision
from training.datasets.series import SeriesSet
from training.errors import DataSetError
from training.forecasting.evaluate import Measured, measure_student
from training.forecasting.export import (
    ForecastGraph,
    check_graph,
    export_forecaster,
    run_graph,
)
from training.forecasting.loop import Pass, train_student
from training.forecasting.quantiles import set_bands
from training.forecasting.recipe import ForecastRecipe, format_forecast_recipe
from training.forecasting.windows import validation_windows
from training.students.normalise import Forecaster
from training.teachers.products import Products

__all__ = ["ForecastCandidate", "train_forecaster"]

_CALIBRATION = 4000  # windows at most that calibrate the anomaly score, spread evenly
_CHECKED = 256  # windows that prove parity


@dataclass(frozen=True, slots=True)
class ForecastCandidate:
    """A finished run.

    Attributes:
        artifact: New student, written to disk and read back.
        ridge: The ridge of the same windows, the least that the student must beat, with its band.
        metrics: `mse`, `mae`, `pinball`, `coverage` on the validation windows, standardised.
        ridge_metrics: The same of the ridge.
        best_pass: Pass that validation chose; 0: the student is the ridge.
        seconds: Computing time of the training.
    """

    artifact: Artifact
    ridge: Forecaster
    metrics: dict[str, float]
    ridge_metrics: dict[str, float]
    best_pass: int
    seconds: float


def train_forecaster(
    data: SeriesSet,
    recipe: ForecastRecipe,
    name: str,
    folder: Path,
    *,
    command: str,
    products: Products | None = None,
    on_epoch: Callable[[Pass], None] = lambda done: None,
    deadline_s: float = math.inf,
) -> ForecastCandidate | None:
    """Train a student and write its artifact.

    Args:
        data: Series; the test part is not read.
        recipe: Recipe of the run.
        name: Name of the student.
        folder: Gets `last.pt` and `artifact/`.
        command: Command line for the lineage.
        products: Products of the teacher that the recipe names.
        on_epoch: Called after every pass, and with pass 0 for the untrained student.
        deadline_s: `time.monotonic()` from which no further pass starts.

    Returns:
        The candidate, or None if the deadline came first; call again to continue.

    Raises:
        TrainingError: The run failed; the subclass gives the kind. No artifact is written.
        ArtifactError: The gateway's checks refuse the student; no artifact is written.
    """
    trained = train_student(
        recipe, data, products=products, folder=folder, on_pass=on_epoch, deadline_s=deadline_s
    )
    if trained is None:
        return None
    known = validation_windows(data, recipe)
    set_bands(trained, data, recipe)
    metrics = _metrics(measure_student(trained.student, known))
    graph = ForecastGraph(trained.student, data.scaler(), recipe.backtest)
    onnx = export_forecaster(graph, len(data.channels))
    scaled = _calibration_windows(data, recipe)
    check_graph(onnx, graph, data.scaler(), scaled[:_CHECKED])
    draft = _draft(data, recipe, name, metrics, _anomalies(data, recipe, onnx, scaled), command)
    with tempfile.TemporaryDirectory() as scratch:
        Student(write_artifact(scratch, draft, onnx)).self_test()
    return ForecastCandidate(
        artifact=write_artifact(folder / "artifact", draft, onnx),
        ridge=trained.ridge,
        metrics=metrics,
        ridge_metrics=_metrics(measure_student(trained.ridge, known)),
        best_pass=trained.best,
        seconds=trained.seconds,
    )


def _calibration_windows(data: SeriesSet, recipe: ForecastRecipe) -> NDArray[np.float32]:
    """Windows of the gateway's shape whose backtest lies in the validation part, scaled."""
    windows = data.windows("validation", recipe.length, recipe.backtest)
    if len(windows) < 2:
        msg = (
            f"{data.name}: the validation part has {len(windows)} windows to calibrate the anomaly "
            "score on: use a longer validation part or a shorter backtest"
        )
        raise DataSetError(msg)
    some = np.unique(np.linspace(0, len(windows) - 1, _CALIBRATION).astype(int))
    return np.concatenate([windows.inputs(some), windows.targets(some)], axis=1)


def _anomalies(
    data: SeriesSet, recipe: ForecastRecipe, onnx: bytes, scaled: NDArray[np.float32]
) -> AnomalyTable:
    """Calibrate the anomaly score with the numbers that a gateway would compute."""
    _, backtest = run_graph(onnx, scaled)
    raw = unscale(scaled, data.scaler())
    found = anomaly_statistics(raw, backtest, data.deviation.astype(np.float32))
    return fit_anomaly_table(found, alarm_share=recipe.alarm_share)


def _draft(
    data: SeriesSet,
    recipe: ForecastRecipe,
    name: str,
    metrics: dict[str, float],
    anomalies: AnomalyTable,
    command: str,
) -> Draft:
    length = recipe.length + recipe.backtest
    learned = [rows[: ends[0]] for rows, ends in zip(data.series, data.borders, strict=True)]
    return Draft(
        name=name,
        task=recipe.task,
        stream=data.stream,
        channels=data.channels,
        rate_hz=1000 / data.step_ms,
        window=WindowShape(
            length=length, hop=recipe.hop, min_readings=length, gap_ms=data.step_ms * 3 // 2
        ),
        scaler=data.scaler(),
        seen=describe_series(learned, length, recipe.hop, data.channel_names),
        decoding=ForecastDecoding(
            kind="forecast",
            output="forecast",
            step_ms=data.step_ms,
            length=recipe.length,
            horizon=recipe.horizon,
            backtest=recipe.backtest,
            leads=recipe.leads,
            channels=data.channel_names,
            spread=tuple(data.deviation.tolist()),
            anomaly=anomalies,
        ),
        interval=None,
        metrics={"validation": metrics},
        lineage=Lineage(
            teacher=None if recipe.teacher == "none" else recipe.teacher,
            method=f"forecast, {recipe.student}",
            data=f"{data.title}, training part",
            data_digest=data.digest,
            code_revision=code_revision(),
            seed=recipe.seed,
            created_ms=time.time_ns() // 1_000_000,
            # A comment and the recipe: together they are the TOML that trains it again.
            command=f"# {command}\n{format_forecast_recipe(recipe)}",
        ),
        licence=f"Apache-2.0; {data.terms}",
    )


def _metrics(found: Measured) -> dict[str, float]:
    values = {
        "mse": found.mse,
        "mae": found.mae,
        "pinball": found.pinball,
        "coverage": found.mean_coverage,
    }
    return {key: float(f"{value:.6g}") for key, value in values.items()}
