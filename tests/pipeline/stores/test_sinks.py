"""Delivery: retries until stored, waits as requested, raises permanent errors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingest.backoff import Backoff
from pipeline.errors import SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points.points import Point
from pipeline.stores.sinks import Refused
from pipeline.stores.stage import deliver, log_unavailable

POINT = Point("rul", (("site", "s"),), (("rul", 1.0),), 1)


class FakeSink:
    """A sink that raises the given errors, one at a time, then stores."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.stored: list[Point] = []

    def write(self, points: Sequence[Point]) -> list[Refused]:
        if self.failures:
            raise self.failures.pop(0)
        self.stored.extend(points)
        return [Refused(points[0], "bad")]

    def close(self) -> None:
        pass


async def test_points_are_tried_until_stored_and_refused_ones_come_back() -> None:
    sink = FakeSink(SinkUnavailable("away"), SinkUnavailable("busy", retry_after_ms=7_000))
    pauses: list[float] = []
    tries: list[int] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    refused = await deliver(
        lambda: sink.write([POINT]),
        backoff=Backoff(first_ms=500, max_ms=30_000),
        sleep=sleep,
        on_unavailable=lambda _, attempt: tries.append(attempt),
    )
    assert refused == [Refused(POINT, "bad")]
    assert sink.stored == [POINT]
    assert pauses == [0.5, 7.0]
    assert tries == [1, 2]


async def test_an_error_that_retrying_cannot_help_is_raised() -> None:
    with pytest.raises(SinkError, match="damaged"):
        await deliver(lambda: FakeSink(SinkError("damaged")).write([POINT]))


async def test_delivery_can_be_cancelled_while_the_store_is_unavailable() -> None:
    sink = FakeSink(*[SinkUnavailable("away")] * 100)
    task = asyncio.create_task(
        deliver(lambda: sink.write([POINT]), backoff=Backoff(first_ms=10, max_ms=30_000))
    )
    while len(sink.failures) > 98:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_wrong_setting_is_an_error_and_an_unavailable_store_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for attempt in range(1, 21):
        log_unavailable(SinkUnavailable("away"), attempt)
        log_unavailable(SinkMisconfigured("the token is not accepted"), attempt)
    levels = [record.levelname for record in caplog.records]
    assert levels.count("WARNING") == 2
    assert levels.count("ERROR") == 5
    assert "a setting must be corrected" in caplog.text
