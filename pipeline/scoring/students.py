"""The students of one process: its registry, the running versions, and the plans of streams."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path

from ingest.clock import now_ms
from ingest.statefile import open_regular
from models.artifact import read_artifact
from models.errors import ModelError
from models.manifest import Manifest
from models.registry import Registry
from models.session import Student
from models.zoo import STARTERS, zoo_path
from pipeline.scoring.rollover import ModelWatch
from pipeline.scoring.tried import TriedStudents
from pipeline.settings import PipelineSettings
from pipeline.windows.devices import StreamPlan
from pipeline.windows.spec import WindowSpec

__all__ = ["Students", "seed_starters", "stream_plan"]


class Students:
    """Follows a registry, from its starter students to its rollouts.

    Attributes:
        registry: The registry of students.
        models: The running students.
        plans: Stream to the plan by which it is windowed now.
    """

    def __init__(self, registry: Path, memory: Path, settings: PipelineSettings) -> None:
        """Add the starter students to the registry; nothing is loaded before `models.poll`.

        Args:
            registry: Folder of the registry; several processes may share it.
            memory: File in which this process remembers the running versions; `tried.json` beside
                it remembers which students have passed their trial.
            settings: Settings of the agents.
        """
        self.registry = Registry(registry)
        seed_starters(self.registry)
        shipped = frozenset(read_artifact(zoo_path(name)).digest for name in STARTERS)
        tried = TriedStudents(memory.with_name("tried.json"), shipped)
        self.models = ModelWatch(
            self.registry, now_ms, tried.load, memory=memory, on_swap=self._plan
        )
        self.plans: dict[str, StreamPlan] = {}
        self._settings = settings

    def _plan(self, student: Student) -> None:
        manifest = student.manifest
        self.plans[manifest.stream] = stream_plan(manifest, self._settings)

    async def watch(self, poll_ms: int) -> None:
        """Follow the registry until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(poll_ms / 1000)
            await loop.run_in_executor(None, self.models.poll)


def stream_plan(manifest: Manifest, settings: PipelineSettings) -> StreamPlan:
    """Plan a stream: window shape from the manifest, tolerance of disorder from the settings."""
    window = manifest.window
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
        ),
    )


def seed_starters(registry: Registry) -> None:
    """Publish each starter student whose stream no student in the registry scores.

    Several processes may call it at once: one seeds, the others wait.
    """
    registry.root.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT
    with os.fdopen(open_regular(registry.root / ".seed.lock", flags, 0o666), "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _seed(registry)


def _seed(registry: Registry) -> None:
    scored = set()
    for name in registry.names():
        with contextlib.suppress(ModelError):  # a damaged one is reported when it should run
            pointer = registry.read_stable(name)
            if pointer is not None:
                scored.add(registry.read(name, pointer.version).manifest.stream)
    for name in STARTERS:
        if read_artifact(zoo_path(name)).manifest.stream not in scored:
            registry.seed(zoo_path(name))
