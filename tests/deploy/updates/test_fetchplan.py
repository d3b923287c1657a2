"""When a gateway looks at its centre."""

from __future__ import annotations

import pytest

from deploy.updates.fetch import FetchFailed
from deploy.updates.fetchplan import AWAY_MS, NOTE_MS, FetchPlan

INTERVAL_MS = 900_000


def plan(share: float = 0.5) -> FetchPlan:
    return FetchPlan(INTERVAL_MS // 1000, random_share=lambda: share)


def looked(made: FetchPlan, now_ms: int) -> bool:
    """Look if it is due, and find all well."""
    if not made.is_due(now_ms, has_wanted=False):
        return False
    made.succeeded(now_ms)
    return True


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.8), (0.5, 1.0), (0.999, 1.2)])
def test_interval_is_up_to_a_fifth_shorter_or_longer(share: float, factor: float) -> None:
    made = plan(share)
    assert looked(made, 0), "at the start"
    assert not looked(made, int(INTERVAL_MS * (factor - 0.01)))
    assert looked(made, int(INTERVAL_MS * (factor + 0.01)))


def test_one_look_at_a_time() -> None:
    made = plan()
    assert made.is_due(0, has_wanted=True)
    assert not made.is_due(10 * INTERVAL_MS, has_wanted=True)


def test_note_causes_one_early_look_however_often_it_comes() -> None:
    made = plan()
    looked(made, 0)
    looks = 0
    for second in range(600):
        for _ in range(100):
            made.note(second * 1000)
        looks += looked(made, second * 1000)
    assert 20 <= looks <= 600_000 // NOTE_MS
    assert made.notes_total == 60_000


def test_note_that_comes_while_a_look_runs_is_not_forgotten() -> None:
    made = plan(0.0)
    assert made.is_due(0, has_wanted=False)
    made.note(100)
    made.succeeded(200)
    assert made.is_due(300, has_wanted=False)
    made.succeeded(400)
    assert not made.is_due(500, has_wanted=False)


def test_pauses_grow_to_the_interval_and_end_with_a_success() -> None:
    made, now_ms, pauses = plan(), 0, []
    for _ in range(12):
        assert made.is_due(now_ms, has_wanted=False)
        made.failed(FetchFailed("refused", "away"), now_ms)
        begin = now_ms
        while not made.is_due(now_ms, has_wanted=True):
            now_ms += 1000
        made.failed(FetchFailed("refused", "away"), now_ms)
        pauses.append(now_ms - begin)
        while not made.is_due(now_ms, has_wanted=True):
            now_ms += 1000
        made.fetched([], now_ms)
    assert pauses == sorted(pauses)
    assert pauses[0] <= 6000
    assert pauses[-1] == INTERVAL_MS
    made.succeeded(now_ms)
    assert (made.state, made.detail) == ("ok", "")


def test_what_stops_new_releases() -> None:
    made = plan()
    assert "not been reached" in made.no_moves(0)
    made.succeeded(0)
    assert made.no_moves(10 * AWAY_MS) == ""
    made.failed(FetchFailed("no route", "away"), 1)
    assert made.no_moves(AWAY_MS - 1) == ""
    assert made.no_moves(AWAY_MS) == "no route"
    made.failed(FetchFailed("the metadata expired", "expired"), 2)
    assert made.no_moves(3) == "the metadata expired"
    made.failed(ValueError("strange"), 3)
    assert (made.state, made.no_moves(3)) == ("refused", "strange")
