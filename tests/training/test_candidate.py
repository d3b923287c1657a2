"""Runs with folds, and the results of calibration in manifest and graph."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.describe import describe_seen
from models.features import scale
from models.session import Student
from models.tasks.activity import ActivityScores
from training.candidate import check_comparable, compare, train_candidate
from training.datasets.contract import fit_scaler
from training.datasets.dummy import make_dummy
from training.distill import distill
from training.errors import LeakageError, RecipeError
from training.export.artifact import score_raw
from training.methods.build import build_method
from training.recipes import shipped_recipe
from training.scoring import score_torch
from training.uncertainty.calibration import (
    cross_coverage,
    fit_interval,
    group_weights,
    interval_ends,
    late_windows,
    temper,
)
from training.windows import fold_groups, join_windows

pytestmark = pytest.mark.needs_training

SMALL = {"student": "statistics", "method": "none", "noise": 0.0, "dropout": 0.0, "epochs": 2}


@pytest.fixture(scope="module")
def data():
    return make_dummy("rul", groups=6)


@pytest.fixture(scope="module")
def folded(data, tmp_path_factory):
    recipe = shipped_recipe("rul-fd001", folds=3, **SMALL)
    folder = tmp_path_factory.mktemp("folded")
    reports = []
    candidate = train_candidate(
        data, recipe, "student", folder, command="test", on_epoch=reports.append
    )
    return recipe, candidate, reports


def test_every_window_is_scored_by_a_student_that_has_not_seen_its_engine(data, folded):
    recipe, candidate, _ = folded
    names = np.random.default_rng(recipe.split_seed).permutation(np.unique(data.train.groups))
    for fold in np.array_split(names, 3):
        is_out = np.isin(data.train.groups, fold)
        seen = data.train.where(~is_out)
        scaler = fit_scaler(data.scaling, seen.windows)
        alone = distill(recipe, seen, scaler, 126, build_method).student
        scored = score_torch(alone, scaler, data.train.windows[is_out])
        np.testing.assert_array_equal(candidate.scored[is_out], scored)


def test_the_final_student_learns_from_all_engines(data, folded):
    recipe, candidate, _ = folded
    scaler = fit_scaler(data.scaling, data.train.windows)
    everything = distill(recipe, data.train, scaler, 126, build_method).student
    manifest = candidate.artifact.manifest
    assert manifest.scaler == scaler
    assert manifest.seen == describe_seen(
        data.train.windows, data.train.groups, data.hop, [c.name for c in data.channels]
    )
    assert "with all 6 engines, measured out of 3 folds" in manifest.lineage.data
    found = score_raw(Student(candidate.artifact), data.train.windows)
    wanted = score_torch(everything, scaler, data.train.windows)
    np.testing.assert_allclose(found, wanted, atol=125e-5, rtol=0)
    assert scale(data.train.windows, manifest.scaler).max() == pytest.approx(1, abs=1e-4)


def test_the_interval_comes_from_the_scores_out_of_fold(data, folded):
    _, candidate, _ = folded
    manifest = candidate.artifact.manifest
    interval, truth, groups = manifest.interval, data.train.labels, data.train.groups
    late = late_windows(truth, groups, 125)
    low, high = interval_ends(interval, candidate.scored[late])
    weights = group_weights(groups[late])
    assert weights @ ((low <= truth[late]) & (truth[late] <= high)) >= 0.9
    assert interval == fit_interval(truth[late], candidate.scored[late], groups[late], max_rul=125)
    inside = cross_coverage(truth, candidate.scored, groups, None, max_rul=125)
    told = manifest.metrics["calibration"]
    assert told["interval_coverage_all"] == pytest.approx(group_weights(groups) @ inside)
    assert told["interval_coverage"] == pytest.approx(weights @ inside[late])
    assert manifest.metrics["out_of_fold"] == candidate.metrics
    scores = Student(candidate.artifact).score(data.train.windows)
    low, high = interval_ends(interval, scores.rul)
    np.testing.assert_allclose(scores.low, low.clip(0, 125), atol=1e-4)
    np.testing.assert_allclose(scores.high, high.clip(0, 125), atol=1e-4)


def test_groups_that_a_student_learns_from_may_calibrate_it_out_of_fold(data, tmp_path):
    few = shipped_recipe("rul-fd001", calibration_folds=0, **SMALL)
    more, reports = replace(few, calibration_folds=2), []
    alone, both = (
        train_candidate(data, recipe, "a", tmp_path / name, command="test", on_epoch=reports.append)
        for name, recipe in (("alone", few), ("both", more))
    )
    np.testing.assert_array_equal(both.scored, alone.scored)
    assert both.artifact.onnx_bytes == alone.artifact.onnx_bytes
    assert both.metrics == alone.metrics
    assert [report.epochs for report in reports] == [2] * 2 + [6] * 6

    seen = data.train.without_groups(np.unique(both.held_out.groups))
    known = np.zeros(len(seen), np.float32)
    for fold in fold_groups(seen.groups, 2, more.split_seed):
        is_out = np.isin(seen.groups, fold)
        scaler = fit_scaler(data.scaling, seen.windows[~is_out])
        other = distill(more, seen.where(~is_out), scaler, 126, build_method).student
        known[is_out] = score_torch(other, scaler, seen.windows[is_out])
    unseen = join_windows([both.held_out, seen])
    late = late_windows(unseen.labels, unseen.groups, 125)
    scored = np.concatenate([both.scored, known])
    wanted = fit_interval(unseen.labels[late], scored[late], unseen.groups[late], max_rul=125)
    found = both.artifact.manifest.interval
    np.testing.assert_allclose(found.table.low, wanted.table.low, atol=0.01)
    np.testing.assert_allclose(found.table.high, wanted.table.high, atol=0.01)
    assert found != alone.artifact.manifest.interval


def test_reports_count_the_passes_of_all_folds(folded):
    _, _, reports = folded
    assert [report.number for report in reports] == list(range(1, 9))
    assert {report.epochs for report in reports} == {8}
    assert [report.held_out is None for report in reports] == [False] * 6 + [True] * 2


def test_an_interrupted_run_with_folds_continues_to_the_same_student(data, folded, tmp_path):
    recipe, candidate, _ = folded

    class Deadline:
        """A deadline that `now >= deadline_s` reaches after three passes."""

        left = 3

        def __le__(self, now):
            return self.left <= 0

    deadline = Deadline()

    def count(report):
        deadline.left -= 1

    cut = train_candidate(
        data, recipe, "student", tmp_path, command="test", on_epoch=count, deadline_s=deadline
    )
    assert cut is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fold-1", "fold-2"]
    again = train_candidate(data, recipe, "student", tmp_path, command="test")
    assert again.artifact.onnx_bytes == candidate.artifact.onnx_bytes
    np.testing.assert_array_equal(again.scored, candidate.scored)


def test_a_student_of_all_engines_is_not_judged_on_them(data, folded):
    recipe, candidate, _ = folded
    for new in (recipe, replace(recipe, folds=0)):
        with pytest.raises(LeakageError, match="the running student learns from all engines"):
            check_comparable(candidate.artifact, data, new)
    other = replace(data, digest="0" * 64)
    assert "trained on other data" in check_comparable(candidate.artifact, other, recipe)


@pytest.fixture(scope="module")
def people():
    return make_dummy("activity", groups=5)


@pytest.fixture(scope="module")
def active(people, tmp_path_factory):
    """A student of six activities, in the order of the data."""
    recipe = shipped_recipe("har-waist", epochs=3)
    folder = tmp_path_factory.mktemp("active")
    return recipe, train_candidate(people, recipe, "student", folder, command="test")


def with_classes(people, order):
    """The same windows with the activities `order` only, in this order."""
    labels = tuple(people.labels[index] for index in order)

    def part_of(part):
        kept = part.where(np.isin(part.labels, order))
        places = [labels.index(people.labels[index]) for index in kept.labels]
        return replace(kept, labels=np.array(places, dtype=np.int64))

    train, test = part_of(people.train), part_of(people.test)
    return replace(people, labels=labels, train=train, test=test, digest="0" * 64)


def test_a_student_is_not_better_than_itself(active):
    _, candidate = active
    rival = compare(candidate.artifact, candidate)
    comparison, measures = rival.comparison, rival.measures
    assert (rival.gain, rival.noise) == (0, 0)
    assert (comparison.gain, comparison.low, comparison.high) == (0, 0, 0)
    assert not comparison.is_better
    assert measures == pytest.approx(candidate.metrics, abs=1e-3)


def test_classes_are_compared_by_name_and_not_by_position(people, active, tmp_path):
    recipe, running = active
    turned = with_classes(people, [5, 4, 3, 2, 1, 0])
    new = train_candidate(turned, recipe, "student", tmp_path, command="test")
    rival = compare(running.artifact, new)
    comparison, measures = rival.comparison, rival.measures
    assert measures["macro_f1"] == pytest.approx(running.metrics["macro_f1"], abs=1e-3) != 0
    assert abs(comparison.gain) < 0.5
    assert "know" not in check_comparable(running.artifact, turned, recipe)


def test_a_class_that_one_student_lacks_counts_against_it(people, active, tmp_path):
    recipe, full = active
    fewer = with_classes(people, [0, 2, 3, 4, 5])
    small = train_candidate(
        fewer, replace(recipe, method="none"), "student", tmp_path, command="test"
    )
    missing = people.labels[1]

    measures = compare(small.artifact, full).measures
    truth = full.held_out.labels
    assert measures["accuracy"] <= 1 - (truth == 1).mean()
    told = check_comparable(small.artifact, replace(people, digest="1" * 64), recipe)
    assert f"it does not know {missing}, so it is wrong" in told

    measures = compare(full.artifact, small).measures
    winners = score_raw(Student(full.artifact), small.held_out.windows).argmax(axis=1)
    names = np.array(people.labels)[winners]
    wanted = np.array(fewer.labels)[small.held_out.labels]
    assert measures["accuracy"] == pytest.approx((names == wanted).mean())
    told = check_comparable(full.artifact, fewer, recipe)
    assert f"it also knows {missing}, which these data lack" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"folds": 7}, "7 folds of 6 engines are too many: set folds to 6"),
        ({"calibration_folds": 6}, "6 folds of 5 engines are too many: set calibration_folds to 5"),
    ],
)
def test_more_folds_than_engines_are_refused(data, tmp_path, changes, told):
    recipe = shipped_recipe("rul-fd001", **changes, **SMALL)
    with pytest.raises(RecipeError, match=told):
        train_candidate(data, recipe, "student", tmp_path, command="test")


@pytest.mark.parametrize("folds", [0, 2])
def test_temperature_and_threshold_of_activities_are_in_graph_and_manifest(folds, tmp_path):
    data = make_dummy("activity", groups=5)
    recipe = shipped_recipe("har-waist", epochs=3, folds=folds, calibrate=True)
    candidate = train_candidate(data, recipe, "student", tmp_path / "a", command="test")
    bare = train_candidate(
        data, replace(recipe, calibrate=False), "student", tmp_path / "b", command="test"
    )
    manifest = candidate.artifact.manifest
    found = manifest.metrics["calibration"]
    assert found["temperature"] != pytest.approx(1, abs=1e-3)
    assert bare.artifact.manifest.decoding.unknown is None
    assert "calibration" not in bare.artifact.manifest.metrics

    unknown = manifest.decoding.unknown
    scores = Student(candidate.artifact).score(candidate.held_out.windows)
    assert isinstance(scores, ActivityScores)
    if not folds:
        largest = candidate.scored.max(axis=1)
        np.testing.assert_array_equal(scores.probabilities, candidate.scored)
        assert (~scores.known).mean() == pytest.approx((largest < unknown.threshold).mean())
    plain = score_raw(Student(bare.artifact), candidate.held_out.windows)
    wanted = temper(plain, found["temperature"], found["doubt"])
    apart = np.abs(scores.probabilities - wanted).max(axis=1)
    held_back = apart > 1e-4  # too far from what was learned
    assert held_back.mean() < 0.2
    assert held_back.any() == (not folds)  # nothing is far for one that learned from all
    lower = scores.probabilities.max(axis=1) <= wanted.max(axis=1) + 1e-4
    assert lower.all()
    np.testing.assert_array_equal(scores.winners, plain.argmax(axis=1))
    strange = candidate.held_out.windows + 50 * np.ptp(candidate.held_out.windows)
    far = Student(candidate.artifact).score(strange.astype(np.float32))
    assert far.valid.all()
    assert not far.known.any()
    assert {far.activity(row) for row in range(len(far))} == {"unknown"}
