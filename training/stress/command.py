"""`kpstream models stress`: stress tests of a student of your own, on your own data.

    kpstream models stress har-waist --data my-data/dataset.toml

The data should be of people, machines or times that the student has not learned from: the test part
of the description, where it has one.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from models.lookup import find_student
from models.manifest import Manifest
from models.registry import Registry
from models.session import Student
from models.tasks.registry import find_task
from training.datasets.csv_series import read_csv_series
from training.datasets.own import read_own
from training.datasets.own_description import described, is_own
from training.errors import DataSetError, exit_on_errors
from training.stress.material import material_of_series, material_of_windows
from training.stress.measure import Compute, measure_stresses
from training.stress.plan import Material
from training.stress.table import Stressed, read_stressed, stress_table, write_stressed
from training.windows import WindowSet

__all__ = ["main"]


@click.command(context_settings={"show_default": True})
@click.argument("student")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="Description of the data (.toml), or the folder with dataset.toml.",
)
@click.option("--every", type=click.IntRange(1), default=1, help="Forecasts: each n-th window.")
@click.option(
    "--registry",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path.home() / ".local" / "state" / "kpstream" / "registry",
    show_default="that of the gateway",
    help="Registry folder.",
)
@click.option("--results", type=click.Path(path_type=Path), help="Also write this JSON file.")
@exit_on_errors("kpstream models stress")
def main(student: str, data: Path, every: int, registry: Path, results: Path | None) -> None:
    """Measure STUDENT under stress and print the table.

    STUDENT is the folder of an artifact, a student of the registry (its stable version), or one
    that ships with kpstream. The test part of the data is used, or all of them if the description
    has none.
    """
    artifact = find_student(student, Registry(registry))
    manifest = artifact.manifest
    material, compute = _read_material(data, manifest, every)
    try:
        rows = measure_stresses([Student(artifact)], material, compute)
    except ValueError as exc:
        raise DataSetError(str(exc)) from exc
    measure = find_task(manifest.task).headline.name
    found = Stressed(measure, {manifest.name: artifact.digest}, len(material.plain), rows)
    if results is not None:
        write_stressed(read_stressed(results) | {manifest.name: found}, results)
    click.echo(f"{manifest.name}, {found.windows} windows of {data}\n\n{stress_table(found)}")


def _read_material(data: Path, manifest: Manifest, every: int) -> tuple[Material, Compute | None]:
    data = described(data)
    if data.is_dir():
        msg = f"{data} has no dataset.toml: describe the data in it (docs/own-data.md)"
        raise DataSetError(msg)
    if not is_own(data):
        series = read_csv_series(data)
        _check_channels(series.channel_names, manifest)
        return material_of_series([series], manifest, every)
    own = read_own(data, with_test=True)
    for note in own.notes:
        click.echo(note, err=True)
    found = own.data
    if found.task != manifest.task:
        msg = f"{data} is for the task {found.task}, and {manifest.name} answers {manifest.task}"
        raise DataSetError(msg)
    _check_channels(tuple(channel.name for channel in found.channels), manifest)
    windows = found.train if found.test is None else found.test
    if windows.windows.shape[1] != manifest.window.length:
        msg = (
            f"{data} has windows of {windows.windows.shape[1]} readings, and {manifest.name} reads "
            f"{manifest.window.length}: change window.length"
        )
        raise DataSetError(msg)
    return material_of_windows(_named(windows, found.labels, manifest), manifest), None


def _check_channels(names: tuple[str, ...], manifest: Manifest) -> None:
    if names != manifest.channel_names:
        msg = (
            f"the data have the channels {', '.join(names)}, and {manifest.name} reads "
            f"{', '.join(manifest.channel_names)}: name them so, in this order"
        )
        raise DataSetError(msg)


def _named(windows: WindowSet, labels: tuple[str, ...] | None, manifest: Manifest) -> WindowSet:
    """Number the labels as the student does, and leave out those that it does not know."""
    if labels is None:
        return windows
    known = find_task(manifest.task).answer.labels(manifest.decoding)
    places = np.array([known.index(one) if one in known else -1 for one in labels])
    numbered = WindowSet(windows.windows, places[windows.labels], windows.groups)
    missing = [label for label in labels if label not in known]
    if missing:
        click.echo(f"{manifest.name} does not know {', '.join(missing)}: left out", err=True)
    kept = numbered.where(numbered.labels >= 0)
    if not len(kept):
        msg = f"{manifest.name} knows none of the labels {', '.join(labels)}"
        raise DataSetError(msg)
    return kept
