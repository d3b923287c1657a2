"""The generated files: current in the repository, and understood by the programs they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.gateway.files import gateway_files, tls_files
from deploy.gateway.service import UNITS, UPDATE_UNITS
from deploy.gateway.settingsfile import read_settings
from deploy.stack.generated import HARDENED

FOLDER = Path(__file__).parents[3] / "deploy/gateway/systemd"
HAS_SYSTEMD = shutil.which("systemd-analyze") is not None


def test_the_files_in_the_repository_are_current() -> None:
    files = gateway_files()
    there = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert there == files, "run: python -m deploy.gateway.files deploy/gateway/systemd"


def test_every_unit_is_installed() -> None:
    units = {
        name for name in gateway_files() if name.partition(".")[2] in ("service", "path", "timer")
    }
    assert units == {*UNITS, *UPDATE_UNITS}


def test_the_gateway_is_as_hardened_as_the_services_of_a_site() -> None:
    assert HARDENED in gateway_files()["kpstream-gateway.service"]


@pytest.mark.skipif(not HAS_SYSTEMD, reason="systemd is not installed")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    paths = []
    for name in (*UNITS, *UPDATE_UNITS):
        path = tmp_path / name
        path.write_text(gateway_files()[name])
        paths.append(str(path))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    known = re.compile(
        # Not installed here; known since systemd 254.
        r"is not executable: No such file|Unknown key 'Restart(Steps|MaxDelaySec)'"
    )
    lines = [line for line in said.stderr.splitlines() if "kpstream" in line]
    assert [line for line in lines if not known.search(line)] == []


@pytest.mark.skipif(not HAS_SYSTEMD, reason="systemd is not installed")
def test_the_documented_exposure_is_what_systemd_counts(tmp_path: Path) -> None:
    path = tmp_path / "kpstream-gateway.service"
    path.write_text(gateway_files()[path.name])
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for kpstream-gateway.service: ([\d.]+)", said.stdout)
    assert found, said.stderr
    assert float(found[1]) <= 1.7


def test_settings_mean_the_same_to_the_shell_and_to_the_installer(tmp_path: Path) -> None:
    path = tmp_path / "gateway.env"
    path.write_text(gateway_files()["gateway.env"] + "KPSTREAM_GATEWAY_NAME='press $7 \"x\"'\n")
    name = "KPSTREAM_GATEWAY_NAME"
    by_shell = subprocess.run(
        ["sh", "-c", f'set -a; . "$1"; printf %s "${name}"', "sh", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert by_shell == read_settings(path.read_text())[name] == 'press $7 "x"'


def test_with_tls_the_own_port_stays_on_loopback() -> None:
    text = tls_files(Path("/etc/kpstream/mosquitto"), "192.0.2.7", "sensors")["mosquitto.conf"]
    assert re.findall(r"^listener (.*)$", text, re.M) == ["8883 192.0.2.7", "8884 127.0.0.1"]
    assert "allow_anonymous true" not in text
