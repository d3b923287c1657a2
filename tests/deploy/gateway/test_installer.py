"""Install, upgrade, fall back, roll back, remove; cut off at every step, and done again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.gateway.broker import Tls
from deploy.gateway.errors import FailedBefore, FellBack, InstallError
from deploy.gateway.installer import Installer
from deploy.gateway.places import Places
from deploy.gateway.service import UNITS, UPDATE_UNITS
from deploy.gateway.settingsfile import read_settings
from tests.fakes.bundles import make_bundle
from tests.fakes.installing import Cut, QuickSteps, ToldService

ROOT = Path(__file__).parents[3]
ALL = {"1.0.0", "2.0.0", "3.0.0"}


class Machine:
    """A gateway below a folder; each command is a run of the installer of its own."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(folder / "root")
        self.healthy = set(ALL)
        self.bundles = {
            version: make_bundle(folder / version, version=version) for version in sorted(ALL)
        }
        self.told: list[str] = []
        self.calls: list[str] = []

    def run(self, command: Callable[[Installer], None], cut_at: int = 0) -> int:
        """Run a command; returns the number of its steps."""
        steps = QuickSteps(cut_at)
        service = ToldService(self.places, steps, self.healthy)
        self.told, self.calls = steps.told, service.calls
        command(Installer(self.places, steps, service=service, wait_s=3))
        return steps.count

    def install(self, version: str = "1.0.0", cut_at: int = 0) -> int:
        return self.run(lambda it: it.install(self.bundles[version]), cut_at)

    def upgrade(self, version: str, cut_at: int = 0, *, force: bool = False) -> int:
        return self.run(lambda it: it.upgrade(self.bundles[version], force=force), cut_at)

    def rollback(self, cut_at: int = 0) -> int:
        return self.run(lambda it: it.rollback(), cut_at)

    @property
    def current(self) -> str:
        return self.places.current.readlink().name

    @property
    def versions(self) -> list[str]:
        return sorted(path.name for path in self.places.versions.iterdir())

    def left_over(self) -> list[Path]:
        """What no finished run leaves: halves of files, sources, notes on what is under way."""
        return [
            path
            for pattern in (".*.new", "source-*", "pending.json", ".making", "installing")
            for path in self.places.root.rglob(pattern)
        ]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_gateway_is_installed_with_all_its_files(machine: Machine) -> None:
    machine.install()
    assert machine.current == "1.0.0"
    assert machine.calls == [
        *("enable mosquitto.service", "restart mosquitto.service"),
        *("daemon-reload", f"enable {' '.join(UNITS)}", f"restart {' '.join(UNITS)}"),
    ]
    places = machine.places
    assert places.env_file.stat().st_mode & 0o777 == 0o640
    assert places.state.stat().st_mode & 0o777 == 0o700
    assert places.program.stat().st_mode & 0o777 == 0o755
    assert "listener 1883 127.0.0.1" in places.broker_file.read_text()
    assert all((places.units / name).is_file() for name in UNITS)
    program = places.current / "venv/bin/kpstream"
    assert program.stat().st_mode & 0o111
    assert not (places.current / "venv/bin/pip").exists(), "it names a folder that is gone"
    assert machine.left_over() == []


def test_installing_again_changes_nothing_and_keeps_what_people_wrote(machine: Machine) -> None:
    machine.install()
    places = machine.places
    places.env_file.write_text("# mine\nKPSTREAM_GATEWAY_NAME=press-7\n")
    places.env_file.chmod(0o640)
    places.broker_file.write_text("# mine\n")
    (places.state / "log.db").write_text("readings")
    before = {p: p.stat().st_mtime_ns for p in places.root.rglob("*") if p.is_file()}
    machine.install()
    after = {p: p.stat().st_mtime_ns for p in places.root.rglob("*") if p.is_file()}
    assert after == before
    assert machine.left_over() == []
    assert "version 1.0.0 is already installed" in machine.told
    assert machine.calls == [], "nothing is interrupted"
    machine.healthy.clear()
    with pytest.raises(InstallError, match="is not ready"):
        machine.install()
    assert f"restart {' '.join(UNITS)}" in machine.calls, "one that is not ready is started anew"


def test_settings_go_into_the_file_and_others_stay(machine: Machine) -> None:
    machine.install()
    own = {"KPSTREAM_GATEWAY_NAME": "press 7"}
    machine.run(lambda it: it.install(machine.bundles["1.0.0"], settings=own, broker="b:1884"))
    lines = machine.places.env_file.read_text().splitlines()
    assert "KPSTREAM_GATEWAY_NAME='press 7'" in lines
    assert f"restart {' '.join(UNITS)}" in machine.calls
    assert "KPSTREAM_INGEST_MQTT_HOST=b" in lines
    assert "KPSTREAM_INGEST_MQTT_PORT=1884" in lines
    assert lines.count("KPSTREAM_GATEWAY_STATE_DIR=/var/lib/kpstream") == 1


def test_tls_gives_each_user_its_own_files_and_keeps_what_people_edited(machine: Machine) -> None:
    tls = Tls(["gw.example"], ["plant-1/press-7"], "192.0.2.7")
    machine.run(lambda it: it.install(machine.bundles["1.0.0"], tls=tls))
    places = machine.places
    broker, gateway = places.broker_certificates, places.certificates
    assert sorted(path.name for path in broker.rglob("*") if path.is_file()) == [
        *("ca.pem", "devices-ca.pem", "mosquitto-devices.acl", "mosquitto-services.acl"),
        *("mosquitto.key", "mosquitto.pem"),
    ]
    assert (broker / "mosquitto-devices.acl").read_text().endswith("pattern write sensors/%u/+\n")
    assert sorted(path.name for path in gateway.rglob("*") if path.is_file()) == [
        *("bridge.key", "bridge.pem", "ca.pem"),
    ]
    for path in (*broker.rglob("*"), *gateway.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert str(places.root) not in places.broker_file.read_text(), "an image has another root"
    assert "listener 8883 192.0.2.7" in places.broker_file.read_text()
    settings = read_settings(places.env_file.read_text())
    assert settings["KPSTREAM_INGEST_MQTT_PORT"] == "8884"
    assert settings["KPSTREAM_INGEST_MQTT_KEY_FILE"] == "/etc/kpstream/certs/services/bridge.key"
    assert (places.authority / "devices/plant-1/press-7.key").is_file()
    (broker / "mosquitto-devices.acl").write_text("# a device is shut out here\n")
    key = (broker / "servers/mosquitto.key").read_text()
    machine.run(lambda it: it.install(machine.bundles["1.0.0"], tls=tls))
    assert (broker / "mosquitto-devices.acl").read_text() == "# a device is shut out here\n"
    assert (broker / "servers/mosquitto.key").read_text() == key
    assert "restart mosquitto.service" not in machine.calls
    machine.install()  # without --tls the configuration stays as it is
    assert "listener 8883" in places.broker_file.read_text()


def test_an_upgrade_keeps_the_state_and_the_version_before(machine: Machine) -> None:
    machine.install()
    (machine.places.state / "log.db").write_text("readings")
    machine.upgrade("2.0.0")
    machine.upgrade("3.0.0")
    assert machine.current == "3.0.0"
    assert machine.versions == ["2.0.0", "3.0.0"]
    assert (machine.places.state / "log.db").read_text() == "readings"
    machine.rollback()
    assert machine.current == "2.0.0"
    machine.rollback()
    assert machine.current == "3.0.0"


def test_a_version_that_is_not_ready_gives_way_to_the_one_before(machine: Machine) -> None:
    machine.install()
    machine.healthy.discard("2.0.0")
    unit = machine.places.units / UNITS[0]
    before = unit.read_text()
    with pytest.raises(FellBack, match=r"2\.0\.0 did not become ready \(2\.0\.0 is sick\)") as told:
        machine.upgrade("2.0.0")
    assert told.value.exit_code == 3
    assert "1.0.0 runs again, which is ready" in str(told.value)
    assert machine.current == "1.0.0"
    assert unit.read_text() == before
    assert machine.calls.count(f"restart {' '.join(UNITS)}") == 2
    with pytest.raises(InstallError, match="has failed here before: 2"):
        machine.upgrade("2.0.0")
    assert machine.calls == [], "nothing was tried"
    machine.healthy.add("2.0.0")
    machine.upgrade("2.0.0", force=True)
    assert machine.current == "2.0.0"
    assert json.loads((machine.places.home / "failed.json").read_text()) == {}


def test_a_gateway_that_is_not_ready_is_not_upgraded(machine: Machine) -> None:
    machine.install()
    machine.healthy.discard("1.0.0")
    with pytest.raises(InstallError, match=r"could not be judged: 1\.0\.0 is sick"):
        machine.upgrade("2.0.0")
    assert machine.versions == ["1.0.0"]
    machine.upgrade("2.0.0", force=True)
    assert machine.current == "2.0.0"


def test_a_first_version_that_is_not_ready_stays_and_says_so(machine: Machine) -> None:
    machine.healthy.clear()
    with pytest.raises(InstallError, match=r"1\.0\.0 runs, but is not ready: 1\.0\.0 is sick"):
        machine.install()
    assert machine.current == "1.0.0"
    machine.healthy.add("1.0.0")
    machine.install()
    assert machine.left_over() == []


def test_a_number_stands_for_one_content(machine: Machine, tmp_path: Path) -> None:
    machine.install()
    other = make_bundle(tmp_path / "other", version="1.0.0", wheel=b"another")
    with pytest.raises(InstallError, match="installed with another content"):
        machine.run(lambda it: it.install(other))
    assert machine.current == "1.0.0"


def test_without_an_installation_there_is_nothing_to_upgrade(machine: Machine) -> None:
    for command in (lambda: machine.upgrade("2.0.0"), machine.rollback):
        with pytest.raises(InstallError, match="not installed here"):
            command()
    machine.install()
    with pytest.raises(InstallError, match="no former version"):
        machine.rollback()


def test_two_runs_do_not_meet(machine: Machine) -> None:
    machine.install()

    def inside(it: Installer) -> None:
        with it._alone():
            machine.upgrade("2.0.0")

    with pytest.raises(InstallError, match="another run"):
        machine.run(inside)


@pytest.mark.parametrize("purge", [False, True])
def test_removing_leaves_settings_and_state_unless_purged(machine: Machine, purge: bool) -> None:
    machine.install()
    (machine.places.state / "log.db").write_text("readings")
    machine.run(lambda it: it.uninstall(purge=purge))
    left = {path.name for path in machine.places.root.rglob("*") if path.is_file()}
    assert left == (set() if purge else {"log.db", "gateway.env"})
    assert machine.calls[0] == f"disable --now {' '.join(UNITS)}"
    machine.run(lambda it: it.uninstall(purge=purge))  # again is no error


def sweep(run: Callable[[int], int]) -> int:
    """Cut a command off before each of its steps, then run it to its end; returns how often."""
    for cut_at in range(1, 200):
        try:
            run(cut_at)
        except Cut:
            continue
        return cut_at - 1
    raise AssertionError("it never ended")


def test_an_installation_that_is_cut_anywhere_is_finished_by_the_next(machine: Machine) -> None:
    """Each run begins where the last one was cut, and one step later the power goes again."""
    cuts = sweep(lambda cut_at: machine.install(cut_at=cut_at))
    assert cuts > 15
    assert machine.current == "1.0.0"
    assert machine.left_over() == []


def test_a_changed_setting_reaches_the_service_wherever_the_run_was_cut(tmp_path: Path) -> None:
    own = {"KPSTREAM_GATEWAY_NAME": "press-7"}
    for cut_at in range(1, 200):
        machine = Machine(tmp_path / str(cut_at))
        machine.install()
        bundle = machine.bundles["1.0.0"]
        calls: list[str] = []
        was_cut = False
        try:
            machine.run(lambda it, bundle=bundle: it.install(bundle, settings=own), cut_at)
        except Cut:
            was_cut = True
        calls += machine.calls
        machine.run(lambda it, bundle=bundle: it.install(bundle, settings=own))
        calls += machine.calls
        assert "KPSTREAM_GATEWAY_NAME=press-7" in machine.places.env_file.read_text()
        assert f"restart {' '.join(UNITS)}" in calls, f"cut before step {cut_at}"
        assert machine.left_over() == []
        if not was_cut:
            assert cut_at > 10
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("is_healthy", [True, False])
def test_an_upgrade_that_is_cut_anywhere_ends_as_an_undisturbed_one(
    tmp_path: Path, is_healthy: bool
) -> None:
    expected = "2.0.0" if is_healthy else "1.0.0"
    for cut_at in range(1, 200):
        machine = Machine(tmp_path / str(cut_at))
        machine.install()
        if not is_healthy:
            machine.healthy.discard("2.0.0")
        was_cut = False
        try:
            machine.upgrade("2.0.0", cut_at)
        except Cut:
            was_cut = True
        except FellBack:
            pass
        for _ in range(2):  # the next boot, and the person who runs it again
            try:
                machine.upgrade("2.0.0")
            except FellBack:
                continue
            except InstallError as exc:
                assert "has failed here before" in str(exc)
        assert machine.current == expected, f"cut before step {cut_at}"
        unit = machine.places.units / UNITS[0]
        files = machine.places.current / "files"
        assert unit.read_text() == (files / UNITS[0]).read_text()
        assert machine.left_over() == []
        if not was_cut:
            assert cut_at > 12
            return
    raise AssertionError("it never ended")


def test_a_cut_removal_is_finished_by_the_next(machine: Machine) -> None:
    machine.install()
    sweep(lambda cut_at: machine.run(lambda it: it.uninstall(purge=True), cut_at))
    assert [path for path in machine.places.root.rglob("*") if path.is_file()] == []


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    bundle = make_bundle(tmp_path / "b")
    done = subprocess.run(
        [
            *(ROOT / "deploy/gateway/install.sh", "install", "--dry-run", "--from", bundle),
            *("--root", root, "--tls", "--host", "gw", "--device", "plant/press"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stderr
    assert f"would link: {root}/opt/kpstream/current -> versions/1.0.0" in done.stdout
    assert "--host gw --device plant/press" in done.stdout
    assert done.stdout.endswith("nothing was changed\n")
    assert not root.exists()


def test_the_installer_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import deploy.gateway.command; "
        "names = {name.partition('.')[0] for name in sys.modules}; "
        "print(sorted(names - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "['deploy']"


@pytest.mark.skipif(subprocess.call(["which", "shellcheck"]) != 0, reason="needs shellcheck")
def test_install_sh_passes_shellcheck() -> None:
    subprocess.run(["shellcheck", ROOT / "deploy/gateway/install.sh"], check=True, timeout=60)


def test_the_updater_is_installed_on_demand_and_goes_with_the_rest(machine: Machine) -> None:
    bundle, places = machine.bundles["1.0.0"], machine.places
    with pytest.raises(InstallError, match="--updates needs a centre"):
        machine.run(lambda it: it.install(bundle, updates=True))
    assert not any((places.units / name).exists() for name in UPDATE_UNITS)
    places.settings.mkdir(parents=True, exist_ok=True)
    (places.settings / "root.json").write_text("the root")
    settings = {
        "KPSTREAM_ROLLOUT_URL": "https://centre.example/k",
        "KPSTREAM_ROLLOUT_ROOT_FILE": "/etc/kpstream/root.json",
    }
    machine.run(lambda it: it.install(bundle, settings=settings, updates=True))
    assert (places.updates / "root.json").read_text() == "the root"
    assert "enable --now kpstream-update.timer" in machine.calls
    (places.units / UPDATE_UNITS[0]).write_text("of an older version")
    machine.upgrade("2.0.0")
    assert "gateway-update" in (places.units / UPDATE_UNITS[0]).read_text()
    machine.run(lambda it: it.uninstall())
    assert "disable --now kpstream-update.timer" in machine.calls
    assert not any((places.units / name).exists() for name in UPDATE_UNITS)
    assert (places.updates / "root.json").exists()
    machine.run(lambda it: it.uninstall(purge=True))
    assert not places.updates.exists()


def test_a_version_that_failed_may_be_tried_again_on_demand(machine: Machine) -> None:
    machine.install()
    machine.healthy.discard("2.0.0")
    with pytest.raises(FellBack):
        machine.upgrade("2.0.0")
    machine.healthy.add("2.0.0")
    with pytest.raises(FailedBefore, match="has failed here before"):
        machine.upgrade("2.0.0")
    machine.run(lambda it: it.upgrade(machine.bundles["2.0.0"], again=True))
    assert machine.current == "2.0.0"
