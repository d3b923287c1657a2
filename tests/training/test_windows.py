import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.windows.spec import WindowSpec
from pipeline.windows.spec import slice_windows as slice_stream
from tests.fakes.onedevice import OneDevice
from training.errors import DataSetError
from training.windows import WindowSet, hold_out_groups, slice_series


@given(st.integers(0, 120), st.integers(1, 40), st.integers(1, 45))
def test_training_cuts_the_windows_of_the_stream(readings, length, hop):
    values = np.random.default_rng(readings).normal(size=(readings, 3)).astype(np.float32)
    spec = WindowSpec(length=length, hop=hop, min_readings=length)
    wanted = slice_stream(np.arange(readings) * 20, values, spec)
    found = slice_series(values, length, hop)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other.values)


def test_training_cuts_the_windows_of_a_running_windower():
    values = np.random.default_rng(0).normal(size=(200, 14)).astype(np.float32)
    windower = OneDevice(WindowSpec(length=30, hop=1, min_readings=30), 14)
    ts_ms = 1_700_000_000_000 + np.arange(200) * 1000
    closed = []
    for at in range(0, 200, 7):
        closed += windower.step(ts_ms[at : at + 7], values[at : at + 7], int(ts_ms[-1])).windows
    closed += windower.advance(int(ts_ms[-1]) + 10_000, 0)
    np.testing.assert_array_equal(
        np.stack([window.values for window in closed]), slice_series(values, 30, 1)
    )


def test_a_short_series_is_padded_in_front_only_when_asked():
    series = np.array([[1.0], [2.0]], dtype=np.float32)
    assert slice_series(series, 4, 1).shape == (0, 4, 1)
    assert slice_series(series, 4, 1, pad_short=True)[0, :, 0].tolist() == [1, 1, 1, 2]
    assert len(slice_series(series[:0], 4, 1, pad_short=True)) == 0


@given(st.sets(st.integers(1, 300), min_size=2), st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_split_has_groups_on_both_sides_and_depends_on_the_set_of_groups_only(names, share, seed):
    groups = np.array(sorted(names), dtype=np.int64)
    held_out = hold_out_groups(groups, share, seed)
    assert 0 < len(held_out) < len(groups)
    assert set(held_out) <= names
    again = hold_out_groups(np.repeat(groups[::-1], 3), share, seed)
    np.testing.assert_array_equal(held_out, again)


def test_one_group_cannot_be_split():
    with pytest.raises(DataSetError, match="at least two groups"):
        hold_out_groups(np.ones(5, dtype=np.int64), 0.2, 0)


def test_windows_labels_and_groups_need_the_same_number():
    with pytest.raises(DataSetError, match="n labels"):
        WindowSet(np.zeros((2, 3, 1), np.float32), np.zeros(2, np.int64), np.zeros(3, np.int64))


def test_with_and_without_groups_share_nothing():
    windows = np.arange(6, dtype=np.float32).reshape(6, 1, 1)
    data = WindowSet(windows, np.arange(6), np.array([1, 1, 2, 2, 3, 3]))
    some, rest = data.of_groups(np.array([2])), data.without_groups(np.array([2]))
    assert some.labels.tolist() == [2, 3]
    assert rest.labels.tolist() == [0, 1, 4, 5]
