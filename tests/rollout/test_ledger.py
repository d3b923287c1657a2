"""The ledger of a small gateway finds what is lost, doubled, unscored or not finite."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.points.scorecolumns import ScoreColumns
from pipeline.scoring.batch import Scored, StudentScores, Unscored
from tests.fakes.scores import batches_of
from tests.rollout.feed import Feed
from tests.rollout.ledger import Batch, Ledger, read_batches, read_events, unbalanced


@pytest.mark.parametrize(
    ("scored", "found"),
    [
        ([(0, 1), (1, 1), (2, 2)], []),
        ([(0, 1), (2, 1)], ["engine 1 is lost"]),
        ([(0, 1), (0, 2)], ["engine 0 has 2 scores"]),
        ([(0, 1), (1, 0)], ["engine 1 has no finite score"]),
        ([(0, 1), (1, -1)], ["engine 1 has no finite score"]),
    ],
)
def test_what_does_not_balance_is_named(scored: list[tuple[int, int]], found: list[str]) -> None:
    assert unbalanced([Batch(1, "engine", tuple(scored))]) == found


def test_a_restart_goes_on_with_the_next_window_and_cuts_off_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    closed = Feed("engine", 1).take(3, trapped=1)
    ends = [each.window.end_ms for each in closed]
    columns = {"end_ms": ends[:2], "version": 1, "rul": [5.0, float("nan")]}
    part = StudentScores(batches_of(closed[:2])[0], ScoreColumns(2, columns))
    unscored = [Unscored("plant", "press-1", "engine", ends[2], "not finite")]
    ledger.write(7, "engine", Scored([part], unscored))
    ledger.note("failed", 8, student="x")
    with path.open("ab") as file:
        file.write(b'[9,"engine",[[3,')
    assert read_batches(path) == [Batch(7, "engine", ((0, 1), (1, -1), (2, 0)))]
    again = Ledger(path)
    assert again.next["engine"] == 3
    again.write(9, "engine", Scored())
    assert len(read_batches(path)) == 2
    assert read_events(path) == [{"event": "failed", "ms": 8, "student": "x"}]


def test_the_windows_of_a_feed_do_not_depend_on_where_it_began() -> None:
    whole, part = Feed("imu", 3).take(6), Feed("imu", 3, number=4).take(2)
    for one, other in zip(whole[4:], part, strict=True):
        assert one.window.end_ms == other.window.end_ms
        assert (one.window.values == other.window.values).all()
