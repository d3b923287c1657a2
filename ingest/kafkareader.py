"""Kafka read from the newest record to the oldest, for people who ask about something recent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint
from ingest.secrettext import error_text

__all__ = ["KafkaBackReader"]

_T = TypeVar("_T")
_PAGE_RECORDS = 64
_ANSWER_S = 20.0


class KafkaBackReader:
    """Reads partitions backwards; a blocking context manager for one thread.

    It belongs to no group and commits nothing, so no consumer notices it.

    Args:
        endpoint: Address of Kafka.
        partitions: Partitions of a topic; all topics of a site have as many.
        page_records: Records fetched at once.
    """

    def __init__(
        self, endpoint: KafkaEndpoint, partitions: int, *, page_records: int = _PAGE_RECORDS
    ) -> None:
        self._endpoint = endpoint
        self._partitions = partitions
        self._page_records = page_records
        self._loop = asyncio.new_event_loop()
        self._client: AIOKafkaConsumer | None = None

    def __enter__(self) -> KafkaBackReader:
        """Connect.

        Raises:
            LogUnavailable: Kafka does not answer.
            TlsError: A file for TLS is unusable.
        """
        try:
            self._run(self._connect())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._client is not None:
                self._loop.run_until_complete(self._client.stop())
        finally:
            self._loop.close()

    def partitions(self, topic: str) -> int:
        """Number of partitions of a topic."""
        return self._partitions

    def read_back(self, topic: str, partition: int) -> Iterator[bytes | None]:
        """The values of a partition, the newest first; None for a record that deletes its key.

        Records appended after the first one was read are not seen. A page that retention deletes
        meanwhile ends the reading.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        place = TopicPartition(topic, partition)
        first, end = self._run(self._bounds(place))
        while end > first:
            begin = max(first, end - self._page_records)
            yield from reversed(self._run(self._page(place, begin, end)))
            end = begin

    async def _connect(self) -> None:
        client = AIOKafkaConsumer(
            **self._endpoint.options(), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        try:
            await client.start()
        except BaseException:
            await client.stop()
            raise
        self._client = client

    async def _bounds(self, place: TopicPartition) -> tuple[int, int]:
        client = self._started()
        client.assign([place])
        first = await client.beginning_offsets([place])
        end = await client.end_offsets([place])
        return first[place], end[place]

    async def _page(self, place: TopicPartition, begin: int, end: int) -> list[bytes | None]:
        client = self._started()
        client.seek(place, begin)
        values: list[bytes | None] = []
        # Markers of transactions and compacted records leave holes: the position tells the end.
        while await client.position(place) < end:
            for records in (await client.getmany(place, timeout_ms=1000)).values():
                values += [record.value for record in records if begin <= record.offset < end]
        return values

    def _started(self) -> AIOKafkaConsumer:
        if self._client is None:
            msg = "not connected to Kafka: use the reader in a with statement"
            raise LogUnavailable(msg)
        return self._client

    def _run(self, asked: Coroutine[Any, Any, _T]) -> _T:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(asked, _ANSWER_S))
        except (KafkaError, OSError, asyncio.TimeoutError) as exc:
            why = error_text(exc, named=True)
            msg = f"cannot read from Kafka at {self._endpoint.servers}: {why}"
            raise LogUnavailable(msg) from exc
