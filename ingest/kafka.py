"""Kafka as the bridge's log: writing, creating topics, reading a compacted topic, offsets.

Only this file and `kafkareader` import aiokafka. Durable means acknowledged by all in-sync
replicas. The producer is idempotent, so its own retries neither duplicate nor reorder records.
Records that the bridge appends again after a failure may be in Kafka twice, as everything
downstream expects.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from ingest.errors import IngestError, LogUnavailable
from ingest.logwriter import LogRecord
from ingest.secrettext import error_text
from ingest.tls import TlsFiles, client_context, probe_tls
from ingest.topics import DEAD_LETTERS, READINGS

__all__ = [
    "MAX_REQUEST_BYTES",
    "KafkaEndpoint",
    "KafkaLogWriter",
    "KafkaProbe",
    "Topic",
    "TopicMismatch",
    "create_topics",
    "read_until",
]

MAX_REQUEST_BYTES = 1_000_000
"""Largest request of the bridge: below the brokers' default message.max.bytes of 1 048 588."""
_REPLICAS = 3
_CLOSE_S = 2.0
_FETCH_BYTES = 4 * 1024 * 1024


class TopicMismatch(IngestError):
    """A topic has a different number of partitions, so devices would change their partitions."""


@dataclass(frozen=True, slots=True)
class KafkaEndpoint:
    """Address of Kafka and identity of the client.

    Attributes:
        servers: `host:port`, several separated by commas.
        tls: Files for TLS; None: no TLS.
        client_id: Name of the client in Kafka's logs.
    """

    servers: str
    tls: TlsFiles | None = None
    client_id: str = "kpstream"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, for clients outside this file; None without TLS.

        Raises:
            TlsError: A file is unusable.
        """
        return None if self.tls is None else client_context(self.tls)

    def options(self) -> dict[str, Any]:
        """Return the options that all clients of this file share."""
        options: dict[str, Any] = {"bootstrap_servers": self.servers, "client_id": self.client_id}
        if self.tls is not None:
            options |= {"security_protocol": "SSL", "ssl_context": self.ssl_context()}
        return options


class KafkaLogWriter:
    """Appends to Kafka; an async context manager.

    Attributes:
        partitions: Partitions of the topic `readings`; 0 before `start`.
    """

    def __init__(
        self,
        endpoint: KafkaEndpoint | str,
        *,
        compression: str | None = "zstd",
        request_timeout_ms: int = 20_000,
    ) -> None:
        """Prepare; `start` connects.

        Args:
            endpoint: Address of Kafka; a string means servers without TLS.
            compression: A codec of Kafka, or None. zstd compresses a message of ten readings to a
                third in 4 us; gzip, which aiokafka runs at level 9, takes 86 us for the same.
            request_timeout_ms: Time after which an unconfirmed append counts as failed.
        """
        self.partitions = 0
        self._endpoint = KafkaEndpoint(endpoint) if isinstance(endpoint, str) else endpoint
        self._timeout_s = request_timeout_ms / 1000
        self._options: dict[str, Any] = {
            "acks": "all",
            "enable_idempotence": True,
            # The bridge appends a whole beat at once: there is nothing to wait for.
            "linger_ms": 0,
            "max_batch_size": 262_144,
            "max_request_size": MAX_REQUEST_BYTES,
            "compression_type": compression,
            "request_timeout_ms": request_timeout_ms,
        }
        self._producer: AIOKafkaProducer | None = None
        self._started = False
        # The records of the last call and their unconfirmed futures: called again with the same
        # records, `append` continues to wait instead of sending them twice.
        self._unconfirmed: tuple[Sequence[LogRecord], list[asyncio.Future[Any]]] | None = None

    async def start(self) -> None:
        """Connect, and read the number of partitions.

        Raises:
            LogUnavailable: Kafka does not answer, or the topics do not exist.
            TlsError: A file for TLS is unusable.
        """
        await self._open()
        self._started = True

    async def stop(self) -> None:
        """Disconnect; every append that returned is confirmed already."""
        self._started = False
        await self._close()

    async def __aenter__(self) -> KafkaLogWriter:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append, per partition in this order; return when Kafka has confirmed all records.

        After a failure, call it with the same sequence again: it then waits for the records that
        are still on the way to Kafka instead of sending them twice.

        Raises:
            LogUnavailable: Kafka did not confirm all records in time.
        """
        if not self._started:
            msg = "not connected to Kafka: call start() first"
            raise LogUnavailable(msg)
        if self._unconfirmed is None or self._unconfirmed[0] is not records:
            producer = self._producer or await self._open()
            self._unconfirmed = (records, await self._send(producer, records))
        due = self._unconfirmed[1]
        _, waiting = await asyncio.wait(due, timeout=self._timeout_s) if due else (due, ())
        if waiting:  # an idempotent producer retries without limit
            msg = f"Kafka has not confirmed {len(waiting)} records for {self._timeout_s:.0f} s"
            raise LogUnavailable(msg)
        self._unconfirmed = None
        failed = [future.exception() for future in due if future.exception() is not None]
        if failed:
            await self._close()  # its sequence numbers may be broken permanently
            msg = f"Kafka did not confirm: {failed[0]!r}"
            raise LogUnavailable(msg) from failed[0]

    async def _send(
        self, producer: AIOKafkaProducer, records: Sequence[LogRecord]
    ) -> list[asyncio.Future[Any]]:
        sent: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                sent.append(
                    await producer.send(
                        record.topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                        timestamp_ms=record.ts_ms,
                        headers=list(record.headers),
                    )
                )
        except (KafkaError, OSError) as exc:
            for future in sent:
                future.add_done_callback(_retrieve_exception)
            await self._close()
            msg = f"Kafka accepts no records: {error_text(exc, named=True)}"
            raise LogUnavailable(msg) from exc
        return sent

    async def _open(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._endpoint.options(), **self._options)
        try:
            await producer.start()
            for topic in (READINGS, DEAD_LETTERS):
                found = await producer.partitions_for(topic)
                if not found:
                    msg = f"Kafka has no topic {topic!r}: run `kpstream site setup`"
                    raise LogUnavailable(msg)
                if topic == READINGS:
                    self.partitions = len(found)
        except (KafkaError, OSError) as exc:
            await producer.stop()
            why = await _reason(self._endpoint, exc)
            msg = f"Kafka at {self._endpoint.servers} is not available: {why}"
            raise LogUnavailable(msg) from exc
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer
        return producer

    async def _close(self) -> None:
        producer, self._producer, self._unconfirmed = self._producer, None, None
        if producer is None:
            return
        stopping = asyncio.ensure_future(producer.stop())
        stopping.add_done_callback(_retrieve_exception)
        # It waits for Kafka while records are on the way; after the timeout, just disconnect.
        await asyncio.wait({stopping}, timeout=_CLOSE_S)
        if not stopping.done():
            stopping.cancel()
            with suppress(KafkaError, OSError, asyncio.CancelledError):
                await producer.client.close()


async def _reason(endpoint: KafkaEndpoint, exc: Exception) -> str:
    """Return the cause of an error; aiokafka reports a failed handshake only as no connection."""
    host, _, port = endpoint.servers.split(",")[0].strip().rpartition(":")
    if isinstance(exc, KafkaConnectionError) and port.isdigit():
        place = (host.strip("[]"), int(port))
        advice = await asyncio.to_thread(probe_tls, *place, endpoint.tls, "KPSTREAM_SITE_KAFKA_")
        if advice is not None:
            return advice
    return error_text(exc, named=True)


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, because asyncio warns about exceptions that are never retrieved."""
    if not future.cancelled():
        future.exception()


class Topic(Protocol):
    """A topic as it should exist."""

    @property
    def name(self) -> str:
        """Name of the topic."""

    @property
    def partitions(self) -> int:
        """Number of partitions."""

    def settings(self) -> Mapping[str, str]:
        """Return the topic's settings, by Kafka's names."""


async def create_topics(
    endpoint: KafkaEndpoint, topics: Iterable[Topic], *, replicas: int | None = None
) -> list[str]:
    """Create missing topics, and correct the settings of existing ones.

    Safe to repeat, also by several processes at once.

    Args:
        endpoint: Address of Kafka.
        topics: The topics that should exist.
        replicas: Copies of each partition of a new topic; None: three, or as many as there are
            brokers.

    Returns:
        One line per change.

    Raises:
        LogUnavailable: Kafka does not answer, or refused; try again.
        TopicMismatch: A topic exists with another number of partitions.
    """
    wanted = {topic.name: topic for topic in topics}
    admin = AIOKafkaAdminClient(**endpoint.options())
    done = []
    try:
        await admin.start()
        if replicas is None:
            replicas = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        for name, topic in wanted.items():
            new = NewTopic(name, topic.partitions, replicas, topic_configs=dict(topic.settings()))
            if await _create(admin, new):
                done.append(f"created {name} with {topic.partitions} partitions")
        for found in await _describe(admin, list(wanted)):
            _check_partitions(wanted[found["topic"]], found)
        done += await _correct_settings(admin, wanted)
    except (KafkaError, OSError) as exc:
        why = await _reason(endpoint, exc)
        msg = f"cannot create topics in Kafka at {endpoint.servers}: {why}"
        raise LogUnavailable(msg) from exc
    finally:
        with suppress(KafkaError, OSError):
            await admin.close()
    return done


async def _create(admin: AIOKafkaAdminClient, new: NewTopic) -> bool:
    response = await admin.create_topics([new])
    for _, code, *message in response.topic_errors:
        error = for_code(code)
        if error is TopicAlreadyExistsError:
            return False
        if code:
            raise error(*message)
    return True


async def _describe(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """Describe topics; a broker may learn of a new topic a moment after its creation."""
    for _ in range(50):
        found: list[dict[str, Any]] = await admin.describe_topics(names)
        codes = {topic["error_code"] for topic in found}
        if not codes & {UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno}:
            break
        await asyncio.sleep(0.1)
    return found


def _check_partitions(topic: Topic, found: Mapping[str, Any]) -> None:
    if found["error_code"]:
        raise for_code(found["error_code"])(topic.name)
    count = len(found["partitions"])
    if count != topic.partitions:
        msg = (
            f"topic {topic.name!r} has {count} partitions, but KPSTREAM_SITE_PARTITIONS is "
            f"{topic.partitions}: set it to {count}, because another number needs new topics"
        )
        raise TopicMismatch(msg)


async def _correct_settings(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> list[str]:
    """Correct the settings of topics, and return one line per change."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    changed = []
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(message)
            has = {entry[0]: entry[1] for entry in entries}
            should = dict(wanted[name].settings())
            if any(has.get(key) != value for key, value in should.items()):
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, should)])
                changed.append(f"settings of {name}")
    return changed


async def read_until(
    endpoint: KafkaEndpoint, topic: str, last: Mapping[int, int], *, silence_s: float = 30.0
) -> AsyncIterator[list[tuple[int, bytes, bytes | None]]]:
    """Read partitions of a topic from the beginning up to and including a given record of each.

    Args:
        endpoint: Address of Kafka.
        topic: Topic, usually a compacted one.
        last: Offset of an existing record, by partition.
        silence_s: Longest time without a record before giving up.

    Yields:
        Some records in the order of each partition, as (partition, key, value); a value of None
        deletes the key.

    Raises:
        LogUnavailable: Kafka does not answer, or sends nothing for `silence_s`.
    """
    consumer = AIOKafkaConsumer(
        **endpoint.options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    due = {TopicPartition(topic, partition): offset for partition, offset in last.items()}
    try:
        await consumer.start()
        consumer.assign(list(due))
        silent_s = 0
        while due:
            found = await consumer.getmany(*due, timeout_ms=1000)
            silent_s = 0 if found else silent_s + 1
            if silent_s >= silence_s:
                msg = f"Kafka has sent no records of {topic!r} for {silent_s} s; missing: {due}"
                raise LogUnavailable(msg)
            for tp, records in found.items():
                yield [(record.partition, record.key, record.value) for record in records]
                if records[-1].offset >= due[tp]:
                    del due[tp]
    except (KafkaError, OSError) as exc:
        why = await _reason(endpoint, exc)
        msg = f"cannot read {topic!r} from Kafka at {endpoint.servers}: {why}"
        raise LogUnavailable(msg) from exc
    finally:
        await consumer.stop()


class KafkaProbe:
    """Fetches the first and end offsets of partitions, independently of their consumers."""

    def __init__(self, endpoint: KafkaEndpoint, *, timeout_ms: int = 5_000) -> None:
        """Prepare; the first request connects.

        Args:
            endpoint: Address of Kafka.
            timeout_ms: Longest wait for an answer.
        """
        self._endpoint = endpoint
        self._timeout_ms = timeout_ms
        self._client: AIOKafkaConsumer | None = None

    async def end_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the end offset of each partition: the offset of its next record.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        ends = await self.ends((topic, partition) for partition in partitions)
        return {partition: offset for (_, partition), offset in ends.items()}

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the end offset of partitions of several topics, in one request.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        return await self._fetch("end_offsets", places)

    async def first_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the first offset of each partition: that of the oldest record still stored.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        places = ((topic, partition) for partition in partitions)
        firsts = await self._fetch("beginning_offsets", places)
        return {partition: offset for (_, partition), offset in firsts.items()}

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _fetch(
        self, method: str, wanted: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        places = [TopicPartition(*place) for place in wanted]
        try:
            found = await asyncio.wait_for(self._call(method, places), self._timeout_ms / 1000)
        except (KafkaError, OSError, asyncio.TimeoutError) as exc:
            await self.close()
            msg = (
                f"Kafka at {self._endpoint.servers} does not answer: {error_text(exc, named=True)}"
            )
            raise LogUnavailable(msg) from exc
        return {(place.topic, place.partition): offset for place, offset in found.items()}

    async def _call(
        self, method: str, places: list[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        if self._client is None:
            client = AIOKafkaConsumer(
                **self._endpoint.options(),
                enable_auto_commit=False,
                request_timeout_ms=self._timeout_ms,
            )
            try:
                await client.start()
            except BaseException:
                await client.stop()
                raise
            self._client = client
        answer: Mapping[TopicPartition, int] = await getattr(self._client, method)(places)
        return answer
