"""`kpstream centre`, as an operator types it, and a plain client against what it made."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import main
from ingest.mqtt.broker import free_port
from models.dummy import write_dummy
from models.registry import Registry
from tests.fakes.bundles import make_bundle, pack
from tests.fakes.tufclient import fetch_index

WORD = "a-secret-word"
ROOT_WORD = "the-word-of-the-root"


class Desk:
    """A centre in a folder, with the files that its operator has."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.centre = folder / "centre"
        self.usb = folder / "usb"
        self.word = self._file("word", WORD)
        self.root_word = self._file("root-word", ROOT_WORD)
        self.registry = Registry(folder / "registry")
        for version in (1, 2):
            artifact = write_dummy(folder / f"a{version}", name="rul-x", version=version)
            self.registry.publish(artifact.path)

    def _file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(f"{text}\n")
        path.chmod(0o600)
        return path

    @property
    def repository(self) -> Path:
        return self.centre / "repository"

    @property
    def root(self) -> bytes:
        return (self.repository / "metadata" / "1.root.json").read_bytes()

    def run(self, *arguments: str | Path, code: int = 0, input: str | None = None) -> str:
        result = self.invoke(*arguments, input=input)
        assert result.exit_code == code, result.output
        assert WORD not in result.output
        assert ROOT_WORD not in result.output
        return result.output

    def invoke(self, *arguments: str | Path, input: str | None = None) -> Result:
        words = ["centre", "--dir", str(self.centre), *map(str, arguments)]
        return CliRunner().invoke(main, words, input=input)

    def init(self) -> str:
        return self.run("init", "--root-out", self.usb, "--root-passphrase-file", self.root_word)

    def rotate(self, role: str, *more: str | Path, keys: Path | None = None, code: int = 0) -> str:
        word = ("--root-passphrase-file", self.root_word)
        return self.run("rotate", role, "--root-key", keys or self.usb, *word, *more, code=code)

    def status(self) -> dict:
        return json.loads(self.run("status", "--json"))

    def signed(self) -> list[tuple[str, int, str]]:
        """Version and expiry of every signed file."""
        roles = self.status()["roles"]
        return [(role["role"], role["version"], role["expires"]) for role in roles]

    def release(self, version: int, *more: str, code: int = 0) -> str:
        registry = ("--registry", self.registry.root)
        return self.run("release", "rul-x", str(version), *registry, *more, code=code)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    monkeypatch.setenv("KPSTREAM_CENTRE_PASSPHRASE_FILE", str(desk.word))
    return desk


def test_a_release_reaches_a_client_that_has_only_the_first_root(desk: Desk) -> None:
    desk.init()
    out = desk.release(2, "--steps", "10,100", "--step-seconds", "60", "--group", "plant")
    assert "Release 1: rul-x v2 is running, step 1 of 2" in out
    (release,) = fetch_index(desk.repository, desk.folder / "state", desk.root).releases
    assert (release.version, release.plan.groups) == (2, ("plant",))
    assert [(step.percent, step.seconds) for step in release.plan.steps] == [(10, 60), (100, 60)]


def test_the_same_command_again_changes_nothing(desk: Desk) -> None:
    assert "is ready" in desk.init()
    desk.release(2)
    before = desk.signed()
    assert "there already" in desk.init()
    assert "Release 1" in desk.release(2)
    assert "there already" in desk.run("publish", desk.folder / "a2")
    assert "Nothing is due" in desk.run("refresh")
    assert desk.signed() == before


def test_what_the_registry_holds_or_rejects_is_not_released_and_pauses(desk: Desk) -> None:
    desk.init()
    desk.registry.set_stable("rul-x", 2)
    words = ("--registry", desk.registry.root)
    models = ("models", "--registry", str(desk.registry.root))
    desk.run("release", "rul-x", "2", *words)
    assert CliRunner().invoke(main, [*models, "rollback", "rul-x", "1"]).exit_code == 0
    turn = CliRunner(env={"KPSTREAM_CENTRE_REGISTRY_DIR": str(desk.registry.root)}).invoke(
        main, ["centre", "--dir", str(desk.centre), "control", "--once"]
    )
    assert "paused" in turn.output, turn.output
    assert "rul-x v2 was rejected (" in turn.output
    refused = desk.run("release", "rul-x", "2", *words, "--replace", code=1)
    assert "rul-x v2 was rejected (" in refused
    assert CliRunner().invoke(main, [*models, "pin", "rul-x", "1"]).exit_code == 0
    assert "pinned to v1" in desk.run("release", "rul-x", "2", *words, "--replace", code=1)
    desk.run("release", "rul-x", "1", *words, "--replace")


def test_numbers_only_grow_and_a_running_release_is_not_replaced_by_accident(desk: Desk) -> None:
    desk.init()
    desk.release(1)
    assert "--replace" in desk.release(2, code=1)
    assert "Release 2" in desk.release(2, "--replace")
    assert "Release 2: rul-x v2 is aborted: bad smell" in desk.run(
        "abort", "rul-x", "--reason", "bad smell"
    )
    assert "Release 3" in desk.release(2)


def test_pause_resume_and_policies_are_signed(desk: Desk) -> None:
    desk.init()
    desk.release(2)
    assert "paused: too hot" in desk.run("pause", "rul-x", "--reason", "too hot")
    desk.run("pin", "rul-x", "1", "--gateway", "gw-1")
    desk.run("hold", "--gateway", "gw-1")
    desk.run("window", "22:00-04:00", "--group", "plant")
    index = fetch_index(desk.repository, desk.folder / "state", desk.root)
    assert index.releases[0].reason == "too hot"
    gateway, group = index.policies
    assert (gateway.gateway, gateway.hold, gateway.pin) == ("gw-1", True, {"rul-x": 1})
    assert (group.group, group.window) == ("plant", "22:00-04:00")
    desk.run("hold", "--gateway", "gw-1", "--off")
    desk.run("pin", "rul-x", "--gateway", "gw-1", "--off")
    assert "no policy" in desk.run("window", "--group", "plant", "--off")
    assert "is running" in desk.run("resume", "rul-x", "--max-failed", "3")
    index = fetch_index(desk.repository, desk.folder / "state", desk.root)
    assert index.policies == ()
    assert index.releases[0].plan.max_failed == 3


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("window", "25:00-04:00", "--group", "a"), "HH:MM-HH:MM"),
        (("hold", "--gateway", "a b"), "a name has"),
        (("pause", "rul-y"), "rul-y has no release"),
        (("release", "rul-x", "2", "--steps", "10,5"), "grow and end at 100"),
        (("release", "rul-x", "2", "--steps", "ten"), "10,50,100"),
        (("release", "rul-x", "9"), "rul-x"),
        (("release", "rul-x", "2", "--plan", "broken.toml"), "broken.toml is not TOML"),
    ],
)
def test_an_impossible_wish_gets_advice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], advice: str
) -> None:
    desk.init()
    monkeypatch.chdir(desk.folder)
    Path("broken.toml").write_text("steps = [")
    assert advice in desk.run(*arguments, code=1)


def test_a_plan_file_is_the_base_and_options_override_it(desk: Desk) -> None:
    desk.init()
    plan = desk.folder / "plan.toml"
    plan.write_text(
        "max_failed = 2\nshadow_windows = 50\nsteps = [{percent = 20}, {percent = 100}]\n"
        "[thresholds]\nunknown_permille = 5\n"
    )
    desk.release(2, "--plan", str(plan), "--max-failed", "4", "--step-windows", "7")
    (release,) = fetch_index(desk.repository, desk.folder / "state", desk.root).releases
    assert release.plan.max_failed == 4
    assert release.plan.shadow_windows == 50
    assert release.plan.thresholds.unknown_permille == 5
    assert [(step.percent, step.windows) for step in release.plan.steps] == [(20, 7), (100, 7)]


def test_every_key_is_replaced_and_a_client_follows_from_the_first_root(desk: Desk) -> None:
    desk.init()
    desk.release(2)
    fetch_index(desk.repository, desk.folder / "old", desk.root)
    for role in ("timestamp", "snapshot", "targets"):
        desk.rotate(role)
    desk.rotate("root", "--root-out", desk.folder / "usb2")
    desk.rotate("targets", keys=desk.folder / "usb2")
    assert "0 of the root keys are here, 2 are needed" in desk.rotate("snapshot", code=1)
    status = {role["role"]: role for role in desk.status()["roles"]}
    assert status["root"]["version"] == 10
    assert all(status[role]["keys_here"] == 1 for role in ("timestamp", "snapshot", "targets"))
    for state in ("old", "new"):
        assert fetch_index(desk.repository, desk.folder / state, desk.root).releases


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_lost_key_is_replaced_with_the_root_keys(desk: Desk, role: str) -> None:
    desk.init()
    (path,) = (desk.centre / "keys").glob(f"{role}-*.pem")
    path.unlink()
    assert f"rotate {role}" in desk.release(2, code=1)
    desk.rotate(role)
    desk.release(2)
    assert fetch_index(desk.repository, desk.folder / "state", desk.root).releases


def test_a_lost_root_key_is_replaced_while_the_threshold_is_left(desk: Desk) -> None:
    desk.init()
    first, second, _ = sorted(desk.usb.iterdir())
    first.unlink()
    desk.rotate("root", "--root-out", desk.folder / "usb2")
    assert len(list((desk.folder / "usb2").iterdir())) == 3
    second.unlink()
    desk.rotate("timestamp", keys=desk.folder / "usb2")


def test_the_root_is_renewed_with_the_same_keys(desk: Desk) -> None:
    desk.init()
    keys = desk.status()["roles"][0]["keys"]
    desk.rotate("root", "--same-keys")
    (root, *_) = desk.status()["roles"]
    assert (root["version"], root["keys"]) == (2, keys)


def test_keys_are_encrypted_and_their_owners_only(desk: Desk) -> None:
    desk.init()
    paths = [*(desk.centre / "keys").iterdir(), *desk.usb.iterdir()]
    assert len(paths) == 6
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert stat.S_IMODE((desk.centre / "keys").stat().st_mode) == 0o700
    assert not [path for path in desk.repository.rglob("*.pem")]


def test_a_wrong_passphrase_is_said_and_never_shown(desk: Desk) -> None:
    desk.init()
    desk.word.write_text("another-secret\n")
    result = desk.invoke("release", "rul-x", "2", "--registry", str(desk.registry.root))
    assert result.exit_code == 1
    assert "the passphrase is wrong" in result.output
    assert "another-secret" not in result.output + repr(result.exception)


def test_a_passphrase_file_that_others_may_read_is_refused(desk: Desk) -> None:
    desk.init()
    desk.word.chmod(0o644)
    assert "chmod 600" in desk.release(2, code=1)


def test_a_command_gives_the_passphrase(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.init()
    monkeypatch.delenv("KPSTREAM_CENTRE_PASSPHRASE_FILE")
    script = desk.folder / "agent.py"
    script.write_text(f"print({WORD!r})")
    monkeypatch.setenv("KPSTREAM_CENTRE_PASSPHRASE_COMMAND", f"{sys.executable} {script}")
    desk.release(2)
    script.write_text("raise SystemExit(3)")
    assert "failed with exit code 3" in desk.run("pause", "rul-x", code=1)


def test_the_terminal_asks_for_the_passphrase(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.init()
    monkeypatch.delenv("KPSTREAM_CENTRE_PASSPHRASE_FILE")
    registry = ("--registry", desk.registry.root)
    desk.run("release", "rul-x", "2", *registry, input=f"{WORD}\n")
    assert "wrong" in desk.run("pause", "rul-x", input="no\n", code=1)
    told = desk.run("pause", "rul-x", input="", code=1)  # as in a timer
    assert "terminal to ask at. Set KPSTREAM_CENTRE_PASSPHRASE_FILE" in told


def test_the_passphrase_is_changed_for_the_keys_here_and_for_root_keys(desk: Desk) -> None:
    desk.init()
    new = desk._file("new", "a-new-word")
    assert "3 of 3 keys" in desk.run("passphrase", "--new-file", new)
    assert "0 of 3 keys" in desk.run("passphrase", "--new-file", new)
    assert "the passphrase is wrong" in desk.release(2, code=1)
    desk.word.write_text("a-new-word\n")
    desk.release(2)
    (first, *_) = sorted(desk.usb.iterdir())
    out = desk.run("passphrase", "--new-file", new, first, input=f"{ROOT_WORD}\n")
    assert "1 of 1 keys" in out
    assert "the passphrase is wrong" in desk.rotate("targets", code=1)


def test_a_stick_carries_the_repository_to_a_site_without_a_network(desk: Desk) -> None:
    desk.init()
    desk.release(2)
    stick = desk.folder / "stick"
    desk.run("export", stick)
    site = Desk(desk.folder / "site")
    first = desk.repository / "metadata" / "1.root.json"
    assert "--root" in site.run("import", stick, code=1)
    assert "taken over" in site.run("import", stick, "--root", first)
    assert "already" in site.run("import", stick)
    desk.rotate("targets")
    desk.run("pause", "rul-x")
    desk.run("export", stick)
    assert "taken over" in site.run("import", stick)
    (release,) = fetch_index(site.repository, desk.folder / "state", desk.root).releases
    assert release.state == "paused"
    assert fetch_index(stick, desk.folder / "state", desk.root).releases == (release,)


def test_root_keys_never_touch_a_machine_with_a_network(desk: Desk) -> None:
    """A mirror on a machine without a network makes the new root; the stick brings it back."""
    desk.init()
    desk.release(2)
    stick = desk.folder / "stick"
    desk.run("export", stick)
    offline = Desk(desk.folder / "offline")
    offline.run("import", stick, "--root", desk.repository / "metadata" / "1.root.json")
    offline.rotate("root", "--root-out", desk.folder / "usb2", keys=desk.usb)
    offline.run("export", stick)
    assert "taken over" in desk.run("import", stick)
    assert desk.status()["roles"][0]["version"] == 2
    desk.run("pause", "rul-x")
    (release,) = fetch_index(desk.repository, desk.folder / "state", desk.root).releases
    assert release.state == "paused"


def test_a_broker_that_is_away_is_a_warning(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.init()
    monkeypatch.setenv("KPSTREAM_CENTRE_MQTT_HOST", "127.0.0.1")
    monkeypatch.setenv("KPSTREAM_CENTRE_MQTT_PORT", str(free_port()))
    out = desk.release(2)
    assert "The note over MQTT may not have arrived" in out
    assert "Release 1" in out


def test_status_says_what_has_expired(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.init()
    assert "EXPIRED" not in desk.run("status")
    monkeypatch.setattr("deploy.commands.centrestatus.now_s", lambda: 4_000_000_000)
    assert "EXPIRED: run `kpstream centre refresh`" in desk.run("status", code=1)


def test_a_folder_without_a_centre_says_how_to_make_one(desk: Desk) -> None:
    assert "kpstream centre init" in desk.run("status", code=1)


def test_software_is_published_released_and_ended_by_command(desk: Desk) -> None:
    desk.init()
    archive = pack(make_bundle(desk.folder / "bundle", version="2.0.0"))
    assert "publish-bundle" in desk.run("release-software", "2.0.0", code=1)
    assert "is published" in desk.run("publish-bundle", archive)
    assert "is there already" in desk.run("publish-bundle", archive)
    words = ("release-software", "2.0.0", "--steps", "25,100", "--group", "plant")
    assert "Release 1: software 2.0.0 is running, step 1 of 2 (25 %" in desk.run(*words)
    assert "Release 1" in desk.run(*words)
    assert "software 2.0.0 is paused: snow" in desk.run("pause", "software", "--reason", "snow")
    assert "is running" in desk.run("resume", "software")
    assert "software 2.0.0" in desk.run("status")
    (shown,) = desk.status()["releases"]
    assert (shown["name"], shown["version"]) == ("software", "2.0.0")
    assert "is aborted" in desk.run("abort", "software")
    found = fetch_index(desk.repository, desk.folder / "state", desk.root).software
    assert (found.state, found.plan.groups) == ("aborted", ("plant",))


def test_a_version_that_the_registry_lacks_is_named_with_what_to_do(desk: Desk) -> None:
    desk.init()
    said = desk.release(9, code=1)
    assert f"{desk.registry.root} has no rul-x v9" in said
    assert "kpstream models publish" in said


def test_control_says_that_no_report_can_arrive_without_a_broker(desk: Desk) -> None:
    desk.init()
    assert "KPSTREAM_CENTRE_MQTT_HOST is not set" in desk.run("control", "--once")
