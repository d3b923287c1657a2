"""Window state on the local log: one append a checkpoint, read in parts, safe at every kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.messages import Batch
from pipeline.errors import LogFull
from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.state import NewRecord
from pipeline.log.statetable import LogTable
from pipeline.windows.devices import Devices, StreamPlan
from pipeline.windows.spec import WindowSpec

TOPIC = "app-windows-changelog"
PLAN = StreamPlan("m", ("a",), WindowSpec(length=2, hop=1, lateness_ms=0))
T0 = 1_700_000_000_000


@asynccontextmanager
async def table(
    path: Path, stopping: Callable[[], bool] = lambda: False, **options: Any
) -> AsyncIterator[LogTable]:
    async def opened() -> SqliteLog:
        return open_log(path, partitions=2, **options)

    found = LogTable(TOPIC, 2, opened, stopping)
    try:
        yield found
    finally:
        await found.close()


async def read(found: LogTable, *partitions: int) -> dict[str, bytes | None]:
    rows = {}
    async for names in found.read(partitions):
        rows |= {name: found.get(name) for name in names}
    return rows


async def test_rows_of_many_checkpoints_are_read_in_parts_and_removed_ones_are_gone(
    tmp_path: Path,
) -> None:
    async with table(tmp_path / "log.db") as found:
        assert await read(found, 0, 1) == {}
        rows = [(n % 2, f"s/d{n}/x", b"%d" % n) for n in range(1_300)]
        await found.write(rows)
        await found.write([(1, "s/d7/x", b"newer"), (0, "s/d8/x", None)])
        parts = [len(names) async for names in found.read([0, 1])]
        assert (sum(parts), max(parts)) == (1_299, 500)
        assert found.get("s/d7/x") is None, "what was read is not kept"
    async with table(tmp_path / "log.db") as again:
        seen = await read(again, 1)
        assert len(seen) == 650
        assert seen["s/d7/x"] == b"newer"
        assert set(await read(again, 0)) == {name for at, name, _ in rows if not at} - {"s/d8/x"}


async def test_a_row_of_the_version_before_is_read_and_replaced(tmp_path: Path) -> None:
    """Faust's tables had the same topic with the same keys."""
    with open_log(tmp_path / "log.db", partitions=2) as log:
        log.create_topic(TOPIC, 2, compacted=True)
        log.append([NewRecord(TOPIC, b"old", b"s/d/x", 1)]).result()
    async with table(tmp_path / "log.db") as found:
        assert await read(found, 0, 1) == {"s/d/x": b"old"}
        await found.write([(1, "s/d/x", b"new")])
        assert await read(found, 0, 1) == {"s/d/x": b"new"}


async def test_rows_wait_for_room_in_a_full_log_until_the_app_stops(tmp_path: Path) -> None:
    stops = False
    options = {"max_bytes": 200_000, "reserve_bytes": 0, "maintenance_ms": 3_600_000}
    async with table(tmp_path / "log.db", lambda: stops, **options) as found:
        await found.write([(0, "s/d/x", bytes(150_000))])
        writing = asyncio.create_task(found.write([(0, "s/e/x", bytes(100_000))]))
        await asyncio.sleep(0.1)
        assert not writing.done()
        await found.write([(0, "s/d/x", None)])
        await asyncio.wait_for(writing, 120)
        stops = True
        with pytest.raises(LogFull):
            await found.write([(0, "s/f/x", bytes(150_000))])


class KilledError(Exception):
    """The process ends here."""


class KillAt:
    """Counts the steps of a run and ends it at one of them."""

    def __init__(self, left: int) -> None:
        self.left = left

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class Line:
    """A worker in small: applies records, appends windows, saves rows in two appends, commits."""

    def __init__(self) -> None:
        self.records = [self.record(n) for n in range(12)]
        self.windows: dict[tuple[str, int], bytes] = {}
        self.rows: dict[str, bytes] = {}
        self.committed = 0

    @staticmethod
    def record(number: int) -> list[Batch]:
        ts = T0 + 10 * np.arange(number, number + 2, dtype=np.int64)  # each reading comes twice
        value = [float(t % 97) for t in ts]
        return [
            Batch("s", device, "x", int(ts[-1]), ts, {"a": value})
            for device in ("d", "e", f"once-{number}")
        ]

    def run(self, kill: KillAt) -> Devices:
        devices = Devices(lambda _stream: PLAN, self.rows.get)
        devices.restore(list(self.rows), lambda _site, _device: 0)
        while self.committed < len(self.records):
            batch = range(self.committed, min(self.committed + 3, len(self.records)))
            for offset in batch:
                kill.step()
                for closed in devices.apply(0, offset, self.records[offset]).windows:
                    for at, (_site, device) in enumerate(closed.senders):
                        end_ms, values = int(closed.end_ms[at]), closed.values[at].tobytes()
                        assert self.windows.setdefault((device, end_ms), values) == values
            rows = devices.dirty_rows()
            for some in (rows[:2], rows[2:]):  # an append is all or nothing, a checkpoint is not
                kill.step()
                self.rows |= {name: row for _, name, row in some if row is not None}
            kill.step()
            self.committed = batch.stop
        return devices


@pytest.mark.parametrize("at", range(30))
def test_a_kill_at_any_step_gives_the_windows_and_counters_of_an_undisturbed_run(at: int) -> None:
    undisturbed, killed = Line(), Line()
    wanted = undisturbed.run(KillAt(10**9))
    for left in (at, at // 2, at // 3, 10**9):
        try:
            found = killed.run(KillAt(left))
        except KilledError:
            continue
    assert killed.windows == undisturbed.windows
    assert found.accounts() == wanted.accounts()
    assert found.totals() == wanted.totals()
    assert found.totals().missing == 0


async def test_closing_waits_for_an_opening_whose_reader_was_cancelled(tmp_path: Path) -> None:
    """A start that is stopped cancels the reader, and the thread that opens the log goes on."""
    may_open = asyncio.Event()
    logs: list[SqliteLog] = []

    async def opened() -> SqliteLog:
        await may_open.wait()
        logs.append(open_log(tmp_path / "log.db", partitions=2))
        return logs[0]

    found = LogTable(TOPIC, 2, opened, lambda: False)
    reading = asyncio.ensure_future(read(found, 0))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    closing = asyncio.ensure_future(found.close())
    await asyncio.sleep(0)
    may_open.set()
    await closing
    assert len(logs) == 1
    assert not (tmp_path / "log.db-wal").exists(), "the log is still open"
