"""The real servers: confirmed data survives SIGKILL; every method works."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

import pytest

from deploy.stack.mosquitto import MosquittoServer
from deploy.stack.process import Server, ServerError, open_connection
from deploy.stack.servers import (
    INFLUX_VERSION,
    KAFKA_VERSION,
    FoundServers,
    InfluxServer,
    KafkaServer,
    find_servers,
)

NOTHING = FoundServers(Path("/nowhere"), None, None, None)


def wait_until_unhealthy(server: Server, timeout_s: float = 30) -> None:
    """A paused process may answer once more: its threads stop one after the other."""
    deadline = time.monotonic() + timeout_s
    while server.healthy(timeout_s=0.3):
        assert time.monotonic() < deadline


@pytest.mark.needs_kafka_server
def test_kafka_keeps_what_it_confirmed_across_a_kill(tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        asyncio.run(_create_topic(kafka.address, "kept", 3))
        before = asyncio.run(_produce(kafka.address, "kept", range(100)))
        kafka.kill()
        assert not kafka.alive
        kafka.start()
        assert asyncio.run(_consume(kafka.address, "kept", 100)) == before


@pytest.mark.needs_kafka_server
def test_a_paused_kafka_is_alive_but_not_healthy(tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "kafka") as kafka:
        kafka.pause()
        assert kafka.alive
        wait_until_unhealthy(kafka)
        kafka.resume()
        assert kafka.healthy(timeout_s=10)
        kafka.pause()  # a paused one can be stopped too
        kafka.stop()
        assert not kafka.alive


@pytest.mark.needs_kafka_server
def test_kafka_makes_no_topic_by_itself(real_kafka: KafkaServer) -> None:
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    async def send() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=real_kafka.address, request_timeout_ms=1000, retry_backoff_ms=50
        )
        await producer.start()
        try:
            with pytest.raises(KafkaError):
                await producer.send_and_wait("misspelt", b"x")
        finally:
            await producer.stop()

    asyncio.run(send())


@pytest.mark.needs_kafka_server
def test_a_cluster_id_may_begin_with_a_hyphen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"\xfb" * size)
    kafka = KafkaServer(tmp_path / "kafka")
    kafka.prepare()
    assert "cluster.id=-_v7" in (tmp_path / "kafka" / "data" / "meta.properties").read_text()
    assert not (tmp_path / "kafka" / "data.new").exists()


@pytest.mark.needs_influxd
def test_influx_keeps_what_it_confirmed_across_a_kill(tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as influx:
        token = influx.setup("factory", "scores")
        lines = "\n".join(f"rul,device=d{n} rul={n} {n + 1}" for n in range(200))
        _write(influx, "scores", lines)
        influx.kill()
        influx.start()
        assert influx.setup("factory", "scores", token) == token  # nothing is made twice
        assert _count(influx, "scores") == 200


@pytest.mark.needs_influxd
def test_a_second_setup_with_another_token_is_refused(tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as influx:
        influx.setup("factory", "scores")
        with pytest.raises(ServerError, match="401"):
            influx.setup("factory", "scores", "another")


@pytest.mark.needs_influxd
def test_influx_ends_on_the_stop_signal(real_influx: InfluxServer, tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as influx:
        process = influx._process
        influx.stop()
        assert process is not None
        assert process.returncode == 0
    assert real_influx.healthy()


@pytest.mark.needs_influxd
def test_the_version_is_the_one_the_product_was_tested_with(real_influx: InfluxServer) -> None:
    assert real_influx.call("GET", "/health")["version"] == f"v{INFLUX_VERSION}"


@pytest.mark.needs_influxd
def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as influx:
        influx.log_path.write_text("said before")
        influx.stop()
        influx.start()
        assert influx.log_path.with_suffix(".log.1").read_text() == "said before"


@pytest.mark.needs_influxd
def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        influx = InfluxServer(tmp_path / "influx", port=taken.getsockname()[1])
        with pytest.raises(ServerError, match=f"port {influx.port} .* is taken"):
            influx.start()


def test_a_server_that_is_not_installed_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="kpstream site install"):
        KafkaServer(tmp_path / "kafka", servers=NOTHING).start()
    with pytest.raises(ServerError, match="kpstream site install"):
        InfluxServer(tmp_path / "influx", servers=NOTHING).start()


def test_kafka_without_java_says_so(tmp_path: Path) -> None:
    found = FoundServers(tmp_path, tmp_path, None, None)
    with pytest.raises(ServerError, match="needs Java"):
        KafkaServer(tmp_path / "kafka", servers=found).start()


def test_servers_are_found_by_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPSTREAM_SERVERS_DIR", str(tmp_path))
    assert find_servers().kafka_libs is None
    assert find_servers().influxd is None
    libs = tmp_path / f"kafka-{KAFKA_VERSION}" / "libs"
    libs.mkdir(parents=True)
    (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").touch()
    program = tmp_path / f"influxd-{INFLUX_VERSION}" / "influxd"
    program.parent.mkdir()
    program.touch(mode=0o644)
    assert find_servers().kafka_libs == libs
    assert find_servers().influxd is None  # half a copy can't be run
    program.chmod(0o755)
    assert find_servers().influxd == program


@pytest.mark.needs_mosquitto
def test_mosquitto_starts_again_and_answers_when_it_is_not_paused(tmp_path: Path) -> None:
    with MosquittoServer(tmp_path / "mosquitto") as mosquitto:
        assert mosquitto.healthy()
        mosquitto.pause()
        wait_until_unhealthy(mosquitto)
        mosquitto.resume()
        assert mosquitto.healthy(timeout_s=10)
        mosquitto.kill()
        assert not mosquitto.healthy()
        mosquitto.start()
        assert mosquitto.healthy()


@pytest.mark.needs_mosquitto
def test_health_checks_do_not_fill_the_log_of_mosquitto(tmp_path: Path) -> None:
    with MosquittoServer(tmp_path / "mosquitto") as mosquitto:
        size = mosquitto.log_path.stat().st_size
        assert all(mosquitto.healthy() for _ in range(50))
        assert mosquitto.log_path.stat().st_size == size


def test_mosquitto_that_is_not_installed_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.stack.mosquitto.mosquitto_program", lambda: None)
    with pytest.raises(ServerError, match="apt install mosquitto"):
        MosquittoServer(tmp_path).start()


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from deploy.stack.certs import Plan, make_certificates

    folder = tmp_path_factory.mktemp("certs")
    now = datetime.now(timezone.utc)
    make_certificates(folder, Plan(devices=("plant/press",)), now=now)
    return folder


@pytest.mark.needs_kafka_server
def test_kafka_with_certificates_takes_our_services_only(tmp_path: Path, certs: Path) -> None:
    with KafkaServer(tmp_path / "kafka", certs=certs) as kafka:
        assert kafka.healthy()
        kafka.kill()
        kafka.start()
        assert kafka.healthy()
        with open_connection(kafka.host, kafka.port, 5) as plain:
            plain.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff")
            assert plain.recv(4) in (b"", b"\x15\x03\x03\0")  # hung up, or a TLS alert


@pytest.mark.needs_influxd
def test_influx_with_certificates_serves_https(tmp_path: Path, certs: Path) -> None:
    with InfluxServer(tmp_path / "influx", certs=certs) as influx:
        assert influx.url.startswith("https://")
        assert influx.setup("factory", "scores") == influx.token


@pytest.mark.needs_mosquitto
def test_mosquitto_with_certificates_answers_our_services(tmp_path: Path, certs: Path) -> None:
    with MosquittoServer(tmp_path / "mosquitto", certs=certs) as mosquitto:
        assert mosquitto.healthy()
        with open_connection(mosquitto.host, mosquitto.port, 5) as plain:
            plain.sendall(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0")
            try:
                answer = plain.recv(4)
            except ConnectionResetError:
                answer = b""
            assert answer[:1] != b"\x20"  # no CONNACK


async def _create_topic(address: str, name: str, partitions: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1)])
    finally:
        await admin.close()


async def _produce(address: str, topic: str, numbers: range) -> list[int]:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all")
    await producer.start()
    try:
        for n in numbers:
            await producer.send_and_wait(topic, b"%d" % n, partition=n % 3)
    finally:
        await producer.stop()
    return sorted(numbers)


async def _consume(address: str, topic: str, count: int) -> list[int]:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return sorted([int((await consumer.getone()).value or b"") for _ in range(count)])
    finally:
        await consumer.stop()


def _write(influx: InfluxServer, bucket: str, lines: str) -> None:
    request = urllib.request.Request(
        f"{influx.url}/api/v2/write?org={influx.org}&bucket={bucket}&precision=s",
        data=lines.encode(),
        headers={"Authorization": f"Token {influx.token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204


def _count(influx: InfluxServer, bucket: str) -> int:
    flux = f'from(bucket: "{bucket}") |> range(start: 0) |> group() |> count()'
    request = urllib.request.Request(
        f"{influx.url}/api/v2/query?org={influx.org}",
        data=json.dumps({"query": flux}).encode(),
        headers={"Authorization": f"Token {influx.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        rows = answer.read().decode().strip().splitlines()
    return int(rows[-1].split(",")[-1])
