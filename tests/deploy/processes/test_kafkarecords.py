"""The Kafka of a site recorded into files: every record once, from where the last run ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deploy.processes.kafkarecords import KafkaRecords
from deploy.processes.recording import record_once
from deploy.settings.recordsettings import RecordSettings
from deploy.stack.servers import KafkaServer
from deploy.stack.topics import site_topics
from ingest.kafka import KafkaEndpoint, KafkaLogWriter, create_topics
from ingest.labels import decode_label_record, label_log_record
from ingest.logwriter import LogRecord
from ingest.messages import encode_envelope
from ingest.payloads import encode_payload
from ingest.topics import READINGS
from pipeline.errors import RecordingUnavailable
from tests.fakes.ports import free_port
from tests.fakes.recordings import T0_MS, label
from tests.fakes.records import encode_bundle

PARTITIONS = 2


async def append(endpoint: KafkaEndpoint, first: int) -> None:
    await create_topics(endpoint, site_topics(PARTITIONS))
    writer = KafkaLogWriter(endpoint)
    await writer.start()
    try:
        for number in range(first, first + 10):
            body = encode_payload([T0_MS + number], {"acc_x": [float(number)]})
            value = encode_bundle([encode_envelope("lab", "ann", "imu", T0_MS, body)])
            await writer.append([LogRecord(READINGS, number % PARTITIONS, None, value, T0_MS)])
            given = label("ann", f"label-{number}", "failed", T0_MS + number)
            await writer.append([label_log_record(given, PARTITIONS)] * 2)
    finally:
        await writer.stop()


def values(folder: Path) -> list[float]:
    files = folder.glob("imu/*/part-*.parquet")
    return sorted(
        value
        for file in files
        for value in pq.read_table(file, partitioning=None)["acc_x"].to_pylist()
    )


@pytest.mark.needs_kafka_server
def test_a_site_is_recorded_once(tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        _record_twice(KafkaEndpoint(kafka.address), tmp_path / "recordings")


def _record_twice(endpoint: KafkaEndpoint, tmp_path: Path) -> None:
    source = KafkaRecords(endpoint, PARTITIONS)
    for first in (0, 10):
        asyncio.run(append(endpoint, first))
        text = record_once(source, tmp_path, RecordSettings())
        assert text.startswith("recorded 10 readings")
    source.close()
    assert record_once(source, tmp_path, RecordSettings()).startswith("recorded 0 readings")
    source.close()
    assert values(tmp_path) == [float(number) for number in range(20)]
    lines = (tmp_path / "labels.jsonl").read_bytes().splitlines()
    ids = {decode_label_record(line).label.id for line in lines}
    assert ids == {f"label-{number}" for number in range(20)}
    assert len(lines) == 20


def test_kafka_that_is_away_is_said(tmp_path: Path) -> None:
    source = KafkaRecords(KafkaEndpoint(f"127.0.0.1:{free_port()}"), PARTITIONS)
    with pytest.raises(RecordingUnavailable, match="cannot read from Kafka at"):
        record_once(source, tmp_path / "recordings", RecordSettings())
    assert not (tmp_path / "recordings").exists()
