"""The cases of `pipeline.windows.resample`, one by one, and windows of resampled readings."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.windows.resample import Resampled, Resampler, measured_rate, resample_series
from pipeline.windows.spec import WindowSpec, slice_windows
from tests.fakes.onedevice import OneDevice

T0 = 1_700_000_000_000
SPEC = WindowSpec(16, 8, gap_ms=100, rate_hz=50.0, lateness_ms=100)


def ramp(*offsets_ms: float) -> Resampled:
    """Readings whose value is their offset in ms, resampled to 50 Hz."""
    ts = T0 + np.array(offsets_ms, dtype=np.int64)
    return resample_series(ts, (ts - T0).astype(np.float32)[:, None], 50.0)


def numbers(found: Resampled) -> list[float]:
    return found.values.ravel().tolist()


def wave(hz: float, ts_ms: np.ndarray) -> np.ndarray:
    phase = 2 * np.pi * hz * (ts_ms - T0) / 1000
    return np.sin(phase).astype(np.float32)[:, None]


def test_a_reading_at_a_grid_time_passes_with_its_own_event_time() -> None:
    found = ramp(0, 21, 39, 60, 82)
    assert numbers(found) == [0, 21, 39, 60, 82]
    assert (found.ts_ms - T0).tolist() == [0, 21, 39, 60, 82]
    assert found.real.tolist() == [1] * 5


def test_a_slower_stream_is_linear_between_its_readings() -> None:
    found = ramp(0, 50, 100, 150)
    assert numbers(found) == [0, 20, 40, 60, 80, 100]
    assert found.real.tolist() == [1, 0, 0, 1, 0, 1]
    assert (found.ts_ms - T0).tolist() == [0, 20, 40, 60, 80, 100]


def test_the_mean_of_a_cell_stands_at_its_mean_time() -> None:
    found = ramp(*range(0, 205, 5))
    assert numbers(found)[0] == 0
    np.testing.assert_allclose(numbers(found)[1:], np.arange(20, 200, 20))
    assert found.real.tolist()[1:] == [4] * 9


def test_the_last_cell_waits_for_a_reading_that_ends_it() -> None:
    assert numbers(ramp(0, 20, 30)) == [0, 20]
    assert numbers(ramp(0, 20, 30, 45)) == [0, 20]
    assert numbers(ramp(0, 20, 30, 45, 65)) == [0, 20, 40]


def test_later_readings_at_the_same_grid_time_belong_to_the_next_cell() -> None:
    found = ramp(0, 19, 20, 21, 40, 60)
    assert numbers(found)[:2] == [0, 19]
    assert found.real.tolist() == [1, 1, 3, 1]


@pytest.mark.parametrize("rate_hz", [1 / 3600, 20.0, 50.0, 103.0, 200.0, 1000.0])
def test_a_stream_with_the_rate_passes_bit_for_bit_whatever_the_rounding(rate_hz: float) -> None:
    ts = np.rint(T0 + 0.37 + np.arange(5000) * 1000 / rate_hz).astype(np.int64)
    values = np.random.default_rng(1).normal(size=(5000, 3)).astype(np.float32)
    found = resample_series(ts, values, rate_hz)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.ts_ms, ts)


@pytest.mark.parametrize(("sent_hz", "beyond_hz"), [(100, 48), (120, 48), (200, 48), (200, 40)])
def test_what_the_student_cannot_see_is_not_folded_into_what_it_sees(
    sent_hz: int, beyond_hz: int
) -> None:
    ts = np.rint(T0 + np.arange(20 * sent_hz) * 1000 / sent_hz).astype(np.int64)
    beyond = wave(beyond_hz, ts)  # every second reading of 100 Hz would look like 2 Hz
    found = resample_series(ts, beyond, 50.0)
    assert found.values.std() < 0.25 * beyond.std()
    seen = resample_series(ts, wave(2, ts), 50.0)
    assert np.abs(seen.values - wave(2, seen.ts_ms)).max() < 0.1


@pytest.mark.parametrize("drift", [0.99, 1.01])
def test_a_drifting_clock_is_followed_for_ever(drift: float) -> None:
    ts = np.rint(T0 + np.arange(20_000) * 20 * drift).astype(np.int64)
    found = resample_series(ts, wave(1.5, ts), 50.0)
    assert len(found.ts_ms) == pytest.approx(20_000 * drift, abs=3)
    assert np.abs(found.values - wave(1.5, found.ts_ms)).max() < 0.02
    assert np.abs(np.diff(found.ts_ms) - 20).max() <= 4


def test_a_run_whose_beginning_is_not_at_hand_is_on_the_same_grid() -> None:
    ts = np.rint(T0 + np.arange(400) * 1000 / 37).astype(np.int64)
    values = np.random.default_rng(2).normal(size=(400, 2)).astype(np.float32)
    whole = resample_series(ts, values, 50.0, ts)
    for start in (1, 7, 100):
        part = Resampler(50.0, 2, run_ms=T0).push(ts[start:], values[start:], ts[start:])
        same = np.searchsorted(whole.ts_ms, part.ts_ms)[4:]
        np.testing.assert_array_equal(whole.ts_ms[same], part.ts_ms[4:])
        np.testing.assert_array_equal(whole.values[same], part.values[4:])
        assert len(part.ts_ms) > 0.95 * (400 - start) * 50 / 37


def test_windows_know_their_rate_and_what_was_made_up() -> None:
    ts = T0 + 40 * np.arange(40)
    (window, *_) = slice_windows(ts, wave(1, ts), SPEC)
    assert (window.rate_hz, window.made_up, window.readings) == (25.0, 0.5, 8)
    assert (window.run_ms, window.start_ms, window.end_ms) == (T0, T0, T0 + 15 * 20 + 1)
    assert window.values.shape == (16, 1)
    fast = slice_windows(T0 + 5 * np.arange(200), wave(1, T0 + 5 * np.arange(200)), SPEC)[1]
    assert (fast.rate_hz, fast.made_up, fast.readings) == (200.0, 0.0, 64)


def test_a_padded_window_counts_its_real_readings() -> None:
    spec = WindowSpec(16, 8, 8, rate_hz=50.0)
    ts = T0 + 40 * np.arange(40)
    window = slice_windows(ts, wave(1, ts), spec)[0]
    assert (window.readings, window.made_up, window.rate_hz) == (4, 0.5, 25.0)


def test_a_gap_begins_a_new_grid_and_no_window_spans_it() -> None:
    ts = np.concatenate([T0 + 25 * np.arange(20), T0 + 25 * np.arange(20) + 611])
    windows = slice_windows(ts, wave(1, ts), SPEC)
    assert {window.run_ms for window in windows} == {T0, T0 + 611}
    assert all((w.end_ms <= T0 + 476) == (w.run_ms == T0) for w in windows)
    windower = OneDevice(SPEC, 1)
    windower.step(ts, wave(1, ts), int(ts[-1]))
    assert windower.gaps == 1


def test_a_jump_of_more_than_a_window_is_a_gap_so_that_it_is_not_filled() -> None:
    spec = WindowSpec(16, 1, rate_hz=50.0)
    assert spec.longest_step_ms == 320
    jump = T0 + np.array([0, 20, 40, 60 + 10**9, 80 + 10**9])
    assert resample_windows(spec, jump) == []
    slow = T0 + 320 * np.arange(10)
    assert all(0 < window.made_up < 1 for window in resample_windows(spec, slow))


def resample_windows(spec: WindowSpec, ts: np.ndarray) -> list:
    return OneDevice(spec, 1).step(ts, wave(1, ts), int(ts[-1])).windows


def test_a_released_reading_is_in_the_grid_and_cannot_be_corrected() -> None:
    windower = OneDevice(SPEC, 1)
    ts = T0 + 20 * np.arange(12)  # the last five wait for the watermark
    windower.step(ts, np.zeros((12, 1), np.float32), int(ts[-1]))
    step = windower.step(ts, np.ones((12, 1), np.float32), int(ts[-1]) + 1)
    assert (step.corrected, len(step.late), step.duplicate) == (5, 7, 0)
    step = windower.step(ts, np.ones((12, 1), np.float32), int(ts[-1]) + 2)
    assert (step.corrected, len(step.late), step.duplicate) == (0, 0, 12)
    assert windower.counters.balances


def test_measured_rate_needs_three_readings_and_leaves_silence_out() -> None:
    assert measured_rate(np.array([0, 20])) is None
    assert measured_rate(np.array([0, 20, 40])) == 50.0
    assert measured_rate(np.array([0, 10, 19, 29, 39, 5000, 5010])) == pytest.approx(102, abs=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "time", "length": 0, "hop": 0, "length_ms": 5, "hop_ms": 5},
        {"gap_policy": "mark"},
        {"rate_hz": 0.0},
        {"rate_hz": 1000.5},
        {"rate_hz": float("nan")},
    ],
)
def test_a_rate_that_no_grid_can_have_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="rate_hz"):
        WindowSpec(**{"length": 16, "hop": 8, "rate_hz": 50.0, **wrong})
