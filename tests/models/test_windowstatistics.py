"""The statistics of windows on a gateway are those that training measures."""

import numpy as np
import pytest

from models.windowstatistics import PER_CHANNEL, window_statistics


def test_they_are_those_of_training():
    pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
    from training.students.statistics import BASELINE, ArrayWindows

    windows = np.random.default_rng(0).normal(1, 2, (5, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(
        window_statistics(windows), ArrayWindows(windows).table(BASELINE), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_short_windows_and_odd_readings_give_finite_numbers(length):
    windows = np.full((2, length, 3), 7, np.float32)
    windows[0, 0, 1], windows[1, -1, 2] = np.nan, np.inf
    found = window_statistics(windows)
    assert found.shape == (2, 3 * PER_CHANNEL)
    assert np.isfinite(found).all()
