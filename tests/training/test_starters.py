"""The committed starter students on the official test sets, scored as a gateway scores."""

import pytest

from models.zoo import zoo_path
from training.datasets.cmapss import read_cmapss
from training.datasets.uci_har import read_uci_har
from training.official import measure_official
from training.recipes import parse_recipe, shipped_recipe

pytestmark = pytest.mark.needs_data


def test_the_rul_starter_keeps_its_promise_on_fd001(data_dir):
    found = measure_official(zoo_path("rul-fd001"), read_cmapss(data_dir / "cmapss.zip"))
    assert found["windows"] == 100
    assert found["rmse"] <= 14.5
    assert found["interval_coverage"] >= 0.8  # 0.9 intended; 100 engines


def test_the_activity_starter_keeps_its_promise_on_uci_har(data_dir):
    found = measure_official(zoo_path("har-waist"), read_uci_har(data_dir))
    assert found["windows"] == 2947
    assert found["macro_f1"] >= 0.93


@pytest.mark.parametrize("name", ["rul-fd001", "har-waist"])
def test_a_starter_was_trained_by_the_shipped_recipe_on_the_real_data(name, data_dir):
    from models.artifact import read_artifact

    lineage = read_artifact(zoo_path(name)).manifest.lineage
    assert parse_recipe(lineage.command) == shipped_recipe(name)
    data = (
        read_cmapss(data_dir / "cmapss.zip", with_test=False)
        if name == "rul-fd001"
        else read_uci_har(data_dir, with_test=False)
    )
    assert lineage.data_digest == data.digest
