"""The Faust producer on the local log.

A send resolves when the record is durable. While the log is full, the record waits and is tried
again, because a dropped changelog record would be lost state; the commits of the app wait with it.
Sends may therefore use the reserve of the log. If the log fails, the worker stops loudly.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from faust.exceptions import ProducerSendError
from faust.transport.producer import Producer as BaseProducer
from faust.types import TP, RecordMetadata
from mode.utils.times import want_seconds

from ingest.topics import partition_of
from pipeline.errors import LogClosed, LogCorrupt, LogError, LogFailed, LogFull
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord

__all__ = ["Producer", "create_log_topic"]

log = logging.getLogger(__name__)

_SEND_AHEAD_BYTES = 16 * 1024 * 1024
"""A sender waits once this much is on its way to the disk."""
_FULL_RETRY_SECONDS = 0.5


class Producer(BaseProducer):  # type: ignore[misc]
    """Appends to the log for one Faust app.

    Attributes:
        failure: Reason why a record could not be stored; from then on the app commits nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failure: LogError | None = None
        self._log: SqliteLog | None = None
        self._waiting: list[_Send] = []
        self._waiting_bytes = 0
        self._last: asyncio.Future[RecordMetadata] | None = None
        self._is_appending = False
        self._appending_again: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None

    async def on_start(self) -> None:
        """Open the log and start the buffer for table changes."""
        self._log = await self.transport.open()
        self._room = asyncio.Event()
        await super().on_start()

    async def on_stop(self) -> None:
        """Wait until everything sent is durable, then close the log."""
        await self.flush()
        if self._appending_again is not None:
            await self._appending_again
        store, self._log = self._log, None
        if store is not None:
            await asyncio.to_thread(store.close)

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Queue a record; the returned future resolves when it is durable.

        Records keep the order of the calls. Returns at once unless too much is in flight. A record
        that the log cannot take (not bytes, too large, no such partition) fails its future.
        """
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        ts_ms = None if timestamp is None else round(timestamp * 1000)
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        record = NewRecord(topic, value, key, partition, ts_ms, tuple(pairs))
        self._waiting.append(_Send(record, future))
        self._waiting_bytes += len(value or b"")
        self._last = future
        if not self._is_appending:
            self._is_appending = True
            asyncio.get_running_loop().call_soon(self._append_waiting)
        while self._waiting_bytes > _SEND_AHEAD_BYTES and self._room is not None:
            self._room.clear()
            await self._room.wait()
        return future

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """`send`, and wait until the record is durable."""
        return await (await self.send(*args, **kwargs))

    def _append_waiting(self) -> None:
        """Append the sends of this turn of the loop; one append at a time keeps the order."""
        sends, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._is_appending = bool(sends)
        if self._room is not None:
            self._room.set()
        if not sends:
            return
        try:
            future = self._append_batch(sends)
        except (LogError, TypeError, ValueError):
            self._append_again(sends)
        else:
            future.add_done_callback(lambda done: self._note_appended(sends, done))

    def _note_appended(self, sends: list[_Send], done: asyncio.Future[list[int]]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._append_again(sends)
            return
        self._resolve(sends, done.result())
        self._append_waiting()

    def _append_again(self, sends: list[_Send]) -> None:
        """Append, in a task of its own, what the log did not take at once."""

        async def again() -> None:
            try:
                await self._append(sends)
            finally:
                self._append_waiting()

        self._appending_again = asyncio.get_running_loop().create_task(again())

    async def _append(self, sends: list[_Send]) -> None:
        """Append all of `sends` in order; fail those that cannot be stored."""
        rest = deque([sends])
        while rest:
            batch = rest.popleft()
            try:
                offsets = await self._append_batch(batch)
            except LogFull as exc:
                rest.extendleft(reversed(_halves(batch)))  # smaller batches fit sooner
                if self.app.should_stop:  # nothing of it was acked, so a restart repeats it
                    self._give_up(rest, exc)
                else:
                    log.warning("%d records wait: %s", sum(map(len, rest)), exc)
                    await asyncio.sleep(_FULL_RETRY_SECONDS)
            except (LogFailed, LogCorrupt, LogClosed) as exc:
                rest.appendleft(batch)
                self._give_up(rest, exc)
                await self.app.crash(exc)
            except (LogError, TypeError, ValueError) as exc:
                if len(batch) == 1:
                    _fail(batch, ProducerSendError(str(exc)))
                else:  # one record is at fault; the others must be stored
                    rest.extendleft([send] for send in reversed(batch))
            else:
                self._resolve(batch, offsets)

    def _append_batch(self, batch: list[_Send]) -> asyncio.Future[list[int]]:
        store = self._store()
        return store.in_loop(store.append([send.record for send in batch], reserve=True))

    def _resolve(self, sends: list[_Send], offsets: list[int]) -> None:
        for send, offset in zip(sends, offsets, strict=True):
            _resolve(send, offset, self._log)

    def _give_up(self, rest: deque[list[_Send]], reason: LogError) -> None:
        self.failure = reason
        for batch in rest:
            _fail(batch, ProducerSendError(str(reason)))
        rest.clear()

    def _store(self) -> SqliteLog:
        if self._log is None:
            msg = "the producer was used before it was started or after it was stopped"
            raise LogClosed(msg)
        return self._log

    async def flush(self) -> None:
        """Wait until everything sent so far is durable or has failed (see `failure`)."""
        while self.buffer.size and not self.buffer.should_stop:
            await self.buffer.flush()  # returns after 0.1 s without progress
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last})

    def key_partition(self, topic: str, key: bytes) -> TP:
        """Partition of a key, as Kafka computes it."""
        count = None if self._log is None else self._log.topic_partitions(topic)
        return TP(topic, partition_of(key, count or self.app.conf.topic_partitions))

    async def create_topic(self, topic: str, partitions: int, replication: int, **kw: Any) -> None:
        """Create a topic unless it exists, with its compaction and retention."""
        await create_log_topic(self._store(), topic, partitions, **kw)

    def supports_headers(self) -> bool:
        """Headers are stored with the record."""
        return True


async def create_log_topic(
    store: SqliteLog,
    topic: str,
    partitions: int,
    *,
    config: Mapping[str, Any] | None = None,
    retention: Any = None,
    compacting: bool | None = None,
    deleting: bool | None = None,
    timeout: Any = None,
    ensure_created: bool = False,
) -> None:
    """Create a topic unless it exists; `timeout` and `ensure_created` have no effect here."""
    settings = dict(config or {})
    retention_ms = round(want_seconds(retention) * 1000) if retention else None
    if "retention.ms" in settings:
        retention_ms = int(settings["retention.ms"])
    retention_bytes = settings.get("retention.bytes")
    compacted = bool(compacting) or "compact" in str(settings.get("cleanup.policy", ""))
    await store.in_loop(
        store.create_topic_soon(
            topic,
            partitions,
            compacted=compacted,
            retention_ms=retention_ms,
            retention_bytes=None if retention_bytes is None else int(retention_bytes),
        )
    )


@dataclass(frozen=True, slots=True)
class _Send:
    record: NewRecord
    future: asyncio.Future[RecordMetadata]


def _halves(batch: list[_Send]) -> list[list[_Send]]:
    middle = (len(batch) + 1) // 2
    return [half for half in (batch[:middle], batch[middle:]) if half]


def _resolve(send: _Send, offset: int, store: SqliteLog | None) -> None:
    if send.future.done():  # cancelled by the sender
        return
    record = send.record
    partition = record.partition
    if partition is None and record.key is not None and store is not None:
        partition = partition_of(record.key, store.topic_partitions(record.topic) or 1)
    if partition is None:
        partition = -1  # chosen by the log
    tp = TP(record.topic, partition)
    timestamp = None if record.ts_ms is None else record.ts_ms / 1000
    send.future.set_result(RecordMetadata(record.topic, partition, tp, offset, timestamp, 0))


def _fail(sends: list[_Send], error: ProducerSendError) -> None:
    for send in sends:
        if not send.future.done():
            send.future.set_exception(error)
