"""Kafka: the bridge's log, the topics, and reading a compacted topic; aiokafka in this file only.

Durable means here: acknowledged by all in-sync replicas. The producer is idempotent, so its own
retries neither double nor reorder records; what the bridge appends again after a failure may be in
Kafka twice, as everything downstream expects.
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
"""Of what the bridge sends at a time: below the brokers' default message.max.bytes of 1 048 588."""
_REPLICAS = 3
_CLOSE_S = 2.0
_FETCH_BYTES = 4 * 1024 * 1024


class TopicMismatch(IngestError):
    """A topic exists with another number of partitions: devices would change their place."""


@dataclass(frozen=True, slots=True)
class KafkaEndpoint:
    """Where Kafka is and who we are to it.

    Attributes:
        servers: `host:port`, several separated by commas.
        tls: Speak TLS, with these files; None: do not.
        client_id: Our name in Kafka's logs.
    """

    servers: str
    tls: TlsFiles | None = None
    client_id: str = "kpstream"

    def ssl_context(self) -> ssl.SSLContext | None:
        """For clients other than those of this file; None without TLS.

        Raises:
            TlsError: A file cannot be used.
        """
        return None if self.tls is None else client_context(self.tls)

    def options(self) -> dict[str, Any]:
        """What every client of this file is made with."""
        options: dict[str, Any] = {"bootstrap_servers": self.servers, "client_id": self.client_id}
        if self.tls is not None:
            options |= {"security_protocol": "SSL", "ssl_context": self.ssl_context()}
        return options


class KafkaLogWriter:
    """Appends to Kafka; an async context manager.

    Attributes:
        partitions: Of the topic `readings`; known once started.
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
            endpoint: Where Kafka is; a text means servers, without TLS.
            compression: A codec of Kafka, or None. Of a message of ten readings zstd makes a third
                in 4 us; gzip (which aiokafka drives at level 9) makes the same of it in 86 us.
            request_timeout_ms: After this, an append that Kafka does not confirm has failed.
        """
        self.partitions = 0
        self._endpoint = KafkaEndpoint(endpoint) if isinstance(endpoint, str) else endpoint
        self._timeout_s = request_timeout_ms / 1000
        self._options: dict[str, Any] = {
            "acks": "all",
            "enable_idempotence": True,
            # The bridge gathers messages while it waits: fewer and longer records, and a record
            # costs Kafka and the workers more than the messages in it.
            "linger_ms": 10,
            "max_batch_size": 262_144,
            "max_request_size": MAX_REQUEST_BYTES,
            "compression_type": compression,
            "request_timeout_ms": request_timeout_ms,
        }
        self._producer: AIOKafkaProducer | None = None
        self._started = False
        # What was sent and is not confirmed, and which call it was: asked again with the same
        # records, `append` goes on waiting for them instead of sending them twice.
        self._due: tuple[Sequence[LogRecord], list[asyncio.Future[Any]]] | None = None

    async def start(self) -> None:
        """Connect and learn the partitions.

        Raises:
            LogUnavailable: Nobody is there, or the topics do not exist.
            TlsError: A file for TLS cannot be used.
        """
        await self._open()
        self._started = True

    async def stop(self) -> None:
        """Disconnect; what was appended is confirmed already."""
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
        """Append, per partition in this order; returns when Kafka has confirmed all of them.

        After a failure, give it the same sequence again: what is still on its way to Kafka is
        waited for, not sent twice.

        Raises:
            LogUnavailable: Kafka did not confirm one of them in time.
        """
        if not self._started:
            msg = "not connected to Kafka: call start first"
            raise LogUnavailable(msg)
        if self._due is None or self._due[0] is not records:
            producer = self._producer or await self._open()
            self._due = (records, await self._send(producer, records))
        due = self._due[1]
        _, waiting = await asyncio.wait(due, timeout=self._timeout_s) if due else (due, ())
        if waiting:  # an idempotent producer tries for ever
            msg = f"Kafka has not confirmed {len(waiting)} records for {self._timeout_s:.0f} s"
            raise LogUnavailable(msg)
        self._due = None
        failed = [future.exception() for future in due if future.exception() is not None]
        if failed:
            await self._close()  # its numbering of records may be broken for good
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
                future.add_done_callback(_noted)
            await self._close()
            msg = f"Kafka does not take records: {exc!r}"
            raise LogUnavailable(msg) from exc
        return sent

    async def _open(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**self._endpoint.options(), **self._options)
        try:
            await producer.start()
            for topic in (READINGS, DEAD_LETTERS):
                found = await producer.partitions_for(topic)
                if not found:
                    msg = f"Kafka has no topic {topic!r}: create it (`readings` decides partitions)"
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
        producer, self._producer, self._due = self._producer, None, None
        if producer is None:
            return
        stopping = asyncio.ensure_future(producer.stop())
        stopping.add_done_callback(_noted)
        # It waits for Kafka as long as something is on its way: then without saying goodbye.
        await asyncio.wait({stopping}, timeout=_CLOSE_S)
        if not stopping.done():
            stopping.cancel()
            with suppress(KafkaError, OSError, asyncio.CancelledError):
                await producer.client.close()


async def _reason(endpoint: KafkaEndpoint, exc: Exception) -> str:
    """What went wrong; of a failed handshake aiokafka tells only that it cannot connect."""
    host, _, port = endpoint.servers.split(",")[0].strip().rpartition(":")
    if isinstance(exc, KafkaConnectionError) and port.isdigit():
        place = (host.strip("[]"), int(port))
        advice = await asyncio.to_thread(probe_tls, *place, endpoint.tls, "KPSTREAM_SITE_KAFKA_")
        if advice is not None:
            return advice
    return repr(exc)


def _noted(future: asyncio.Future[Any]) -> None:
    """Take notice of how it ended, or asyncio complains about an exception that nobody saw."""
    if not future.cancelled():
        future.exception()


class Topic(Protocol):
    """A topic as it shall be."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def partitions(self) -> int:
        """How many it has."""

    def settings(self) -> Mapping[str, str]:
        """Kafka's settings of it, by Kafka's names."""


async def create_topics(
    endpoint: KafkaEndpoint, topics: Iterable[Topic], *, replicas: int | None = None
) -> list[str]:
    """Create the topics that are missing, and give those that are there the settings they lack.

    Args:
        endpoint: Where Kafka is.
        topics: What shall be; safe to repeat, also by several processes at once.
        replicas: Copies of each partition of a new topic; None: three, or as many as there are
            brokers.

    Returns:
        What was done, one line each; nothing when all was as it shall be.

    Raises:
        LogUnavailable: Kafka is not there, or refused; worth another try.
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
        done += await _settle_settings(admin, wanted)
    except (KafkaError, OSError) as exc:
        why = await _reason(endpoint, exc)
        msg = f"topics cannot be made in Kafka at {endpoint.servers}: {why}"
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
    """What topics are like; a broker may hear of a new one a moment after it was made."""
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
            f"topic {topic.name!r} has {count} partitions, the settings say {topic.partitions} "
            "(KPSTREAM_SITE_PARTITIONS): set it back; another number needs new topics"
        )
        raise TopicMismatch(msg)


async def _settle_settings(admin: AIOKafkaAdminClient, wanted: Mapping[str, Topic]) -> list[str]:
    """Give topics the settings they lack."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    changed = []
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise for_code(code)(message)
            has = {entry[0]: entry[1] for entry in entries}
            wish = dict(wanted[name].settings())
            if any(has.get(key) != value for key, value in wish.items()):
                await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wish)])
                changed.append(f"settings of {name}")
    return changed


async def read_until(
    endpoint: KafkaEndpoint, topic: str, last: Mapping[int, int], *, silence_s: float = 30.0
) -> AsyncIterator[list[tuple[int, bytes, bytes | None]]]:
    """Read partitions of a topic from their beginning up to and with a record of each.

    Args:
        endpoint: Where Kafka is.
        topic: A compacted one, usually.
        last: Partition -> offset of a record that is known to be there.
        silence_s: Give up when nothing came for so long.

    Yields:
        Some records, in the order of each partition: (partition, key, value); a value of None
        deletes the key.

    Raises:
        LogUnavailable: Kafka is not there, or silent.
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
                msg = f"Kafka has sent nothing of {topic!r} for {silent_s} s, yet {due} is there"
                raise LogUnavailable(msg)
            for tp, records in found.items():
                yield [(record.partition, record.key, record.value) for record in records]
                if records[-1].offset >= due[tp]:
                    del due[tp]
    except (KafkaError, OSError) as exc:
        why = await _reason(endpoint, exc)
        msg = f"{topic!r} cannot be read from Kafka at {endpoint.servers}: {why}"
        raise LogUnavailable(msg) from exc
    finally:
        await consumer.stop()


class KafkaProbe:
    """Asks Kafka where partitions begin and end, beside whatever consumes them."""

    def __init__(self, endpoint: KafkaEndpoint, *, timeout_ms: int = 5_000) -> None:
        """Prepare; connects at the first question.

        Args:
            endpoint: Where Kafka is.
            timeout_ms: Longest wait for an answer.
        """
        self._endpoint = endpoint
        self._timeout_ms = timeout_ms
        self._client: AIOKafkaConsumer | None = None

    async def end_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Partition -> where the next record will be appended.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        return await self._ask("end_offsets", topic, partitions)

    async def first_offsets(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Partition -> the first record that is still there.

        Raises:
            LogUnavailable: Kafka does not answer.
        """
        return await self._ask("beginning_offsets", topic, partitions)

    async def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _ask(self, question: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        places = [TopicPartition(topic, partition) for partition in partitions]
        try:
            found = await asyncio.wait_for(self._answer(question, places), self._timeout_ms / 1000)
        except (KafkaError, OSError, asyncio.TimeoutError) as exc:
            await self.close()
            msg = f"Kafka at {self._endpoint.servers} does not answer: {exc!r}"
            raise LogUnavailable(msg) from exc
        return {place.partition: offset for place, offset in found.items()}

    async def _answer(
        self, question: str, places: list[TopicPartition]
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
        answer: Mapping[TopicPartition, int] = await getattr(self._client, question)(places)
        return answer
