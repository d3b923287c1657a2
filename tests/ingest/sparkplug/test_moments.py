"""One moment in several messages is one whole reading, after a bounded wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from ingest.decoder import Decoded
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.store import SparkplugStore
from tests.fakes.sparkplugnode import EdgeNode
from tests.ingest.sparkplug.test_decoder import T0_MS, mapping, node, readings, take

WAIT_MS = 100


@pytest.fixture
def sparkplug(tmp_path: Path) -> Iterable[Sparkplug]:
    found = begin(tmp_path)
    yield found
    found.close()


def begin(folder: Path) -> Sparkplug:
    store = SparkplugStore(folder / "sparkplug.db")
    return Sparkplug(mapping(complete_within_ms=WAIT_MS), store)


@pytest.fixture
def line(sparkplug: Sparkplug) -> EdgeNode:
    found = node()
    take(sparkplug, *found.births(T0_MS))
    return found


def rows(sparkplug: Sparkplug, line: EdgeNode, at: int, **values: float) -> list[tuple]:
    named = {f"Sensors/{name.upper()}": value for name, value in values.items()}
    return flat(take(sparkplug, line.data("press", T0_MS + at, named)))


def due(sparkplug: Sparkplug, after_ms: int | None) -> list[tuple]:
    messages = sparkplug.due(None if after_ms is None else T0_MS + after_ms)
    return flat(readings(Decoded(messages)))


def flat(found: list) -> list[tuple]:
    return [(ts_ms - T0_MS, values["a"], values["b"]) for _, _, ts_ms, values in found]


def test_the_messages_of_a_moment_are_one_reading(sparkplug: Sparkplug, line: EdgeNode) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    assert rows(sparkplug, line, 10, b=6.0) == [(10, 5.0, 6.0)]
    assert rows(sparkplug, line, 20, a=7.0, b=8.0) == [(20, 7.0, 8.0)], "complete at once"
    assert due(sparkplug, None) == []


def test_a_later_moment_ends_the_wait(sparkplug: Sparkplug, line: EdgeNode) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    assert rows(sparkplug, line, 20, a=7.0) == [(10, 5.0, 2.0)]
    assert rows(sparkplug, line, 20, b=8.0) == [(20, 7.0, 8.0)]


def test_the_wait_is_bounded_and_begins_with_the_first_message(
    sparkplug: Sparkplug, line: EdgeNode
) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    assert due(sparkplug, WAIT_MS - 1) == []
    assert rows(sparkplug, line, 10, a=6.0) == []
    assert due(sparkplug, WAIT_MS) == [(10, 6.0, 2.0)]
    assert due(sparkplug, WAIT_MS) == []


def test_a_clock_that_was_set_back_ends_the_wait(sparkplug: Sparkplug, line: EdgeNode) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    assert due(sparkplug, -60_000) == [(10, 5.0, 2.0)]


@pytest.mark.parametrize("end", ["birth", "death", "death of the device", "gap"])
def test_what_ends_the_values_ends_the_wait(sparkplug: Sparkplug, line: EdgeNode, end: str) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    if end == "birth":
        messages = line.births(T0_MS + 20)
    elif end == "death":
        messages = [line.ndeath(T0_MS)]
    elif end == "death of the device":
        messages = [line.ddeath("press", T0_MS + 20)]
    else:
        line.data("press", T0_MS + 20, {"Sensors/A": 6.0})  # lost
        messages = [line.data("press", T0_MS + 30, {"Sensors/A": 7.0, "Sensors/B": 8.0})]
    found = flat(take(sparkplug, *messages))
    assert found == [(10, 5.0, 2.0), *([(30, 7.0, 8.0)] if end == "gap" else [])]
    assert due(sparkplug, None) == []


def test_a_waiting_reading_survives_a_restart(
    sparkplug: Sparkplug, line: EdgeNode, tmp_path: Path
) -> None:
    assert rows(sparkplug, line, 10, a=5.0) == []
    checkpoint = sparkplug.checkpoint()
    assert checkpoint is not None
    asyncio.run(sparkplug.keep(checkpoint))
    sparkplug.close()
    again = begin(tmp_path)
    assert rows(again, line, 10, b=6.0) == [(10, 5.0, 6.0)]
    again.close()


def test_history_does_not_wait(sparkplug: Sparkplug, line: EdgeNode) -> None:
    message = line.data("press", T0_MS - 500, {"Sensors/A": 9.0}, historical=True)
    take(sparkplug, line.ndeath(T0_MS))
    line.bdseq += 1
    take(sparkplug, *line.births(T0_MS))
    message = line.data("press", T0_MS - 500, {"Sensors/A": 9.0}, historical=True)
    assert flat(take(sparkplug, message)) == [(-500, 9.0, 2.0)]
