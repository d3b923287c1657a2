"""How many windows of an activity that was never trained on are called unknown.

    python -m training.unknown --data DATA_FOLDER --only har-waist

Each activity is left out once: a student learns from the others on some people, temperature and
threshold come from held-out people who do the others, and the question is how many windows of the
left-out activity, done by these people, fall below the threshold.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from training.calibrate import fit_temperature, fit_unknown, temper
from training.datasets.contract import DataSet, fit_scaler
from training.distill import distill
from training.export import score_torch
from training.recipes import Recipe, shipped_recipe
from training.starters import STUDENTS, read_data
from training.windows import hold_out_groups

__all__ = ["share_caught"]


def share_caught(data: DataSet, recipe: Recipe, label: int) -> tuple[float, float]:
    """Leave one activity out.

    Args:
        data: windows of activities; its `test` is not looked at.
        recipe: of the student; its split seed draws the held-out people.
        label: index of the activity to leave out.

    Returns:
        Share of the windows of the left-out activity that are called unknown, and share of the
        windows of the others that are (both of held-out people).
    """
    groups = hold_out_groups(data.train.groups, recipe.hold_out, recipe.split_seed)
    seen, held_out = data.train.without_groups(groups), data.train.of_groups(groups)
    seen = seen.where(seen.labels != label)
    scaler = fit_scaler(data.scaling, seen.windows)
    student = distill(recipe, seen, scaler, len(data.labels or ())).student
    if student is None:  # impossible without a deadline
        return 0.0, 0.0
    # A student that had never heard of the activity would have no column for it.
    columns = np.delete(np.arange(len(data.labels or ())), label)
    scored = score_torch(student, scaler, held_out.windows)[:, columns].astype(np.float64)
    scored /= scored.sum(axis=1, keepdims=True)
    is_known = held_out.labels != label
    place = np.searchsorted(columns, held_out.labels[is_known])
    known: NDArray[np.float32] = scored[is_known].astype(np.float32)
    temperature = fit_temperature(place, known)
    unknown = fit_unknown(temper(known, temperature), held_out.groups[is_known])
    new = temper(scored[~is_known].astype(np.float32), temperature).max(axis=1)
    return float(np.mean(new < unknown.threshold)), unknown.rejects


@click.command(context_settings={"show_default": True})
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--only", "name", type=click.Choice(sorted(STUDENTS)), default="har-waist")
def main(data: Path, name: str) -> None:
    """Print the share of caught windows for every activity."""
    data_set, recipe = read_data(name, data, with_test=False), shipped_recipe(name)
    for label, activity in enumerate(data_set.labels or ()):
        caught, rejected = share_caught(data_set, recipe, label)
        click.echo(f"{activity:<20} caught {caught:6.1%}, known rejected {rejected:6.1%}")


if __name__ == "__main__":
    main()
