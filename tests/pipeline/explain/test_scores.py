"""Which score is meant by a device and a time."""

from __future__ import annotations

import pytest

from pipeline.errors import NoScore
from pipeline.explain.scores import DeviceStream, find_score, find_streams
from tests.pipeline.explain.plant import STEP, T0, WHERE, Plant, line, tick


@pytest.fixture
def scored(plant: Plant) -> Plant:
    """Readings 0 to 5, and after a silence 1000 to 1005; a score from the fourth reading on."""
    for number in (*range(6), *range(1000, 1006)):
        plant.send(line([number]))
    plant.send(line([0, 1, 2, 3]), line([0, 1, 2, 3], device="press-2"), tick(2000))
    plant.store()
    return plant


def end(number: int) -> int:
    return T0 + STEP * number + 1


def test_without_a_time_it_is_the_newest_score(scored: Plant) -> None:
    score = find_score(scored.results, WHERE)
    assert (score.start_ms, score.end_ms) == (T0 + STEP * 1002, end(1005))
    assert (score.task.name, score.model, score.version, score.readings) == (
        "rul",
        "dummy-rul",
        1,
        4,
    )
    assert set(score.fields) == {"rul", "rul_low", "rul_high", "rul_due"}


@pytest.mark.parametrize(
    ("at_ms", "number"),
    [
        (end(4), 4),  # the end of a window
        (end(4) - 1, 4),  # its last reading
        (end(4) - 2, 3),
        (end(4) + STEP // 2, 4),  # until the next one
        (end(5) + 900, 5),  # for a while after the last one
    ],
)
def test_a_time_means_the_score_that_was_newest_then(
    scored: Plant, at_ms: int, number: int
) -> None:
    assert find_score(scored.results, WHERE, at_ms).end_ms == end(number)


def test_a_time_in_a_silence_has_no_score_but_neighbours(scored: Plant) -> None:
    with pytest.raises(NoScore) as caught:
        find_score(scored.results, WHERE, T0 + STEP * 500)
    assert str(caught.value) == (
        "no score of plant/press-1/engine at 2023-11-14 22:14:10 UTC; "
        "the last one before is of 2023-11-14 22:13:20.500 UTC, "
        "the first one after is of 2023-11-14 22:15:00 UTC"
    )
    with pytest.raises(NoScore, match=r"the first one after is of 2023-11-14 22:13:20\.300 UTC$"):
        find_score(scored.results, WHERE, T0)
    with pytest.raises(NoScore, match=r"the last one before is of 2023-11-14 22:15:00\.500 UTC$"):
        find_score(scored.results, WHERE, T0 + STEP * 10**6)


def test_a_device_is_found_by_its_name_alone(scored: Plant) -> None:
    assert find_streams(scored.results, "press-1") == [WHERE]
    assert find_streams(scored.results, "plant/press-2") == [
        DeviceStream("plant", "press-2", "engine")
    ]
    assert find_streams(scored.results, "press-1", site="plant", stream="engine") == [WHERE]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"device": "nobody"},
            "no score of nobody; streams with scores: plant/press-1/engine, plant/press-2/engine",
        ),
        (
            {"device": "press-1", "stream": "imu"},
            "no score of press-1/imu; streams with scores: plant/press-1/engine",
        ),
    ],
)
def test_an_unknown_device_is_refused_with_what_there_is(
    scored: Plant, asked: dict[str, str], message: str
) -> None:
    with pytest.raises(NoScore) as caught:
        find_streams(scored.results, **asked)  # type: ignore[arg-type]
    assert str(caught.value) == message
