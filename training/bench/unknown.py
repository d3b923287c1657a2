"""The share of windows of an untrained activity that a student calls unknown.

    python -m training.bench.unknown --data DATA_FOLDER --only har-waist

Each activity is left out once. A student learns from the other activities of some people, and its
uncertainty is calibrated on the other activities of held-out people. The measure is the share of
windows of the left-out activity, by the held-out people, that are called unknown: by distance and
probability, as in shipped students, or by probability alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.errors import TrainingError, exit_on_errors
from training.methods.build import build_method
from training.recipes import Recipe, shipped_recipe
from training.scoring import scale_windows, score_torch
from training.starters.build import STUDENTS, read_data
from training.students.upright import scaling_of
from training.uncertainty.calibration import fit_tempering, fit_unknown, temper
from training.uncertainty.out_of_distribution import fit_class_distance, measure_distances
from training.windows import hold_out_groups

__all__ = ["UnknownShares", "measure_unknown"]


@dataclass(frozen=True, slots=True)
class UnknownShares:
    """Shares of windows of held-out people that are called unknown.

    Attributes:
        new: Share of the activity that was left out.
        by_probability: The same share if only the probability decided.
        known: Share of the other activities.
    """

    new: float
    by_probability: float
    known: float


def measure_unknown(data: DataSet, recipe: Recipe, label: int) -> UnknownShares:
    """Leave one activity out and measure the shares called unknown.

    Args:
        data: Windows of activities; its `test` is not read.
        recipe: Recipe of the student; its split seed draws the held-out people.
        label: Index of the activity to leave out.
    """
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    seen = seen.where(seen.labels != label)
    scaler = fit_scaler(scaling_of(recipe, data.scaling), seen.windows)
    student = distill(recipe, seen, scaler, data.num_answers, build_method).student
    if student is None:
        msg = "the training stopped before its last pass: run the command again"
        raise TrainingError(msg)
    # Drop the column of the activity, which a student without it would not have.
    columns = np.delete(np.arange(len(data.labels or ())), label)
    scored = score_torch(student, scaler, held_out.windows)[:, columns]
    scored /= scored.sum(axis=1, keepdims=True)
    distance = fit_class_distance(scale_windows(seen.windows, scaler, None), seen.labels)
    far = measure_distances(distance, scale_windows(held_out.windows, scaler, None))

    known = held_out.labels != label
    place = np.searchsorted(columns, held_out.labels[known])
    tempered = temper(scored, *fit_tempering(place, scored[known])).astype(np.float32)
    largest, people = tempered.max(axis=1), held_out.groups[known]
    max_distance, unknown = fit_unknown(tempered[known], far[known], people)
    _, alone = fit_unknown(tempered[known], np.zeros_like(far[known]), people)
    return UnknownShares(
        float(np.mean((far[~known] >= max_distance) | (largest[~known] < unknown.threshold))),
        float(np.mean(largest[~known] < alone.threshold)),
        unknown.rejects,
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), required=True, help="Data folder."
)
@click.option(
    "--only",
    "name",
    type=click.Choice(sorted(STUDENTS)),
    default="har-waist",
    help="Starter student.",
)
@exit_on_errors("training.bench.unknown")
def main(data: Path, name: str) -> None:
    """Print the share of windows called unknown for every activity left out."""
    data_set, recipe = read_data(name, data, with_test=False), shipped_recipe(name)
    for label, activity in enumerate(data_set.labels or ()):
        found = measure_unknown(data_set, recipe, label)
        click.echo(
            f"{activity:<20} unknown {found.new:6.1%}, by probability alone "
            f"{found.by_probability:6.1%}; known rejected {found.known:5.1%}"
        )


if __name__ == "__main__":
    main()
