"""Building starter students on made-up data: manifests, measures, and reads of the test set."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from rich.console import Console

from models.artifact import read_artifact
from models.session import Student
from models.tasks.rul import RulScores
from training.bench.unknown import measure_unknown
from training.datasets.cmapss import describe_cmapss
from training.datasets.dummy import make_dummy
from training.errors import DataSetError
from training.recipes import shipped_recipe
from training.starters import build as starters
from training.starters import learned
from training.starters.cards import card_tables
from training.starters.official import measure_windows
from training.windows import WindowSet, join_windows

pytestmark = pytest.mark.needs_training

QUICK = {"epochs": 2, "folds": 2, "student": "statistics", "noise": 0.0}


@pytest.fixture
def made_up(monkeypatch):
    """`read_data` gives two joined subsets or people, and records reads of the test set."""
    asked = []

    def read(name, folder, *, with_test):
        asked.append(with_test)
        if name.startswith("har"):
            return make_dummy("activity", groups=5)
        parts = [make_dummy("rul", seed=seed, groups=4) for seed in (0, 1)]
        sets = []
        for side in ("train", "test"):
            shifted = [getattr(part, side) for part in parts]
            second = WindowSet(shifted[1].windows, shifted[1].labels, shifted[1].groups + 1000)
            sets.append(join_windows([shifted[0], second]))
        return describe_cmapss("A+B", sets[0], sets[1] if with_test else None)

    def recipe(name):
        task = "har-waist" if name.startswith("har") else "rul-fd001"
        changes = QUICK if task == "rul-fd001" else {"epochs": 2, "folds": 2, "calibrate": True}
        return shipped_recipe(task, **changes)

    monkeypatch.setattr(starters, "read_data", read)
    monkeypatch.setattr(starters, "shipped_recipe", recipe)
    return asked


def test_a_student_and_its_eight_bit_form_are_built_with_all_their_measures(made_up, tmp_path):
    zoo = tmp_path / "zoo"
    console = Console(quiet=True)
    whole, small = starters.build("rul-fd001", tmp_path, zoo, tmp_path / "scratch", console)
    assert made_up == [False, True]  # training reads no test set
    assert sorted(path.name for path in zoo.iterdir()) == ["rul-fd001", "rul-fd001-int8"]
    assert read_artifact(zoo / "rul-fd001").digest == whole.digest
    metrics = whole.manifest.metrics
    subsets = {"out_of_fold A", "out_of_fold B", "test A", "test B"}
    assert set(metrics) == {"out_of_fold", "calibration", "test", "latency", *subsets}
    rows = [metrics[f"out_of_fold {name}"] for name in "AB"]
    share = np.mean([row["interval_coverage"] for row in rows])  # as many engines in each
    assert share == pytest.approx(metrics["calibration"]["interval_coverage"], abs=1e-5)
    assert f"| rul-fd001 on A |  | **{metrics['test A']['rmse']:.2f}**" in (
        card := card_tables([whole.manifest], {})
    )
    assert f"| {100 * rows[0]['interval_coverage']:.1f} % |" in card
    parts = metrics["test A"]["windows"] + metrics["test B"]["windows"]
    assert parts == metrics["test"]["windows"]
    assert (small.manifest.name, whole.manifest.name) == ("rul-fd001-int8", "rul-fd001")
    assert small.manifest.interval == whole.manifest.interval
    assert small.manifest.decoding.familiar == whole.manifest.decoding.familiar is not None
    assert 0 <= metrics["test"]["unfamiliar_share"] <= 1
    assert "- **Familiarity**" in card_tables([whole.manifest], {})
    apart = small.manifest.metrics["apart_from_float32"]
    assert 0 < apart["mean"] <= apart["largest"]
    again = starters.build("rul-fd001", tmp_path, zoo, tmp_path / "scratch", console)
    assert again[0].onnx_bytes == whole.onnx_bytes


def test_an_activity_student_keeps_its_threshold_in_eight_bits(made_up, tmp_path):
    console = Console(quiet=True)
    whole, small = starters.build("har-waist", tmp_path, tmp_path / "zoo", tmp_path / "s", console)
    assert whole.manifest.decoding.unknown == small.manifest.decoding.unknown is not None
    assert {"macro_f1", "calibration_error", "unknown_share"} <= set(small.manifest.metrics["test"])


def test_measures_of_windows_are_those_of_the_scores(made_up, tmp_path):
    console = Console(quiet=True)
    whole, _ = starters.build("rul-fd001", tmp_path, tmp_path / "zoo", tmp_path / "s", console)
    windows = make_dummy("rul", seed=0, groups=4).test
    found, scores = measure_windows(Student(whole), windows), Student(whole).score(windows.windows)
    assert isinstance(scores, RulScores)
    inside = (scores.low <= windows.labels) & (windows.labels <= scores.high)
    assert found["interval_coverage"] == inside.mean()
    assert found["interval_width"] == pytest.approx(float((scores.high - scores.low).mean()))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((scores.rul - windows.labels) ** 2)))


def test_what_examples_need_is_fitted_again_and_the_graph_stays(made_up, monkeypatch, tmp_path):
    console = Console(quiet=True)
    recipe = shipped_recipe("har-waist", epochs=2, calibrate=True, folds=0)
    monkeypatch.setattr(starters, "shipped_recipe", lambda name: recipe)
    monkeypatch.setattr(learned, "shipped_recipe", lambda name: recipe)
    monkeypatch.setattr(learned, "zoo_path", lambda name: tmp_path / "zoo" / name)
    before = starters.build("har-waist", tmp_path, tmp_path / "zoo", tmp_path / "s", console)
    read = partial(starters.read_data, with_test=False)
    after = learned.fit_anchors_again("har-waist", tmp_path, read)
    for one, two in zip(before, after, strict=True):
        assert two.onnx_bytes == one.onnx_bytes
        old, new = one.manifest.decoding.features, two.manifest.decoding.features
        assert new.learned is not None
        assert (new.sample_share, new.shared_share) == (old.sample_share, old.shared_share)
        apart = np.abs(new.sample_vectors() - old.sample_vectors())
        assert apart.max() < 0.02
        assert two.manifest.metrics["test"] == one.manifest.metrics["test"]
    with pytest.raises(DataSetError, match="holds no people out"):
        monkeypatch.setattr(learned, "shipped_recipe", lambda name: replace(recipe, folds=2))
        learned.fit_anchors_again("har-waist", tmp_path, read)


def test_windows_of_an_activity_left_out_are_counted():
    data = make_dummy("activity", groups=6)
    recipe = shipped_recipe("har-waist", epochs=3)
    found = measure_unknown(data, recipe, 2)
    assert 0 <= found.by_probability <= 1
    assert found.known <= 0.06
    # The made-up activities are far apart; that is all the distance needs.
    assert found.new > 0.9
