"""systemd units and compose file: those in the repository are current and match native settings."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.settings.settings import SiteSettings
from deploy.stack.composefile import compose, image_variable
from deploy.stack.mosquitto import MosquittoServer
from deploy.stack.servers import (
    INFLUX_VERSION,
    KAFKA_VERSION,
    FoundServers,
    InfluxServer,
    KafkaServer,
    find_servers,
)
from deploy.stack.site import Site
from deploy.stack.siteparts import site_parts
from deploy.stack.units import unit_files, write_units
from deploy.supervisor.program import Program
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

STACK = Path(__file__).parents[3] / "deploy" / "stack"
ANYWHERE = FoundServers(Path("/s"), Path("/s/libs"), "/usr/bin/java", Path("/s/influxd"))
# Places of the node, which must differ between the machine, systemd and a container.
PLACE = {"listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs"}
IMAGE_ONLY = {"listener.security.protocol.map"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A site with the defaults of all settings, in a folder of its own."""
    for name in list(os.environ):
        if name.startswith("KPSTREAM_"):
            monkeypatch.delenv(name)
    site = SiteSettings(state_dir=tmp_path / "state")
    return Site(site, IngestSettings(), PipelineSettings(), ANYWHERE)


def test_the_files_in_the_repository_are_current(here: Site) -> None:
    files = unit_files(here)
    for name, text in files.items():
        assert (STACK / name).read_text() == text, (
            f"{name} is out of date: kpstream site units --out deploy/stack"
        )
    there = {f"systemd/{path.name}" for path in (STACK / "systemd").iterdir()}
    assert there == {name for name in files if name.startswith("systemd/")}


def test_unit_files_are_written_to_the_given_folder(here: Site, tmp_path: Path) -> None:
    written = write_units(tmp_path / "out", here)
    assert (tmp_path / "out" / "compose.yaml") in written
    assert all(path.read_text() for path in written)


def test_the_compose_file_is_yaml_of_the_same_data(here: Site) -> None:
    assert yaml.safe_load((STACK / "compose.yaml").read_text()) == compose(here)


def native_kafka(here: Site) -> dict[str, str]:
    server = next(found for found in here.native_servers() if isinstance(found, KafkaServer))
    return {name: text for name, text in server.settings().items() if name not in PLACE}


def test_kafka_has_the_native_settings_in_compose(here: Site) -> None:
    service = compose(here)["services"]["kafka"]
    native = {image_variable("KAFKA", name): text for name, text in native_kafka(here).items()}
    java = {"KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"}
    places = {image_variable("KAFKA", name) for name in PLACE | IMAGE_ONLY}
    environment = service["environment"]
    assert {k: v for k, v in environment.items() if k not in places | java} == native
    assert service["image"] == f"apache/kafka:{KAFKA_VERSION}"
    command = KafkaServer(Path("/k"), servers=ANYWHERE).command()
    assert set(environment["KAFKA_JVM_PERFORMANCE_OPTS"].split()) <= set(command)
    assert environment["KAFKA_HEAP_OPTS"] in command


def test_kafka_has_the_native_settings_under_systemd(here: Site) -> None:
    files = unit_files(here)
    lines = files["systemd/kafka.properties"].splitlines()
    properties = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert {k: v for k, v in properties.items() if k not in PLACE} == native_kafka(here)
    started = exec_line(files["systemd/kpstream-kafka.service"], "ExecStart")
    native = KafkaServer(Path("/k"), servers=ANYWHERE).command()
    options = [word for word in native if word.startswith("-X")]
    assert [word for word in started if word.startswith("-X")] == options
    assert f"/kafka-{KAFKA_VERSION}/" in " ".join(started)


def test_influxdb_has_the_native_settings(here: Site) -> None:
    native = [
        word.removeprefix("--").split("=")
        for word in InfluxServer(Path("/i"), servers=ANYWHERE).command()
        if word.startswith("--") and "=" in word
    ]
    service = compose(here)["services"]["influxdb"]
    assert service["environment"] == {image_variable("INFLUXD", k): v for k, v in native}
    assert service["image"] == f"influxdb:{INFLUX_VERSION}"
    assert service["stop_signal"] == InfluxServer.stop_signal.name
    unit = unit_files(here)["systemd/kpstream-influxdb.service"]
    started = exec_line(unit, "ExecStart")
    assert {f"--{name}={value}" for name, value in native} <= set(started)
    assert f"/influxd-{INFLUX_VERSION}/" in started[0]
    assert f"KillSignal={InfluxServer.stop_signal.name}" in unit


def test_mosquitto_has_the_native_settings(here: Site, tmp_path: Path) -> None:
    mosquitto = MosquittoServer(tmp_path, port=1883)
    mosquitto.command = lambda: ["mosquitto"]  # type: ignore[method-assign] # it need not be here
    mosquitto.prepare()
    native = settings_of((tmp_path / "mosquitto.conf").read_text())
    systemd = settings_of(unit_files(here)["systemd/mosquitto.conf"])
    image = settings_of(compose(here)["configs"]["mosquitto"]["content"])
    kept = {k: v for k, v in native.items() if k not in {"user", "persistence_location"}}
    del kept["log_type"]  # package and image have their own logging
    assert systemd == {k: v for k, v in kept.items() if k != "persistence"}
    assert {k: v for k, v in image.items() if k not in {"persistence_location", "listener"}} == {
        k: v for k, v in kept.items() if k != "listener"
    }


def settings_of(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def test_the_processes_are_the_native_ones(here: Site) -> None:
    services = compose(here)["services"]
    native = {part.name: part for part in site_parts(here) if isinstance(part, Program)}
    for name, port in here.process_ports():
        part = native[name]
        environment = services[name]["environment"]
        if name.startswith("store"):
            here_token = here.site.state_dir / "secrets" / "influx-store.token"
            here_token.parent.mkdir(parents=True)
            here_token.write_text("t")
        for variable, value in part.env().items():
            if variable in {"KPSTREAM_SITE_STATE_DIR", "PYTHONUNBUFFERED"} or "INFLUX" in variable:
                continue
            if variable == "KPSTREAM_INGEST_MQTT_PORT":
                assert value == "1883"  # the default in the container too
                continue
            assert environment[variable] == value, name
        assert " ".join(services[name]["command"]).endswith(f"kpstream {name.partition('-')[0]}")
        assert str(port) in services[name]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("folder", ["units", "deep/er/units", "deploy/stack"])
def test_a_written_compose_file_finds_the_source(
    here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    root = tmp_path / "clone"
    stands_in = root / "deploy" / "stack" / "composefile.py"
    stands_in.parent.mkdir(parents=True)
    (root / "pyproject.toml").touch()
    monkeypatch.setattr("deploy.stack.composefile.__file__", str(stands_in))
    for out in (root / folder, tmp_path / "elsewhere" / folder):
        write_units(out, here)
        found = re.findall(r'context: "(.*)"', (out / "compose.yaml").read_text())
        assert found
        assert {(out / context).resolve() for context in found} == {root}
        assert f"docker compose -f {out}/compose.yaml up --build" in read_head(out)


def test_without_source_the_compose_file_builds_nothing(
    here: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "deploy" / "stack" / "composefile.py"
    monkeypatch.setattr("deploy.stack.composefile.__file__", str(installed))
    write_units(tmp_path, here)
    text = (tmp_path / "compose.yaml").read_text()
    assert "build:" not in text
    assert 'image: "kpstream"' in text
    assert "docker build -f deploy/stack/Dockerfile -t kpstream ." in read_head(tmp_path)


def read_head(folder: Path) -> str:
    return (folder / "compose.yaml").read_text().partition("\nname:")[0]


def test_systemd_counts_the_native_ports_and_names(here: Site) -> None:
    files = unit_files(here)
    for name, port in here.process_ports():
        kind, _, number = name.partition("-")
        unit = files[f"systemd/kpstream-{kind}@.service"].replace("%i", number)
        assert f"KPSTREAM_SITE_STATUS_PORT={port}\n" in unit
        assert f"KPSTREAM_SITE_NAME={name}\n" in unit
        assert exec_line(unit, "ExecStart")[1:] == [kind]


def test_systemd_can_not_count_from_any_port(here: Site) -> None:
    odd = Site(SiteSettings(base_port=8705), here.ingest, here.pipeline, here.servers)
    with pytest.raises(ValueError, match="multiple of 10"):
        unit_files(odd)


def test_every_service_is_hardened_and_restarted(here: Site) -> None:
    units = {name: text for name, text in unit_files(here).items() if name.endswith(".service")}
    for name, text in units.items():
        for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes"):
            assert f"\n{line}\n" in text, name
        assert "\nUser=kpstream\n" in text, name
        assert ("Restart=always" in text) == (name != "systemd/kpstream-setup.service")


def test_no_password_and_no_open_port_is_in_the_compose_file(here: Site) -> None:
    page = compose(here)
    for name, service in page["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for variable in service.get("environment", {}):
            assert not re.search("PASSWORD$|TOKEN$", variable), variable


def test_a_container_has_only_the_secrets_it_needs(here: Site) -> None:
    services = compose(here)["services"]
    has = {
        name: {volume.split(":")[0] for volume in service.get("volumes", [])}
        for name, service in services.items()
    }
    assert {name for name, volumes in has.items() if "secrets" in volumes} == {"setup", "store-1"}
    assert {name for name, volumes in has.items() if "grafana-token" in volumes} == {
        "setup",
        "grafana",
    }
    assert "state" not in has["grafana"]
    assert set().union(*has.values()) - {
        "../../dashboards/provisioning",
        "../../dashboards/json",
    } == set(compose(here)["volumes"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_units(here: Site, tmp_path: Path) -> None:
    write_units(tmp_path, here)
    units = []
    for path in sorted((tmp_path / "systemd").glob("*.*")):
        if path.suffix in {".service", ".target"}:
            name = path.name.replace("@.", "@1.")
            units.append(str(path.with_name(name)))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    known = re.compile(
        # Not installed here; known since systemd 254.
        r"is not executable: No such file|Unknown key 'Restart(Steps|MaxDelaySec)'"
    )
    lines = [line for line in said.stderr.splitlines() if "kpstream" in line]
    assert [line for line in lines if not known.search(line)] == []


@pytest.mark.needs_kafka_server
def test_the_unit_of_kafka_formats_its_folder_once(here: Site, tmp_path: Path) -> None:
    servers = find_servers()
    assert servers.kafka_libs
    files = unit_files(here)
    moved = {
        f"/opt/kpstream/servers/kafka-{KAFKA_VERSION}": str(servers.kafka_libs.parent),
        "/var/lib/kpstream-kafka": str(tmp_path),
        "/etc/kpstream": str(tmp_path),
        "/usr/bin/java": servers.java or "java",
    }

    def here_now(text: str) -> str:
        for there, place in moved.items():
            text = text.replace(there, place)
        return text

    (tmp_path / "kafka.properties").write_text(here_now(files["systemd/kafka.properties"]))
    unit = here_now(files["systemd/kpstream-kafka.service"])
    command = [word.replace("$$", "$") for word in exec_line(unit, "ExecStartPre")]
    subprocess.run(command, check=True, capture_output=True)
    made = (tmp_path / "data" / "meta.properties").read_text()
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "data" / "meta.properties").read_text() == made


@pytest.mark.needs_mosquitto
def test_mosquitto_of_debian_takes_the_drop_in(here: Site, tmp_path: Path) -> None:
    text = unit_files(here)["systemd/mosquitto.conf"]
    with MosquittoServer(tmp_path / "it") as mosquitto:
        (tmp_path / "conf.d").mkdir()
        ours = text.replace("listener 1883", f"listener {mosquitto.port}")
        (tmp_path / "conf.d" / "kpstream.conf").write_text(ours)
        debian = (
            f"pid_file {tmp_path}/pid\npersistence true\npersistence_location {tmp_path}/\n"
            f"log_dest file {tmp_path}/mosquitto.log\ninclude_dir {tmp_path}/conf.d\n"
            f"{'user root' if os.geteuid() == 0 else ''}\n"
        )
        mosquitto.stop()
        mosquitto.prepare = lambda: None  # type: ignore[method-assign]
        (tmp_path / "it" / "mosquitto.conf").write_text(debian)
        mosquitto.start()
        assert mosquitto.healthy()


def exec_line(unit: str, key: str) -> list[str]:
    found: Any = re.search(rf"^{key}=(.*)$", unit, re.MULTILINE)
    return shlex.split(found[1])
