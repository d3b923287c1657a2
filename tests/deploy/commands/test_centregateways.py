"""`kpstream centre gateways|enrol|retire|restore|control`, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.cli import main
from deploy.commands.centrecontext import now_s
from deploy.rollout.inventory import Inventory
from deploy.rollout.report import GatewayReport, encode_report, read_report_key
from ingest.mqtt.broker import LocalBroker
from ingest.topics import report_topic
from models.dummy import write_dummy
from models.registry import Registry
from tests.deploy.processes.test_centrecontrol import Places
from tests.deploy.rollout.fleets import student
from tests.fakes.ports import free_port


class Centre:
    """A centre in a folder, and an inventory that is filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "centre"
        self.files = folder
        self.inventory = Inventory(self.folder / "inventory", now_s)

    def run(self, *words: str | Path, code: int = 0) -> str:
        arguments = ["centre", "--dir", str(self.folder), *map(str, words)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == code, result.output
        return result.output

    def rows(self, *words: str) -> list[dict]:
        return json.loads(self.run("gateways", "--json", *words))

    def report(self, name: str, standing: str, group: str = "", **changes: object) -> None:
        report = GatewayReport(
            gateway=name,
            group=group,
            sent_s=now_s(),
            software="0.9.0",
            disk_free_mb=12_345,
            fetch="ok",
            students=(student(standing, **changes),),
        )
        self.inventory.take(report_topic(name), encode_report(report))


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    return Centre(tmp_path)


def test_who_runs_what_is_a_table_with_reasons(centre: Centre) -> None:
    centre.report("gw-a", "healthy", "north")
    centre.report("gw-b", "failed", "south")
    centre.inventory.enrol("gw-c")
    lines = centre.run("gateways").splitlines()
    assert [line.split()[0] for line in lines] == ["gateway", "gw-a", "gw-b", "12", "gw-c"]
    assert lines[1].split()[1] == "north"
    assert "rul-fd001" in lines[1]
    assert "v2 abababababab" in lines[1]
    assert "probation" in lines[1]
    assert "5:v2" in lines[1]
    assert "12.3 GB" in lines[1]
    assert "12 of 200 scores are not finite" in lines[3]
    assert "never !" in lines[4]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["gw-a", "gw-b", "gw-c"]),
        (("--group", "north"), ["gw-a"]),
        (("--phase", "failed"), ["gw-b"]),
        (("--digest", "abab"), ["gw-a"]),
        (("--release", "5"), ["gw-a", "gw-b"]),
        (("--student", "activity"), []),
        (("--silent",), ["gw-c"]),
        (("--group", "south", "--phase", "champion"), []),
    ],
)
def test_filters(centre: Centre, words: Sequence[str], names: list[str]) -> None:
    centre.report("gw-a", "healthy", "north")
    centre.report("gw-b", "failed", "south")
    centre.inventory.enrol("gw-c")
    assert [row["gateway"] for row in centre.rows(*words)] == names


def test_json_has_the_evidence(centre: Centre) -> None:
    centre.report("gw-a", "healthy", evidence={"windows": 40, "psi_permille": 12})
    (row,) = centre.rows()
    assert row["evidence"] == {"windows": 40, "psi_permille": 12}
    assert (row["student"], row["version"], row["candidate"]) == ("rul-fd001", 2, 2)
    assert row["silent"] is False


def test_no_gateway_says_what_to_do(centre: Centre) -> None:
    assert "kpstream centre control" in centre.run("gateways")
    centre.report("gw-a", "healthy")
    assert centre.run("gateways", "--group", "south") == "No gateway matches these filters.\n"


def test_the_table_is_as_wide_as_its_cells(centre: Centre) -> None:
    centre.report("a-gateway-with-a-long-name", "healthy", "north")
    centre.report("gw-b", "healthy", "north")
    lines = centre.run("gateways").splitlines()
    assert len({line.index("rul-fd001") for line in lines[1:]}) == 1
    assert lines[0].index("student") == lines[1].index("rul-fd001")


def test_a_gateway_is_enrolled_retired_and_restored(centre: Centre) -> None:
    path = centre.files / "gw-a.key"
    centre.run("enrol", "gw-a", "--key-out", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_report_key(path)
    assert key.hex() not in centre.run("enrol", "gw-a", "--key-out", path)
    assert read_report_key(path) == key, "again is the same"
    centre.run("enrol", "gw-a", "--key-out", path, "--replace")
    assert read_report_key(path) != key
    assert "gw-a is retired" in centre.run("retire", "gw-a")
    assert centre.rows() == []
    assert "it was not known" in centre.run("retire", "gw-x")
    assert "may report again" in centre.run("restore", "gw-a")
    assert "was not retired" in centre.run("restore", "gw-a")
    assert "is no name of a gateway" in centre.run("retire", "a b", code=1)


async def test_a_timer_moves_a_signed_release(
    tmp_path: Path, mosquitto_program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: signed repository, real broker, reports, `control --once`."""
    del mosquitto_program
    port = free_port()
    monkeypatch.setenv("KPSTREAM_CENTRE_MQTT_HOST", "127.0.0.1")
    monkeypatch.setenv("KPSTREAM_CENTRE_MQTT_PORT", str(port))
    centre = Centre(tmp_path)
    registry = Registry(tmp_path / "registry")
    registry.publish(write_dummy(tmp_path / "a1", name="rul-fd001", version=1).path)
    with LocalBroker(tmp_path / "mq", port=port):
        await _move(centre, registry, Places(tmp_path, port))


async def _move(centre: Centre, registry: Registry, places: Places) -> None:
    async def run(*words: str | Path) -> str:
        return await asyncio.to_thread(centre.run, *words)

    await run("init", "--root-out", centre.files / "usb", "--without-passphrase")
    plan = ("--steps", "50,100", "--step-seconds", "0", "--step-windows", "10")
    await run("release", "rul-fd001", "1", "--registry", registry.root, *plan)
    release = json.loads(await run("status", "--json"))["releases"][0]
    for name in ("gw-a", "gw-b"):
        await places.report(name, "unaware", now_s() - 5)
    assert "waiting for gw-" in await run("control", "--once")
    assert "waiting for gw-" in await run("status")
    new = {"version": 1, "digest": release["digest"], "release": 1}
    for name in ("gw-a", "gw-b"):
        report = GatewayReport(
            gateway=name, sent_s=now_s() - 4, students=(student("healthy", **new),)
        )
        await places.publish((report_topic(name), encode_report(report)))
    assert "running, step 2 of 2" in await run("control", "--once")
    assert "complete" in await run("control", "--once")
    assert "complete" in await run("control", "--once")
    after = json.loads(await run("status", "--json"))["releases"][0]
    assert (after["state"], after["members"]) == ("complete", ["gw-a", "gw-b"])
    assert after["standings"] == {"gw-a": "healthy", "gw-b": "healthy"}
