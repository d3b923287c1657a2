"""Statistics of prompts against a slow literal reference."""

import itertools
import math
import statistics

import numpy as np
import pytest

from training.teachers.prompt_statistics import (
    measure_statistics,
    normalise_windows,
    official_lags,
    round_statistics,
    top_lags,
)

PAPER_PERIOD = np.sin(2 * np.pi * np.arange(512) / 24)[None]


def literal_normalise(window):
    mean = sum(window) / len(window)
    variance = sum((value - mean) ** 2 for value in window) / len(window)
    return [(value - mean) / math.sqrt(variance + 1e-5) for value in window]


def literal_lags(window, count):
    """Strongest lags of 1 to half the length, local maxima first, then the others."""
    length = len(window)

    def product(lag):
        return sum(window[place] * window[place + lag] for place in range(length - lag))

    products = [product(lag) for lag in range(length // 2 + 2)]
    lags = range(1, length // 2 + 1)
    peaks = [lag for lag in lags if products[lag - 1] < products[lag] > products[lag + 1]]
    others = [lag for lag in lags if lag not in peaks]
    order = [sorted(part, key=lambda lag: -products[lag]) for part in (peaks, others)]
    return (order[0] + order[1])[:count]


def literal_official_lags(window, count):
    length = len(window)
    products = [
        sum(window[place] * window[(place + lag) % length] for place in range(length))
        for lag in range(length)
    ]
    return sorted(range(length), key=lambda lag: -products[lag])[:count]


@pytest.fixture(scope="module")
def windows():
    random = np.random.default_rng(3)
    walks = random.normal(size=(6, 40)).cumsum(axis=1) * 5 + 30
    return np.vstack([walks, random.normal(size=(6, 40))])


def test_statistics_equal_the_literal_reference(windows):
    found = measure_statistics(windows)
    for row, window in enumerate(windows.tolist()):
        values = literal_normalise(window)
        assert found.minimum[row] == pytest.approx(min(values))
        assert found.maximum[row] == pytest.approx(max(values))
        assert found.median[row] == pytest.approx(statistics.median(values))
        steps = [after - before for before, after in itertools.pairwise(values)]
        assert found.rises[row] == (sum(steps) > 0)
        assert found.lags[row].tolist() == literal_lags(values, 5)


def test_official_lags_equal_the_literal_circular_autocorrelation(windows):
    found = measure_statistics(windows, official=True).lags
    for row, window in enumerate(windows.tolist()):
        literal = literal_official_lags(literal_normalise(window), 5)
        # A lag and its mirror image tie: which comes first is rounding.
        assert found[row, 0] == literal[0] == 0
        assert {min(lag, 40 - lag) for lag in found[row].tolist()} == {
            min(lag, 40 - lag) for lag in literal
        }


def test_the_lag_of_a_season_comes_first_only_with_the_corrected_routine():
    values = normalise_windows(PAPER_PERIOD)
    assert top_lags(values, 5).tolist() == [[24, 48, 72, 96, 120]]
    assert official_lags(values, 5).tolist() == [[0, 1, 511, 24, 488]]


def test_a_season_of_a_quarter_of_the_window_is_found_too():
    values = normalise_windows(np.sin(2 * np.pi * np.arange(96) / 24)[None])
    assert top_lags(values, 2).tolist() == [[24, 48]]


@pytest.mark.parametrize("level", [0.0, -7.3, 1e6])
def test_a_constant_window_has_finite_statistics_and_as_many_lags(level):
    found = measure_statistics(np.full((1, 96), level))
    assert found.minimum == found.maximum == found.median == pytest.approx(0, abs=1e-6)
    assert not found.rises[0]
    assert found.lags.tolist() == [[1, 2, 3, 4, 5]]


def test_level_and_scale_do_not_reach_the_statistics(windows):
    one, other = measure_statistics(windows), measure_statistics(windows * 1000 - 50_000)
    np.testing.assert_allclose(one.minimum, other.minimum, atol=1e-3)
    assert np.array_equal(one.lags, other.lags)


def test_more_lags_than_half_a_window_are_refused():
    with pytest.raises(ValueError, match="5 lags of windows of 8 readings: expected 1 to 4"):
        top_lags(np.zeros((1, 8)), 5)


def test_rounded_statistics_are_multiples_of_their_steps(windows):
    found = round_statistics(measure_statistics(windows), step=0.5, lag_step=12, lags=2)
    assert found.lags.shape == (12, 2)
    assert (found.lags % 12 == 0).all() and (found.lags >= 12).all()
    exact = measure_statistics(windows)
    for rounded, values in ((found.minimum, exact.minimum), (found.maximum, exact.maximum)):
        assert (rounded % 0.5 == 0).all()
        assert (np.abs(rounded - values) <= 0.25).all()
