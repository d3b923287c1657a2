"""Steps of the machine's clock count only when they last."""

from __future__ import annotations

import pytest

from ingest import clock
from ingest.clock import CONFIRM_MS, MachineClock, RunningTime

DAY_MS = 86_400_000
EPOCH_MS = 1_780_000_000_000


class Clocks:
    """A monotonic clock, and a machine's clock that a test sets."""

    def __init__(self) -> None:
        self.steady_ms = 5_000
        self.ahead_ms = EPOCH_MS
        self.clock = MachineClock(lambda: self.steady_ms + self.ahead_ms, lambda: self.steady_ms)

    def run(self, ms: int) -> int:
        """Let time pass in steps of a second; the last time read."""
        for _ in range(ms // 1000):
            self.steady_ms += 1000
            self.clock.now_ms()
        return self.clock.now_ms() - EPOCH_MS - self.steady_ms


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("step_ms", [40 * DAY_MS, -120_000, -56 * 365 * DAY_MS, 1_001])
def test_a_step_of_some_seconds_changes_nothing(clocks: Clocks, step_ms: int) -> None:
    clocks.run(10_000)
    clocks.ahead_ms += step_ms
    assert clocks.run(20_000) == 0
    assert clocks.clock.state().step_ms == step_ms
    assert clocks.clock.state().step_for_ms == 19_000
    clocks.ahead_ms -= step_ms
    assert clocks.run(2 * CONFIRM_MS) == 0
    assert clocks.clock.state() == clock.ClockState(passed_total=1)


@pytest.mark.parametrize("step_ms", [40 * DAY_MS, -120_000])
def test_a_step_that_lasts_counts_after_a_minute(clocks: Clocks, step_ms: int) -> None:
    clocks.ahead_ms += step_ms
    assert clocks.run(CONFIRM_MS) == 0
    assert clocks.run(1_000) == step_ms
    assert clocks.clock.state() == clock.ClockState(steps_total=1)


def test_small_corrections_are_followed_at_once(clocks: Clocks) -> None:
    for _ in range(100):
        clocks.ahead_ms += 40
        clocks.run(1_000)
    assert clocks.run(1_000) == 4_000
    assert clocks.clock.state() == clock.ClockState()


def test_a_second_step_starts_the_minute_again(clocks: Clocks) -> None:
    clocks.ahead_ms += DAY_MS
    clocks.run(50_000)
    clocks.ahead_ms += DAY_MS
    assert clocks.run(50_000) == 0
    assert clocks.run(20_000) == 2 * DAY_MS


def test_a_step_that_is_corrected_slowly_is_still_one_step(clocks: Clocks) -> None:
    clocks.ahead_ms += DAY_MS
    for _ in range(CONFIRM_MS // 1000 + 1):
        clocks.ahead_ms -= 100
        clocks.run(1_000)
    assert clocks.clock.state().steps_total == 1


def test_time_never_stands_still_during_a_step_back(clocks: Clocks) -> None:
    before = clocks.clock.now_ms()
    clocks.ahead_ms -= 120_000
    for _ in range(30):
        clocks.steady_ms += 100
        assert clocks.clock.now_ms() == (before := before + 100)


def test_the_clock_of_the_process_is_that_of_the_machine() -> None:
    assert abs(clock.now_ms() - clock.machine_ms()) < 2 * clock.STEP_MS
    assert abs(clock.utc_now().timestamp() * 1000 - clock.now_ms()) < 2 * clock.STEP_MS


def test_running_time_continues_from_the_file_and_follows_no_step() -> None:
    steady = [100]
    running = RunningTime(EPOCH_MS, EPOCH_MS + 40 * DAY_MS, lambda: steady[0])
    assert running.now_ms() == EPOCH_MS
    steady[0] += 5_000
    assert running.now_ms() == EPOCH_MS + 5_000
    assert RunningTime(None, EPOCH_MS, lambda: steady[0]).now_ms() == EPOCH_MS
    assert RunningTime(EPOCH_MS + DAY_MS, EPOCH_MS, lambda: steady[0]).now_ms() == EPOCH_MS


@pytest.mark.parametrize("is_right", [True, False])
def test_a_step_that_makes_the_time_right_counts_at_once(clocks: Clocks, is_right: bool) -> None:
    asked: list[int] = []

    def ask(ms: int) -> bool:
        asked.append(ms)
        return is_right

    assert not clocks.clock.settle(ask)
    assert asked == []  # no step is pending
    clocks.ahead_ms += DAY_MS
    clocks.run(1_000)
    assert clocks.clock.settle(ask) is is_right
    assert asked == [clocks.steady_ms + clocks.ahead_ms]
    assert clocks.run(1_000) == (DAY_MS if is_right else 0)
