"""The cases of `pipeline.windows.windower`, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.windows.slabstate import NEVER_MS
from pipeline.windows.spec import WindowSpec, slice_windows
from tests.fakes.onedevice import OneDevice, OneStep

T0 = 1_700_000_000_000


def step(windower: OneDevice, *offsets_ms: int, recv: int | None = None) -> OneStep:
    """Readings at T0 + offset whose value is the offset; received with the last one by default."""
    ts = np.array([T0 + offset for offset in offsets_ms], dtype=np.int64)
    values = np.array([[offset] for offset in offsets_ms], dtype=np.float32).reshape(len(ts), 1)
    return windower.step(ts, values, T0 + (max(offsets_ms, default=0) if recv is None else recv))


def rows(windows: list) -> list[list[float]]:
    return [window.values.ravel().tolist() for window in windows]


def counting(length: int, hop: int = 1, min_readings: int = 0, **options: object) -> OneDevice:
    return OneDevice(WindowSpec(length, hop, min_readings, **options), 1)  # type: ignore[arg-type]


def timing(length_ms: int, hop_ms: int, **options: object) -> OneDevice:
    spec = WindowSpec(kind="time", length_ms=length_ms, hop_ms=hop_ms, **options)  # type: ignore[arg-type]
    return OneDevice(spec, 1)


def test_count_windows_close_at_length_and_then_every_hop() -> None:
    windower = counting(3, 2, lateness_ms=0)
    closed = step(windower, *range(0, 80, 10)).windows
    assert rows(closed) == [[0, 10, 20], [20, 30, 40], [40, 50, 60]]
    assert (closed[0].start_ms, closed[0].end_ms) == (T0, T0 + 21)
    assert not windower.pending


def test_hop_beyond_length_leaves_readings_out() -> None:
    windower = counting(2, 4, lateness_ms=0)
    assert rows(step(windower, *range(11)).windows) == [[0, 1], [4, 5], [8, 9]]


def test_time_window_closes_when_the_watermark_reaches_its_end() -> None:
    windower = timing(100, 100, lateness_ms=0)
    assert step(windower, 0).windows == step(windower, 99).windows == []
    assert rows(step(windower, 100).windows) == [[0, 99]]


def test_window_waits_for_the_watermark() -> None:
    windower = counting(2, 1, lateness_ms=100)
    assert step(windower, 0, 20).windows == []
    assert windower.pending
    assert step(windower, 119).windows == []
    assert rows(step(windower, 120).windows) == [[0, 20]]


def test_reading_as_late_as_the_lateness_is_in_time_and_one_more_is_late() -> None:
    windower = counting(3, 1, lateness_ms=100)
    step(windower, 0, 200)
    assert step(windower, 99).late.tolist() == [0]
    taken = step(windower, 100)
    assert (taken.windowed, taken.late.tolist()) == (1, [])
    assert rows(windower.advance(T0 + 10_000, 0)) == [[0, 100, 200]]


def test_with_lateness_0_only_a_message_is_put_in_order() -> None:
    windower = counting(3, 1, lateness_ms=0)
    assert rows(step(windower, 20, 0, 10).windows) == [[0, 10, 20]]
    assert step(windower, 15).late.tolist() == [0]


def test_duplicates_pending_released_and_within_a_message_are_counted() -> None:
    windower = counting(2, 1, lateness_ms=50)
    first = step(windower, 0, 100, 100)
    assert (first.windowed, first.duplicate) == (2, 1)
    again = step(windower, 0, 100, recv=200)
    assert (again.windowed, again.duplicate, again.corrected) == (0, 2, 0)
    assert rows(windower.advance(T0 + 10_000, 0)) == [[0, 100]]


def send(windower: OneDevice, at: int, value: float, recv: int) -> OneStep:
    values = np.full((1, windower.channels), value, dtype=np.float32)
    return windower.step(np.array([T0 + at]), values, T0 + recv)


def outcomes(*steps: OneStep) -> list[str]:
    return [
        "windowed" * each.windowed
        + "duplicate" * each.duplicate
        + "corrected" * each.corrected
        + "late" * len(each.late)
        for each in steps
    ]


def test_another_version_of_a_reading_corrects_it_until_its_windows_have_closed() -> None:
    windower = counting(2, 2, lateness_ms=50)
    found = [send(windower, 0, 1, 0), send(windower, 0, 2, 10), send(windower, 100, 3, 100)]
    found += [send(windower, 0, 4, 110), send(windower, 100, 5, 120)]  # 0 released, 100 pending
    assert outcomes(*found) == ["windowed", "corrected", "windowed", "corrected", "corrected"]
    closing = send(windower, 200, 6, 200)
    assert rows(closing.windows) == [[4, 5]]
    assert closing.windows[0].recv_ms == T0 + 120
    assert outcomes(send(windower, 0, 7, 210), send(windower, 0, 7, 220)) == ["late", "duplicate"]
    counters = windower.counters
    assert (counters.windowed, counters.corrected, counters.late) == (3, 3, 1)
    assert counters.balances


def test_versions_that_are_delivered_again_are_duplicates_and_correct_nothing() -> None:
    windower = counting(2, 1, lateness_ms=50)
    versions = [(0, 1), (0, 2), (0, 3)]
    for n, (at, value) in enumerate(versions):
        send(windower, at, value, n)
    windower = OneDevice.restore(windower.spec, 1, windower.snapshot())
    again = [send(windower, at, value, 10 + n) for n, (at, value) in enumerate(versions)]
    assert outcomes(*again) == ["duplicate"] * 3
    send(windower, 100, 9, 100)
    assert rows(windower.advance(T0 + 10_000, 0)) == [[3, 9]]
    assert (windower.counters.corrected, windower.counters.duplicate) == (2, 3)


def test_the_version_that_was_received_last_counts_in_any_order_of_the_log() -> None:
    for order in ([(1, 0), (2, 5)], [(2, 5), (1, 0)]):
        windower = counting(2, 1, lateness_ms=50)
        for value, recv in order:
            send(windower, 0, value, recv)
        send(windower, 100, 9, 100)
        assert rows(windower.advance(T0 + 10_000, 0)) == [[2, 9]]
        assert windower.counters.corrected == 1


def test_versions_in_one_message_correct_each_other_in_their_order() -> None:
    windower = counting(1, 1, lateness_ms=50)
    values = np.array([[1], [2], [1], [2], [3]], dtype=np.float32)
    found = windower.step(np.full(5, T0), values, T0)
    assert (found.windowed, found.corrected, found.duplicate) == (1, 2, 2)
    assert rows(windower.advance(T0 + 10_000, 0)) == [[3]]


def test_a_corrected_row_is_in_the_coming_windows_and_not_in_those_that_have_closed() -> None:
    windower = counting(2, 1, lateness_ms=0)
    closed = [window for at in (0, 1, 2) for window in send(windower, at, at, at).windows]
    assert outcomes(send(windower, 2, 20, 3), send(windower, 1, 10, 3)) == ["corrected", "late"]
    closed += send(windower, 3, 3, 3).windows
    assert rows(closed) == [[0, 1], [1, 2], [20, 3]]


def test_two_zeros_are_one_value_and_the_memory_of_versions_is_bounded() -> None:
    windower = counting(2, 1, lateness_ms=50)
    assert outcomes(send(windower, 0, 0.0, 0), send(windower, 0, -0.0, 1)) == [
        "windowed",
        "duplicate",
    ]
    before = len(windower.snapshot())
    for n in range(1, 1000):
        send(windower, 0, n, n)
    assert windower.counters.corrected == 999
    assert len(windower.snapshot()) <= before + 256 * 16


def test_duplicate_is_known_for_as_long_as_promised_then_late() -> None:
    windower = counting(4, 4, lateness_ms=0)
    for at in range(2000):
        step(windower, at)
    restored = OneDevice.restore(windower.spec, 1, windower.snapshot())
    for each in (windower, restored):
        assert step(each, 2000 - 1024).duplicate == 1
        assert step(each, 2000 - 1025).late.tolist() == [0]


def test_future_reading_is_not_accepted_and_moves_no_watermark() -> None:
    windower = counting(2, 1, lateness_ms=0, future_ms=1000)
    found = step(windower, 0, 5000, 1500, recv=500)
    assert (found.windowed, found.future.tolist()) == (2, [1])
    assert windower.max_event_ms == T0 + 1500
    assert windower.watermark_ms == T0 + 1500


def test_known_reading_that_a_stepped_back_gateway_clock_makes_future_counts_once() -> None:
    windower = counting(2, 1, lateness_ms=0, future_ms=1000)
    step(windower, 5000)
    again = step(windower, 5000, recv=0)
    assert (again.duplicate, again.future.tolist()) == (0, [0])
    assert windower.counters.balances


def test_jump_within_the_future_limit_makes_the_present_late_until_it_catches_up() -> None:
    windower = counting(2, 1, lateness_ms=0)
    step(windower, 0, 10)
    step(windower, 60_000, recv=20)
    assert step(windower, 30).late.tolist() == [0]
    assert step(windower, 59_999).late.tolist() == [0]
    assert rows(step(windower, 60_010).windows) == [[60_000, 60_010]]


def test_clock_set_back_is_late_and_counted_and_does_not_hold_up_what_is_pending() -> None:
    windower = counting(2, 1)
    step(windower, 3_600_000, 3_600_010)
    for at in range(0, 600, 10):
        assert step(windower, at, recv=3_600_010 + at).windowed == 0
    assert rows(windower.advance(T0 + 3_600_600, T0)) == [[3_600_000, 3_600_010]]
    assert windower.counters.late == 60
    assert windower.counters.balances


def test_gap_resets_the_run_or_is_marked() -> None:
    offsets = (0, 10, 20, 1000, 1010, 1020)
    reset = counting(3, 1, lateness_ms=0, gap_ms=100)
    found = step(reset, *offsets)
    assert found.gaps == reset.counters.gaps == 1
    assert rows(found.windows) == [[0, 10, 20], [1000, 1010, 1020]]
    mark = counting(3, 1, lateness_ms=0, gap_ms=100, gap_policy="mark")
    found = step(mark, *offsets)
    assert found.gaps == 1
    assert [window.gaps for window in found.windows] == [0, 1, 1, 0]


def test_gap_between_messages_is_found_and_a_jump_of_just_gap_ms_is_none() -> None:
    windower = counting(2, 1, lateness_ms=0, gap_ms=100)
    step(windower, 0)
    assert rows(step(windower, 100).windows) == [[0, 100]]
    assert step(windower, 201).gaps == 1
    assert windower.counters.windows == 1


def test_gap_found_by_a_tick_is_counted() -> None:
    windower = counting(2, 1, gap_ms=100)
    step(windower, 0, 150)
    assert windower.counters.gaps == 0
    windower.advance(T0 + 10_000, 0)
    assert windower.counters.gaps == 1


def test_short_runs_are_front_padded_in_phase_with_the_full_windows() -> None:
    windower = counting(4, 2, 1, lateness_ms=0)
    closed = step(windower, *range(6)).windows
    assert rows(closed) == [[0, 0, 0, 1], [0, 1, 2, 3], [2, 3, 4, 5]]
    assert [window.readings for window in closed] == [2, 4, 4]
    assert closed[0].start_ms == T0


def test_padding_restarts_after_a_gap() -> None:
    windower = counting(3, 1, 2, lateness_ms=0, gap_ms=100)
    closed = step(windower, 0, 10, 20, 1000, 1010).windows
    assert rows(closed) == [[0, 0, 10], [0, 10, 20], [1000, 1000, 1010]]


def test_idle_closes_only_after_silence_on_a_connection_that_was_up() -> None:
    windower = counting(2, 1, idle_ms=500)
    step(windower, 0, 10)
    assert windower.advance(T0 + 509, 0) == []
    assert windower.advance(T0 + 5000, T0 + 4501) == []
    assert rows(windower.advance(T0 + 5000, T0 + 4500)) == [[0, 10]]
    assert not windower.pending
    assert windower.advance(T0 + 9000, 0) == []


def test_a_clock_set_back_restarts_the_silence_and_does_not_end_idle_closing() -> None:
    windower = counting(2, 1, idle_ms=500)
    step(windower, 0, 10, recv=3_600_000)
    assert windower.advance(T0 + 1000, T0) == []
    windower = OneDevice.restore(windower.spec, 1, windower.snapshot())
    assert windower.advance(T0 + 1499, T0) == []
    assert rows(windower.advance(T0 + 1500, T0)) == [[0, 10]]


def test_an_idle_count_windower_takes_the_next_reading_at_any_later_event_time() -> None:
    windower = counting(2, 1)
    step(windower, 0, 10)
    windower.advance(T0 + 60_000, 0)
    assert step(windower, 11).windowed == 1
    assert step(windower, 5).late.tolist() == [0]


def test_time_windows_are_aligned_half_open_and_hold_all_their_readings() -> None:
    windower = timing(100, 50, lateness_ms=0)
    assert T0 % 100 == 0
    closed = step(windower, 10, 60, 99, 100, 150).windows
    assert [(w.start_ms - T0, w.end_ms - T0) for w in closed] == [(-50, 50), (0, 100), (50, 150)]
    assert rows(closed) == [[10], [10, 60, 99], [60, 99, 100]]
    assert windower.pending


def test_time_window_of_a_silent_device_closes_when_its_end_has_passed() -> None:
    windower = timing(1000, 1000, lateness_ms=0, idle_ms=500)
    step(windower, 100, recv=100)
    assert windower.advance(T0 + 1499, 0) == []
    assert windower.pending
    closed = windower.advance(T0 + 1500, 0)
    assert [(w.start_ms, w.end_ms) for w in closed] == [(T0, T0 + 1000)]
    assert not windower.pending
    assert step(windower, 999, recv=1600).late.tolist() == [0]
    assert step(windower, 1000, recv=1600).windowed == 1


def test_time_windows_skip_a_long_silence_without_walking_through_it() -> None:
    windower = timing(2, 1, lateness_ms=0, future_ms=2**60)
    step(windower, 0)
    year_ms = 365 * 86_400_000
    closed = step(windower, year_ms, year_ms + 5).windows
    assert len(closed) == 4


def test_time_windows_below_min_readings_are_left_out() -> None:
    windower = timing(100, 100, lateness_ms=0, min_readings=2)
    assert rows(step(windower, 0, 100, 110, 200).windows) == [[100, 110]]


def test_receive_time_of_a_window_is_that_of_its_last_received_reading() -> None:
    windower = counting(3, 1, lateness_ms=100)
    step(windower, 0, 20, recv=30)
    step(windower, 10, recv=90)
    step(windower, 200, recv=250)
    assert windower.advance(T0 + 10_000, 0)[0].recv_ms == T0 + 250
    assert (
        slice_windows(np.array([5, 3]), np.zeros((2, 1), np.float32), WindowSpec(2, 1))[0].recv_ms
        == 5
    )


def test_closed_window_never_changes_and_cannot_be_written_to() -> None:
    windower = counting(2, 1, lateness_ms=0)
    window = step(windower, 0, 10).windows[0]
    for at in range(20, 10_000, 10):
        step(windower, at)
    assert window.values.ravel().tolist() == [0, 10]
    with pytest.raises(ValueError, match="read-only"):
        window.values[0] = 1


def test_message_larger_than_all_buffers_and_small_ones_after_it() -> None:
    ts = T0 + 20 * np.arange(30_000)
    values = np.arange(60_000, dtype=np.float32).reshape(-1, 2)
    spec = WindowSpec(128, 64, gap_ms=100)
    windower = OneDevice(spec, 2)
    closed = windower.step(ts[:10_000], values[:10_000], T0 + 10**6).windows
    for lo in range(10_000, 30_000, 7):
        closed += windower.step(ts[lo : lo + 7], values[lo : lo + 7], T0 + 10**6).windows
    closed += windower.advance(T0 + 10**7, 0)
    expected = slice_windows(ts, values, spec)
    assert len(closed) == len(expected)
    for window, wanted in zip(closed, expected, strict=True):
        assert (window.start_ms, window.end_ms) == (wanted.start_ms, wanted.end_ms)
        np.testing.assert_array_equal(window.values, wanted.values)


def test_empty_message_and_a_new_device() -> None:
    windower = counting(2)
    nothing = step(windower)
    assert (nothing.windows, nothing.windowed, nothing.duplicate) == ([], 0, 0)
    assert windower.max_event_ms == NEVER_MS
    assert windower.advance(T0, 0) == []
    assert not windower.pending


def test_wrong_shape_is_an_error_that_changes_nothing() -> None:
    windower = counting(2)
    with pytest.raises(ValueError, match=r"need values \[2, 1\], not \[2, 3\]"):
        windower.step(np.array([T0, T0 + 1]), np.zeros((2, 3), np.float32), T0)
    assert windower.counters.received == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0, "hop": 1},
        {"length": 3, "hop": 0},
        {"length": 3, "hop": 1, "min_readings": 4},
        {"length": 3, "hop": 1, "length_ms": 5},
        {"length": 3, "hop": 1, "lateness_ms": -1},
        {"length": 3, "hop": 1, "gap_ms": 0},
        {"length": 3, "hop": 1, "gap_policy": "fill"},
        {"length": 3, "hop": 1, "kind": "session"},
        {"kind": "time", "length_ms": 5},
        {"kind": "time", "length_ms": 5, "hop_ms": 5, "length": 3},
    ],
)
def test_an_invalid_spec_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="invalid window spec"):
        WindowSpec(**wrong)


def test_the_rate_is_that_of_the_readings_as_they_come() -> None:
    windower = counting(8)
    assert windower.rate_hz is None
    for start in (0, 5000, 60_000):  # silence does not count
        ts = T0 + start + 25 * np.arange(40)
        windower.step(ts, np.zeros((40, 1), np.float32), int(ts[-1]))
    assert windower.rate_hz == 40.0
    assert OneDevice.restore(windower.spec, 1, windower.snapshot()).rate_hz == 40.0
