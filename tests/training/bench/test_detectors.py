"""Detectors: what they compute, that they see no future, and that odd readings score higher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.dummy import write_dummy
from models.session import Student
from training.bench.detectors import (
    Detector,
    fit_isolation_forest,
    fit_matrix_profile,
    fit_seasonal_naive,
    student_detector,
)
from training.errors import DataSetError

PERIOD, STEPS = 12, 4


def series(count: int, seed: int = 0) -> NDArray[np.float32]:
    hours = np.arange(count)[:, None]
    daily = np.sin(2 * np.pi * hours / PERIOD + np.array([0, 1]))
    noise = np.random.default_rng(seed).normal(0, 0.1, (count, 2))
    return np.asarray((daily + noise) * np.array([1, 5]), dtype=np.float32)


TRAINING = series(600)


@pytest.fixture(params=["naive", "forest", "profile"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "naive":
        return fit_seasonal_naive(TRAINING, period=PERIOD, steps=STEPS)
    if request.param == "profile":
        return fit_matrix_profile(TRAINING, length=8)
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'kpstream[training]'")
    return fit_isolation_forest(TRAINING, steps=STEPS, seed=0)


def test_a_score_depends_on_no_later_reading(detector: Detector) -> None:
    readings = series(80, seed=1)
    whole = detector(readings)
    assert whole.shape == (80,)
    assert np.isnan(whole[0])
    for end in (40, 79):
        np.testing.assert_allclose(detector(readings[:end]), whole[:end], rtol=1e-5, atol=1e-6)


def test_odd_readings_score_higher_than_all_ordinary_ones(detector: Detector) -> None:
    readings = series(120, seed=2)
    ordinary = np.nanmax(detector(readings))
    readings[90:94, 1] += np.array([60, -60, 60, -60])
    assert np.nanmax(detector(readings)[90:98]) > ordinary


def test_a_short_series_has_no_score(detector: Detector) -> None:
    assert np.isnan(detector(series(3))).all()


def test_seasonal_naive_by_literal_loops() -> None:
    readings = series(40, seed=3)
    found = fit_seasonal_naive(TRAINING, period=PERIOD, steps=STEPS)(readings)
    spread = [
        np.mean([abs(float(TRAINING[t, c]) - TRAINING[t - PERIOD, c]) for t in range(12, 600)])
        for c in range(2)
    ]
    for t in (PERIOD + STEPS - 1, 39):
        means = [
            np.mean(
                [
                    abs(float(readings[t - k, c]) - readings[t - k - PERIOD, c]) / spread[c]
                    for k in range(STEPS)
                ]
            )
            for c in range(2)
        ]
        assert found[t] == pytest.approx(max(means), rel=1e-5)
    assert np.isnan(found[PERIOD + STEPS - 2])


def test_matrix_profile_by_literal_loops() -> None:
    training, readings, length = series(60), series(30, seed=4), 8
    found = fit_matrix_profile(training, length=length)(readings)

    def normal(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = rows.astype(np.float64)
        return np.asarray((wide - wide.mean()) / wide.std())

    for t in (length - 1, 20, 29):
        nearest = [
            min(
                float(
                    np.linalg.norm(
                        normal(readings[t - length + 1 : t + 1, c])
                        - normal(training[at : at + length, c])
                    )
                )
                for at in range(60 - length + 1)
            )
            for c in range(2)
        ]
        assert found[t] == pytest.approx(max(nearest), rel=1e-3)


def test_a_subsequence_that_stands_still_is_near_only_to_one_that_stands_still() -> None:
    still = np.full((20, 1), 3.0, dtype=np.float32)
    moving = series(100)[:, :1]
    assert np.nanmax(fit_matrix_profile(moving, length=8)(still)) == pytest.approx(4.0)
    both = np.concatenate([moving, still])
    assert np.nanmax(fit_matrix_profile(both, length=8)(still)) == 0


def test_a_student_gives_the_scores_of_a_gateway(tmp_path: Path) -> None:
    student = Student(write_dummy(tmp_path / "student", "forecast"))
    readings = np.random.default_rng(5).normal(0, 1, (20, 3)).astype(np.float32)
    found = student_detector(student)(readings)
    assert np.isnan(found[:7]).all()
    one = student.score(readings[None, 5:13])
    assert found[12] == pytest.approx(float(one.score[0]), abs=1e-5)  # type: ignore[attr-defined]
    other = Student(write_dummy(tmp_path / "other", "rul"))
    with pytest.raises(DataSetError, match="gives no anomaly score"):
        student_detector(other)(readings)
