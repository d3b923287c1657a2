"""The official test sets, for students whose choices are all made.

`python -m training.starters.official` scores them.

Kept apart from `train-redistill`, which cannot reach a test set. Scores come from the artifact
through the gateway's own code (`models.session`), not from torch.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from models.artifact import read_artifact
from models.session import Student
from models.tasks.classes import ClassScores
from models.tasks.number import NumberScores
from training.datasets.cmapss import read_cmapss
from training.datasets.contract import DataSet
from training.datasets.uci_har import read_uci_har
from training.errors import DataSetError
from training.evaluate import (
    accuracy,
    calibration_error,
    calibration_floor,
    macro_f1,
    nasa_score,
    rmse,
)
from training.windows import WindowSet

__all__ = ["main", "measure_official", "measure_windows"]


def measure_official(artifact_dir: Path, data: DataSet) -> dict[str, float]:
    """Score the official test windows with an artifact and measure the scores.

    RUL: the last window of every test engine against the truth capped at 125, the share of truths
    inside the interval and its mean width in cycles. Activity: all windows of the test people, the
    calibration error of the probabilities beside what exact ones would have on as
    few windows, and the share of windows called unknown.
    """
    if data.test is None:
        msg = f"{data.title} was read without its test set"
        raise DataSetError(msg)
    return measure_windows(Student(read_artifact(artifact_dir)), data.test)


def measure_windows(student: Student, windows: WindowSet) -> dict[str, float]:
    """The measures of `measure_official` on any labelled windows."""
    truth = windows.labels
    scores = student.score(windows.windows)
    if isinstance(scores, ClassScores):
        return {
            "macro_f1": macro_f1(truth, scores.winners, len(scores.labels)),
            "accuracy": accuracy(truth, scores.winners),
            "calibration_error": calibration_error(truth, scores.probabilities),
            "calibration_error_if_exact": calibration_floor(scores.probabilities)[0],
            "unknown_share": float(np.mean(~scores.known)),
            "windows": float(len(truth)),
        }
    if not isinstance(scores, NumberScores):
        msg = f"no official measures for {type(scores).__name__}"
        raise TypeError(msg)
    inside = (scores.low <= truth) & (truth <= scores.high)
    return {
        "rmse": rmse(truth, scores.values),
        "nasa_score": nasa_score(truth, scores.values),
        "interval_coverage": float(np.mean(inside)),
        "interval_width": float(np.mean(scores.high - scores.low)),
        "windows": float(len(truth)),
    }


@click.command()
@click.option("--artifact", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--subset", default="FD001", show_default=True, help="C-MAPSS subset (RUL only).")
def main(artifact: Path, data: Path, subset: str) -> None:
    """Print the measures of an artifact on the official test set of its task."""
    is_rul = read_artifact(artifact).manifest.task == "rul"
    data_set = read_cmapss(data, subset) if is_rul else read_uci_har(data)
    click.echo(json.dumps(measure_official(artifact, data_set)))


if __name__ == "__main__":
    main()
