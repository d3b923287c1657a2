"""Window state on a local log: a compacted topic, written once per checkpoint.

Faust allows assignment to a table only while a stream event is current, and would write one
changelog record per reading, but a checkpoint belongs to no single event. Its recovery takes every
row through its event loop, and its table keeps all rows in memory. So the topic, which has the name
and the form of a changelog of Faust, is written and read here: all rows of a checkpoint are one
append, and a start reads the rows in parts that are forgotten once their devices are open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from pipeline.errors import LogError, LogFull
from pipeline.log.locallog import SqliteLog
from pipeline.log.sqliteproducer import create_log_topic
from pipeline.log.state import NewRecord

__all__ = ["LogTable"]

log = logging.getLogger(__name__)

_READ_RECORDS = 500
_APPEND_BYTES = 1_000_000
"""Bytes of rows in one append: other writers need not wait for a checkpoint of the whole fleet."""
_FULL_RETRY_S = 0.5


class LogTable:
    """A ``pipeline.scoring.stage.StateTable`` on a compacted topic of the local log.

    Args:
        topic: The topic.
        partitions: Its partitions.
        open_log: Opens the log of the app.
        is_stopping: Whether the app stops, so that waiting for room in the log makes no sense.
    """

    def __init__(
        self,
        topic: str,
        partitions: int,
        open_log: Callable[[], Awaitable[SqliteLog]],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._topic = topic
        self._partitions = partitions
        self._open_log = open_log
        self._is_stopping = is_stopping
        self._opening: asyncio.Task[SqliteLog] | None = None
        self._rows: dict[str, bytes] = {}

    async def read(self, partitions: Iterable[int]) -> AsyncIterator[list[str]]:
        """Names of the saved devices of some partitions, part by part.

        `get` has the rows of a part until the next part is asked for.

        Raises:
            LogError: The log cannot be opened or read.
        """
        store = await self._opened()
        for partition in sorted(partitions):
            offset, end = 0, store.end_offset(self._topic, partition)
            while offset < end:
                records = await asyncio.to_thread(
                    store.read, self._topic, partition, offset, _READ_RECORDS
                )
                if not records:
                    break
                offset = records[-1].offset + 1
                self._rows = {
                    record.key.decode(): record.value
                    for record in records
                    if record.key is not None and record.value is not None
                }
                yield list(self._rows)
        self._rows = {}

    def get(self, key: str) -> bytes | None:
        """The saved row of a device of the part that is being read."""
        return self._rows.get(key)

    async def write(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """Save rows (partition, key, value), or delete them; returns when that is durable.

        While the log is full, the rows wait, because lost state would lose readings.

        Raises:
            LogError: The log failed, or it is full and the app stops.
        """
        store = await self._opened()
        records, size = [], 0
        for partition, name, value in rows:
            records.append(NewRecord(self._topic, value, name.encode(), partition))
            size += len(value or b"")
            if size >= _APPEND_BYTES:
                await self._append(store, records)
                records, size = [], 0
        if records:
            await self._append(store, records)

    async def _append(self, store: SqliteLog, records: list[NewRecord]) -> None:
        while True:
            try:
                await asyncio.wrap_future(store.append(records, reserve=True))
                return
            except LogFull as exc:
                if self._is_stopping():
                    raise
                log.warning("the window state of %d devices waits: %s", len(records), exc)
                await asyncio.sleep(_FULL_RETRY_S)

    async def close(self) -> None:
        """Let go of the log; an opening that is on its way is finished first."""
        opening, self._opening = self._opening, None
        if opening is not None:
            with suppress(LogError):  # it was told where the log was needed
                await asyncio.to_thread((await opening).close)

    async def _opened(self) -> SqliteLog:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        try:
            return await asyncio.shield(self._opening)  # a read that is cancelled leaves it
        except LogError:
            self._opening = None  # the next call tries again
            raise

    async def _open(self) -> SqliteLog:
        store = await self._open_log()
        try:
            await create_log_topic(store, self._topic, self._partitions, compacting=True)
        except BaseException:
            await asyncio.to_thread(store.close)
            raise
        return store
