"""Which version runs: switch, wait until it is ready, or go back.

Before anything changes, `pending.json` names the two versions; it goes when one of them is
confirmed. A run that finds it finishes what was interrupted: a new version that is ready is
confirmed, one that is not is left. `failed.json` remembers versions that did not become ready.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.gateway.errors import FellBack, InstallError
from deploy.gateway.places import Places
from deploy.gateway.service import UNITS, UPDATE_UNITS, Service
from deploy.gateway.steps import Steps
from deploy.gateway.versions import Versions

__all__ = ["Switching"]

_MOST_FAILED = 20


class Switching:
    """Moves the link `current`, and the service with it."""

    def __init__(self, places: Places, steps: Steps, versions: Versions, service: Service) -> None:
        self._places = places
        self._steps = steps
        self._versions = versions
        self._service = service
        self._pending = places.home / "pending.json"
        self._failed = places.home / "failed.json"

    def switch(self, version: str, wait_s: float) -> None:
        """Let a version run, and keep it if it becomes ready.

        Args:
            version: The version; it is installed.
            wait_s: How long to wait for `/ready`.

        Raises:
            FellBack: It did not become ready; the former version runs again.
            InstallError: It did not become ready, and no former version is there.
        """
        former = self._versions.current()
        self._steps.note(self._pending, json.dumps({"from": former, "to": version}) + "\n")
        self._run(version)
        if not self._service.is_managed or self._steps.dry_run:
            self._confirm(former, version)
            return
        self._judge(former, version, wait_s)

    def finish(self, wait_s: float) -> None:
        """Finish a switch that was interrupted, if there is one.

        Raises:
            FellBack: The new version is not ready; the former one runs again.
            InstallError: It is not ready, and no former version is there.
        """
        pending = _read(self._pending)
        former, version = pending.get("from"), pending.get("to")
        if not isinstance(version, str) or self._steps.dry_run:
            return
        self._steps.say(f"an earlier run was interrupted while it switched to version {version}")
        current = self._versions.current()
        if current != version:  # it had not begun, or was already on its way back
            if current is not None:
                self._run(current)
            self._steps.remove(self._pending)
            return
        former = former if former in self._versions.installed() else None
        if not self._service.is_managed:
            self._confirm(former, version)
            return
        self._run(version)
        self._judge(former, version, wait_s)

    def failed(self) -> dict[str, str]:
        """Versions that did not become ready, by digest, with the reason."""
        return {digest: str(reason) for digest, reason in _read(self._failed).items()}

    def forget_failure(self, digest: str) -> None:
        """Forget that the version with this digest did not become ready."""
        failed = self.failed()
        if failed.pop(digest, None) is not None:
            self._steps.note(self._failed, json.dumps(failed) + "\n")

    def _judge(self, former: str | None, version: str, wait_s: float) -> None:
        self._steps.say(f"waiting for version {version} to become ready")
        problem = self._service.wait_ready(wait_s)
        if problem is None:
            self._confirm(former, version)
            return
        if former is None or former == version:
            self._steps.remove(self._pending)
            msg = (
                f"version {version} runs, but is not ready: {problem}\nSee `journalctl -u "
                "kpstream-gateway -n 50`, and run the installer again when that is mended"
            )
            raise InstallError(msg)
        self._steps.say(f"version {version} is not ready: {problem}; going back to {former}")
        self._remember_failure(version, problem)
        self._run(former)
        again = self._service.wait_ready(wait_s)
        self._steps.remove(self._pending)
        state = "which is ready" if again is None else f"which is not ready either: {again}"
        msg = f"version {version} did not become ready ({problem}); {former} runs again, {state}"
        raise FellBack(msg)

    def _run(self, version: str) -> None:
        """Point `current` at a version, bring in its units, and start it."""
        self._steps.link(self._places.current, f"versions/{version}")
        for name in UNITS:
            self._steps.write(self._places.units / name, self._versions.file(version, name))
        for name in UPDATE_UNITS:
            with suppress(FileNotFoundError):  # of a version before there were any
                if (self._places.units / name).exists():
                    self._steps.write(self._places.units / name, self._versions.file(version, name))
        self._service.start()

    def _confirm(self, former: str | None, version: str) -> None:
        if former is not None and former != version:
            self._steps.link(self._places.previous, f"versions/{former}")
        self.forget_failure(self._versions.digest(version))
        self._steps.remove(self._pending)
        self._versions.remove_others()

    def _remember_failure(self, version: str, problem: str) -> None:
        failed = {**self.failed(), self._versions.digest(version): problem}
        newest = dict(list(failed.items())[-_MOST_FAILED:])
        self._steps.note(self._failed, json.dumps(newest) + "\n")


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
