"""The stress tests on the page are those of the students that ship."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact
from models.session import Student
from models.zoo import list_zoo, zoo_path
from training.starters.build import read_data
from training.starters.stress import RESULTS, official_material
from training.stress.measure import AS_IT_COMES, measure_stresses
from training.stress.plan import plan_stresses
from training.stress.table import read_stressed

ROOT = Path(__file__).parents[3]
FLOATS = [name for name in list_zoo() if not name.endswith("-int8")]
AGAIN = "run: python -m training.starters stress --data DATA_FOLDER, then ... cards"


@pytest.mark.parametrize("name", FLOATS)
def test_the_results_are_of_the_students_that_ship(name: str) -> None:
    found = read_stressed(ROOT / RESULTS)[name]
    assert found.digests == {
        form: read_artifact(zoo_path(form)).digest for form in found.digests
    }, AGAIN
    manifest = read_artifact(zoo_path(name)).manifest
    wanted = [(stress.kind, stress.strength) for stress in plan_stresses(manifest)]
    assert [(row.kind, row.strength) for row in found.rows] == [(AS_IT_COMES, ""), *wanted], AGAIN


@pytest.mark.needs_data
@pytest.mark.needs_training
@pytest.mark.parametrize("name", FLOATS)
def test_the_figures_hold(name: str, data_dir: Path) -> None:
    student = Student(read_artifact(zoo_path(name)))
    read = partial(read_data, with_test=True)
    material, compute = official_material(student.manifest, data_dir, read)
    rows = measure_stresses([student], material, compute)
    for row, told in zip(rows, read_stressed(ROOT / RESULTS)[name].rows, strict=True):
        found, wanted = row.found[name], told.found[name]
        assert found.flagged == pytest.approx(wanted.flagged, abs=2e-3)
        if wanted.measure is None:
            assert found.measure is None
        else:
            assert found.measure == pytest.approx(wanted.measure, rel=1e-2, abs=2e-3)
