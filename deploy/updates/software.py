"""The updater: brings a gateway's own software to the version that its centre has released.

It runs as root, by a timer, and once each time. What the gateway's user can write has no say in it:
it has a folder, a pinned root and trusted metadata of its own.

```
index -> wanted? -> bundle (verified by TUF) -> Installer.upgrade -> done, or back and never again
```

```
{folder}/root.json          the pinned root, which an administrator put there
{folder}/update.json        what was made of the newest release; the gateway's report shows it
{folder}/rollout/           what is fetched, see `deploy.updates.fetch`
```

1. What is tried is remembered before it is tried. A run that finds a trial first has the installer
   finish it, so a power cut counts neither as success nor as failure.
2. A version that does not become ready is replaced by the former one and is not tried again until
   a release with a larger number. A bundle that cannot be installed has three trials.
3. Hold, maintenance window and pause stop what has not been installed. An aborted release goes
   back, at any hour, to the version that ran before it.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from deploy.gateway.errors import FailedBefore, FellBack, InstallError, SourceInvalid, StepFailed
from deploy.gateway.installer import Installer
from deploy.rollout.release import (
    SOFTWARE,
    ReleaseIndex,
    SignedBundle,
    SoftwareRelease,
    is_member,
)
from deploy.rollout.report import SoftwareReport
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.updates.fetch import FetchFailed
from deploy.updates.phases import Limits, limits_of, window_is_open
from deploy.updates.softwarememory import UPDATE_FILE, UpdateMemory, read_memory
from ingest.secrettext import error_text
from ingest.statefile import write_object

__all__ = ["BundleSource", "SoftwareUpdater"]

MOST_TRIALS = 3
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_RESERVE = 50_000_000
"""Bytes that stay free on the disk."""

Phase = Literal["waiting", "trying", "done", "failed", "held"]


class BundleSource(Protocol):
    """Where releases come from; see `deploy.updates.fetch.Fetcher`. Both calls block."""

    def fetch_index(self) -> ReleaseIndex:
        """Return the newest index; raises `FetchFailed`."""

    def fetch_bundle(self, bundle: SignedBundle) -> Path:
        """Return the file of a bundle, verified; raises `FetchFailed`."""


class SoftwareUpdater:
    """One look at the centre, and what follows from it.

    Args:
        settings: Group and limits of this gateway.
        gateway: Name of this gateway.
        folder: Folder of the updater.
        source: Where releases come from.
        installer: Installs, switches and goes back.
        now_s: The time, epoch seconds.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        gateway: str,
        folder: Path,
        source: BundleSource,
        installer: Installer,
        now_s: Callable[[], int],
    ) -> None:
        self._settings, self._gateway, self._now_s = settings, gateway, now_s
        self._source, self._installer = source, installer
        self._file = folder / UPDATE_FILE
        self._memory = read_memory(folder)

    def run(self) -> SoftwareReport | None:
        """Look at the centre, and install or go back if the release asks for it.

        Returns:
            What was made of the newest release; None without one for this gateway.

        Raises:
            FetchFailed: The centre cannot be followed now; nothing has changed.
            InstallError: The installer cannot work now; the next run tries again.
            OSError: A file cannot be written.
        """
        self._finish()
        index = self._source.fetch_index()
        release = index.software
        if release is None:
            return None
        known = self._memory
        if known is not None and known.report.release == release.number:
            if known.report.phase == "failed":
                return known.report
        else:
            known = None
        if release.state == "aborted":
            return None if known is None else self._go_back(release, known)
        if self._running() == release.version:
            return self._note(release, "done", "")
        if not is_member(release, self._gateway, self._settings.group):
            return None
        own, policies = self._settings, index.policies
        limits = limits_of(
            SOFTWARE, policies, self._gateway, own.group, hold=own.hold, window=own.window
        )
        if limits.hold:
            return self._note(release, "held", limits.hold)
        bundle = release.bundle_for(platform.machine(), _PYTHON)
        if bundle is None:
            reason = f"the release has no bundle for {platform.machine()} and Python {_PYTHON}"
            return self._note(release, "waiting", reason)
        reason = self._waits(release, limits, bundle)
        if reason:
            return self._note(release, "waiting", reason)
        return self._install(release, bundle)

    # -- parts ------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Have the installer finish what an interrupted run has left."""
        known = self._memory
        try:
            self._installer.finish()
        except FellBack as exc:
            if known is None or known.report.phase != "trying":
                raise
            self._save(known, "failed", str(exc))

    def _waits(self, release: SoftwareRelease, limits: Limits, bundle: SignedBundle) -> str:
        """Why nothing is installed now; "" if it may be."""
        if release.state == "paused":
            return f"release {release.number} is paused" + (
                release.reason and f": {release.reason}"
            )
        if not window_is_open(limits.window, self._now_s()):
            return f"the maintenance window is {limits.window} UTC"
        home = self._installer.places.home
        needed = bundle.size + _bytes_of(self._installer.places.current.resolve()) + _RESERVE
        free = shutil.disk_usage(home).free
        if free < needed:
            return (
                f"{home} has {free // 1_000_000} MB free, another version needs "
                f"{needed // 1_000_000}: make room"
            )
        return ""

    def _install(self, release: SoftwareRelease, bundle: SignedBundle) -> SoftwareReport:
        try:
            archive = self._source.fetch_bundle(bundle)
        except FetchFailed as exc:
            self._note(release, "waiting", str(exc))
            raise
        try:
            return self._try(release, archive)
        finally:
            archive.unlink(missing_ok=True)

    def _try(self, release: SoftwareRelease, archive: Path) -> SoftwareReport:
        known = self._of(release)
        tried = {"former": self._running() or "", "trials": known.trials + 1}
        memory = self._save(known.model_copy(update=tried), "trying", "")
        try:
            self._installer.upgrade(archive, again=known.trials == 0)
        except (FellBack, FailedBefore, SourceInvalid) as exc:
            return self._save(memory, "failed", str(exc)).report
        except StepFailed as exc:
            if memory.trials >= MOST_TRIALS:
                return self._save(memory, "failed", str(exc)).report
            self._save(memory, "waiting", str(exc))
            raise
        except (InstallError, OSError) as exc:  # no fault of the bundle
            self._save(known, "waiting", error_text(exc))
            raise
        return self._save(memory, "done", "").report

    def _go_back(self, release: SoftwareRelease, known: UpdateMemory) -> SoftwareReport:
        """Let the version run again that ran before an aborted release; tried once."""
        if self._running() == release.version:
            if known.report.phase == "held":
                return known.report
            if not known.former or self._installer.versions.previous() != known.former:
                reason = f"{_aborted(release)}; the version before it is not kept here"
                return self._save(known, "held", reason).report
            try:
                self._installer.rollback()
            except FellBack as exc:
                return self._save(known, "held", f"{_aborted(release)}; {exc}").report
        return self._save(known, "held", _aborted(release)).report

    def _running(self) -> str | None:
        return self._installer.versions.current()

    def _of(self, release: SoftwareRelease) -> UpdateMemory:
        """What is remembered of a release; a new memory for a new one."""
        if self._memory is not None and self._memory.report.release == release.number:
            return self._memory
        report = SoftwareReport(release=release.number, version=release.version, phase="waiting")
        return UpdateMemory(report=report)

    def _note(self, release: SoftwareRelease, phase: Phase, reason: str) -> SoftwareReport:
        return self._save(self._of(release), phase, reason).report

    def _save(self, memory: UpdateMemory, phase: Phase, reason: str) -> UpdateMemory:
        report = memory.report.model_copy(update={"phase": phase, "reason": reason[:500]})
        memory = memory.model_copy(update={"report": report})
        if memory != self._memory:
            write_object(self._file, memory.model_dump())
            self._file.chmod(0o644)  # the gateway reports it
            self._memory = memory
        return memory


def _aborted(release: SoftwareRelease) -> str:
    return f"release {release.number} was aborted" + (release.reason and f": {release.reason}")


def _bytes_of(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))
