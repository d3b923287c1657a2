"""Fixtures: a clock and a log that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.log.locallog import SqliteLog
from tests.pipeline.log.logs import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[SqliteLog]:
    log = SqliteLog(
        tmp_path / "log.db", partitions=1, min_free_bytes=0, clock=clock, steady_ms=clock
    )
    yield log
    log.close()
