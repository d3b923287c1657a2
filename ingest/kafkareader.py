"""Kafka read by partitions, outside of any group: backwards for people, forwards for recordings.

A reader belongs to no group and commits nothing, so no consumer notices it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint
from ingest.secrettext import error_text

__all__ = ["KafkaBackReader", "KafkaForwardReader"]

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
        return _answered(self._loop, asked, self._endpoint)


class KafkaForwardReader:
    """Reads partitions from an offset on; blocking, for one thread at a time.

    Args:
        endpoint: Address of Kafka.

    Raises:
        LogUnavailable: Kafka does not answer.
        TlsError: A file for TLS is unusable.
    """

    def __init__(self, endpoint: KafkaEndpoint) -> None:
        self._endpoint = endpoint
        self._loop = asyncio.new_event_loop()
        self._client: AIOKafkaConsumer | None = None
        self.cluster = ""
        try:
            self._run(self._connect())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            self._loop.run_until_complete(client.stop())
        self._loop.close()

    def bounds(self, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        """Return the first offset, and that of the next record, of each partition.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        return self._run(self._bounds([TopicPartition(topic, at) for at in range(partitions)]))

    def read(
        self, topic: str, partition: int, offset: int, end: int
    ) -> Iterator[tuple[int, bytes | None]]:
        """Read the records of a partition from an offset to another, with their offsets.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        place = TopicPartition(topic, partition)
        at = offset
        while at < end:
            found, at = self._run(self._page(place, at, end))
            yield from found

    async def _connect(self) -> None:
        admin = AIOKafkaAdminClient(**self._endpoint.options())
        try:
            await admin.start()
            self.cluster = f"kafka {(await admin.describe_cluster())['cluster_id']}"
        finally:
            await admin.close()
        self._client = client = AIOKafkaConsumer(
            **self._endpoint.options(), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await client.start()

    async def _bounds(self, places: list[TopicPartition]) -> dict[int, tuple[int, int]]:
        client = self._client
        assert client is not None  # noqa: S101 - connected by the constructor
        first = await client.beginning_offsets(places)
        end = await client.end_offsets(places)
        return {place.partition: (first[place], end[place]) for place in places}

    async def _page(
        self, place: TopicPartition, at: int, end: int
    ) -> tuple[list[tuple[int, bytes | None]], int]:
        """Return some records, and the offset behind them."""
        client = self._client
        assert client is not None  # noqa: S101 - connected by the constructor
        client.assign([place])
        client.seek(place, at)
        records = (await client.getmany(place, timeout_ms=1000)).get(place, ())
        found = [(each.offset, each.value) for each in records if at <= each.offset < end]
        return found, await client.position(place)

    def _run(self, asked: Coroutine[Any, Any, _T]) -> _T:
        return _answered(self._loop, asked, self._endpoint)


def _answered(
    loop: asyncio.AbstractEventLoop, asked: Coroutine[Any, Any, _T], endpoint: KafkaEndpoint
) -> _T:
    """Wait for an answer of Kafka.

    Raises:
        LogUnavailable: There is none in time.
    """
    try:
        return loop.run_until_complete(asyncio.wait_for(asked, _ANSWER_S))
    except (KafkaError, OSError, asyncio.TimeoutError) as exc:
        why = error_text(exc, named=True)
        msg = f"cannot read from Kafka at {endpoint.servers}: {why}"
        raise LogUnavailable(msg) from exc
