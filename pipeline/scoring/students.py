"""The students of one process: the registry, what runs of it, and how streams are windowed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import Sequence
from pathlib import Path

from models.artifact import read_artifact
from models.errors import ModelError
from models.manifest import Manifest
from models.registry import Registry
from models.zoo import STARTERS, zoo_path
from pipeline.scoring.batch import Scored, score_windows
from pipeline.scoring.rollover import ModelWatch
from pipeline.settings import PipelineSettings
from pipeline.stage import now_ms
from pipeline.windows.devices import ClosedWindow, StreamPlan
from pipeline.windows.spec import WindowSpec

__all__ = ["Students", "seed_starters", "stream_plan"]


class Students:
    """Follows a registry: which student scores a stream, from its starters to its rollouts.

    Attributes:
        registry: the folder of students.
        models: what runs of them.
    """

    def __init__(self, registry: Path, memory: Path, settings: PipelineSettings) -> None:
        """Seed an empty registry with the starters; nothing is loaded before `poll`.

        Args:
            registry: folder of the registry; several processes may share it.
            memory: file in which this process remembers what ran.
            settings: of the agents.
        """
        self.registry = Registry(registry)
        seed_starters(self.registry)
        self.models = ModelWatch(self.registry, now_ms, memory=memory)
        self._settings = settings
        self._plans: dict[str, StreamPlan] = {}

    def plan(self, stream: str) -> StreamPlan | None:
        """How a stream is windowed now; None when no student scores it."""
        student = self.models.student_of(stream)
        if student is None:
            return None
        plan = self._plans.get(student.digest)
        if plan is None:
            plan = self._plans[student.digest] = stream_plan(student.manifest, self._settings)
        return plan

    def score(self, closed: Sequence[ClosedWindow]) -> Scored:
        """Score windows with the students of their streams."""
        return score_windows(closed, self.models.student_of, now_ms())

    async def watch(self, poll_ms: int) -> None:
        """Follow the registry until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(poll_ms / 1000)
            await loop.run_in_executor(None, self.models.poll)


def stream_plan(manifest: Manifest, settings: PipelineSettings) -> StreamPlan:
    """How a stream is windowed: shape from the manifest, tolerance of disorder from settings."""
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
    """Publish a starter student unless something in the registry scores its stream already.

    Safe for several processes at once: one of them seeds, the others wait and find it done.
    """
    registry.root.mkdir(parents=True, exist_ok=True)
    with (registry.root / ".seed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _seed(registry)


def _seed(registry: Registry) -> None:
    scored = set()
    for name in registry.names():
        with contextlib.suppress(ModelError):  # a damaged one is reported when it is to run
            pointer = registry.read_stable(name)
            if pointer is not None:
                scored.add(registry.read(name, pointer.version).manifest.stream)
    for name in STARTERS:
        if read_artifact(zoo_path(name)).manifest.stream not in scored:
            registry.seed(zoo_path(name))
