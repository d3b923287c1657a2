"""A site from its settings: problems are reported, and its parts get all settings."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.settings.settings import SiteSettings
from deploy.stack.certs import Plan, make_certificates
from deploy.stack.servers import FoundServers, InfluxServer, KafkaServer
from deploy.stack.site import Site
from deploy.stack.siteparts import site_parts
from deploy.stack.siteproblems import site_problems
from deploy.stack.sitesetup import (
    GRAFANA_TOKEN_FILE,
    OPERATOR_TOKEN_FILE,
    STORE_ENV_FILE,
    STORE_TOKEN_FILE,
    setup_steps,
)
from deploy.supervisor.healthcheck import HealthCheck, check_process, read_ready_page
from deploy.supervisor.program import Program, Step
from ingest.bridge import Bridge
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings
from tests.fakes.log import FakeLog, body, until
from tests.fakes.ports import free_port

INSTALLED = FoundServers(Path("/s"), Path("/s/libs"), "/usr/bin/java", Path("/s/influxd"))
NOTHING = FoundServers(Path("/s"), None, None, None)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("KPSTREAM_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(
        "deploy.stack.siteproblems.mosquitto_program", lambda: "/usr/sbin/mosquitto"
    )


def site(
    folder: Path,
    *,
    found: FoundServers = INSTALLED,
    ingest: dict[str, Any] | None = None,
    pipeline: dict[str, Any] | None = None,
    **own: Any,
) -> Site:
    """A site on free ports."""
    own = {"kafka": f"127.0.0.1:{free_port()}", "base_port": 20_000, "state_dir": folder} | own
    pipeline = {"influx_url": f"http://127.0.0.1:{free_port()}"} | (pipeline or {})
    ingest = {"mqtt_port": free_port()} | (ingest or {})
    return Site(SiteSettings(**own), IngestSettings(**ingest), PipelineSettings(**pipeline), found)


def programs(here: Site) -> dict[str, Program]:
    return {part.name: part for part in site_parts(here) if isinstance(part, Program)}


def test_a_valid_site_has_no_problems(tmp_path: Path) -> None:
    assert site_problems(site(tmp_path)) == []


def test_servers_that_are_not_installed_are_named_with_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.stack.siteproblems.mosquitto_program", lambda: None)
    assert site_problems(site(tmp_path, found=NOTHING)) == [
        "mosquitto is not installed: sudo apt install mosquitto",
        "Java is not installed: sudo apt install default-jre-headless",
        "Kafka and InfluxDB not found in /s: run kpstream site install",
    ]


def test_servers_that_run_elsewhere_need_not_be_installed(tmp_path: Path) -> None:
    token = {"influx_token": SecretStr("t")}
    here = site(tmp_path, found=NOTHING, native=("mosquitto",), pipeline=token)
    assert site_problems(here) == []
    assert list(programs(here)) == ["mosquitto", "store-1", "worker-1", "worker-2", "bridge-1"]
    assert [part.name for part in site_parts(here) if isinstance(part, Step)] == ["topics"]
    without = site(tmp_path, found=NOTHING, native=("mosquitto",))
    assert ["KPSTREAM_PIPELINE_INFLUX_TOKEN" in line for line in site_problems(without)] == [True]


def test_a_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (problem,) = site_problems(site(tmp_path, ingest={"mqtt_port": port}))
        assert f"mosquitto: port {port} on 127.0.0.1 is taken" in problem
        assert "KPSTREAM_INGEST_MQTT_PORT" in problem
        assert "KPSTREAM_SITE_NATIVE" in problem
        (problem,) = site_problems(site(tmp_path, base_port=port - 41))
        assert f"worker-1: port {port}" in problem
        assert "KPSTREAM_SITE_BASE_PORT" in problem


def test_only_loopback_is_served(tmp_path: Path) -> None:
    (problem,) = site_problems(site(tmp_path, kafka="10.0.0.7:9092"))
    assert problem.startswith("kafka on 10.0.0.7: kpstream runs servers on loopback only")


def test_missing_certificates_are_named_with_what_to_run(tmp_path: Path) -> None:
    (problem,) = site_problems(site(tmp_path, certs_dir=tmp_path / "certs"))
    assert f"kpstream certs make --out {tmp_path}/certs" in problem


def test_certificates_must_be_in_date_and_fit_the_address_of_influxdb(tmp_path: Path) -> None:
    certs, now = tmp_path / "certs", datetime.now(timezone.utc)
    make_certificates(certs, Plan(days=20, devices=("p/d",)), now=now - timedelta(days=25))
    expired, http = site_problems(site(tmp_path, certs_dir=certs))
    assert "mosquitto, bridge" in expired
    assert f"have expired: run kpstream certs make --out {certs} --renew" in expired
    assert "KPSTREAM_PIPELINE_INFLUX_URL must begin with https://" in http
    make_certificates(certs, Plan(), now=now, renew=True)
    https = {"influx_url": f"https://127.0.0.1:{free_port()}"}
    assert site_problems(site(tmp_path, certs_dir=certs, pipeline=https)) == []


def test_a_device_with_a_certificate_may_publish_sparkplug_if_enabled(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    make_certificates(certs, Plan(devices=("g/n.1", "g/m")), now=datetime.now(timezone.utc))
    for ingest, count in (({}, 0), ({"sparkplug": tmp_path / "map.toml"}, 1)):
        here = site(tmp_path, certs_dir=certs, ingest=ingest)
        programs(here)["mosquitto"].command()
        acl = (tmp_path / "mosquitto" / "mosquitto-devices.acl").read_text()
        assert acl.count("topic write spBv1.0/g/NDATA/n.1\n") == count
        assert "#" not in acl.partition("\n")[2], "nobody may everything"


def test_servers_start_first_and_end_last_and_bridges_end_first(tmp_path: Path) -> None:
    parts = site_parts(site(tmp_path, bridges=2))
    ranks = {part.name: part.rank for part in parts}
    assert ranks["mosquitto"] == ranks["kafka"] == ranks["influxdb"] == 0
    assert ranks["topics"] == ranks["buckets"] == 1
    ends = {part.name: part.stop_order for part in parts if isinstance(part, Program)}
    assert sorted(ends, key=lambda name: ends[name]) == [
        *("bridge-1", "bridge-2", "worker-1", "worker-2", "store-1"),
        *("mosquitto", "kafka", "influxdb"),
    ]


def test_bridges_have_names_of_their_own_and_share_when_there_are_several(tmp_path: Path) -> None:
    alone = programs(site(tmp_path))["bridge-1"].env()
    assert "KPSTREAM_INGEST_MQTT_SHARED_GROUP" not in alone
    two = programs(site(tmp_path, bridges=2))
    envs = [two["bridge-1"].env(), two["bridge-2"].env()]
    assert {env["KPSTREAM_INGEST_MQTT_SHARED_GROUP"] for env in envs} == {"kpstream"}
    assert len({env["KPSTREAM_INGEST_MQTT_CLIENT_ID"] for env in envs}) == 2
    assert len({env["KPSTREAM_SITE_STATUS_PORT"] for env in envs}) == 2


def test_a_secret_is_given_only_to_the_process_that_needs_it(tmp_path: Path) -> None:
    native = ("mosquitto", "kafka")
    secrets = {"KPSTREAM_INGEST_MQTT_PASSWORD": "p", "KPSTREAM_PIPELINE_INFLUX_TOKEN": "t"}
    here = site(
        tmp_path,
        native=native,
        ingest={"mqtt_username": "u", "mqtt_password": "p"},
        pipeline={"influx_token": "t"},
    )
    given = {
        name: set(secrets.items()) & set(program.env().items())
        for name, program in programs(here).items()
    }
    assert given.pop("bridge-1") == {("KPSTREAM_INGEST_MQTT_PASSWORD", "p")}
    assert given.pop("store-1") == {("KPSTREAM_PIPELINE_INFLUX_TOKEN", "t")}
    assert set(given) == {"mosquitto", "kafka", "worker-1", "worker-2"}
    assert not any(given.values())


def leaving(here: Site) -> dict[str, Step]:
    steps = [part for part in site_parts(here) if isinstance(part, Step)]
    return {step.name: step for step in steps if step.name.endswith(" leaves")}


def test_bridges_that_ran_before_and_are_no_longer_wanted_leave(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"bridge-{number}").mkdir()
    assert list(leaving(site(tmp_path, bridges=3))) == []
    assert list(leaving(site(tmp_path, bridges=1))) == ["bridge-2 leaves", "bridge-3 leaves"]


@pytest.mark.needs_mosquitto
@pytest.mark.needs_kafka_server
async def test_messages_queued_for_a_removed_bridge_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share: dict[str, Any] = {"mqtt_client_id": "kpstream-bridge-2", "mqtt_shared_group": "kpstream"}
    (tmp_path / "bridge-2").mkdir()
    with (
        LocalBroker(tmp_path / "broker", kind="mosquitto") as broker,
        KafkaServer(tmp_path / "kafka") as kafka,
    ):
        before = Bridge(IngestSettings(mqtt_port=broker.port, **share), FakeLog())
        running = asyncio.ensure_future(before.run())
        await until(lambda: before.health().connected)
        before.stop()
        await running
        async with Publisher(Endpoint(broker.host, broker.port, "devices")) as devices:
            for number in range(20):
                await devices.publish("sensors/plant/press-1/engine", body(number))
            await devices.flush()
        monkeypatch.setenv(
            "KPSTREAM_SITE_KAFKA", kafka.address
        )  # as in the environment of every process
        here = site(tmp_path, kafka=kafka.address, ingest={"mqtt_port": broker.port})
        said = await asyncio.to_thread(leaving(here)["bridge-2 leaves"].run)
    assert said.endswith("20 messages taken, 20 in Kafka")
    assert not leaving(here)


def test_with_certificates_everything_speaks_tls(tmp_path: Path) -> None:
    here = Site(
        SiteSettings(state_dir=tmp_path, certs_dir=tmp_path / "certs"),
        IngestSettings(),
        PipelineSettings(),
        INSTALLED,
    )
    assert here.mqtt_port == 8884  # where mosquitto takes services only
    assert here.influx_url == "https://127.0.0.1:8086"
    env = programs(here)["worker-1"].env()
    assert env["KPSTREAM_SITE_KAFKA_CERT_FILE"] == str(tmp_path / "certs/services/worker.pem")


def test_only_workers_are_watched_for_progress(tmp_path: Path) -> None:
    stalls = {
        name: part.watchdog.stall_s
        for name, part in programs(site(tmp_path, stall_s=45)).items()
        if part.kind == "process"
    }
    assert stalls == {"store-1": None, "worker-1": 45.0, "worker-2": 45.0, "bridge-1": None}


@pytest.mark.needs_influxd
def test_tokens_are_random_and_for_the_owner_only(tmp_path: Path) -> None:
    with InfluxServer(tmp_path / "influx") as influx:
        here = site(tmp_path / "state", pipeline={"influx_url": influx.url})
        buckets = next(step for step in setup_steps(here) if step.name == "buckets")
        assert "2 buckets" in buckets.run()
        files = (OPERATOR_TOKEN_FILE, STORE_TOKEN_FILE, GRAFANA_TOKEN_FILE, STORE_ENV_FILE)
        texts = [(here.site.state_dir / file).read_text() for file in files]
        for file in files:
            assert stat.S_IMODE((here.site.state_dir / file).stat().st_mode) == 0o600
        assert stat.S_IMODE((here.site.state_dir / "secrets").stat().st_mode) == 0o700
        assert len({text.strip() for text in texts}) == 4
        assert min(len(text) for text in texts) > 40
        assert texts[3] == f"KPSTREAM_PIPELINE_INFLUX_TOKEN={texts[1]}\n"
        assert programs(here)["store-1"].env()["KPSTREAM_PIPELINE_INFLUX_TOKEN"] == texts[1]
        assert ", 0 changed" in buckets.run()  # the second time finds all in place
        assert [(here.site.state_dir / file).read_text() for file in files] == texts


def test_the_ready_page_of_a_process_becomes_a_health_check() -> None:
    ready = {"ready": True, "problems": [], "backlog": 0, "progress": None}
    assert read_ready_page(200, ready) == HealthCheck(True, True, "", 0.0, None)
    page = {"ready": False, "problems": ["a", "b"], "backlog": 3, "progress": 17}
    assert read_ready_page(503, page) == HealthCheck(True, False, "a; b", 3.0, 17.0)
    assert read_ready_page(200, [1]).ready is False
    assert read_ready_page(503, {"problems": None}) == HealthCheck(True, False)


def test_a_missing_process_or_an_invalid_page_is_no_answer() -> None:
    assert check_process(free_port()) == HealthCheck(False)
    with socket.create_server(("127.0.0.1", 0)) as odd:
        odd.settimeout(5)
        import threading

        def talk() -> None:
            line, _ = odd.accept()
            with line:
                line.recv(1000)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")

        thread = threading.Thread(target=talk)
        thread.start()
        assert check_process(odd.getsockname()[1]) == HealthCheck(False)
        thread.join()
