"""The test part of own data, scored once after all choices: `train-redistill --with-test`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from training.classical import BASELINES, fit_classical, scale_for_baselines
from training.datasets.own import read_own
from training.errors import DataSetError
from training.recipes import Recipe

if TYPE_CHECKING:  # it needs torch
    from training.candidate import Candidate

__all__ = ["print_test_part"]


def print_test_part(console: Console, path: Path, recipe: Recipe, candidate: Candidate) -> None:
    """Print the measures of the student and of the baselines on the test part.

    The baselines learn from the windows that the student has learned from. Nothing that is printed
    here decides anything.

    Raises:
        DataSetError: The description has no test part, or it has no window.
    """
    from models.session import Student
    from training.export.artifact import score_raw

    data = read_own(path, with_test=True).data
    if data.test is None or not len(data.test):
        msg = f"{path} has no test part with a window: give [test] in it, or leave --with-test out"
        raise DataSetError(msg)
    seen = data.train
    if not recipe.folds:
        seen = seen.without_groups(candidate.held_out.groups)
    learned, test = scale_for_baselines(data, seen, data.test)
    rows = {
        name: fit_classical(name, data, learned, recipe.seed)(test.windows) for name in BASELINES
    }
    rows["new"] = score_raw(Student(candidate.artifact), data.test.windows)
    measured = {
        name: data.contract.measure(data.test.labels, scored) for name, scored in rows.items()
    }
    table = Table(title=f"Test part, {len(data.test)} windows; it decides nothing")
    table.add_column("student")
    keys = [key for key in measured["new"] if key != "windows"]
    for key in keys:
        table.add_column(key, justify="right")
    for name, measures in measured.items():
        table.add_row(name, *(f"{measures[key]:.4g}" for key in keys))
    console.print(table)
