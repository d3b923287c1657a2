"""The windows of a labelled span, from the log."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import ReadingsGone
from pipeline.explain.logscan import LogFile
from pipeline.explain.spans import span_windows
from pipeline.windows.spec import WindowSpec
from tests.pipeline.explain.plant import CHANNELS, STEP, T0, WHERE, Plant, line, values_at

SPEC = WindowSpec(length=4, hop=4, min_readings=2)


def cut(plant: Plant, first: int, end: int, most: int = 20) -> np.ndarray:
    return span_windows(
        LogFile(plant.folder / "log.db"),
        WHERE,
        CHANNELS,
        SPEC,
        (T0 + first * STEP, T0 + end * STEP),
        most=most,
        max_bytes=10**9,
    )


def table(numbers: range) -> np.ndarray:
    return np.float32([values_at(number) for number in numbers])


def test_windows_lie_in_the_span_as_a_whole_and_begin_with_it(plant: Plant) -> None:
    plant.send(line([*range(6)]), line([*range(6)], device="press-2"))
    plant.send(line([*range(6, 20)]))
    found = cut(plant, 3, 12)
    np.testing.assert_array_equal(found[0], table(range(3, 7)))
    np.testing.assert_array_equal(found[1], table(range(5, 9)))  # half a window on
    np.testing.assert_array_equal(found[-1], table(range(7, 11)))
    assert found.dtype == np.float32


def test_more_windows_than_wanted_are_thinned_evenly(plant: Plant) -> None:
    plant.send(line([*range(40)]))
    found = cut(plant, 0, 40, most=3)
    assert found.shape == (3, 4, len(CHANNELS))
    np.testing.assert_array_equal(found[0], table(range(4)))
    np.testing.assert_array_equal(found[-1], table(range(36, 40)))


def test_readings_that_come_late_or_twice_change_nothing(plant: Plant) -> None:
    plant.send(line([0, 1, 2, 3]), line([6, 7]), line([4, 5]), line([2, 3]))
    np.testing.assert_array_equal(cut(plant, 0, 8)[-1], table(range(4, 8)))


@pytest.mark.parametrize("span", [(0, 3), (100, 140)])
def test_a_span_without_a_whole_window_says_how_long_one_is(
    plant: Plant, span: tuple[int, int]
) -> None:
    plant.send(line([*range(20)]))
    with pytest.raises(ReadingsGone, match="no whole window of 4: mark a longer span"):
        cut(plant, *span)
