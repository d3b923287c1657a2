"""A pass over hosts in real shells: once, again, cut off, refused; then over a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from deploy.gateway.settingsfile import read_settings
from tests.fakes.ports import free_port
from tests.fakes.sshhosts import fake_ssh, host_shell, installing_bundle

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")


class Fleet:
    """Three hosts, and an inventory of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts = folder / "hosts"
        for name in ("a", "b", "c"):
            self.home(name).mkdir(parents=True)
        self.bundles = [installing_bundle(folder / "v1")]
        self.settings = "KPSTREAM_PIPELINE_LATENESS_MS = '300'"
        self.ssh_config: Path | None = None
        self.extra = ""

    def home(self, name: str) -> Path:
        return self.hosts / f"host-{name}"

    def runs(self, name: str) -> int:
        path = self.home(name) / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def apply(self, *words: str) -> Result:
        path = self.folder / "inventory.toml"
        bundles = ", ".join(f'"{bundle}"' for bundle in self.bundles)
        hosts = "".join(
            f'[hosts.gw-{name}]\naddress = "host-{name}"\ngroup = "hall-{name}"\n'
            for name in ("a", "b", "c")
        )
        path.write_text(
            f"[defaults]\nbundles = [{bundles}]\n{self.extra}\n"
            f"[defaults.settings]\n{self.settings}\n{hosts}"
        )
        more = [] if self.ssh_config is None else ["--ssh-config", str(self.ssh_config)]
        return CliRunner().invoke(main, ["fleet", "apply", str(path), *more, *words])


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    found = Fleet(tmp_path)
    fake_ssh(found.hosts)
    monkeypatch.setenv("PATH", f"{found.hosts}:{os.environ['PATH']}")
    return found


def test_every_host_is_installed_once_with_its_settings(fleet: Fleet) -> None:
    done = fleet.apply()
    assert done.exit_code == 0, done.output
    assert done.output.count("installed") == 4
    assert done.output.endswith("3 installed, 0 failed\n")
    settings = read_settings((fleet.home("b") / "settings").read_text())
    assert settings == {
        "KPSTREAM_PIPELINE_LATENESS_MS": "300",
        "KPSTREAM_GATEWAY_NAME": "gw-b",
        "KPSTREAM_ROLLOUT_GROUP": "hall-b",
    }
    assert (fleet.home("b") / "arguments").read_text() == "install --settings -\n"
    assert list((fleet.home("b") / ".cache/kpstream-fleet").iterdir()) == []
    again = fleet.apply()
    assert again.output.endswith("3 unchanged, 0 failed\n")
    assert fleet.runs("a") == 1


def test_no_setting_is_on_a_command_line_and_nobody_is_asked(fleet: Fleet) -> None:
    fleet.apply()
    log = (fleet.hosts / "ssh.log").read_text()
    assert "LATENESS" not in log
    for line in log.splitlines():
        if line.startswith("-o"):
            assert "-oBatchMode=yes -oStrictHostKeyChecking=yes" in line


def test_a_changed_setting_or_bundle_is_installed_again(fleet: Fleet) -> None:
    fleet.apply()
    fleet.settings = "KPSTREAM_PIPELINE_LATENESS_MS = '400'"
    assert fleet.apply("--limit", "gw-a").output.endswith("1 installed, 0 failed\n")
    fleet.bundles = [installing_bundle(fleet.folder / "v2", "2.0.0")]
    done = fleet.apply("--group", "hall-b")
    assert "version 2.0.0 over 1.0.0" in done.output
    assert (fleet.runs("a"), fleet.runs("b"), fleet.runs("c")) == (2, 2, 1)


def test_a_host_that_was_set_back_by_hand_is_seen(fleet: Fleet) -> None:
    fleet.apply()
    version = fleet.home("a") / "opt/kpstream/current/version.json"
    version.write_text('{"version": "0.9.0", "digest": "x"}')
    assert "1 installed, 2 unchanged" in fleet.apply().output


def test_a_dry_run_looks_and_changes_nothing(fleet: Fleet) -> None:
    done = fleet.apply("--dry-run")
    assert done.exit_code == 0, done.output
    assert done.output.endswith("3 would install, 0 failed\n")
    assert fleet.runs("a") == 0
    assert not (fleet.home("a") / ".cache").exists()
    assert not (fleet.folder / "inventory.toml.state.json").exists()


def test_a_transfer_that_was_cut_goes_on_where_it_ended(fleet: Fleet) -> None:
    (fleet.home("a") / "cut").touch()
    done = fleet.apply("--limit", "gw-a")
    assert done.exit_code == 1
    part = next((fleet.home("a") / ".cache/kpstream-fleet").rglob("part"))
    assert part.stat().st_size == 5000
    done = fleet.apply("--limit", "gw-a")
    assert done.exit_code == 0, done.output
    assert "cat >> part" in (fleet.hosts / "ssh.log").read_text()


def test_a_damaged_part_is_thrown_away(fleet: Fleet) -> None:
    (fleet.home("a") / "cut").touch()
    fleet.apply("--limit", "gw-a")
    part = next((fleet.home("a") / ".cache/kpstream-fleet").rglob("part"))
    part.write_bytes(b"x" * 5000)
    done = fleet.apply("--limit", "gw-a")
    assert "the copy of the bundle differs and was removed" in done.output
    assert fleet.runs("a") == 0
    assert fleet.apply("--limit", "gw-a").exit_code == 0


REFUSALS = {
    "down": (lambda home: shutil.rmtree(home), "no connection: ssh: connect to host host-a"),
    "key": (
        lambda home: (home / "refuses").write_text("Host key verification failed.\n"),
        "its host key is unknown or has changed",
    ),
    "login": (
        lambda home: (home / "refuses").write_text("pi@host-a: Permission denied (publickey).\n"),
        "it accepts no key of yours",
    ),
    "sudo": (lambda home: (home / "no-sudo").touch(), "may not use sudo without a password"),
    "installer": (
        lambda home: (home / "exit-code").write_text("1"),
        "the installer ended with exit code 1: version did not become ready",
    ),
    "fell back": (
        lambda home: (home / "exit-code").write_text("3"),
        "fell back      gw-a  version did not become ready (sick); 1 runs again",
    ),
}


@pytest.mark.parametrize(("refuse", "said"), REFUSALS.values(), ids=REFUSALS)
def test_one_host_that_fails_says_why_and_holds_up_no_other(
    fleet: Fleet, refuse: object, said: str
) -> None:
    refuse(fleet.home("a"))  # type: ignore[operator]
    done = fleet.apply()
    assert done.exit_code == 1
    assert said in done.output
    assert done.output.endswith("2 installed, 1 failed\n")


def test_the_bundle_fits_the_machine_or_the_host_fails(fleet: Fleet) -> None:
    other = installing_bundle(fleet.folder / "other", machine="riscv64")
    fleet.bundles = [other, *fleet.bundles]
    assert fleet.apply().exit_code == 0
    fleet.bundles = [other]
    assert "no bundle is for" in fleet.apply().output


def test_an_interpreter_that_is_not_there_is_named(fleet: Fleet) -> None:
    fleet.extra = 'python = "python2.3"'
    assert "it has no python2.3" in fleet.apply().output


def test_a_damaged_bundle_is_sent_nowhere(fleet: Fleet) -> None:
    raw = fleet.bundles[0].read_bytes()
    fleet.bundles[0].write_bytes(raw.replace(b"www", b"wwx", 1))
    done = fleet.apply()
    assert done.exit_code == 1
    assert "the digest of wheels/kpstream-1.0.0-py3-none-any.whl differs" in done.output
    assert not (fleet.hosts / "ssh.log").exists()


def test_a_damaged_state_file_costs_another_installation_only(fleet: Fleet) -> None:
    fleet.apply()
    (fleet.folder / "inventory.toml.state.json").write_text("{")
    assert fleet.apply().output.endswith("3 installed, 0 failed\n")
    assert fleet.apply().output.endswith("3 unchanged, 0 failed\n")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Path]:
    """A real sshd on loopback with keys of its own; yields a client configuration for it."""
    if SSHD is None or os.geteuid() != 0:
        pytest.skip("needs sshd (apt-get install openssh-server) and root")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # as the start of the service does
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    port, hosts = free_port(), tmp_path / "hosts"
    shell = host_shell(hosts)
    forced = folder / "forced"
    forced.write_text(f'#!/bin/bash\nexec {shell} {hosts}/host-a "$SSH_ORIGINAL_COMMAND"\n')
    forced.chmod(0o755)
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/client.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nForceCommand {forced}\n"
    )
    public = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    config = folder / "config"
    config.write_text(
        f"Host host-a\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
        f"  IdentityFile {folder}/client\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            deadline = time.monotonic() + 120
            while "listening" not in (folder / "log").read_text():
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield config
        finally:
            server.terminate()
            server.wait(10)


def test_a_real_sshd_gets_bundle_and_settings(tmp_path: Path, sshd: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.ssh_config = sshd
    done = fleet.apply("--limit", "gw-a")
    assert done.exit_code == 0, done.output
    settings = read_settings((fleet.home("a") / "settings").read_text())
    assert settings["KPSTREAM_GATEWAY_NAME"] == "gw-a"
    assert fleet.apply("--limit", "gw-a").output.endswith("1 unchanged, 0 failed\n")


def test_a_real_sshd_with_another_host_key_is_refused(tmp_path: Path, sshd: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.ssh_config = sshd
    known = sshd.with_name("known_hosts")
    known.write_text("\n")
    done = fleet.apply("--limit", "gw-a")
    assert done.exit_code == 1
    assert "its host key is unknown or has changed" in done.output
    assert fleet.runs("a") == 0
