"""Whose clock is wrong: one device's, or this machine's."""

from __future__ import annotations

import pytest

from ingest.clockjudge import ALONE_S, NEVER_SET_MS, ClockJudge, Verdict

NOW = 1_790_000_000_000
HOUR = 3_600_000
FUTURE = 300_000


def heard(votes: dict[str, int], judge: ClockJudge | None = None) -> ClockJudge:
    judge = judge or ClockJudge(FUTURE)
    for device, event_ms in votes.items():
        judge.hear(device, event_ms, 10.0)
    return judge


def fleet(count: int, event_ms: int, name: str = "device") -> dict[str, int]:
    return {f"{name}-{n}": event_ms for n in range(count)}


@pytest.mark.parametrize("count", [2, 3, 50])
@pytest.mark.parametrize("ahead_ms", [FUTURE + 1, 3 * HOUR, 40 * 24 * HOUR, 30 * 365 * 24 * HOUR])
def test_when_all_are_ahead_it_is_this_machine(count: int, ahead_ms: int) -> None:
    judge = heard(fleet(count, NOW + ahead_ms))
    assert judge.judge("device-0", NOW + ahead_ms, NOW, 10.0) is Verdict.machine
    assert judge.behind_ms(NOW) == ahead_ms


@pytest.mark.parametrize(("ahead", "fine"), [(1, 1), (1, 50), (2, 1), (8, 2), (44, 6)])
def test_when_some_are_ahead_it_is_they(ahead: int, fine: int) -> None:
    judge = heard(fleet(ahead, NOW + HOUR, "bad") | fleet(fine, NOW - 20))
    assert judge.judge("bad-0", NOW + HOUR, NOW, 10.0) is Verdict.device


@pytest.mark.parametrize(("ahead", "fine"), [(9, 1), (50, 5)])
def test_one_in_ten_that_is_behind_itself_does_not_outvote_the_rest(ahead: int, fine: int) -> None:
    judge = heard(fleet(ahead, NOW + HOUR) | fleet(fine, NOW, "slow"))
    assert judge.judge("device-0", NOW + HOUR, NOW, 10.0) is Verdict.machine


def test_a_step_back_of_this_machine_turns_every_vote_at_once() -> None:
    judge = heard(fleet(50, NOW))
    assert judge.judge("device-7", NOW, NOW - HOUR, 10.0) is Verdict.machine
    assert judge.judge("device-7", NOW + FUTURE + 1, NOW, 10.0) is Verdict.device


def test_a_device_alone_waits_for_another_vote_and_then_it_is_its_own() -> None:
    judge = heard({"one": NOW + HOUR})
    found = [
        judge.judge("one", NOW + HOUR, NOW, 10.0 + at_s) for at_s in (0.0, ALONE_S - 1, ALONE_S)
    ]
    assert found == [Verdict.undecided, Verdict.undecided, Verdict.device]


@pytest.mark.parametrize(
    ("other_ms", "verdict"), [(NOW, Verdict.device), (NOW + HOUR, Verdict.machine)]
)
def test_another_vote_decides_at_once(other_ms: int, verdict: Verdict) -> None:
    judge = heard({"one": NOW + HOUR})
    assert judge.judge("one", NOW + HOUR, NOW, 10.0) is Verdict.undecided
    judge.hear("two", other_ms, 11.0)
    assert judge.judge("one", NOW + HOUR, NOW, 11.0) is verdict


def test_old_data_has_no_vote() -> None:
    judge = heard(fleet(5, NOW + HOUR) | fleet(50, NOW - 48 * HOUR, "replayed"))
    assert judge.judge("device-0", NOW + HOUR, NOW, 10.0) is Verdict.machine


def test_devices_that_do_not_agree_with_each_other_are_wrong_themselves() -> None:
    judge = heard({"one": NOW + 10 * HOUR, "two": NOW + 300 * HOUR, "three": NOW + 5000 * HOUR})
    assert judge.judge("one", NOW + 10 * HOUR, NOW, 10.0) is Verdict.device


def test_times_in_microseconds_are_no_vote() -> None:
    judge = heard(fleet(50, 1000 * NOW))
    assert judge.judge("device-0", 1000 * NOW, NOW, 10.0) is Verdict.device
    judge.hear("right", NOW + HOUR, 10.0)
    assert judge.judge("right", NOW + HOUR, NOW, 10.0) is Verdict.undecided


def test_one_device_is_enough_when_nobody_has_set_the_clock() -> None:
    judge = heard({"one": NOW})
    assert judge.judge("one", NOW, 86_400_000, 10.0) is Verdict.machine
    assert judge.judge("one", NOW, NEVER_SET_MS, 10.0) is Verdict.undecided


def test_who_has_fallen_silent_has_no_vote_but_waiting_costs_none() -> None:
    judge = heard(fleet(5, NOW))
    assert judge.judge("device-0", NOW, NOW - HOUR, 5_000.0) is Verdict.machine
    judge.hear("late-comer", NOW, 5_000.0)
    assert judge.judge("late-comer", NOW, NOW - HOUR, 5_000.0) is Verdict.undecided


def test_made_up_names_are_bounded_and_the_silent_leave_first() -> None:
    judge = heard(fleet(5000, NOW))
    assert len(judge._votes) == 1024
    judge.hear("living", NOW, 1_000.0)
    assert list(judge._votes) == ["living"]


def test_the_time_that_devices_agree_with_is_right_and_no_other() -> None:
    judge = heard(fleet(50, NOW) | fleet(2, NOW + 5 * HOUR, "bad"))
    times = [NOW - HOUR, NOW, NOW + HOUR // 2, NOW + 2 * HOUR, NOW + 40 * 24 * HOUR]
    assert [judge.agrees(ms) for ms in times] == [False, True, True, False, False]
    assert not ClockJudge(FUTURE).agrees(NOW)
