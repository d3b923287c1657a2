"""The students of one process: its registry, the running versions, and the plans of streams."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ingest.clock import now_ms
from ingest.statefile import open_regular
from models.artifact import Artifact
from models.errors import ModelError
from models.manifest import Manifest
from models.registry import Registry
from models.session import Student
from models.zoo import STARTERS, zoo_manifest, zoo_path
from pipeline.quiet import QuietThread
from pipeline.scoring.contests import Contests
from pipeline.scoring.memory import Ran, read_ran
from pipeline.scoring.rollover import ModelWatch
from pipeline.scoring.tried import TriedStudents, shipped_digests
from pipeline.settings import PipelineSettings
from pipeline.status.view import ModelStatus
from pipeline.windows.devices import StreamPlan
from pipeline.windows.resample import MOST_HZ
from pipeline.windows.spec import WindowSpec

__all__ = ["SHADOW_SHARE", "Students", "lost_students", "seed_starters", "stream_plan"]

log = logging.getLogger(__name__)

SHADOW_SHARE = 0.1
"""Largest share of a core that comparisons of students take."""
_MOST_CONTESTS = 32
"""Contests that may wait for the thread; each waits at most once."""


class Students:
    """Follows a registry, from its starter students to its rollouts.

    Attributes:
        registry: The registry of students.
        models: The running students.
        contests: New students in shadow or on probation; none begins by itself.
        plans: Stream to the plan by which it is windowed now.
    """

    def __init__(
        self,
        registry: Path,
        memory: Path,
        settings: PipelineSettings,
        rejected: Mapping[str, str] | None = None,
    ) -> None:
        """Add the starter students to the registry; nothing is loaded before `models.poll`.

        Args:
            registry: Folder of the registry; several processes may share it.
            memory: File in which this process remembers the running versions; `tried.json` beside
                it remembers which students have passed their trial.
            settings: Settings of the agents.
            rejected: Digests of versions that must not run, with the reasons, whatever the memory
                and the registry say.
        """
        self.registry = Registry(registry)
        seed_starters(self.registry, read_ran(memory))
        self._tried = TriedStudents(memory.with_name("tried.json"), shipped_digests())
        self.models = ModelWatch(
            self.registry,
            now_ms,
            self._load,
            memory=memory,
            on_swap=self._on_swap,
            rejected=rejected,
        )
        self._shadow = QuietThread("shadow", waiting=_MOST_CONTESTS, share=SHADOW_SHARE)
        self.contests = Contests(
            self.models.running, self._tried.load, self.models.take_back, self._shadow, now_ms
        )
        self.plans: dict[str, StreamPlan] = {}
        self._settings = settings

    def statuses(self) -> list[ModelStatus]:
        """All models as the console page shows them, with their challengers."""
        return [
            replace(status, challenger=self.contests.status(status.name))
            for status in self.models.statuses()
        ]

    def close(self) -> None:
        """Let the comparison in progress end; scoring goes on without comparisons."""
        self._shadow.close()

    def _load(self, artifact: Artifact) -> Student:
        # What was in shadow takes over as it is: there is nothing to try, and nothing to wait for.
        return self.contests.loaded(artifact.digest) or self._tried.load(artifact)

    def _on_swap(self, student: Student) -> None:
        manifest = student.manifest
        self.plans[manifest.stream] = stream_plan(manifest, self._settings)
        self.contests.on_swap(student)

    async def watch(self, poll_ms: int) -> None:
        """Follow the registry until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(poll_ms / 1000)
            await loop.run_in_executor(None, self.models.poll)


def stream_plan(manifest: Manifest, settings: PipelineSettings) -> StreamPlan:
    """Plan a stream: windows and rate from the manifest, disorder allowed by the settings."""
    window = manifest.window
    rate_hz = manifest.rate_hz
    if manifest.stream in settings.unresampled or (rate_hz is not None and rate_hz > MOST_HZ):
        rate_hz = None
    return StreamPlan(
        manifest.name,
        manifest.channel_names,
        WindowSpec(
            length=window.length,
            hop=window.hop,
            min_readings=window.min_readings,
            gap_ms=window.gap_ms,
            lateness_ms=settings.lateness_ms,
            idle_ms=settings.idle_ms,
            future_ms=settings.future_ms,
            rate_hz=rate_hz,
        ),
    )


def seed_starters(registry: Registry, ran: Mapping[str, Ran] | None = None) -> None:
    """Publish each starter student whose stream no other student scores or is known to have scored.

    A student of the registry that cannot be read may score any stream, so none is published beside
    one: a starter never takes the place of a student that got lost. Several processes may call it
    at once: one seeds, the others wait.

    Args:
        registry: The registry.
        ran: The students that this process ran last, by name.
    """
    registry.root.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT
    with os.fdopen(open_regular(registry.root / ".seed.lock", flags, 0o666), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _seed(registry, ran or {})


def lost_students(registry: Registry, ran: Mapping[str, Ran]) -> dict[str, Ran]:
    """The students that ran last and that the registry no longer has, by name.

    Without those that were retired, and without starter students, which the next start adds again.
    """
    names = registry.names()
    return {
        name: last
        for name, last in ran.items()
        if name not in names and not _is_starter(name, last) and not registry.is_retired(name)
    }


def _is_starter(name: str, last: Ran) -> bool:
    """Whether it is the first version: the starter of this or an earlier release."""
    return name in STARTERS and last.version == zoo_manifest(name).version


def _seed(registry: Registry, ran: Mapping[str, Ran]) -> None:
    starters = {name: zoo_manifest(name) for name in STARTERS}
    scored, unknown, names = set(), set(), registry.names()
    for name in names:
        try:
            pointer = registry.read_stable(name)
            if pointer is not None:
                scored.add(registry.read(name, pointer.version, pointer.digest).manifest.stream)
        except ModelError:  # it is reported when it should run
            unknown.add(name)
    for name, last in ran.items():
        if _is_starter(name, last) or registry.is_retired(name):
            continue
        if last.stream:
            scored.add(last.stream)
        elif name not in names:
            unknown.add(name)
    for name, manifest in starters.items():
        if manifest.stream in scored:
            continue
        if unknown:
            log.warning(
                "the starter student %s is not added to the registry, because %s cannot be read "
                "and may score the same stream",
                name,
                " and ".join(sorted(unknown)),
            )
        else:
            registry.seed(zoo_path(name))
