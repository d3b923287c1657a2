"""Records larger than Kafka takes by default: one device must not stop a worker permanently."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest

from deploy.stack.servers import KafkaServer
from deploy.stack.topics import changelog_topic, site_topics
from ingest.deadletter import decode_dead_letter
from ingest.kafka import KafkaEndpoint, KafkaLogWriter, KafkaProbe, create_topics, read_until
from ingest.logwriter import LogRecord
from ingest.messages import encode_envelope
from ingest.payloads import MAX_READINGS, decode_payload
from ingest.topics import DEAD_LETTERS, READINGS, device_key, partition_of
from pipeline.app import KafkaLink, ScoringApp, create_scoring_app
from pipeline.settings import PipelineSettings
from pipeline.windows.devices import StreamPlan
from pipeline.windows.spec import WindowSpec
from tests.fakes.records import encode_bundle

pytestmark = pytest.mark.needs_kafka_server
KAFKAS_LIMIT = 1_048_588
T0 = 1_700_000_000_000
WIDE = tuple(f"c{n}" for n in range(24))
PLAN = StreamPlan("m", WIDE, WindowSpec(length=50, hop=25, lateness_ms=60_000))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


def body(t0_ms: int, readings: int, channels: tuple[str, ...], number: bytes) -> bytes:
    column = b"[" + b",".join([number] * readings) + b"]"
    values = b",".join(b'"%s":%s' % (name.encode(), column) for name in channels)
    whole = b'{"t0":%d,"dt_ms":1,"values":{%s}}' % (t0_ms, values)
    decode_payload(whole)  # the bridge takes it
    return whole


def record(stream: str, device: str, whole: bytes) -> LogRecord:
    envelope = encode_envelope("plant", device, stream, T0 + 60_000, whole)
    partition = partition_of(device_key("plant", device), 1)
    return LogRecord(READINGS, partition, None, encode_bundle([envelope]), T0)


def worker(kafka: KafkaServer, app_id: str, folder: Path) -> ScoringApp:
    endpoint = KafkaEndpoint(kafka.address)
    return create_scoring_app(
        f"kafka://{kafka.address}",
        PipelineSettings(app_id=app_id, partitions=1, checkpoint_ms=100, session_ms=6_000),
        lambda stream: PLAN if stream == "wide" else None,
        lambda stream: None,
        data_dir=folder,
        kafka=KafkaLink(partial(read_until, endpoint)),
    )


async def values(kafka: KafkaServer, topic: str) -> list[bytes]:
    """The values of all records of the only partition."""
    endpoint = KafkaEndpoint(kafka.address)
    probe = KafkaProbe(endpoint)
    end = (await probe.end_offsets(topic, [0]))[0]
    await probe.close()
    if end == 0:
        return []
    found = []
    async for rows in read_until(endpoint, topic, {0: end - 1}):
        found += [value for _, _, value in rows if value is not None]
    return found


@pytest.mark.parametrize("case", ["dead_letter", "state"])
async def test_a_large_record_does_not_stop_the_worker(
    kafka: KafkaServer, tmp_path: Path, case: str
) -> None:
    endpoint = KafkaEndpoint(kafka.address)
    await create_topics(endpoint, site_topics(1, case))
    device = f"loud-{case}"
    if case == "dead_letter":  # numbers with more digits than the device sent
        sent = [record("nobodys", device, body(T0, MAX_READINGS, WIDE[:5], b"1e15"))]
    else:  # readings that all wait for the watermark
        parts = [body(T0 + 1000 * n, 1000, WIDE, b"0.5") for n in range(20)]
        sent = [record("wide", device, whole) for whole in parts]
    async with KafkaLogWriter(endpoint) as writer:
        await writer.append(sent)
    topic = DEAD_LETTERS if case == "dead_letter" else changelog_topic(case)
    scoring = worker(kafka, case, tmp_path)
    await scoring.start()
    try:
        for _ in range(300):
            large = [value for value in await values(kafka, topic) if len(value) > KAFKAS_LIMIT]
            if large or scoring.app.crashed:
                break
            await asyncio.sleep(0.1)
        assert not scoring.app.crashed
        assert large
    finally:
        await scoring.stop()
    if case == "dead_letter":
        dead_letter = decode_dead_letter(large[0])
        assert len(orjson.loads(dead_letter.raw)["ts"]) == MAX_READINGS
    again = worker(kafka, case, tmp_path / "again")  # and another one can read it
    await again.start()
    try:
        for _ in range(300):
            received = {of.device: of.received for of in again.stage.devices.accounts()}
            if device in received:
                break
            await asyncio.sleep(0.1)
        assert received[device] == (MAX_READINGS if case == "dead_letter" else 20_000)
    finally:
        await again.stop()
