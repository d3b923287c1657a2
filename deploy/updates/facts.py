"""The facts of one student for `deploy.updates.phases.decide`, read without waiting.

From the disk come two file stamps a student and a second; a pointer, a history or a manifest is
read when its file has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from deploy.rollout.release import Policy, Release, ReleaseIndex, is_member
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.updates.memory import RolloutMemory, made_by, undone_by
from deploy.updates.phases import Case, Limits, limits_of
from deploy.updates.progress import Failure, Progress
from ingest.secrettext import error_text
from models.errors import ArtifactError, ModelError
from models.manifest import Manifest, check_fit
from models.pointer import HISTORY_FILE, POINTER_FILE, Move, Pointer, files_stamp
from models.registry import Registry
from models.rulings import RULINGS_FILE, Rulings, read_rulings
from models.session import Student
from pipeline.scoring.contests import Contests
from pipeline.scoring.rollover import ModelWatch

__all__ = ["Facts", "Followed", "Seen", "release_of", "tell"]

log = logging.getLogger(__name__)


class Followed(Protocol):
    """The students of the process; see `pipeline.scoring.students.Students`."""

    registry: Registry
    models: ModelWatch
    contests: Contests


@dataclass(slots=True)
class Seen:
    """What the agent keeps of one student in memory.

    Attributes:
        stamp: Stamp of the pointer, the history and the rulings that were read.
        pointer: The pointer.
        moves: The history.
        rulings: What people hold or pin here.
        manifest: Manifest of the release, once the registry has it.
        manifest_digest: Its digest.
        unfit: Digest of a student that can never run here, and why.
        taken: Digest of a student that the registry cannot keep, and why.
        waits: Why the last step did not succeed; "" if it did.
        retry_ms: Time before which it is not tried again.
        phase: Release and phase of which the time is measured.
        began_ms: Beginning of the phase.
        told: The last message in the log.
    """

    stamp: tuple[int, ...] | None = ()
    pointer: Pointer | None = None
    moves: tuple[Move, ...] = ()
    rulings: Rulings = field(default_factory=Rulings)
    manifest: Manifest | None = None
    manifest_digest: str = ""
    unfit: tuple[str, str] = ("", "")
    taken: tuple[str, str] = ("", "")
    waits: str = ""
    retry_ms: int = 0
    phase: tuple[int, str] = (0, "")
    began_ms: int = 0
    told: str = ""


class Facts:
    """Reads the facts of each student.

    Args:
        settings: Limits of this gateway.
        gateway: Name of this gateway.
        students: The students of this process.
        memory: What is remembered.
        now_s: The time, epoch seconds.
        steady: Monotonic milliseconds.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        gateway: str,
        students: Followed,
        memory: RolloutMemory,
        now_s: Callable[[], int],
        steady: Callable[[], int],
    ) -> None:
        self._settings, self._gateway = settings, gateway
        self._registry, self._models = students.registry, students.models
        self._contests, self._memory = students.contests, memory
        self._now_s, self._steady = now_s, steady
        self._seen: dict[str, Seen] = {}

    def note_phase(self, name: str, progress: Progress | None) -> None:
        """Measure the time of another phase from now on."""
        seen = self.seen(name)
        phase = (0, "") if progress is None else (progress.release, progress.phase)
        if seen.phase != phase:
            seen.phase, seen.began_ms, seen.retry_ms = phase, self._steady(), 0

    def elapsed_s(self, name: str) -> int:
        """Seconds in the present phase, with those of earlier runs of the process."""
        seen, progress = self.seen(name), self._memory.progress(name)
        if progress is None:
            return 0
        if seen.phase != (progress.release, progress.phase):
            self.note_phase(name, progress)
        return (self._steady() - seen.began_ms) // 1000 + progress.spent_s

    def case(self, name: str, index: ReleaseIndex | None, no_moves: str) -> Case:
        """The facts of this moment.

        Args:
            name: Name of the student.
            index: The newest verified index; None before the first one.
            no_moves: Why nothing new may start; "" if it may.
        """
        seen = self._refreshed(name)
        release = release_of(index, name)
        progress = self._memory.progress(name)
        wanted = release.digest if release is not None else ""
        if progress is not None and progress.phase == "probation":
            wanted = progress.digest
        contest, windows, failure = self._contest(name, wanted)
        is_fetched = release is not None and self._is_fetched(release, seen)  # first: it reads
        return Case(
            now_s=self._now_s(),
            release=release,
            is_index_known=index is not None,
            no_moves=no_moves,
            is_included=release is None or self._is_included(release),
            is_member=release is None or self._is_member(release),
            limits=self._limits(name, release, index),
            progress=progress,
            failure_before=None if release is None else self._failure(release, seen),
            took_over_from=None if release is None else made_by(seen.moves, release),
            running=self._running(name),
            pointer=seen.pointer,
            refused=self._refused(name, wanted),
            is_fetched=is_fetched,
            obstacle=self._obstacle(name, wanted, seen),
            contest=contest,
            elapsed_s=self.elapsed_s(name),
            windows=windows,
            failure=failure,
        )

    def _refreshed(self, name: str) -> Seen:
        """Pointer, history and rulings, read again only when a file has changed."""
        seen = self.seen(name)
        folder = self._registry.folder(name)
        stamp = files_stamp(folder, (POINTER_FILE, HISTORY_FILE, RULINGS_FILE))
        if stamp != seen.stamp:
            try:
                seen.pointer = self._registry.read_stable(name)
            except ModelError as exc:
                seen.pointer = None
                tell(seen, error_text(exc))
            seen.moves, seen.stamp = tuple(self._registry.history(name)), stamp
            seen.rulings = read_rulings(folder)
        return seen

    def seen(self, name: str) -> Seen:
        """What is kept of a student."""
        return self._seen.setdefault(name, Seen())

    def _running_student(self, name: str) -> Student | None:
        running = [*self._models.running.values()]
        return next((each for each in running if each.manifest.name == name), None)

    def _running(self, name: str) -> Pointer | None:
        student = self._running_student(name)
        if student is None:
            return None
        return Pointer(version=student.manifest.version, digest=student.digest)

    def _refused(self, name: str, digest: str) -> str:
        slots = (slot for slot in self._models.slots() if slot.name == name)
        slot = next(slots, None)
        is_it = slot is not None and slot.refused_digest == digest
        return (slot.refused_error or "") if slot is not None and is_it else ""

    def _contest(
        self, name: str, digest: str
    ) -> tuple[Literal["", "shadow", "probation", "other"], int, str]:
        status = self._contests.status(name)
        if status is None:
            return "", 0, ""
        if status.digest != digest:
            return "other", 0, ""
        kind: Literal["shadow", "probation"] = "probation" if status.is_running else "shadow"
        return kind, status.windows, status.failed or ""

    def _is_fetched(self, release: Release, seen: Seen) -> bool:
        if seen.manifest_digest == release.digest:
            return True
        if release.version not in self._registry.list_versions(release.name):
            return False
        try:
            artifact = self._registry.read(release.name, release.version, release.digest)
        except ModelError:
            return False
        seen.manifest, seen.manifest_digest = artifact.manifest, release.digest
        return True

    def _obstacle(self, name: str, digest: str, seen: Seen) -> str:
        """Why the student of the release can never run here; "" if it can."""
        if digest and seen.unfit[0] == digest:
            return seen.unfit[1]
        running = self._running_student(name)
        if seen.manifest is None or seen.manifest_digest != digest or running is None:
            return ""
        try:
            check_fit(running.manifest, seen.manifest)
        except ArtifactError as exc:
            return str(exc)
        return ""

    def _conflict(self, release: Release, seen: Seen) -> str:
        """What of this gateway has to change before the student can run; "" for nothing."""
        if release.digest == seen.taken[0]:
            return seen.taken[1]
        retired_ms = None if seen.pointer is not None else self._registry.retired_ms(release.name)
        if retired_ms is not None and retired_ms >= 1000 * release.created_s:
            return f"{release.name} was retired on this gateway; the next release counts"
        if seen.manifest is None or seen.manifest_digest != release.digest:
            return ""
        owner = self._models.running.get(seen.manifest.stream)
        if owner is None or owner.manifest.name == release.name:
            return ""
        return (
            f"{owner.manifest.name} scores the stream {seen.manifest.stream!r} here, and only one "
            f"student may: retire it (`kpstream models retire {owner.manifest.name}`)"
        )

    def _failure(self, release: Release, seen: Seen) -> Failure | None:
        known = self._memory.failure(release)
        reason = "" if known is not None else undone_by(seen.moves, release)
        if not reason:
            return known
        return Failure(
            release=release.number,
            version=release.version,
            digest=release.digest,
            reason=reason[:500],
            at_s=self._now_s(),
        )

    def _is_included(self, release: Release) -> bool:
        groups = release.plan.groups
        return not groups or self._settings.group in groups

    def _is_member(self, release: Release) -> bool:
        is_all = release.state == "complete"
        return is_all or is_member(release, self._gateway, self._settings.group)

    def _limits(self, name: str, release: Release | None, index: ReleaseIndex | None) -> Limits:
        own = self._settings
        policies: tuple[Policy, ...] = () if index is None else index.policies
        found = limits_of(
            name,
            policies,
            self._gateway,
            own.group,
            hold=own.hold,
            pin=own.pin,
            window=own.window,
        )
        if release is None:
            return found
        seen = self.seen(name)
        stable = None if seen.pointer is None else seen.pointer.version
        ruled = seen.rulings.obstacle(release.version, stable)
        held = found.hold or (ruled and f"{name} is {ruled}") or self._conflict(release, seen)
        if self._gateway in release.plan.hold:
            held = f"the plan of release {release.number} holds this gateway"
        return replace(found, hold=held)


def release_of(index: ReleaseIndex | None, name: str) -> Release | None:
    """The newest release of a student; None without one."""
    releases = () if index is None else index.releases
    return next((each for each in releases if each.name == name), None)


def tell(seen: Seen, text: str) -> None:
    """Log a message about a student, unless it is the last one."""
    if text != seen.told:
        log.warning("%s", text)
    seen.told = text
