"""The committed starter students on the official test sets, scored as a gateway scores."""

import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import read_artifact
from models.zoo import list_zoo, zoo_path
from training.datasets.cmapss import read_cmapss
from training.datasets.uci_har import read_uci_har
from training.recipes import parse_recipe, shipped_recipe
from training.starters.build import STUDENTS, read_data
from training.starters.official import measure_official

pytestmark = [pytest.mark.needs_data, pytest.mark.needs_training]


def test_the_rul_starter_keeps_its_promise_on_fd001(data_dir):
    found = measure_official(zoo_path("rul-fd001"), read_cmapss(data_dir / "cmapss.zip"))
    assert found["windows"] == 100
    assert found["rmse"] <= 12.6
    assert found["interval_coverage"] >= 0.87


def test_the_activity_starter_keeps_its_promise_on_uci_har(data_dir):
    found = measure_official(zoo_path("har-waist"), read_uci_har(data_dir))
    assert found["windows"] == 2947
    assert found["macro_f1"] >= 0.95
    assert found["calibration_error"] < 0.03
    assert found["unknown_share"] < 0.1


@pytest.mark.parametrize(
    "name", [name for name in list_zoo() if name.removesuffix("-int8") in STUDENTS]
)
def test_every_shipped_student_reproduces_the_test_measures_of_its_manifest(name, data_dir):
    manifest = read_artifact(zoo_path(name)).manifest
    data = read_data(name.removesuffix("-int8"), data_dir, with_test=True)
    found = measure_official(zoo_path(name), data)
    for key, value in manifest.metrics["test"].items():
        assert found[key] == pytest.approx(value, rel=1e-3, abs=2e-3), key


@pytest.mark.parametrize("name", sorted(STUDENTS))
def test_a_student_was_trained_by_the_shipped_recipe_on_the_real_data(name, data_dir):
    lineage = read_artifact(zoo_path(name)).manifest.lineage
    assert parse_recipe(lineage.command) == shipped_recipe(name)
    assert lineage.data_digest == read_data(name, data_dir, with_test=False).digest
