"""Stress tests of the shipped students, on their official test windows.

These are reports: nothing was chosen by them. Scores come from the artifacts in float32 and in
eight bits, as a gateway computes them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.artifact import read_artifact
from models.manifest import Manifest
from models.session import Student
from models.tasks.registry import find_task
from models.zoo import list_zoo, zoo_path
from training.datasets.cmapss import engine_series, read_engines
from training.datasets.contract import DataSet
from training.datasets.ett import read_ett
from training.errors import DataSetError
from training.recipes import shipped_recipe
from training.starters.forecasts import FORECASTERS, TRANSFORMERS
from training.stress.material import (
    material_of_engines,
    material_of_series,
    material_of_windows,
)
from training.stress.measure import Compute, Row, measure_stresses
from training.stress.plan import Material
from training.stress.table import Stressed

__all__ = ["RESULTS", "official_material", "stress_shipped"]

RESULTS = Path("docs/results/stress.json")
"""The results of all shipped students; the cards read it."""
_EVERY = 5  # hours between the forecasts that are scored


def stress_shipped(
    name: str,
    data: Path,
    read: Callable[[str, Path], DataSet],
    on_row: Callable[[Row], None] = lambda row: None,
) -> Stressed:
    """Run the stress tests of a shipped student and of its int8 variant.

    Args:
        name: Name of the student.
        data: Folder of the data files.
        read: Reads the data of a starter student, with the test set.
        on_row: Called with each row.

    Raises:
        DataSetError: A file is missing, or its content does not match its name.
    """
    forms = [form for form in (name, f"{name}-int8") if form in list_zoo()]
    students = [Student(read_artifact(zoo_path(form))) for form in forms]
    manifest = students[0].manifest
    material, compute = official_material(manifest, data, read)
    return Stressed(
        find_task(manifest.task).headline.name,
        {student.manifest.name: student.digest for student in students},
        len(material.plain),
        measure_stresses(students, material, compute, on_row),
    )


def official_material(
    manifest: Manifest, data: Path, read: Callable[[str, Path], DataSet]
) -> tuple[Material, Compute | None]:
    """The official test windows of a shipped student; its measure, if it is not the task's."""
    name = manifest.name
    if name in FORECASTERS:
        sets = [read_ett(data / "ett.zip", one) for one in TRANSFORMERS]
        return material_of_series(sets, manifest, _EVERY)
    found = read(name, data)
    if found.test is None:
        msg = f"{found.title} was read without its test set: pass with_test=True"
        raise DataSetError(msg)
    if found.labels is not None:
        return material_of_windows(found.test, manifest), None
    conditions = shipped_recipe(name).conditions
    engines = read_engines(data / "cmapss.zip", found.name, "test")
    series = [engine_series(engine, conditions=conditions) for engine in engines]
    return material_of_engines(series, found.test, manifest), None
