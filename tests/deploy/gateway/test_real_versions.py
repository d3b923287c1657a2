"""The installer as a process, with real environments, real pip and a real `/ready`.

The wheels are small ones of the tests, so nothing is fetched: they start a server that answers
`/ready` as their version does, and bring the unit that starts it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.gateway.installer import Installer
from deploy.gateway.places import Places
from deploy.gateway.service import Service
from deploy.gateway.steps import Steps
from deploy.rollout.changes import add_software
from deploy.rollout.release import Plan
from deploy.rollout.software import bundles_of
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.updates.fetch import BUNDLE_LIMITS, Fetcher
from deploy.updates.software import SoftwareUpdater
from tests.fakes import systemctl
from tests.fakes.bundles import make_bundle, pack, seal
from tests.fakes.centre import make_centre, now_s, root_bytes
from tests.fakes.ports import free_port
from tests.fakes.smallwheel import add_pip, small_wheel

ROOT = Path(__file__).parents[3]
INSTALL = ROOT / "deploy/gateway/install.sh"


class Gateway:
    """A machine below a folder, whose systemctl is the tests' own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.systemctl = systemctl.script(self.root)
        self.port = free_port()

    def bundle(self, version: str, status: int = 200) -> Path:
        """A bundle with pip in it if this Python has its wheel, as a real one has."""
        folder = make_bundle(
            self.folder / version, version=version, wheel=small_wheel(version, status)
        )
        add_pip(folder)
        return folder

    def installer(
        self, *words: str | Path, installer: Path = INSTALL
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(installer, words[0], "--root", self.root, "--systemctl", self.systemctl),
                *("--wait-ready", "8", "--hold-ready", "1", *words[1:]),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        )

    @property
    def log(self) -> list[str]:
        return (self.root / "kpstream-gateway.service.log").read_text().splitlines()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    machine = Gateway(tmp_path)
    yield machine
    systemctl.stop_all(machine.root)


@pytest.mark.slow
def test_install_upgrade_fall_back_roll_back_and_remove(gateway: Gateway) -> None:
    port = f"KPSTREAM_GATEWAY_CONSOLE_PORT={gateway.port}"
    where = "KPSTREAM_GATEWAY_STATE_DIR=/var/lib/kpstream"
    done = gateway.installer(
        "install", "--from", gateway.bundle("1.0.0"), "--set", port, "--set", where
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version 1.0.0 runs and is ready" in done.stdout
    assert "student pump: 1.0.0 kpstream models publish" in done.stdout
    state = gateway.root / "var/lib/kpstream"
    (state / "log.db").write_text("readings")

    done = gateway.installer("upgrade", "--from", gateway.bundle("2.0.0"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert gateway.log == [f"1.0.0 in {state}", f"2.0.0 in {state}"]
    unit = gateway.root / "etc/systemd/system/kpstream-gateway.service"
    assert "# 2.0.0" in unit.read_text()

    for version, status, reason in (
        ("3.0.0", 503, "the log is full"),
        ("4.0.0", 0, "does not answer"),
    ):
        done = gateway.installer("upgrade", "--from", gateway.bundle(version, status))
        assert done.returncode == 3, done.stdout + done.stderr
        assert reason in done.stderr
        assert "2.0.0 runs again, which is ready" in done.stderr
        assert "# 2.0.0" in unit.read_text()
        assert gateway.log[-1] == f"2.0.0 in {state}", "it was started again"

    own = gateway.root / "opt/kpstream/current/install.sh"
    status = gateway.installer("status", installer=own).stdout
    assert re.search(r"^runs +2\.0\.0$", status, re.M)
    assert re.search(r"^before +1\.0\.0$", status, re.M)
    assert re.search(r"^ready +yes$", status, re.M)
    assert re.search(r"^failed +3\.0\.0: the log is full$", status, re.M)

    done = gateway.installer("rollback", installer=own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert gateway.log[-1] == f"1.0.0 in {state}"
    assert (state / "log.db").read_text() == "readings"

    done = gateway.installer("uninstall", installer=own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (gateway.root / "opt/kpstream").exists()
    assert (state / "log.db").read_text() == "readings"
    done = gateway.installer("status")
    assert re.search(r"^runs +none$", done.stdout, re.M)


@pytest.mark.slow
def test_the_updater_switches_real_versions_and_falls_back(gateway: Gateway) -> None:
    port = f"KPSTREAM_GATEWAY_CONSOLE_PORT={gateway.port}"
    where = "KPSTREAM_GATEWAY_STATE_DIR=/var/lib/kpstream"
    first = gateway.bundle("1.0.0")
    done = gateway.installer("install", "--from", first, "--set", port, "--set", where)
    assert done.returncode == 0, done.stdout + done.stderr
    centre, folder = make_centre(gateway.folder / "centre"), gateway.folder / "updates"
    folder.mkdir()
    (folder / "root.json").write_bytes(root_bytes(centre))
    places, steps = Places(gateway.root), Steps(lambda _: None)
    service = Service(places, steps, systemctl=gateway.systemctl, hold_s=1)
    for version, status, phase in (("2.0.0", 200, "done"), ("3.0.0", 503, "failed")):
        centre.publish_bundle(pack(gateway.bundle(version, status)))
        software = {
            "version": version,
            "bundles": bundles_of(centre.state(), version),
            "plan": Plan.model_validate({"steps": [{"percent": 100}]}),
            "now_s": 5,
            "gateways": [],
            "replace": True,
        }
        centre.write_index(lambda index, software=software: add_software(index, **software))
        url, root, kept = centre.folder.repository, folder / "root.json", folder / "rollout"
        source = Fetcher(str(url), root, kept, now_s, limits=BUNDLE_LIMITS)
        installer = Installer(places, steps, service=service, wait_s=8)
        settings = RolloutSettings()
        report = SoftwareUpdater(settings, "gw-1", folder, source, installer, now_s).run()
        assert report is not None
        assert (report.version, report.phase) == (version, phase), report.reason
        assert service.problem() is None
        assert places.current.readlink().name == "2.0.0"
    assert "the log is full" in report.reason
    assert [line.split()[0] for line in gateway.log] == ["1.0.0", "2.0.0", "3.0.0", "2.0.0"]


def test_a_damaged_bundle_changes_nothing(gateway: Gateway) -> None:
    bundle = gateway.bundle("1.0.0")
    (bundle / "wheels/kpstream-1.0.0-py3-none-any.whl").write_bytes(small_wheel("1.0.0", 503))
    done = gateway.installer("install", "--from", bundle)
    assert done.returncode == 1
    assert "the digest of wheels/kpstream-1.0.0-py3-none-any.whl differs" in done.stderr
    assert not (gateway.root / "opt/kpstream/versions").exists()


def test_a_bundle_that_lacks_a_package_is_told_by_pip(gateway: Gateway) -> None:
    bundle = gateway.bundle("1.0.0")
    path = bundle / "wheels/kpstream-1.0.0-py3-none-any.whl"
    name = "kpstream-1.0.0.dist-info/METADATA"
    with zipfile.ZipFile(path) as archive:
        content = {item: archive.read(item) for item in archive.namelist()}
    content[name] += b"Requires-Dist: a-package-that-is-not-there\n"
    with zipfile.ZipFile(path, "w") as archive:
        for item, raw in content.items():
            archive.writestr(item, raw)
    seal(bundle)
    done = gateway.installer("install", "--from", bundle)
    assert done.returncode == 1
    assert "a-package-that-is-not-there" in done.stderr
    assert "the bundle lacks a package: make it again" in done.stderr
    assert not (gateway.root / "opt/kpstream/current").exists()


def test_a_wheel_needs_the_file_of_hashes(gateway: Gateway) -> None:
    path = gateway.folder / "kpstream-1.0.0-py3-none-any.whl"
    path.write_bytes(small_wheel("1.0.0", 200))
    done = gateway.installer("install", "--from", path)
    assert done.returncode == 1
    assert "requirements-gateway.txt beside it" in done.stderr
