import numpy as np
import pytest

from models.tasks.activity import accuracy, confusion_matrix, macro_f1
from models.tasks.registry import find_task
from models.tasks.rul import nasa_score, rmse
from training.evaluate import compare_groups, group_errors, residual_interval


def test_rmse_and_nasa_score_of_known_errors():
    truth = np.array([50, 50])
    rul = np.array([60.0, 37.0], dtype=np.float32)
    assert rmse(truth, rul) == pytest.approx(np.sqrt((100 + 169) / 2))
    assert nasa_score(truth, rul) == pytest.approx(2 * (np.e - 1))


def test_an_extreme_score_does_not_overflow():
    assert np.isfinite(nasa_score(np.array([0]), np.array([1e6], dtype=np.float32)))


def test_macro_f1_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs training")
    random = np.random.default_rng(0)
    truth, winners = random.integers(0, 6, 500), random.integers(0, 6, 500)
    wanted = metrics.f1_score(truth, winners, average="macro")
    assert macro_f1(truth, winners, 6) == pytest.approx(wanted)
    assert accuracy(truth, winners) == pytest.approx(metrics.accuracy_score(truth, winners))
    counts = confusion_matrix(truth, winners, 6)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(truth, winners))


def test_the_interval_covers_the_level_of_its_residuals():
    random = np.random.default_rng(0)
    rul = random.uniform(0, 125, 1000).astype(np.float32)
    truth = np.round(rul + random.normal(2, 10, 1000)).astype(np.int64)
    low, high = residual_interval(truth, rul, 0.9)
    inside = (rul + low <= truth) & (truth <= rul + high)
    assert inside.mean() == pytest.approx(0.9, abs=0.01)


def test_errors_are_means_within_groups():
    groups = np.array([1, 1, 2])
    truth, rul = np.array([10, 10, 10]), np.array([11.0, 13.0, 10.0])
    errors = find_task("rul").answer.window_errors(truth, rul)
    assert group_errors(errors, groups) == {1: 5.0, 2: 0.0}
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    errors = find_task("activity").answer.window_errors(np.array([0, 0, 0]), probabilities)
    assert group_errors(errors, groups) == {1: 0.5, 2: 0.0}


def test_only_a_clear_gain_is_better():
    running = {engine: 100.0 + engine for engine in range(20)}
    clear = {engine: error - 10 for engine, error in running.items()}
    chance = {engine: error + (30 if engine % 2 else -31) for engine, error in running.items()}
    assert compare_groups(running, clear).is_better
    assert not compare_groups(running, chance).is_better
    assert compare_groups(running, chance).gain == pytest.approx(0.5)
    assert not compare_groups(running, running).is_better
    assert not compare_groups(clear, running).is_better


def test_the_comparison_is_paired():
    # Engines differ by far more than the students do: unpaired, nothing could be seen.
    hard = np.random.default_rng(0).uniform(10, 1000, 30)
    running = dict(enumerate(hard))
    new = dict(enumerate(hard * 0.97))
    assert compare_groups(running, new).is_better


def test_groups_must_be_the_same():
    with pytest.raises(ValueError, match="different groups"):
        compare_groups({1: 1.0}, {2: 1.0})
