"""Measures on the official test sets, for students whose design is final.

`python -m training.starters.official` scores an artifact on the test set of its task. It is a
command of its own, because `train-redistill` must never read a test set. Scores come from the
artifact through the gateway's own code (`models.session`), not from torch.
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
from models.tasks.registry import find_task
from training.datasets.contract import DataSet
from training.datasets.sources import find_source
from training.errors import DataSetError, exit_on_errors
from training.evaluate import calibration_error, calibration_floor
from training.windows import WindowSet

__all__ = ["main", "measure_official", "measure_windows"]


def measure_official(artifact_dir: Path, data: DataSet) -> dict[str, float]:
    """Score the official test windows with an artifact and measure the scores.

    RUL is measured on the last window of every test engine against the truth capped at 125,
    activities on all windows of the test people; see `measure_windows`.
    """
    if data.test is None:
        msg = f"{data.title} was read without its test set: pass with_test=True"
        raise DataSetError(msg)
    return measure_windows(Student(read_artifact(artifact_dir)), data.test)


def measure_windows(student: Student, windows: WindowSet) -> dict[str, float]:
    """Measure the scores of a student on labelled windows.

    Returns:
        The measures of the task that have a direction. For numbers also the share of truths inside
        the interval, its mean width, and the share of unfamiliar windows; for classes the
        calibration error, the error that exact probabilities would have on as many windows, and the
        share of windows called unknown.
    """
    truth = windows.labels
    scores = student.score(windows.windows)
    measures = {
        measure.name: measure.compute(truth, scores.values)
        for measure in find_task(student.manifest.task).measures
        if measure.better is not None
    }
    if isinstance(scores, ClassScores):
        measures |= {
            "calibration_error": calibration_error(truth, scores.probabilities),
            "calibration_error_if_exact": calibration_floor(scores.probabilities)[0],
            "unknown_share": float(np.mean(~scores.known)),
        }
    elif isinstance(scores, NumberScores):
        inside = (scores.low <= truth) & (truth <= scores.high)
        measures |= {
            "interval_coverage": float(np.mean(inside)),
            "interval_width": float(np.mean(scores.high - scores.low)),
        }
        if scores.unfamiliar is not None:
            measures["unfamiliar_share"] = float(np.mean(scores.unfamiliar))
    return measures | {"windows": float(len(truth))}


@click.command()
@click.option(
    "--artifact",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Folder of the artifact.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Zip, tar or folder of the data set.",
)
@click.option("--subset", default="FD001", show_default=True, help="C-MAPSS subset (RUL only).")
@exit_on_errors("training.starters.official")
def main(artifact: Path, data: Path, subset: str) -> None:
    """Print the measures of an artifact on the official test set of its task."""
    task = read_artifact(artifact).manifest.task
    source = find_source(task)
    if source is None:
        msg = f"no official test set is known for task {task}: measure it in Python"
        raise click.ClickException(msg)
    data_set = source.read(data, subset, None, True)
    click.echo(json.dumps(measure_official(artifact, data_set)))


if __name__ == "__main__":
    main()
