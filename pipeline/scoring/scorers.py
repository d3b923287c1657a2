"""Who scores each stream, and why: what a gateway would run if it started now.

The answer is that of `ModelWatch` itself, run once without writing anything. So it holds after a
refusal, with a damaged pointer, and with two students for one stream, where the pointers alone do
not tell.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.artifact import Artifact
from models.manifest import Manifest
from models.registry import Registry
from models.session import Student
from pipeline.scoring.memory import Ran, read_ran
from pipeline.scoring.rollover import ModelWatch, StudentSlot
from pipeline.scoring.tried import TriedStudents, shipped_digests

__all__ = ["Refused", "Scorer", "Scorers", "find_scorers"]

_SILENT = logging.Logger("scorers")  # the findings are returned
_SILENT.disabled = True


@dataclass(frozen=True, slots=True)
class Scorer:
    """The student that scores a stream.

    Attributes:
        stream: The stream.
        task: Task of the student.
        name: Name of the student.
        version: Its version.
        digest: Digest of this version.
        why: Why this one, as the end of a sentence.
    """

    stream: str
    task: str
    name: str
    version: int
    digest: str
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A stable version that no gateway would run.

    Attributes:
        name: Name of the student.
        version: Its version; None if the pointer cannot be read.
        reason: Why not.
    """

    name: str
    version: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Scorers:
    """What a gateway would run.

    Attributes:
        scorers: The students that score, sorted by stream.
        refused: The stable versions that do not run, sorted by name.
    """

    scorers: tuple[Scorer, ...]
    refused: tuple[Refused, ...]

    def of(self, stream: str) -> Scorer | None:
        """The student that scores a stream; None for none."""
        return next((one for one in self.scorers if one.stream == stream), None)


def find_scorers(
    registry: Registry,
    memory: Path | None = None,
    rejected: Mapping[str, str] | None = None,
    load: Callable[[Artifact], Student] | None = None,
) -> Scorers:
    """Find out who would score each stream of a registry.

    Nothing changes, and no starter student is added.

    Args:
        registry: The registry.
        memory: File in which the gateway remembers what ran last; by default `running.json` beside
            the registry, which may be missing.
        rejected: Digests of versions that must not run, with the reasons.
        load: Turns a checked artifact into a tested student; by default as a gateway does, with a
            trial in a child process unless `tried.json` beside the memory knows of one.
    """
    memory = memory or registry.root.with_name("running.json")
    if load is None:
        load = TriedStudents(memory.with_name("tried.json"), shipped_digests(), keeps=False).load
    last = read_ran(memory)
    watch = ModelWatch(registry, lambda: 0, load, rejected=rejected, ran=last, log=_SILENT)
    watch.poll()
    slots, names = watch.slots(), registry.names()
    rivals = {
        slot.name: (slot.refused_stream, f"{slot.name} v{slot.refused_version}")
        for slot in slots
        if slot.student is None and slot.name in names
    }
    scorers = [
        _scorer(slot, slot.student.manifest, slot.student.digest, rivals.values(), last)
        for slot in slots
        if slot.student is not None
    ]
    refused = [
        Refused(slot.name, slot.refused_version, slot.refused_error)
        for slot in slots
        if slot.refused_error is not None
    ]
    return Scorers(tuple(sorted(scorers, key=lambda one: one.stream)), tuple(refused))


def _scorer(
    slot: StudentSlot,
    manifest: Manifest,
    digest: str,
    rivals: Iterable[tuple[str, str]],
    ran: Mapping[str, Ran],
) -> Scorer:
    ran_last = slot.name in ran and ran[slot.name].digest == digest
    if slot.refused_error is None:
        why = "it is the stable version"
    else:
        wanted = "its pointer" if slot.refused_version is None else f"v{slot.refused_version}"
        before = "ran last" if ran_last else "is the newest one before it that runs"
        why = f"{wanted} is refused, and v{manifest.version} {before}"
    second = [title for stream, title in rivals if stream == manifest.stream]
    if second:
        first = "it ran last" if ran_last else "it became stable first"
        why += f"; {first}, before {' and '.join(second)}, which {_is_are(second)} refused"
    return Scorer(manifest.stream, manifest.task, slot.name, manifest.version, digest, why)


def _is_are(several: list[str]) -> str:
    return "are" if len(several) > 1 else "is"
