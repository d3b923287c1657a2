"""The promises of calibration, on made-up engines and people whose truth is known."""

import numpy as np
import pytest

from training.evaluate import calibration_error
from training.uncertainty.calibration import (
    OperatingSettings,
    cross_coverage,
    fit_interval,
    fit_interval_by_settings,
    fit_tempering,
    fit_unknown,
    group_weights,
    interval_ends,
    late_windows,
    temper,
)

MAX_RUL = 125.0


def share_inside(interval, truth, rul, groups):
    """The share of truths inside their interval; every group has the same weight."""
    low, high = interval_ends(interval, rul)
    return group_weights(groups) @ ((low <= truth) & (truth <= high))


def engines(count, random):
    """Scores that are certain near the end of life and uncertain before; every engine has its
    bias."""
    truth, rul, groups = [], [], []
    for engine in range(count):
        life = np.arange(random.integers(120, 350), -1, -1)
        capped = np.minimum(life, 125)
        spread = 2 + capped / 6
        error = spread * (random.normal() + 0.5 * random.normal(size=len(life)))
        truth.append(capped)
        rul.append(np.clip(capped + error, 0, MAX_RUL))
        groups.append(np.full(len(life), engine))
    return (
        np.concatenate(truth),
        np.concatenate(rul).astype(np.float32),
        np.concatenate(groups),
    )


@pytest.mark.parametrize(("count", "most"), [(20, 0.97), (100, 0.92)])
def test_the_interval_covers_windows_of_new_engines_at_its_level(count, most):
    random = np.random.default_rng(0)
    covered = []
    for _ in range(15):
        interval = fit_interval(*engines(count, random), max_rul=MAX_RUL)
        covered.append(share_inside(interval, *engines(40, random)))
    mean, error = np.mean(covered), np.std(covered) / np.sqrt(len(covered))
    assert 0.9 - 2 * error < mean < most  # twenty engines can promise 0.9 only by giving more


def test_the_interval_is_narrow_and_valid_where_the_student_is_certain():
    random = np.random.default_rng(1)
    interval = fit_interval(*engines(100, random), max_rul=MAX_RUL)
    truth, rul, _ = engines(300, random)
    low, high = interval_ends(interval, rul)
    inside = (low <= truth) & (truth <= high)
    near, far = rul < 15, (rul > 60) & (rul < 100)
    assert (high - low)[near].mean() < 0.5 * (high - low)[far].mean()
    for part in (near, far):
        assert 0.8 < inside[part].mean() < 0.99
    assert interval.low < 0 < interval.high


def test_every_engine_has_the_same_weight():
    random = np.random.default_rng(2)
    truth, rul, groups = engines(15, random)
    once = fit_interval(truth, rul, groups, max_rul=MAX_RUL)
    often = np.concatenate([np.arange(len(truth)), *[np.flatnonzero(groups == 3)] * 9])
    assert fit_interval(truth[often], rul[often], groups[often], max_rul=MAX_RUL) == once


def test_weights_ignore_the_order_of_windows_and_the_numbers_of_engines():
    weights = group_weights(np.array([7, 7, 7, 2]))
    np.testing.assert_allclose(weights, [1 / 6, 1 / 6, 1 / 6, 1 / 2])


def under_conditions(count, random):
    """Engines, of which every other one switches conditions, where errors are twice as large."""
    truth, rul, groups = engines(count, random)
    switches = groups % 2 == 1
    rul = np.where(switches, rul + (rul - truth), rul).clip(0, MAX_RUL).astype(np.float32)
    return truth, rul, groups, OperatingSettings((0,), (1.0,), switches)


def test_windows_that_switch_conditions_are_covered_as_often_as_those_that_do_not():
    random = np.random.default_rng(7)
    covered = {"one table": [], "by settings": []}
    for _ in range(6):
        *known, settings = under_conditions(120, random)
        *new, others = under_conditions(120, random)
        truth, rul, _ = new
        for name, interval in (
            ("one table", fit_interval(*known, max_rul=MAX_RUL)),
            ("by settings", fit_interval_by_settings(*known, settings, max_rul=MAX_RUL)),
        ):
            low, high = interval_ends(interval, rul, others.switches)
            inside = (low <= truth) & (truth <= high)
            parts = [inside[kind].mean() for kind in (~others.switches, others.switches)]
            covered[name].append(parts)
    apart, near = (np.mean(parts, axis=0) for parts in covered.values())
    assert apart[0] - apart[1] > 0.04
    assert near == pytest.approx([0.91, 0.91], abs=0.03)


def test_few_engines_of_one_kind_share_the_table_of_the_others():
    truth, rul, groups, settings = under_conditions(60, np.random.default_rng(8))
    found = fit_interval_by_settings(truth, rul, groups, settings, max_rul=MAX_RUL)
    assert found.switching is None
    assert found == fit_interval(truth, rul, groups, max_rul=MAX_RUL)
    assert found == fit_interval_by_settings(truth, rul, groups, None, max_rul=MAX_RUL)


def test_an_engine_that_never_comes_near_its_end_is_late_as_a_whole():
    truth = np.array([9, 9, 9, 9, 9, 8, 7, 6, 5, 4, 3])
    late = late_windows(truth, np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), 9)
    assert late.tolist() == [True] * 3 + [False] * 0 + [True] * 8
    late = late_windows(truth, np.zeros(11, int), 9)
    assert late.tolist() == [False] * 3 + [True] * 8


def test_cross_coverage_is_that_of_intervals_of_other_engines():
    truth, rul, groups = engines(50, np.random.default_rng(9))
    inside = cross_coverage(truth, rul, groups, None, max_rul=MAX_RUL)
    assert group_weights(groups) @ inside == pytest.approx(0.92, abs=0.04)
    own = share_inside(fit_interval(truth, rul, groups, max_rul=MAX_RUL), truth, rul, groups)
    assert own >= 0.9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_engines_use_the_largest_need(count):
    truth, rul, groups = engines(count, np.random.default_rng(3))
    interval = fit_interval(truth, rul, groups, max_rul=MAX_RUL)
    assert share_inside(interval, truth, rul, groups) > 0.9


def test_one_group_of_windows_gives_a_finite_interval_even_without_errors():
    truth = np.array([10, 20, 30])
    interval = fit_interval(truth, truth.astype(np.float32), np.zeros(3, int), max_rul=MAX_RUL)
    assert max(interval.table.low) == -1
    assert min(interval.table.high) == 1


def doubtful(count, random, temperature):
    logits = random.normal(0, 3, (count, 6))
    rows = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([random.choice(6, p=row) for row in rows])
    return truth, temper(rows, 1 / temperature).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_fitted_temperature_calibrates_the_probabilities(temperature):
    random = np.random.default_rng(4)
    truth, sure = doubtful(4000, random, temperature)
    found, doubt = fit_tempering(truth, sure)
    assert found == pytest.approx(temperature, rel=0.12)
    assert doubt < 0.02
    new_truth, new = doubtful(4000, random, temperature)
    assert calibration_error(new_truth, temper(new, found, doubt).astype(np.float32)) < 0.03


def test_a_student_that_is_now_and_then_wrong_with_certainty_gets_a_doubt():
    random = np.random.default_rng(8)

    def seldom_wrong():
        truth, sure = doubtful(6000, random, 2.0)
        odd = random.random(len(truth)) < 0.06
        return np.where(odd, random.integers(0, 6, len(truth)), truth), sure

    truth, sure = seldom_wrong()
    found, doubt = fit_tempering(truth, sure)
    assert found == pytest.approx(2.0, rel=0.15)
    assert doubt == pytest.approx(0.06, abs=0.02)
    truth, new = seldom_wrong()
    assert calibration_error(truth, temper(new, found, doubt).astype(np.float32)) < 0.02


def test_the_wanted_share_is_rejected_a_fifth_of_it_for_distance():
    random = np.random.default_rng(5)
    groups = np.repeat([1, 2], [9000, 1000])
    largest = random.uniform(0.6, 1, 10_000)
    rows = np.stack([largest, 1 - largest], axis=1).astype(np.float32)
    distances = random.gamma(9, 1, 10_000).astype(np.float32)
    max_distance, unknown = fit_unknown(rows, distances, groups)
    weights = group_weights(groups)
    far, doubtful = distances >= max_distance, largest < unknown.threshold
    assert weights[far].sum() == pytest.approx(0.01, abs=0.001)
    assert weights[far | doubtful].sum() == pytest.approx(0.05, abs=0.003)
    assert unknown.rejects == pytest.approx(0.05, abs=0.003)


def test_every_person_has_the_same_weight():
    random = np.random.default_rng(6)
    groups = np.repeat([1, 2], [900, 100])
    largest = np.where(groups == 1, random.uniform(0.95, 1, 1000), random.uniform(0.6, 0.7, 1000))
    rows = np.stack([largest, 1 - largest], axis=1).astype(np.float32)
    _, unknown = fit_unknown(rows, np.zeros(1000, np.float32), groups, rejects=0.1)
    # Half of the weight is the second person's: a fifth of their windows is below.
    assert (largest < unknown.threshold)[groups == 2].mean() == pytest.approx(0.2, abs=0.02)
