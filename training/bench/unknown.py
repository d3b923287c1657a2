"""How many windows of an activity that was never trained on are called unknown.

    python -m training.bench.unknown --data DATA_FOLDER --only har-waist

Each activity is left out once: a student learns from the others on some people, everything of its
doubt comes from held-out people who do the others, and the question is how many windows of the
left-out activity, done by these people, are called unknown: by distance and probability, as shipped
students do, or by the probability alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill, scale_windows
from training.errors import TrainingError
from training.export.artifact import score_torch
from training.recipes import Recipe, shipped_recipe
from training.starters.build import STUDENTS, read_data
from training.uncertainty.calibration import fit_doubt, fit_temperature, temper
from training.uncertainty.out_of_distribution import fit_familiarity, measure_distances
from training.windows import hold_out_groups

__all__ = ["Caught", "share_caught"]


@dataclass(frozen=True, slots=True)
class Caught:
    """Shares of windows of held-out people that are called unknown.

    Attributes:
        new: of the activity that was left out.
        by_probability: of the same, were the probability the only reason.
        known: of the other activities.
    """

    new: float
    by_probability: float
    known: float


def share_caught(data: DataSet, recipe: Recipe, label: int) -> Caught:
    """Leave one activity out.

    Args:
        data: windows of activities; its `test` is not looked at.
        recipe: of the student; its split seed draws the held-out people.
        label: index of the activity to leave out.
    """
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    seen = seen.where(seen.labels != label)
    scaler = fit_scaler(data.scaling, seen.windows)
    student = distill(recipe, seen, scaler, len(data.labels or ())).student
    if student is None:
        msg = "the training did not end"
        raise TrainingError(msg)
    # A student that had never heard of the activity would have no column for it.
    columns = np.delete(np.arange(len(data.labels or ())), label)
    scored = score_torch(student, scaler, held_out.windows)[:, columns]
    scored /= scored.sum(axis=1, keepdims=True)
    familiarity = fit_familiarity(scale_windows(seen.windows, scaler, None), seen.labels)
    far = measure_distances(familiarity, scale_windows(held_out.windows, scaler, None))

    known = held_out.labels != label
    place = np.searchsorted(columns, held_out.labels[known])
    temperature = fit_temperature(place, scored[known])
    tempered = temper(scored, temperature).astype(np.float32)
    largest, people = tempered.max(axis=1), held_out.groups[known]
    reach, unknown = fit_doubt(tempered[known], far[known], people)
    _, alone = fit_doubt(tempered[known], np.zeros_like(far[known]), people)
    return Caught(
        float(np.mean((far[~known] >= reach) | (largest[~known] < unknown.threshold))),
        float(np.mean(largest[~known] < alone.threshold)),
        unknown.rejects,
    )


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", "name", type=click.Choice(sorted(STUDENTS)), default="har-waist")
def main(data: Path, name: str) -> None:
    """Print the share of caught windows for every activity."""
    data_set, recipe = read_data(name, data, with_test=False), shipped_recipe(name)
    for label, activity in enumerate(data_set.labels or ()):
        found = share_caught(data_set, recipe, label)
        click.echo(
            f"{activity:<20} caught {found.new:6.1%}, by probability alone "
            f"{found.by_probability:6.1%}; known rejected {found.known:5.1%}"
        )


if __name__ == "__main__":
    main()
