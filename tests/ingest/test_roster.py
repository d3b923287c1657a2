"""Who may have state: age, number, and the protection of the living."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.roster import Elapsed, Roster, RosterLimits

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
LIMITS = RosterLimits(
    most=6, most_strangers=3, keep_ms=30 * DAY_MS, keep_stranger_ms=DAY_MS, protect_ms=HOUR_MS
)


def full_of_known(heard_ms: int) -> Roster[str]:
    roster = Roster[str](LIMITS)
    for n in range(6):
        roster.restore(f"known-{n}", heard_ms, is_known=True)
    return roster


def test_a_living_key_never_goes_for_a_newcomer() -> None:
    roster = full_of_known(0)
    assert roster.admit("new", HOUR_MS - 1) is None
    assert "new" not in roster
    assert len(roster) == 6


def test_the_known_key_that_was_silent_longest_goes_once_it_may() -> None:
    roster = full_of_known(0)
    roster.hear("known-0", 10)
    assert roster.admit("new", HOUR_MS) == ["known-1"]
    assert "known-0" in roster


def test_strangers_go_before_any_known_key() -> None:
    roster = Roster[str](LIMITS)
    for n in range(4):
        roster.restore(f"known-{n}", 0, is_known=True)
    assert roster.admit("first", 0) == []
    assert roster.admit("second", 1) == []
    assert roster.admit("third", 10 * HOUR_MS) == ["first"]


def test_strangers_fill_no_more_than_their_part() -> None:
    roster = Roster[str](LIMITS)
    for n in range(3):
        assert roster.admit(f"stranger-{n}", n) == []
    assert roster.admit("fourth", 10) is None  # even a stranger may stay for a minute
    assert roster.admit("fourth", MINUTE_MS) == ["stranger-0"]


def test_a_stranger_becomes_known_and_makes_room_for_another() -> None:
    roster = Roster[str](LIMITS)
    for n in range(3):
        roster.admit(f"stranger-{n}", 0)
    roster.know("stranger-1", 5)
    assert roster.strangers == 2
    assert roster.admit("another", 6) == []


def test_silence_removes_strangers_early_and_known_keys_late() -> None:
    roster = Roster[str](LIMITS)
    roster.admit("stranger", 0)
    roster.restore("known", 0, is_known=True)
    roster.restore("living", 0, is_known=True)
    assert roster.expire(DAY_MS - 1) == []
    assert roster.expire(DAY_MS) == ["stranger"]
    roster.hear("living", DAY_MS)
    assert roster.expire(30 * DAY_MS) == ["known"]
    assert len(roster) == 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "hear", "know", "expire"]),
            st.integers(0, 12),
            st.integers(0, 40 * MINUTE_MS),
        ),
        max_size=200,
    )
)
def test_the_limits_hold_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    roster = Roster[int](LIMITS)
    heard: dict[int, int] = {}
    known: set[int] = set()
    now_ms = 0
    for step, key, pause_ms in steps:
        now_ms += pause_ms
        gone: list[int] | None = []
        if step == "expire":
            gone = roster.expire(now_ms)
        elif step == "admit" and key not in roster:
            gone = roster.admit(key, now_ms)
            if gone is not None:
                heard[key] = now_ms
                assert all(now_ms - heard[each] >= HOUR_MS for each in known & set(gone))
        elif key in roster:
            heard[key] = now_ms
            if step == "know":
                roster.know(key, now_ms)
                known.add(key)
            else:
                roster.hear(key, now_ms)
        for each in gone or ():
            del heard[each]
            known.discard(each)
        assert len(roster) == len(heard) <= LIMITS.most
        assert roster.strangers <= LIMITS.most_strangers


def test_a_clock_that_jumps_makes_nobody_old() -> None:
    elapsed = Elapsed()
    elapsed.advance(1_700_000_000_000)
    assert elapsed.advance(1_700_000_000_000 + 40 * DAY_MS) == MINUTE_MS
    assert elapsed.advance(1_700_000_020_000) == MINUTE_MS  # set back
    assert elapsed.advance(1_700_000_021_000) == MINUTE_MS + 1000
