"""Test windows under conditions that training did not have."""

import numpy as np
import pytest

from tests.fakes.smallseries import make_series
from training.bench.shifts import MISSING, SHORT, TRANSFERS, UNSEEN, disturb
from training.datasets.ett import ETT
from training.datasets.series_sources import SERIES

WINDOWS = make_series().windows("test", 6, 4)


def test_a_window_lacks_one_channel_in_turn_and_reads_its_mean():
    found, plain = disturb(WINDOWS, MISSING).inputs(), WINDOWS.inputs()

    for number in range(len(WINDOWS)):
        lost = number % 2
        assert not found[number, :, lost].any()
        np.testing.assert_array_equal(found[number, :, 1 - lost], plain[number, :, 1 - lost])


def test_a_short_history_repeats_its_oldest_known_reading():
    found, plain = disturb(WINDOWS, SHORT).inputs(), WINDOWS.inputs()

    np.testing.assert_array_equal(found[:, 3:], plain[:, 3:])
    np.testing.assert_array_equal(found[:, :3], np.repeat(plain[:, 3:4], 3, axis=1))


@pytest.mark.parametrize("kind", [MISSING, SHORT])
def test_targets_stay_and_a_batch_is_cut_as_the_whole(kind):
    other = disturb(WINDOWS, kind)

    np.testing.assert_array_equal(other.targets(), WINDOWS.targets())
    index = np.array([5, 2, 3])
    np.testing.assert_array_equal(other.inputs(index), other.inputs()[index])
    np.testing.assert_array_equal(other.inputs(slice(3, 7)), other.inputs()[3:7])


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="channel missing, short history"):
        disturb(WINDOWS, "noise")


def test_sets_are_forecast_by_models_of_the_other_set():
    assert all(name != other and {name, other} <= set(ETT) for name, other in TRANSFERS.items())


def test_unseen_sets_are_of_another_kind_of_device():
    found = {other for others in UNSEEN.values() for other in others}
    assert found
    assert found <= set(SERIES) - set(ETT)
