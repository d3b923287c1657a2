"""Students that have passed their trial, remembered by digest so that a restart stays fast."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from ingest.statefile import StateFileUnusable, read_object, write_object
from models.artifact import Artifact
from models.session import Student
from models.trial import Trial, try_student
from models.zoo import STARTERS, zoo_digest
from pipeline.scoring.rollover import load_student

__all__ = ["TriedStudents", "shipped_digests"]

log = logging.getLogger(__name__)

_MOST = 200
"""Digests kept; the oldest is forgotten first, and tried again if it comes back."""


class TriedStudents:
    """Loads students, each after one trial in a child process (`models.trial`).

    A trial holds for the digest of the artifact and the version of ONNX Runtime. Only passes are
    kept, so a refused student gets a new trial after a restart.

    Args:
        path: File that remembers; a damaged or missing one costs trials, nothing else.
        trusted: Digests that need no trial: those of the students that ship with the package.
        trial: Runs one trial.
        keeps: Whether a pass is written to the file.
    """

    def __init__(
        self,
        path: Path,
        trusted: frozenset[str] = frozenset(),
        trial: Callable[[Artifact], Trial] = try_student,
        *,
        keeps: bool = True,
    ) -> None:
        self._keeps = keeps
        self._path = path
        self._trusted = trusted
        self._trial = trial
        self._runtime = version("onnxruntime")
        self._passed = _read(path, self._runtime)

    def load(self, artifact: Artifact) -> Student:
        """Load a student that has passed its trial, now or before.

        Raises:
            GraphRefused: ONNX Runtime refuses the graph.
            SelfTestFailed: The scores are unusable, or the trial took too much memory or time.
            OSError: No trial could be started; try again later.
        """
        if artifact.digest not in self._trusted and artifact.digest not in self._passed:
            taken = self._trial(artifact)
            log.info("%s: %s", artifact.manifest.name, taken)
            student = load_student(artifact)
            self._remember(artifact.digest)
            return student
        return load_student(artifact)

    def _remember(self, digest: str) -> None:
        self._passed = [*self._passed, digest][-_MOST:]
        if not self._keeps:
            return
        try:
            write_object(self._path, {"onnxruntime": self._runtime, "passed": self._passed})
        except OSError as exc:
            log.warning(
                "cannot save %s, so a restart tries the students again: %s", self._path, exc
            )


def shipped_digests() -> frozenset[str]:
    """Digests of the starter students, which need no trial."""
    return frozenset(zoo_digest(name) for name in STARTERS)


def _read(path: Path, runtime: str) -> list[str]:
    try:
        found = read_object(path)
        if found is None:
            return []
        passed = found.get("passed")
        if found.keys() != {"onnxruntime", "passed"} or not isinstance(passed, list):
            raise StateFileUnusable(path, "it has no list of digests")
    except StateFileUnusable as exc:
        log.warning("%s; the students are tried again", exc)
        return []
    return [str(digest) for digest in passed] if found["onnxruntime"] == runtime else []
