"""The command line: every command explains itself, errors say what to do."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deploy import cli
from deploy.cli import main
from deploy.gatewaycmd import split_address
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
    assert "pip install 'kpstream[gateway]'" in run("demo", code=1)


@pytest.mark.parametrize("address", ["host:", "host:0", "host:70000", "host:x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(click.BadParameter, match="HOST:PORT"):
        split_address(address)


def test_models_are_published_promoted_rolled_back_and_listed(tmp_path: Path) -> None:
    registry = ("models", "--registry", str(tmp_path / "registry"))
    assert "is empty" in run(*registry, "list")
    artifact = write_dummy(tmp_path / "student").path
    assert "v1, stable" in run(*registry, "publish", str(artifact), "--stable")
    assert "published as v2" in run(*registry, "publish", str(artifact))
    assert "v2 is stable" in run(*registry, "promote", "dummy-rul", "2")
    assert "v1 is stable" in run(*registry, "promote", "dummy-rul", "1")
    listed = run(*registry, "list").splitlines()
    assert ["stable" in line for line in listed] == [True, False]
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
