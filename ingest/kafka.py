"""The bridge's log where the line runs on Kafka: `LogWriter` over aiokafka, in this file only.

Durable means here: acknowledged by all in-sync replicas. The producer is idempotent, so its own
retries neither double nor reorder records; what the bridge appends again after a failure may be in
Kafka twice, as everything downstream expects.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingest.errors import LogUnavailable
from ingest.logwriter import LogRecord
from ingest.topics import DEAD_LETTERS, READINGS

__all__ = ["KafkaLogWriter"]

_MAX_REQUEST_BYTES = 1_000_000  # below the brokers' default message.max.bytes of 1 048 588


class KafkaLogWriter:
    """Appends to Kafka; an async context manager.

    Attributes:
        partitions: Of the topic `readings`; known once started.
    """

    def __init__(
        self,
        servers: str,
        *,
        client_id: str = "kpstream-bridge",
        ca_file: Path | None = None,
        tls: bool = False,
        compression: str | None = "gzip",
        request_timeout_ms: int = 20_000,
    ) -> None:
        """Prepare; `start` connects.

        Args:
            servers: `host:port`, several separated by commas.
            client_id: Name in Kafka's logs.
            ca_file: PEM file of the authority to trust, with `tls`.
            tls: Speak TLS.
            compression: "gzip", None, or one of aiokafka's extras.
            request_timeout_ms: After this, an append that Kafka does not confirm has failed.
        """
        self.partitions = 0
        self._options: dict[str, Any] = {
            "bootstrap_servers": servers,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": 2,
            "max_batch_size": 262_144,
            "max_request_size": _MAX_REQUEST_BYTES,
            "compression_type": compression,
            "request_timeout_ms": request_timeout_ms,
        }
        if tls:
            self._options["security_protocol"] = "SSL"
            self._options["ssl_context"] = ssl.create_default_context(cafile=ca_file)
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect and learn the partitions.

        Raises:
            LogUnavailable: Nobody is there, or the topics do not exist.
        """
        producer = AIOKafkaProducer(**self._options)
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
            msg = f"Kafka at {self._options['bootstrap_servers']} is not available: {exc!r}"
            raise LogUnavailable(msg) from exc
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Disconnect; what was appended is confirmed already."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

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

        Raises:
            LogUnavailable: Kafka did not confirm one of them.
        """
        producer = self._producer
        if producer is None:
            msg = "not connected to Kafka: call start first"
            raise LogUnavailable(msg)
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
            await asyncio.gather(*sent, return_exceptions=True)
            msg = f"Kafka does not take records: {exc!r}"
            raise LogUnavailable(msg) from exc
        for outcome in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(outcome, BaseException):
                msg = f"Kafka did not confirm: {outcome!r}"
                raise LogUnavailable(msg) from outcome
