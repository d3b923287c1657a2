"""What a gateway remembers of its releases: one small file, replaced as a whole before each step.

It holds the progress of every student and the students that failed here. Without it nothing is
dangerous: the history of the registry says which release moved a pointer, and which one moved it
back (`made_by`, `undone_by`), and a student that failed in shadow is tried in shadow once more. A
file that cannot be read is told in the log, in the report and on the page, and written anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.rollout.errors import first_fault
from deploy.rollout.release import Name, Release, Version
from deploy.updates.progress import Failure, Progress
from ingest.secrettext import error_text
from ingest.statefile import StateFileUnusable, read_object, write_object
from models.pointer import Move, Pointer

__all__ = ["RolloutMemory", "StudentMemory", "made_by", "move_author", "read_students", "undone_by"]

log = logging.getLogger(__name__)

MOST_NAMES = 300
"""Above the largest index; students whose phase began longest ago are forgotten first."""
MOST_FAILURES = 20
"""Failures kept for each student, the newest ones."""
MOST_ADDED = 200
"""Versions of a student that came from the centre and are remembered for `prune`."""


class StudentMemory(BaseModel):
    """What is remembered of one student.

    Attributes:
        progress: The newest release that it follows; None for none.
        failures: Its failures here, oldest first.
        added: Versions that came from the centre, oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    progress: Progress | None = None
    failures: Annotated[tuple[Failure, ...], Field(max_length=MOST_FAILURES)] = ()
    added: Annotated[tuple[Version, ...], Field(max_length=MOST_ADDED)] = ()


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1]
    students: Annotated[dict[Name, StudentMemory], Field(max_length=MOST_NAMES)]


class RolloutMemory:
    """The memory of one gateway; for one thread at a time.

    Args:
        path: The file, such as `{state_dir}/rollout.json`.

    Attributes:
        problem: Why the file could not be read or written last; "" if it could.
    """

    def __init__(self, path: Path) -> None:
        """Read the file; never raises for its content."""
        self._path = path
        self.problem = ""
        self._students: dict[str, StudentMemory] = {}
        self._is_written = True
        try:
            self._students = read_students(path)
        except StateFileUnusable as exc:
            self.problem = f"{exc}; the registry's history says which releases took over here"
            log.error("%s", self.problem)

    def names(self) -> list[str]:
        """Names of the students that it knows, sorted."""
        return sorted(self._students)

    def progress(self, name: str) -> Progress | None:
        """The progress of a student; None for nothing."""
        return self._of(name).progress

    def failure(self, release: Release) -> Failure | None:
        """The failure of this student in this release or a later one; None if it may be tried.

        A larger number of the release is a new try: somebody has asked for it.
        """
        for failure in self._of(release.name).failures:
            if failure.digest == release.digest and failure.release >= release.number:
                return failure
        return None

    def failures(self, name: str) -> Sequence[Failure]:
        """The failures of a student, oldest first."""
        return self._of(name).failures

    def added(self, name: str) -> Sequence[int]:
        """Versions of a student that came from the centre, oldest first."""
        return self._of(name).added

    def rejected(self) -> dict[str, str]:
        """Digests that must not run now, with the reasons: failed here, and not being tried again.

        A student that crashes the gateway is among them, so that the next start goes back before
        anything is loaded.
        """
        found: dict[str, str] = {}
        for student in self._students.values():
            found |= {failure.digest: failure.reason for failure in student.failures}
            progress = student.progress
            if progress is None:
                continue
            if progress.phase == "failed":
                found[progress.digest] = progress.reason
            elif progress.is_crashing:
                found[progress.digest] = progress.crash_reason
            else:
                found.pop(progress.digest, None)
        return found

    def begin(self) -> None:
        """Note a start of the process: in shadow and on probation, one without a clean stop counts.

        Call it before a student is loaded; a file that cannot be written is told, not raised,
        because scoring must start.
        """
        self._replace_progress(lambda _name, progress: progress.started())

    def end(self, spent_s: Mapping[str, int]) -> None:
        """Note a clean stop.

        Args:
            spent_s: Name to the seconds of the present phase that are over.
        """
        self._replace_progress(lambda name, progress: progress.stopped(spent_s.get(name, 0)))

    def save(self, name: str, progress: Progress | None) -> None:
        """Remember the progress of a student durably; the same one costs nothing.

        A failure is also kept for good, see `failure`.

        Raises:
            OSError: The file cannot be written; the memory of this process has the change, and the
                next call tries again.
        """
        known = self._of(name)
        failures = known.failures
        if progress is not None and progress.phase == "failed":
            failed = progress.failure()
            others = [each for each in failures if each.digest != failed.digest]
            if failed not in failures:
                failures = (*others, failed)[-MOST_FAILURES:]
        self._store(name, known.model_copy(update={"progress": progress, "failures": failures}))

    def note_added(self, name: str, version: int) -> None:
        """Remember that a version came from the centre; the next `save` writes it down."""
        known = self._of(name)
        added = (*(each for each in known.added if each != version), version)[-MOST_ADDED:]
        self._students[name] = known.model_copy(update={"added": added})
        self._is_written = False

    def save_added(self, name: str, added: Sequence[int]) -> None:
        """Remember which versions came from the centre.

        Raises:
            OSError: See `save`.
        """
        self._store(name, self._of(name).model_copy(update={"added": tuple(added)[-MOST_ADDED:]}))

    def _of(self, name: str) -> StudentMemory:
        return self._students.get(name) or StudentMemory()

    def _store(self, name: str, student: StudentMemory) -> None:
        if student == self._of(name) and self._is_written and not self.problem:
            return
        self._students[name] = student
        self._write()

    def _replace_progress(self, change: Callable[[str, Progress], Progress]) -> None:
        before = dict(self._students)
        for name, student in before.items():
            if student.progress is not None:
                progress = change(name, student.progress)
                self._students[name] = student.model_copy(update={"progress": progress})
        if self._students == before:
            return
        try:
            self._write()
        except OSError as exc:
            log.error("%s", error_text(exc))

    def _write(self) -> None:
        self._forget_oldest()
        content = _Content(format=1, students=self._students)
        try:
            write_object(self._path, content.model_dump(mode="json"))
        except OSError as exc:
            self.problem = (
                f"{self._path} cannot be written ({error_text(exc)}): no student takes over until "
                "it can; make room, and let the gateway's user write it"
            )
            raise
        self.problem, self._is_written = "", True

    def _forget_oldest(self) -> None:
        def age(name: str) -> int:
            progress = self._of(name).progress
            return 0 if progress is None else progress.since_s

        for name in sorted(self._students, key=age)[: max(0, len(self._students) - MOST_NAMES)]:
            del self._students[name]


def move_author(number: int, reason: str = "") -> str:
    """Author of a move of the pointer for a release; with a reason, of the move back.

    >>> move_author(7), move_author(7, "slow")
    ('release 7', 'release 7: slow')
    """
    return f"release {number}" + (reason and f": {reason}")


def made_by(moves: Sequence[Move], release: Release) -> Pointer | None:
    """The version before the last move, if that move was made for this release.

    Args:
        moves: History of the pointer, oldest first.
        release: The release.
    """
    last = moves[-1] if moves else None
    if last is None or (last.digest, last.who) != (release.digest, move_author(release.number)):
        return None
    former = (move for move in reversed(moves) if move.digest != release.digest)
    return next((Pointer(version=move.version, digest=move.digest) for move in former), None)


def undone_by(moves: Sequence[Move], release: Release) -> str:
    """Why the student of this release was moved back from; "" if it was not.

    Args:
        moves: History of the pointer, oldest first.
        release: The release.
    """
    start = f"{move_author(release.number)}: "
    is_it = False
    for move in moves:
        if move.digest == release.digest:
            is_it = move.who == move_author(release.number)
        elif is_it and move.who.startswith(start):
            return move.who.removeprefix(start)
    return ""


def read_students(path: Path) -> dict[str, StudentMemory]:
    """Read the file: name of a student to what is remembered; empty without a file.

    Raises:
        StateFileUnusable: The file is damaged, or cannot be read.
    """
    found = read_object(path)
    if found is None:
        return {}
    try:
        return _Content.model_validate(found).students
    except ValidationError as exc:
        raise StateFileUnusable(path, first_fault(exc)) from exc
