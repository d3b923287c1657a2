from dataclasses import replace

import numpy as np
import pytest

from models.manifest import Channel
from training.datasets.series import SeriesSet
from training.errors import DataSetError


def make_set(rows=(40, 30), borders=((20, 30, 38), (14, 20, 30)), channels=2):
    random = np.random.default_rng(0)
    return SeriesSet(
        name="made",
        title="Made",
        stream="made",
        channels=tuple(Channel(name=f"c{i}", unit="1") for i in range(channels)),
        step_ms=1000,
        period=4,
        devices=tuple(f"d{i}" for i in range(len(rows))),
        series=tuple(random.normal(5, 3, (count, channels)).astype(np.float32) for count in rows),
        times_ms=tuple(np.arange(count, dtype=np.int64) * 1000 for count in rows),
        borders=borders,
        terms="none",
        about="made up",
    )


def test_values_after_the_training_part_change_nothing_that_is_learned():
    data = make_set()
    changed = []
    for rows, times, (end, _, _) in zip(data.series, data.times_ms, data.borders, strict=True):
        rows, times = rows.copy(), times.copy()
        rows[end:] = 1e6
        times[end:] += 7
        changed.append((rows, times))
    other = replace(
        data,
        series=tuple(rows for rows, _ in changed),
        times_ms=tuple(times for _, times in changed),
    )
    assert other.digest == data.digest
    assert (other.mean == data.mean).all()
    assert (other.deviation == data.deviation).all()
    one, two = data.windows("train", 4, 3), other.windows("train", 4, 3)
    assert len(one) == len(two) == (20 - 6) + (14 - 6)
    assert (one.inputs() == two.inputs()).all()
    assert (one.targets() == two.targets()).all()


def test_the_digest_sees_every_training_reading_and_its_time():
    data = make_set()
    rows = data.series[1].copy()
    rows[13, 1] += 1
    assert replace(data, series=(data.series[0], rows)).digest != data.digest
    times = data.times_ms[0] + 1
    assert replace(data, times_ms=(times, data.times_ms[1])).digest != data.digest
    assert replace(data, borders=((21, 30, 38), data.borders[1])).digest != data.digest


def test_the_training_part_has_mean_0_and_deviation_1_over_all_devices():
    data = make_set()
    train = np.concatenate([data.standardised()[0][:20], data.standardised()[1][:14]])
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-6)
    scaler = data.scaler()
    scaled = data.series[0] * np.array(scaler.scale) + np.array(scaler.offset)
    np.testing.assert_allclose(scaled, data.standardised()[0], atol=1e-5)


def test_a_channel_that_never_moves_can_be_scaled_and_unscaled():
    data = make_set()
    series = tuple(rows.copy() for rows in data.series)
    for rows in series:
        rows[:, 1] = 0.1
    data = replace(data, series=series)
    assert data.deviation[1] == 1
    np.testing.assert_allclose(data.standardised()[0][:, 1], 0, atol=1e-7)


@pytest.mark.parametrize(("part", "begin", "end"), [("validation", 20, 30), ("test", 30, 38)])
def test_the_first_target_is_the_first_row_of_the_part_and_the_last_its_last(part, begin, end):
    data = make_set(rows=(40,), borders=((20, 30, 38),))
    windows = data.windows(part, 12, 3)
    series = data.standardised()[0]
    assert len(windows) == end - begin - 2
    np.testing.assert_array_equal(windows.inputs()[0], series[begin - 12 : begin])
    np.testing.assert_array_equal(windows.targets()[0], series[begin : begin + 3])
    np.testing.assert_array_equal(windows.targets()[-1], series[end - 3 : end])
    assert windows.times_ms()[0] == begin * 1000


def test_no_window_crosses_a_missing_stretch_or_devices():
    data = make_set()
    times = data.times_ms[0].copy()
    times[9:] += 5000
    data = replace(data, times_ms=(times, data.times_ms[1]))
    for part in ("train", "validation", "test"):
        windows = data.windows(part, 4, 3)
        for index in range(len(windows)):
            rows = windows.first[index] + np.arange(-4, 3)
            assert (np.diff(windows.times[rows]) == 1000).all()
            owner = int(windows.device[index])
            assert rows.min() >= (0, 40)[owner]
            assert rows.max() < (40, 70)[owner]
    assert len(data.windows("train", 4, 3)) == (9 - 6) + (11 - 6) + (14 - 6)


def test_windows_are_cut_by_index_with_a_stride():
    windows = make_set().windows("train", 4, 3, stride=5)
    assert windows.first.tolist() == [4, 9, 14, 44, 49]
    picked = windows.inputs(np.array([3, 0]))
    np.testing.assert_array_equal(picked, windows.inputs()[[3, 0]])
    assert picked.shape == (2, 4, 2)
    assert picked.dtype == np.float32
    assert windows.targets(slice(1, 3)).shape == (2, 3, 2)


def test_before_the_test_part_every_part_moves_back():
    data = make_set(rows=(40,), borders=((20, 26, 38),))
    earlier = data.before_test()
    assert earlier.borders == ((14, 20, 26),)
    times = data.times_ms[0].copy()
    times[17:] += 4000
    assert replace(data, times_ms=(times,)).before_test().borders == ((17, 20, 26),)
    with pytest.raises(DataSetError, match="not longer than the validation part"):
        replace(data, borders=((6, 12, 20),)).before_test()


def test_a_device_without_training_readings_is_judged_as_a_whole():
    data = make_set(borders=((20, 26, 38), (0, 30, 30)))
    assert len(data.windows("train", 4, 3)) == 14
    assert data.before_test().borders == ((14, 20, 26), (0, 0, 30))
    with pytest.raises(DataSetError, match="no training reading"):
        replace(data, borders=((0, 26, 38), (0, 30, 30)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"borders": ((20, 30, 41), (14, 20, 30))}, "borders"),
        ({"devices": ("d0",)}, "1 devices, 2 series"),
        ({"step_ms": 0}, "step_ms 0"),
        ({"channels": (Channel(name="c0", unit="1"),)}, "1 channels"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(change, message):
    with pytest.raises(DataSetError, match=message):
        replace(make_set(), **change)


def test_missing_values_and_disorder_are_refused():
    data = make_set(rows=(40,), borders=((20, 30, 38),))
    rows = data.series[0].copy()
    rows[3, 1] = np.nan
    with pytest.raises(DataSetError, match="c1 of row 3 is nan"):
        replace(data, series=(rows,))
    times = data.times_ms[0].copy()
    times[8] = times[7]
    with pytest.raises(DataSetError, match="row 8 is not after"):
        replace(data, times_ms=(times,))


def test_a_part_that_is_too_short_says_what_to_do():
    with pytest.raises(DataSetError, match=r"no stretch of the test part has 4 \+ 20 readings"):
        make_set().windows("test", 4, 20)
