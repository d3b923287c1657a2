"""The gateway's side of a rollout: a new student takes over while the pipeline runs.

`ModelWatch.poll` checks the registry's pointer of every model. If a pointer has moved, the version
is read with all checks, compared with the running student (open windows must stay valid), loaded
and self-tested, and only then swapped in by one assignment. A refused version changes nothing; it
is remembered, shown, and not tried again until the pointer moves or its files change.

`ModelWatch.take_back` lets the former student take over at once when the running one fails while it
scores (`pipeline.scoring.contests`). The failed version is rejected from then on: it is neither
followed nor resumed until it is readmitted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from models.artifact import MANIFEST_FILE, ONNX_FILE, Artifact
from models.errors import ArtifactMissing, FailedBefore, Misfit, ModelError
from models.manifest import check_fit
from models.pointer import Pointer, files_stamp
from models.registry import Registry
from models.session import Student
from models.tasks.registry import find_task
from pipeline.scoring.memory import Ran, read_ran, write_ran
from pipeline.status.view import ModelStatus

__all__ = ["Change", "ModelWatch", "StudentSlot", "load_student"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """One result of `poll`: a version took over, or was refused with `error`."""

    name: str
    version: int | None
    what: Literal["swapped", "refused"]
    error: str | None = None


def load_student(artifact: Artifact) -> Student:
    """Load an artifact and test that its scores are usable.

    Raises:
        GraphRefused: ONNX Runtime refuses the graph.
        SelfTestFailed: The graph loads, but its scores are unusable.
    """
    student = Student(artifact)
    student.self_test()
    return student


@dataclass(slots=True)
class StudentSlot:
    """The student of one model, and the version that was refused last; the watch writes it."""

    name: str
    student: Student | None = None
    since_ms: int | None = None
    swaps_total: int = 0
    refused_version: int | None = None
    refused_digest: str | None = None
    refused_error: str | None = None
    refused_ms: int | None = None
    refused_total: int = 0
    refused_stream: str = ""
    settled_stamp: tuple[int, ...] | None = None
    refused_files: tuple[int, ...] | None = None

    def status(self) -> ModelStatus:
        """The slot as the console page and /metrics show it."""
        if self.student is None:
            return ModelStatus(
                self.name,
                task="",
                stream=self.refused_stream,
                version=None,
                refused_version=self.refused_version,
                refused_error=self.refused_error,
            )
        manifest = self.student.manifest
        answer = find_task(manifest.task).answer
        lineage = manifest.lineage.model_dump()
        return ModelStatus(
            name=self.name,
            task=manifest.task,
            stream=manifest.stream,
            version=manifest.version,
            digest=self.student.digest,
            since_ms=self.since_ms,
            metrics=manifest.metrics,
            refused_version=self.refused_version,
            refused_error=self.refused_error,
            lineage={key: "" if value is None else str(value) for key, value in lineage.items()},
            labels=answer.labels(manifest.decoding),
            unit=answer.unit(manifest.decoding),
            subject=manifest.wearer,
            channels=manifest.channel_names,
            units=tuple(channel.unit for channel in manifest.channels),
            rate_hz=manifest.rate_hz,
        )


class ModelWatch:
    """Keeps one student per stream, according to the registry's pointers.

    Call `poll` from one thread; it blocks for some ten milliseconds when a pointer has moved, and
    for a second or two if `load` tries the student in a child process first. Any thread may call
    the other methods and read `running` at any time.

    Args:
        registry: The registry of pointers and versions.
        now_ms: Processing time, epoch milliseconds.
        load: Turns a checked artifact into a tested student.
        memory: File that remembers which versions ran (`pipeline.scoring.memory`). After a restart
            these run first, and the pointers are followed from there, so a restarted gateway
            refuses a version that does not fit open windows, just as a running one does. None: no
            memory.
        on_swap: Called with each student right after it has taken over, never before it can score.
        rejected: Digest to the reason why this version must not run; see `reject`.
        ran: What ran last, instead of what the memory says.
        log: Where events are logged.

    Attributes:
        running: Stream to the student that scores it now.
    """

    def __init__(
        self,
        registry: Registry,
        now_ms: Callable[[], int],
        load: Callable[[Artifact], Student] = load_student,
        memory: Path | None = None,
        on_swap: Callable[[Student], None] = lambda _student: None,
        rejected: Mapping[str, str] | None = None,
        ran: Mapping[str, Ran] | None = None,
        log: logging.Logger = log,
    ) -> None:
        self._log = log
        self._registry = registry
        self._now_ms = now_ms
        self._load = load
        self._memory = memory
        self._on_swap = on_swap
        self._remembered = read_ran(memory) if ran is None else dict(ran)
        self._saved = dict(self._remembered) if ran is None else None
        self._unusable: dict[str, Ran] = {}  # remembered, but it could not be resumed
        self._slots: dict[str, StudentSlot] = {}
        self._odd: list[str] = []
        self._rejected = dict(rejected or {})
        self._swapping = Lock()
        self._unsaved = False
        self.running: dict[str, Student] = {}

    def student_of(self, stream: str) -> Student | None:
        """The student that scores a stream; None when there is none."""
        return self.running.get(stream)

    def reject(self, digest: str, reason: str) -> None:
        """Keep a version from running, wherever a pointer or the memory names it.

        A running student stays; see `take_back`.
        """
        self._rejected[digest] = reason

    def readmit(self, digest: str) -> None:
        """Let a rejected version run again; the next poll follows a pointer that names it."""
        if self._rejected.pop(digest, None) is not None:
            for slot in self.slots():
                slot.settled_stamp = None

    def take_back(self, failed: Student, former: Student, reason: str) -> bool:
        """Let the former student score from the next batch on, and reject the failed one.

        Returns at once, so that the scoring thread may call it.

        Args:
            failed: The student that runs.
            former: The student that ran before, loaded and tested.
            reason: Why.

        Returns:
            False if the failed student does not run any more; then nothing changes.
        """
        with self._swapping:
            slot = self._slots.get(failed.manifest.name)
            if slot is None or slot.student is not failed:
                return False
            self._rejected[failed.digest] = reason
            self._assign(slot, former)
            self._unsaved = True
        self._on_swap(former)
        return True

    def slots(self) -> list[StudentSlot]:
        """The slots of all models seen, sorted by name."""
        return [slot for _, slot in sorted(self._slots.copy().items())]

    def statuses(self) -> list[ModelStatus]:
        """All slots as the console page shows them, sorted by name."""
        return [slot.status() for slot in self.slots()]

    def models_without_student(self) -> list[str]:
        """Names of models that no student runs for, unless another model scores their stream."""
        statuses = self.statuses()
        scored = {status.stream for status in statuses if status.version is not None}
        return [s.name for s in statuses if s.version is None and s.stream not in scored]

    def poll(self) -> list[Change]:
        """Check every pointer once; load and swap what has changed.

        Never raises for the content of a registry: what is no model is skipped and logged. A
        version that is announced but still missing, and a folder that is temporarily unreadable,
        are tried again at the next poll.

        Returns:
            The swaps and refusals, in order of names; usually none.
        """
        try:
            names, odd = self._registry.names(), self._registry.odd_entries()
        except OSError as exc:
            self._log.warning("cannot read the registry %s: %s", self._registry.root, exc)
            return []
        for entry in odd if odd != self._odd else ():
            self._log.warning("skipped in the registry: %s", entry)
        self._odd = odd
        changes: list[Change] = []
        if self._unsaved:
            self._remember()
        for name in [name for name in names if name in self._remembered]:
            changes += self._resume(name)
        for name in self._in_order(names):
            stamp = self._registry.stable_stamp(name)
            slot = self._slots.get(name) or StudentSlot(name)
            if stamp is None or (stamp == slot.settled_stamp and not self._was_repaired(slot)):
                continue
            self._slots[name] = slot
            try:
                changes += self._follow(slot, stamp)
            except Exception:  # scoring by the other students goes on
                slot.settled_stamp, slot.refused_files = stamp, self._files_of(slot)
                self._log.exception("following %s failed; please report this", name)
        return changes + self._report_gone() + self._report_lost(names)

    def _in_order(self, names: Sequence[str]) -> Sequence[str]:
        """New names last, in the order in which they became stable.

        Of two students for a stream, the second one is refused, also at the first start with both.
        """
        new = [name for name in names if name not in self._slots]
        if len(new) < 2:
            return names
        first_ms: dict[str, float] = {}
        for name in new:
            moves = self._registry.history(name)
            first_ms[name] = moves[0].ts_ms if moves else math.inf
        new.sort(key=lambda name: (first_ms[name], name))
        return [*(name for name in names if name in self._slots), *new]

    def _report_gone(self) -> list[Change]:
        """Keep a running student whose pointer, history or folder is gone, and report it."""
        changes = []
        for slot in self.slots():
            if slot.student is None or self._registry.stable_stamp(slot.name) is not None:
                continue
            if not self._registry.is_retired(slot.name):
                slot.settled_stamp = None
                error = (
                    f"the registry {self._registry.root} no longer says which version of "
                    f"{slot.name} is stable: put its folder back, or publish the student again"
                )
                changes += self._refuse(slot, None, error)
        return changes

    def _report_lost(self, names: Sequence[str]) -> list[Change]:
        """Report the students that ran before the restart and are no longer in the registry."""
        changes = []
        for name, ran in sorted(self._remembered.items()):
            if name in names or self._registry.is_retired(name):
                continue
            slot = self._slots.setdefault(name, StudentSlot(name, refused_stream=ran.stream))
            owner = self.running.get(ran.stream)
            scores = "nothing" if owner is None else owner.manifest.name
            error = (
                f"v{ran.version} ran last, but the registry {self._registry.root} no longer has "
                f"{name}, so {scores} scores its stream {ran.stream!r} now: put the folder back, "
                "or choose another student (`kpstream models add`)"
            )
            changes += self._refuse(slot, ran, error)
        return changes

    def _resume(self, name: str) -> list[Change]:
        """Run the version that ran before the restart, if it still exists."""
        pointer = self._remembered.pop(name)
        slot = self._slots.setdefault(name, StudentSlot(name))
        if slot.student is not None:
            return []
        try:
            return [self._swap(slot, pointer)]
        except (ModelError, OSError) as exc:
            self._unusable[name] = pointer
            self._log.warning(
                "cannot resume %s v%d, which ran last: %s", name, pointer.version, exc
            )
            return []

    def _follow(self, slot: StudentSlot, stamp: tuple[int, ...]) -> list[Change]:
        pointer: Pointer | None = None
        try:
            pointer = self._registry.read_stable(slot.name)
            if pointer is None:
                return []
            changes = self._run_pointer(slot, pointer, stamp)
            gap = self._registry.history_gap(slot.name, pointer)
            if gap is not None:
                self._log.warning("%s", gap)
            return changes
        except (ModelError, OSError) as exc:
            if not isinstance(exc, (ArtifactMissing, OSError)):
                slot.settled_stamp = stamp
            changes = self._refuse(slot, pointer, str(exc))
            slot.refused_files = self._files_of(slot)
        return changes + self._fall_back(slot, pointer)

    def _was_repaired(self, slot: StudentSlot) -> bool:
        """Whether somebody has copied the refused version again."""
        return slot.refused_error is not None and self._files_of(slot) != slot.refused_files

    def _files_of(self, slot: StudentSlot) -> tuple[int, ...] | None:
        if slot.refused_version is None:
            return None
        folder = self._registry.version_path(slot.name, slot.refused_version)
        return files_stamp(folder, (MANIFEST_FILE, ONNX_FILE))

    def _run_pointer(
        self, slot: StudentSlot, pointer: Pointer, stamp: tuple[int, ...]
    ) -> list[Change]:
        running = slot.student
        if running is not None and running.digest == pointer.digest:
            slot.settled_stamp = stamp
            _clear_refusal(slot)
            return []
        change = self._swap(slot, pointer)
        slot.settled_stamp = stamp
        _clear_refusal(slot)
        return [change]

    def _swap(self, slot: StudentSlot, pointer: Pointer) -> Change:
        if (reason := self._rejected.get(pointer.digest)) is not None:
            msg = (
                f"v{pointer.version} failed on this machine ({reason}), so it is not tried again: "
                "publish another version"
            )
            raise FailedBefore(msg)
        artifact = self._registry.read(slot.name, pointer.version, pointer.digest)
        manifest = artifact.manifest
        if slot.student is not None:
            check_fit(slot.student.manifest, manifest)
        owner = self.running.get(manifest.stream)
        if owner is not None and owner is not slot.student:
            slot.refused_stream = manifest.stream
            msg = (
                f"model {owner.manifest.name} already scores the stream {manifest.stream!r}, and "
                "only one student may: publish under that name, or choose with `kpstream models "
                f"retire {owner.manifest.name}` (or {slot.name}) and restart the gateway"
            )
            raise Misfit(msg)
        student = self._load(artifact)
        with self._swapping:
            self._assign(slot, student)
        self._on_swap(student)
        self._remember()
        self._log.info("%s v%d now scores %s", slot.name, manifest.version, manifest.stream)
        return Change(slot.name, manifest.version, "swapped")

    def _assign(self, slot: StudentSlot, student: Student) -> None:
        slot.student = student
        slot.since_ms = self._now_ms()
        slot.swaps_total += 1
        # A single assignment, so a scorer sees either the old or the new student.
        self.running[student.manifest.stream] = student

    def _remember(self) -> None:
        self._unsaved = False
        former = self._remembered | self._unusable
        lost = {name: ran for name, ran in former.items() if ran.stream not in self.running}
        ran = {
            slot.name: Ran(
                version=slot.student.manifest.version,
                digest=slot.student.digest,
                stream=slot.student.manifest.stream,
            )
            for slot in self._slots.values()
            if slot.student is not None
        }
        if lost | ran != self._saved and write_ran(self._memory, lost | ran):
            self._saved = lost | ran

    def _refuse(self, slot: StudentSlot, pointer: Pointer | None, error: str) -> list[Change]:
        version = pointer.version if pointer else None
        if (slot.refused_version, slot.refused_error) == (version, error):
            return []  # a retry of a version that is not there yet
        slot.refused_version = version
        slot.refused_digest = pointer.digest if pointer else None
        slot.refused_error = error
        slot.refused_ms = self._now_ms()
        slot.refused_total += 1
        stays = f"v{slot.student.manifest.version} keeps scoring" if slot.student else "none runs"
        self._log.error("refused %s v%s (%s): %s", slot.name, version, stays, error)
        return [Change(slot.name, version, "refused", error)]

    def _fall_back(self, slot: StudentSlot, pointer: Pointer | None) -> list[Change]:
        """If nothing runs, run the newest usable version that the pointer named before."""
        if slot.student is not None:
            return []
        tried = {pointer.version} if pointer else set()
        for move in reversed(self._registry.history(slot.name)):
            if move.version in tried:
                continue
            tried.add(move.version)
            try:
                return [self._swap(slot, Pointer(version=move.version, digest=move.digest))]
            except (ModelError, OSError) as exc:
                self._log.error("cannot fall back to %s v%d: %s", slot.name, move.version, exc)
        return []


def _clear_refusal(slot: StudentSlot) -> None:
    slot.refused_version = slot.refused_digest = slot.refused_error = slot.refused_ms = None
