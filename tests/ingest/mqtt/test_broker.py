"""A local broker starts, keeps what it should, and stops, on loopback only."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ingest.extras import install_command
from ingest.mqtt.broker import BrokerError, LocalBroker, broker_kind
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from tests.fakes.log import until
from tests.fakes.ports import free_port

KINDS = [pytest.param("mosquitto", marks=pytest.mark.needs_mosquitto), "amqtt"]


def listens(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_starts_on_loopback_and_stops_cleanly(kind: str, tmp_path: Path) -> None:
    broker = LocalBroker(tmp_path, kind=kind)
    with broker as started:
        assert started is broker
        assert broker.alive
        assert broker.kind == kind
        assert listens(broker.port)
        hosts = socket.gethostbyname_ex(socket.gethostname())[2]
        assert not [host for host in hosts if host[:4] != "127." and listens(broker.port, host)]
    assert not broker.alive
    assert not listens(broker.port)


def test_listeners_of_ones_own_need_mosquitto_and_a_port(tmp_path: Path) -> None:
    for kind, port in (("amqtt", 1), ("mosquitto", 0)):
        with pytest.raises(BrokerError, match="listeners need mosquitto"):
            LocalBroker(tmp_path, kind=kind, port=port, listeners="listener 1 127.0.0.1\n")


@pytest.mark.parametrize("kind", KINDS)
def test_taken_port_is_reported(kind: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BrokerError, match="is taken"):
            LocalBroker(tmp_path, kind=kind, port=other.getsockname()[1]).start()


@pytest.mark.needs_mosquitto
def test_failure_to_start_shows_the_broker_log(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"mosquitto did not start on 192\.0\.2\.1"):
        LocalBroker(tmp_path, kind="mosquitto", host="192.0.2.1", port=free_port()).start()


def test_temporary_folder_goes_with_the_broker() -> None:
    with LocalBroker(kind="amqtt") as broker:
        folder = broker.folder
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.needs_mosquitto
def test_prefers_mosquitto() -> None:
    assert broker_kind() == "mosquitto"
    assert LocalBroker().protocol == "5"


@pytest.mark.needs_mosquitto
@pytest.mark.parametrize("dies", [False, True])
async def test_mosquitto_keeps_more_than_its_default_for_an_absent_bridge(
    tmp_path: Path, dies: bool
) -> None:
    """By default mosquitto drops all but 1000 queued messages, although it confirmed them."""
    got: list[bytes] = []

    def bridge(port: int) -> Connection:
        return Connection(
            Endpoint("127.0.0.1", port, "bridge"),
            subscribe="#",
            session_expiry_s=1000,
            on_message=lambda _id, _qos, _topic, payload, *_: got.append(payload),
        )

    broker = LocalBroker(tmp_path, kind="mosquitto")
    with broker:
        line = bridge(broker.port)
        line.start()
        await until(lambda: line.subscribed)
        await line.stop()
        async with Publisher(Endpoint("127.0.0.1", broker.port, "devices")) as devices:
            for number in range(3000):
                await devices.publish("a/b", b"%d" % number)
            await devices.flush()
        if dies:
            written = tmp_path / "mosquitto.db"
            was = written.stat().st_mtime_ns if written.exists() else 0
            size = 3000 * 10
            await until(
                lambda: (
                    written.exists()
                    and written.stat().st_mtime_ns != was
                    and written.stat().st_size > size
                )
            )
            broker.kill()
        else:
            broker.stop()
        broker.start()
        line = bridge(broker.port)
        line.start()
        await until(lambda: len(got) == 3000)
        assert got == [b"%d" % number for number in range(3000)]
        await line.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_ends_with_the_process_that_started_it_even_if_that_is_killed(
    kind: str, tmp_path: Path
) -> None:
    script = (
        "import sys, time; from pathlib import Path; from ingest.mqtt.broker import LocalBroker\n"
        f"b = LocalBroker(Path({str(tmp_path)!r}), kind={kind!r}).start()\n"
        "print(b.port, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert listens(port)
        parent.kill()
    asyncio.run(until(lambda: not listens(port)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_start_leaves_no_broker_behind(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = LocalBroker(tmp_path, kind=kind)
    before = set(psutil.Process().children())  # servers of other tests
    children: list[psutil.Process] = []

    def interrupted(*_: object) -> bool:
        children.extend(set(psutil.Process().children()) - before)
        raise KeyboardInterrupt

    monkeypatch.setattr("ingest.mqtt.broker._listens", interrupted)
    with pytest.raises(KeyboardInterrupt):
        broker.start()
    assert children
    assert not any(child.is_running() for child in children)


def test_a_missing_embedded_broker_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ingest.mqtt.broker.find_spec", lambda _name: None)
    with pytest.raises(BrokerError, match=re.escape(install_command("demo"))):
        LocalBroker(tmp_path, kind="amqtt").start()
