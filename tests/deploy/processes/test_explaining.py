"""Points that a thread appends to the log of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from deploy.processes.explaining import PointAppender
from ingest.errors import LogUnavailable
from pipeline.errors import SinkError
from pipeline.points.lines import to_line
from pipeline.points.points import Point

POINT = Point("explanation", (("site", "plant"),), (("channel", "temperature"),), 1_000)


async def test_append_returns_once_the_log_has_the_point() -> None:
    taken: list[bytes] = []

    async def append(value: bytes) -> None:
        await asyncio.sleep(0)
        taken.append(value)

    points = PointAppender()
    points.start(append)
    await asyncio.to_thread(points.append, POINT)
    assert taken == [to_line(POINT).encode()]


async def test_a_log_that_refuses_is_an_error_of_the_store() -> None:
    async def append(_: bytes) -> None:
        raise LogUnavailable("disk full")

    points = PointAppender()
    points.start(append)
    with pytest.raises(SinkError, match="disk full"):
        await asyncio.to_thread(points.append, POINT)


def test_a_point_before_the_start_is_refused() -> None:
    with pytest.raises(SinkError, match="has not started"):
        PointAppender().append(POINT)
