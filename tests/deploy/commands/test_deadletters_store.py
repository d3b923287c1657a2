"""Points that a store refused: selected by reason and written again; dead letters of a site."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result
from pydantic import SecretStr

from deploy.commands.deadletters import dead_letters
from deploy.stack.servers import InfluxServer, KafkaServer
from deploy.stack.topics import site_topics
from ingest.deadletter import DeadLetter, encode_dead_letter
from ingest.errors import RefusalReason
from ingest.kafka import KafkaEndpoint, create_topics
from ingest.topics import DEAD_LETTERS
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from pipeline.stores.influxclient import InfluxClient, InfluxConnection

NOW_MS = time.time_ns() // 10**6
TOPIC = "sensors/plant/press-1/engine"


def refused(line: str, reason: RefusalReason = RefusalReason.type_conflict) -> DeadLetter:
    return DeadLetter(reason, "is type string", TOPIC, NOW_MS, line.encode(), "store")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dead_letters, arguments)


def state_with(folder: Path, *refusals: DeadLetter) -> str:
    log = SqliteLog(folder / "log.db")
    log.append([NewRecord(DEAD_LETTERS, encode_dead_letter(x)) for x in refusals]).result()
    log.close()
    return str(folder)


def test_refused_points_are_listed_with_the_device_whose_they_are(tmp_path: Path) -> None:
    state = state_with(tmp_path, refused("rul,device=press-1 rul=5 1"))
    found = run("list", "--state-dir", state, "--json", "--device", "plant/press-1").output
    dead_letter = orjson.loads(found)
    assert dead_letter["source"] == "store"
    assert dead_letter["reason"] == "type_conflict"
    assert dead_letter["raw"] == "rul,device=press-1 rul=5 1"


def test_refused_points_are_written_again_where_the_settings_say(
    tmp_path: Path, real_influx: InfluxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"letters-{time.time_ns()}"
    connection = InfluxConnection(real_influx.url, SecretStr(real_influx.token), real_influx.org)
    client = InfluxClient(connection)
    org = next(o for o in client.call("GET", "/orgs").json["orgs"] if o["name"] == real_influx.org)
    client.call("POST", "/buckets", {"name": bucket, "orgID": org["id"], "retentionRules": []})
    assert client.write(bucket, b"rul,device=press-1 rul=5 1").status == 204
    refusals = [
        refused("rul,device=press-1 rul=7 2"),
        refused('rul,device=press-1 rul="x" 3'),
        refused("a broken record", RefusalReason.unreadable),
    ]
    state = state_with(tmp_path, *refusals)
    dry = run("replay", "--state-dir", state, "--all", "--dry-run").output
    assert "nothing to publish\n2 points would be written to InfluxDB" in dry
    nowhere = run("replay", "--state-dir", state, "--all")
    assert nowhere.exit_code == 1
    assert "set KPSTREAM_PIPELINE_INFLUX_URL" in nowhere.output

    for name, value in (
        *(("URL", real_influx.url), ("TOKEN", real_influx.token)),
        *(("ORG", real_influx.org), ("BUCKET", bucket)),
    ):
        monkeypatch.setenv(f"KPSTREAM_PIPELINE_INFLUX_{name}", value)
    result = run("replay", "--state-dir", state, "--all")
    assert "1 of 2 points written to InfluxDB" in result.output
    assert "refused again, type_conflict" in result.output
    assert result.exit_code == 1
    rows = client.query("from(bucket: b) |> range(start: 0)", {"b": bucket})
    assert sorted(row["_value"] for row in rows) == [5.0, 7.0]
    one = run("replay", "--state-dir", state, "--id", refusals[0].id[:12])
    assert one.exit_code == 0
    monkeypatch.setenv("KPSTREAM_PIPELINE_INFLUX_TOKEN", "wrong")
    wrong = run("replay", "--state-dir", state, "--all")
    assert wrong.exit_code == 1
    assert "the token is not accepted" in wrong.output
    client.close()


@pytest.mark.needs_kafka_server
def test_dead_letters_of_a_site_are_read_from_its_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(address: str) -> None:
        endpoint = KafkaEndpoint(address)
        topics = [topic for topic in site_topics(3) if topic.name == DEAD_LETTERS]
        await create_topics(endpoint, topics)
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        for n, line in enumerate(("rul rul=1 1", "rul rul=2 2", "rul rul=1 1", "rul rul=4 4")):
            value = encode_dead_letter(refused(line))
            await producer.send_and_wait(DEAD_LETTERS, value, partition=n % 3)
        await producer.stop()

    with KafkaServer(tmp_path / "kafka") as kafka:
        asyncio.run(fill(kafka.address))
        monkeypatch.setenv("KPSTREAM_SITE_KAFKA", kafka.address)
        monkeypatch.setenv("KPSTREAM_SITE_PARTITIONS", "3")
        output = run("list", "--site", "--reason", "type_conflict", "--json").output
        found = {row["raw"]: row["times"] for row in map(orjson.loads, output.splitlines())}
        assert found == {"rul rul=1 1": 2, "rul rul=2 2": 1, "rul rul=4 4": 1}
    monkeypatch.setenv("KPSTREAM_SITE_KAFKA", "127.0.0.1:1")
    absent = run("list", "--site")
    assert absent.exit_code == 1
    assert "Kafka at 127.0.0.1:1" in absent.output
