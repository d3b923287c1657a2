"""The starter student for power transformers: its data, its making, and its figures on the test.

ETTh1 and ETTh2 are two transformers with very different levels: the mean of HUFL is 8 in one and 42
in the other. A student is free of scale, because it normalises each window in its graph, but its
loss is not: in common units the one transformer would count for nothing. So before training each
transformer is brought to the same mean and deviation, which changes no forecast in raw units.
Figures are those of the recordings as they are, in deviations of each transformer's training part.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.artifact import Artifact, write_artifact
from models.describe import describe_series
from models.manifest import Draft
from models.seen import Seen
from models.session import Student
from models.tasks.registry import find_task
from training.datasets.ett import read_ett
from training.datasets.series import SeriesSet, SeriesWindows
from training.errors import TrainingError
from training.forecast_gate import Forecast, repeat_season, student_forecast
from training.starters.latency import measure_latency

if TYPE_CHECKING:  # it needs torch, which the tables do not
    from training.students.normalise import Forecaster

__all__ = [
    "FORECASTERS",
    "TRANSFORMERS",
    "build_forecaster",
    "describe_transformers",
    "measure_parts",
    "read_transformers",
]

FORECASTERS = ("forecast-transformer",)
"""Starter students that forecast; each has a recipe `training/configs/NAME.toml`."""
TRANSFORMERS = ("ETTh1", "ETTh2")
"""The data sets that they learn from."""
_FILE = "ett.zip"
_BATCH = 256


def read_transformers(folder: Path) -> SeriesSet:
    """Read both transformers, brought to the same mean and deviation, as one set.

    Args:
        folder: Folder of `ett.zip`.

    Raises:
        DataSetError: The file is missing, or its content does not match its name.
    """
    sets = [read_ett(folder / _FILE, name) for name in TRANSFORMERS]
    mean = np.mean([one.mean for one in sets], axis=0)
    deviation = np.sqrt(np.mean([one.deviation**2 for one in sets], axis=0))
    series = [
        ((one.series[0] - one.mean) / one.deviation * deviation + mean).astype(np.float32)
        for one in sets
    ]
    return replace(
        sets[0],
        name="+".join(TRANSFORMERS),
        title=f"ETT, {' and '.join(TRANSFORMERS)}",
        devices=tuple(one.devices[0] for one in sets),
        series=tuple(series),
        times_ms=tuple(one.times_ms[0] for one in sets),
        borders=tuple(one.borders[0] for one in sets),
    )


def build_forecaster(
    name: str, data: Path, zoo: Path, scratch: Path, console: Console
) -> list[Artifact]:
    """Make a student and its int8 variant in `zoo`; see `training.starters.build.build`.

    Raises:
        TrainingError: The run failed, or the student does not beat the ridge on the validation
            part; `zoo` is unchanged.
    """
    from training.forecasting.candidate import train_forecaster
    from training.forecasting.export import quantize_forecaster
    from training.forecasting.recipe import shipped_forecast_recipe
    from training.report import RunLog

    recipe, known = shipped_forecast_recipe(name), read_transformers(data)
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    log = RunLog(folder / "log.jsonl", console, recipe.epochs)
    with log:
        candidate = train_forecaster(
            known,
            recipe,
            name,
            folder,
            command=f"python -m training.starters build --only {name}",
            on_epoch=lambda done: log.add_pass(done.number, done.loss, done.validation),
        )
    if candidate is None:  # impossible without a deadline
        msg = f"the run of {name} stopped before its last pass: run the command again"
        raise TrainingError(msg)
    trained = candidate.artifact
    own, ridge = candidate.metrics, candidate.ridge_metrics
    if recipe.student != "ridge" and own["mse"] >= ridge["mse"]:
        msg = f"{name} does not beat the ridge on the validation part: ship the ridge instead"
        raise TrainingError(msg)
    rivals = {
        "ridge": _ridge_forecast(candidate.ridge),
        "naive": repeat_season(known.period, recipe.horizon),
    }
    sets = [read_ett(data / _FILE, one) for one in TRANSFORMERS]
    metrics = {"validation": own | {"ridge_mse": ridge["mse"], "ridge_mae": ridge["mae"]}}
    whole = _install(trained, zoo / name, trained.onnx_bytes, sets, rivals, metrics)
    length = whole.manifest.window.length
    learned = known.windows("train", length, 1, stride=16).inputs()
    later = known.windows("validation", length, 1, stride=5).inputs()
    onnx = quantize_forecaster(trained.onnx_bytes, learned, whole.manifest.scaler, later)
    small = _install(trained, zoo / f"{name}-int8", onnx, sets, rivals, metrics, whole)
    return [whole, small]


def measure_parts(
    student: Student, sets: list[SeriesSet], rivals: dict[str, Forecast] | None = None
) -> dict[str, dict[str, float]]:
    """Measure a student on the test part of each set, and all of them with equal weight.

    Args:
        student: Loaded artifact.
        sets: The recordings as they are.
        rivals: Other forecasts by name, of standardised look-backs as long as the student's window.

    Returns:
        For `test` and `test NAME`: the measures of the task, the coverage of each stored lead, the
        errors of the rivals on the same windows, and the number of windows.
    """
    found = {f"test {one.name}": _measure(student, one, rivals or {}) for one in sets}
    mean = {
        key: float(np.mean([measures[key] for measures in found.values()]))
        for key in next(iter(found.values()))
    }
    mean["windows"] = sum(measures["windows"] for measures in found.values())
    return {"test": mean} | found


def _measure(student: Student, data: SeriesSet, rivals: dict[str, Forecast]) -> dict[str, float]:
    decoding: Any = student.manifest.decoding
    windows = data.windows("test", student.manifest.window.length, decoding.horizon)
    truth = windows.targets()
    values = _run(student_forecast(student, data, decoding.horizon), windows)
    measures = find_task(student.manifest.task).measure(truth, values)
    inside = (values[..., 0] <= truth) & (truth <= values[..., 2])
    for lead in decoding.leads:
        measures[f"coverage_{lead}"] = float(inside[:, lead - 1].mean())
    for name, forecast in rivals.items():
        error = _run(forecast, windows)[..., 0] - truth
        measures |= {
            f"{name}_mse": float(np.mean(error**2)),
            f"{name}_mae": float(np.mean(np.abs(error))),
        }
    return measures


def _run(forecast: Forecast, windows: SeriesWindows) -> NDArray[np.float32]:
    parts = [
        forecast(windows.inputs(slice(at, at + _BATCH))) for at in range(0, len(windows), _BATCH)
    ]
    return np.concatenate(parts)


def _ridge_forecast(ridge: Forecaster) -> Forecast:
    import torch

    def forecast(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            found = ridge(torch.from_numpy(inputs[:, -ridge.length :]))
        middle: NDArray[np.float32] = found[..., 1, None].numpy()  # its band is not calibrated
        return middle

    return forecast


def describe_transformers(sets: Sequence[SeriesSet], manifest: Draft) -> Seen:
    """Describe the training part of the recordings as they are."""
    learned = [one.series[0][: one.borders[0][0]] for one in sets]
    window = manifest.window
    return describe_series(learned, window.length, window.hop, manifest.channel_names)


def _install(
    trained: Artifact,
    folder: Path,
    onnx: bytes,
    sets: list[SeriesSet],
    rivals: dict[str, Forecast],
    metrics: dict[str, dict[str, float]],
    whole: Artifact | None = None,
) -> Artifact:
    """Write the artifact with its measures; `whole` is the student in float32, for eight bits."""
    content = {field: getattr(trained.manifest, field) for field in Draft.model_fields}
    content |= {"name": folder.name, "seen": describe_transformers(sets, trained.manifest)}
    test = sets[0].windows("test", trained.manifest.window.length, 1)
    raw = test.inputs(slice(0, 500)) * sets[0].deviation + sets[0].mean
    windows: NDArray[np.float32] = raw.astype(np.float32)
    with tempfile.TemporaryDirectory() as scratch:
        student = Student(write_artifact(scratch, Draft(**content), onnx))
        student.self_test()
        metrics = metrics | measure_parts(student, sets, rivals)
        metrics["latency"] = measure_latency(student, windows[:100])
        if whole is not None:
            metrics["apart_from_float32"] = _apart(student, Student(whole), windows)
    rounded = {
        split: {key: float(f"{value:.6g}") for key, value in measures.items()}
        for split, measures in metrics.items()
    }
    if folder.exists():
        shutil.rmtree(folder)
    return write_artifact(folder, Draft(**content | {"metrics": rounded}), onnx)


def _apart(one: Student, other: Student, windows: NDArray[np.float32]) -> dict[str, float]:
    """Difference of two forecasts of the same windows, in training deviations."""
    decoding: Any = one.manifest.decoding
    spread = np.array(decoding.spread, dtype=np.float32)[:, None]
    apart = np.abs(one.score(windows).values - other.score(windows).values) / spread
    largest = {"mean": float(apart.mean()), "largest": float(apart.max())}
    return largest | {"windows": float(len(windows))}
