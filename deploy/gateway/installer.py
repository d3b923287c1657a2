"""Install, upgrade, roll back and remove kpstream on a gateway, step by step.

Every command first finishes what an interrupted one has left, and may be run again at any time.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.gateway.broker import Tls, set_up_broker, tls_settings
from deploy.gateway.bundle import Bundle
from deploy.gateway.errors import FailedBefore, InstallError
from deploy.gateway.places import USER, Places
from deploy.gateway.service import UNITS, UPDATE_UNITS, Service
from deploy.gateway.settingsfile import read_settings, with_settings
from deploy.gateway.steps import Steps
from deploy.gateway.switching import Switching
from deploy.gateway.users import NOBODY, make_user, owner
from deploy.gateway.versions import Source, Versions, opened_source

__all__ = ["WAIT_S", "Installer"]

WAIT_S = 120.0
"""How long a new version may take to become ready."""


class Installer:
    """The commands of `install.sh`."""

    def __init__(
        self,
        places: Places,
        steps: Steps,
        *,
        service: Service | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        """Prepare; nothing changes before a command.

        Args:
            places: Where everything lies.
            steps: Carries out the steps, or only tells them.
            service: The service; None for systemd on the running system.
            wait_s: How long to wait for `/ready`.
        """
        self.places = places
        self.steps = steps
        self.service = service or Service(places, steps)
        self.versions = Versions(places, steps)
        self.switching = Switching(places, steps, self.versions, self.service)
        self.wait_s = wait_s

    def install(
        self,
        source: Path,
        *,
        settings: Mapping[str, str] | None = None,
        broker: str | None = None,
        tls: Tls | None = None,
        updates: bool = False,
    ) -> None:
        """Install a version with everything around it; an existing state is kept.

        Args:
            source: Bundle, checkout or wheel.
            settings: Settings for `gateway.env`; others in it stay.
            broker: Another broker as HOST:PORT, in place of mosquitto on this machine.
            tls: Certificates to make for mosquitto.
            updates: Let a timer install the software that the centre releases.

        Raises:
            InstallError: A step failed; the message says what to do.
        """
        with self._alone(), self._opened(source) as opened:
            # What an interrupted run has changed, no service may have read yet.
            marker = self.places.home / "installing"
            changed = marker.exists()
            version = self.versions.make(opened)
            self.steps.note(marker, "")
            make_user(self.places, self.steps, self.versions.file(version, "sysusers.conf"))
            changed |= self._write_settings(version, settings or {})
            if broker is None:
                if set_up_broker(self.places, self.steps, self.versions, version, tls) or changed:
                    self.service.reload_broker()
                reach = {} if tls is None else tls_settings(self.places)
            else:
                reach = _broker_settings(broker)
            changed |= self._write_settings(version, reach)
            self._write_program(version)
            self._make_state()
            if changed or not self._runs(version):
                self.switching.switch(version, self.wait_s)
            self.steps.remove(marker)
            if updates:
                self._follow_software(version)
            self._add_students(version, opened.bundle)
            self._diagnose()
            self.steps.say(self._done(version))

    def upgrade(self, source: Path, *, force: bool = False, again: bool = False) -> None:
        """Install a version beside the present one, switch, and go back if it is not ready.

        Args:
            source: Bundle, checkout or wheel.
            force: Upgrade even if the running gateway is not ready, or the version failed before.
            again: Forget that the version failed before.

        Raises:
            FailedBefore: The version failed before.
            FellBack: The new version did not become ready; the former one runs again.
            InstallError: A step failed; the message says what to do.
        """
        with self._alone():
            self._require_installed()
            with self._opened(source) as opened:
                if again and opened.bundle is not None:
                    self.switching.forget_failure(opened.bundle.digest)
                if not force:
                    self._check_before(opened)
                version = self.versions.make(opened)
            if version == self.versions.current():
                self.steps.say(f"version {version} runs already")
                return
            self._write_program(version)
            self.switching.switch(version, self.wait_s)
            self.steps.say(self._done(version))

    def finish(self) -> None:
        """Finish what an interrupted run has left.

        Raises:
            FellBack: The version that was being tried is not ready; the former one runs again.
            InstallError: A step failed; the message says what to do.
        """
        with self._alone():
            pass

    def rollback(self) -> None:
        """Let the version run that ran before.

        Raises:
            FellBack: It did not become ready; the present one runs again.
            InstallError: There is none.
        """
        with self._alone():
            self._require_installed()
            former = self.versions.previous()
            if former is None:
                msg = f"no former version is kept; installed: {self._list()}"
                raise InstallError(msg)
            self._write_program(former)
            self.switching.switch(former, self.wait_s)
            self.steps.say(self._done(former))

    def uninstall(self, *, purge: bool = False) -> None:
        """Stop the gateway and remove its software.

        Args:
            purge: Also remove settings, certificates, state and user.
        """
        with self._alone(finish=False):
            if (self.places.units / UNITS[0]).exists():
                self.service.stop()
            if (self.places.units / UPDATE_UNITS[1]).exists():
                self.service.stop_updates()
            for name in (*UNITS, *UPDATE_UNITS):
                self.steps.remove(self.places.units / name)
            self.service.reload()
            if self.places.broker_file.exists():
                self.steps.remove(self.places.broker_file)
                self.service.reload_broker()
            for path in (self.places.program, self.places.user_file):
                self.steps.remove(path)
            kept = (self.places.settings, self.places.state)
            if purge:
                for path in (*kept, self.places.updates):
                    self.steps.remove(path)
                if self.places.is_live and owner(self.places, USER) != NOBODY:
                    self.steps.run(["userdel", USER], advice="end the processes of this user")
            self.steps.remove(self.places.home)
        shown = " and ".join(str(path) for path in kept)
        self.steps.say(f"removed, with {shown}" if purge else f"removed; {shown} are kept")

    def status(self) -> str:
        """What is installed, what runs, what failed."""
        lines = [f"installed  {self._list()}", f"runs       {self.versions.current() or 'none'}"]
        lines.append(f"before     {self.versions.previous() or 'none'}")
        if self.versions.current() is not None and self.service.is_managed:
            lines.append(f"ready      {self.service.problem() or 'yes'}")
        by_digest = {self.versions.digest(name): name for name in self.versions.installed()}
        for digest, reason in self.switching.failed().items():
            name = by_digest.get(digest, f"a version with the digest {digest[:12]}")
            lines.append(f"failed     {name}: {reason}")
        return "\n".join(lines)

    @contextmanager
    def _alone(self, *, finish: bool = True) -> Iterator[None]:
        """Hold the lock of the installation, and finish what an interrupted run has left."""
        if self.places.is_live and os.geteuid() != 0 and not self.steps.dry_run:
            msg = "only root can change the installation: run it with sudo"
            raise InstallError(msg)
        if self.steps.dry_run:
            yield
            return
        self.steps.folder(self.places.home)
        lock = os.open(self.places.home / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                msg = "another run of the installer is under way: wait for its end"
                raise InstallError(msg) from None
            for left in self.places.home.glob("source-*"):
                self.steps.remove(left)
            if finish:
                self.switching.finish(self.wait_s)
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _opened(self, source: Path) -> Iterator[Source]:
        if not self.steps.dry_run:
            with opened_source(source, self.places.home) as opened:
                yield opened
            return
        with (
            tempfile.TemporaryDirectory() as scratch,
            opened_source(source, Path(scratch)) as opened,
        ):
            yield opened

    def _require_installed(self) -> None:
        if self.versions.current() is None:
            msg = "kpstream is not installed here: run `install.sh install` first"
            raise InstallError(msg)

    def _check_before(self, source: Source) -> None:
        if source.bundle is not None:
            reason = self.switching.failed().get(source.bundle.digest)
            if reason is not None:
                msg = (
                    f"version {source.bundle.version} has failed here before: {reason}. Take a "
                    "newer one, or add --force"
                )
                raise FailedBefore(msg)
        problem = self.service.problem() if self.service.is_managed else None
        if problem is not None:
            msg = (
                f"the running gateway is not ready, so a new version could not be judged: {problem}"
                ". Mend that first, or add --force"
            )
            raise InstallError(msg)

    def _runs(self, version: str) -> bool:
        """Whether a version runs and is ready, so that nothing has to be interrupted."""
        if self.versions.current() != version or not self.service.is_managed:
            return False
        return self.service.problem() is None

    def _write_settings(self, version: str, settings: Mapping[str, str]) -> bool:
        try:
            text = self.places.env_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = self.versions.file(version, "gateway.env")
        self.steps.folder(self.places.settings)
        whose = (-1, owner(self.places, USER)[1])
        return self.steps.write(
            self.places.env_file, with_settings(text, settings), mode=0o640, owner=whose
        )

    def _write_program(self, version: str) -> None:
        self.steps.write(self.places.program, self.versions.file(version, "kpstream"), mode=0o755)

    def _follow_software(self, version: str) -> None:
        """Pin the root of the centre for the updater, and start its timer."""
        if self.steps.dry_run:
            self.steps.say("would pin the root of the centre, and start the timer of the updater")
            return
        settings = read_settings(self.places.env_file.read_text(encoding="utf-8"))
        named = settings.get("KPSTREAM_ROLLOUT_ROOT_FILE", "")
        if not settings.get("KPSTREAM_ROLLOUT_URL") or not Path(named).is_absolute():
            msg = (
                "--updates needs a centre: add --set KPSTREAM_ROLLOUT_URL=... and --set "
                "KPSTREAM_ROLLOUT_ROOT_FILE=/etc/kpstream/root.json"
            )
            raise InstallError(msg)
        root = self.places.root / Path(named).relative_to("/")
        if self.places.is_live and root.stat().st_uid != 0:
            msg = (
                f"{root} does not belong to root, so the gateway could choose what root installs: "
                "copy it anew by a way that you trust"
            )
            raise InstallError(msg)
        self.steps.folder(self.places.updates)
        self.steps.write(self.places.updates / "root.json", root.read_text(encoding="utf-8"))
        for name in UPDATE_UNITS:
            self.steps.write(self.places.units / name, self.versions.file(version, name))
        self.service.start_updates()

    def _make_state(self) -> None:
        self.steps.folder(self.places.state, 0o700, owner=owner(self.places, USER))

    def _add_students(self, version: str, bundle: Bundle | None) -> None:
        """Add students of the bundle whose name the registry does not have."""
        for folder in bundle.students if bundle is not None else []:
            if (self.places.state / "registry" / folder.name).exists():
                continue
            try:
                said = self._kpstream(version, "models", "publish", str(folder), "--stable")
            except InstallError as exc:
                self.steps.say(f"the student {folder.name} is not added: {exc}")
            else:
                self.steps.say(f"student {folder.name}: {said.strip()}")

    def _kpstream(self, version: str, *arguments: str) -> str:
        """Run a command of a version with the settings of the gateway, and as its user."""
        if self.places.is_live:
            command = [str(self.places.program), *arguments]
            return self.steps.run(command, advice="see the lines above")
        settings = {}
        if not self.steps.dry_run:
            settings = read_settings(self.places.env_file.read_text(encoding="utf-8"))
        settings["KPSTREAM_GATEWAY_STATE_DIR"] = str(self.places.state)
        command = [str(self.versions.folder(version) / "venv/bin/kpstream"), *arguments]
        return self.steps.run(command, advice="see the lines above", env=settings)

    def _diagnose(self) -> None:
        if not self.places.is_live:
            return
        if self.steps.dry_run:
            self.steps.say(f"would run: {self.places.program} doctor")
            return
        done = subprocess.run(  # noqa: S603 (no shell)
            [str(self.places.program), "doctor"], capture_output=True, text=True, check=False
        )
        self.steps.say(done.stdout.rstrip())

    def _list(self) -> str:
        return ", ".join(self.versions.installed()) or "none"

    def _done(self, version: str) -> str:
        if self.steps.dry_run:
            return "nothing was changed"
        if not self.service.is_managed:
            return f"version {version} is in place; it starts when {self.places.root} is booted"
        return f"version {version} runs and is ready"


def _broker_settings(broker: str) -> dict[str, str]:
    host, colon, port = broker.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        msg = f"--broker {broker!r} is not HOST:PORT"
        raise InstallError(msg)
    return {"KPSTREAM_INGEST_MQTT_HOST": host.strip("[]"), "KPSTREAM_INGEST_MQTT_PORT": port}
