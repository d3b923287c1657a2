"""An in-memory log for the bridge that fails, hangs or is slow on request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ingest.blocks import decode_messages
from ingest.deadletter import DeadLetter, decode_dead_letter
from ingest.errors import LogUnavailable
from ingest.logwriter import LogRecord
from ingest.messages import Batch, Tick
from ingest.topics import DEAD_LETTERS, READINGS


class FakeLog:
    """Implements `LogWriter`. `records` is what is "durable"."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.records: list[LogRecord] = []
        self.appends = 0
        self.failures_left = 0
        self.stores_before_failing = False
        self.open = asyncio.Event()  # cleared: appends hang
        self.open.set()
        self.under_way = 0
        self.most_under_way = 0

    async def append(self, records: Sequence[LogRecord]) -> None:
        self.appends += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
            if self.failures_left:
                self.failures_left -= 1
                if self.stores_before_failing:
                    self.records += records
                msg = "told to fail"
                raise LogUnavailable(msg)
            self.records += records
        finally:
            self.under_way -= 1

    def items(self) -> list[Batch | Tick]:
        """Everything in the readings topic, in order."""
        found: list[Batch | Tick] = []
        for record in self.records:
            if record.topic == READINGS:
                for item in decode_messages(record.value):
                    assert isinstance(item, Batch | Tick), item
                    found.append(item)
        return found

    def batches(self) -> list[Batch]:
        return [item for item in self.items() if isinstance(item, Batch)]

    def numbers(self, device: str | None = None) -> list[float]:
        """First value of channel `n` of each batch: the numbers the tests publish."""
        return [b.values["n"][0] for b in self.batches() if device in (None, b.device)]

    def dead_letters(self) -> list[DeadLetter]:
        return [decode_dead_letter(r.value) for r in self.records if r.topic == DEAD_LETTERS]


async def until(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    """Wait until `condition` holds; the limit ends a test that hangs, and asserts no speed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, f"still not so after {timeout_s} s"
        await asyncio.sleep(0.005)


def body(number: float, ts_ms: int = 1_700_000_000_000) -> bytes:
    """One numbered reading."""
    return f'{{"ts": {ts_ms + int(number)}, "values": {{"n": {number}}}}}'.encode()
