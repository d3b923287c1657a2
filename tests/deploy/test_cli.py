"""The command line: every command has help, and errors give advice."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy import cli
from deploy.cli import main
from deploy.settings.brokeraddress import split_address
from ingest.extras import install_command
from models.dummy import write_dummy
from models.registry import Registry


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def test_the_overview_names_every_command() -> None:
    overview = run("--help")
    assert all(name in overview for name in cli._COMMANDS)


@pytest.mark.parametrize("name", list(cli._COMMANDS))
def test_every_command_explains_itself(name: str) -> None:
    assert "Usage:" in run(name, "--help")


def test_an_unknown_command_is_a_usage_error() -> None:
    assert "No such command" in run("fly", code=2)


def test_a_missing_package_fails_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cli._COMMANDS, "demo", ("package_that_is_not_there", "demo", ""))
    assert install_command("demo") in run("demo", code=1)


@pytest.mark.parametrize(
    "address", ["host:", "host:0", "host:70000", "host:x", ":1883", "", " :1", "::1", "[]:1"]
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(click.BadParameter, match="HOST:PORT"):
        split_address(address)


@pytest.mark.parametrize("command", ["gateway", "doctor"])
@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("KPSTREAM_GATEWAY_CONSOLE_PORT", "seven", "valid integer"),
        ("KPSTREAM_GATEWAY_CONSOLE_HOSTS", "gateway.plant", "not valid JSON"),
        ("KPSTREAM_GATEWAY_CONSOLE_HOSTS", "[1]", "valid string"),
        ("KPSTREAM_INGEST_MQTT_PORT", "99999", "less than"),
        ("KPSTREAM_PIPELINE_PARTITIONS", "0", "greater than"),
    ],
)
def test_an_invalid_setting_is_reported_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, command: str, variable: str, value: str, problem: str
) -> None:
    monkeypatch.setenv(variable, value)
    (reported,) = (line for line in run(command, code=1).splitlines() if variable in line)
    assert problem in reported
    assert value not in reported.replace(variable, "")


@pytest.fixture
def gateway_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_gateway(*_: object) -> int:
        return 0

    monkeypatch.setattr("deploy.processes.gateway.run_gateway", run_gateway)


@pytest.mark.usefixtures("gateway_that_does_not_run")
def test_the_state_folder_is_made_for_its_owner_only_and_an_old_one_left_alone(
    tmp_path: Path,
) -> None:
    new, old = tmp_path / "deep" / "new", tmp_path / "old"
    old.mkdir(mode=0o750)
    for folder, mode in ((new, 0o700), (old, 0o750), (new, 0o700)):
        run("gateway", "--state-dir", str(folder))
        assert folder.stat().st_mode & 0o777 == mode


@pytest.mark.usefixtures("gateway_that_does_not_run")
@pytest.mark.parametrize("where", ["file", "file/below", "closed"])
def test_an_unusable_state_folder_is_reported_with_advice(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda _, mode: not mode & os.W_OK)  # tests may be root
    reported = run("gateway", "--state-dir", str(tmp_path / where), code=1)
    assert "KPSTREAM_GATEWAY_STATE_DIR" in reported
    assert "Traceback" not in reported


def test_a_fleet_that_cannot_run_reports_the_reason_in_one_line(tmp_path: Path) -> None:
    reported = run("simulate", "--truth", str(tmp_path / "nowhere" / "truth"), code=1)
    assert "No such file" in reported
    assert "Traceback" not in reported
    assert "--seed" in run("simulate", "--seed", "-1", code=2)
    assert "--cycles-per-second" in run("simulate", "--cycles-per-second", "0", code=2)


def test_models_are_published_promoted_rolled_back_and_listed(tmp_path: Path) -> None:
    registry = ("models", "--registry", str(tmp_path / "registry"))
    assert "is empty" in run(*registry, "list")
    artifact = write_dummy(tmp_path / "student").path
    assert "dummy-rul v1 is stable" in run(*registry, "publish", str(artifact), "--stable")
    assert "published as v2; `kpstream models" in run(*registry, "publish", str(artifact))
    assert "v2 is stable" in run(*registry, "promote", "dummy-rul", "2")
    assert "v1 is stable" in run(*registry, "promote", "dummy-rul", "1")
    first, second, *who = run(*registry, "list").splitlines()
    assert "stable" in first
    assert "stable" not in second
    assert "rejected" in second  # a rollback by hand rejects the version that it leaves
    assert any("engine" in line and "dummy-rul v1" in line for line in who)
    history = run(*registry, "history", "dummy-rul")
    assert [line.split()[2] for line in history.splitlines()] == ["promote", "promote", "rollback"]
    assert "no version 9" in run(*registry, "promote", "dummy-rul", "9", code=1)


def test_a_damaged_version_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.publish(write_dummy(tmp_path / "student").path, name="dummy-rul", stable=True)
    onnx = registry.version_path("dummy-rul", 1) / "model.onnx"
    onnx.chmod(0o644)
    onnx.write_bytes(b"not a model")
    assert "refused:" in run("models", "--registry", str(tmp_path), "list")
