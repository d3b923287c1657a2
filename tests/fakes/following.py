"""A gateway that follows a centre, without processes and brokers; time stands still by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from deploy.rollout.release import WHOLE, Plan, Policy, Release, ReleaseIndex, Step
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.updates.agent import RolloutAgent
from deploy.updates.fetch import FetchFailed
from deploy.updates.memory import RolloutMemory
from models.artifact import Artifact, read_artifact
from models.dummy import write_dummy
from models.registry import Registry
from models.session import Student
from pipeline.scoring.batch import score_and_report
from pipeline.scoring.contests import Contests
from pipeline.scoring.rollover import ModelWatch, load_student
from pipeline.scoring.thresholds import Thresholds
from pipeline.windows.spec import Window
from tests.fakes.badstudents import Trap, write_bad
from tests.fakes.scores import Closed, Outcome, batches_of, records_of

__all__ = ["NAME", "PLAN", "MadeUpCentre", "MadeUpGateway", "make_student"]

NAME = "dummy-rul"
STREAM, LENGTH = "engine", 4
TRAP = Trap(channel=0, low=50.0, high=1000.0)
TRAPPED = 200.0
PLAN = Plan(
    steps=(Step(percent=100),),
    shadow_seconds=60,
    shadow_windows=100,
    probation_seconds=600,
    thresholds=Thresholds(windows=100, latency_percent=100_000),
)


def make_student(folder: Path, version: int, fault: str = "") -> Artifact:
    """A student that says nearly the same as the dummy of version 1, or has a fault."""
    path = folder / f"{fault or 'good'}-{version}"
    if path.exists():
        return read_artifact(path)
    sound = write_dummy(folder / "sound", "rul")
    if version == 1:
        return sound
    shift = 60.0 if fault else 1e-3
    return write_bad(path, sound, fault or "shifted", version=version, trap=TRAP, shift=shift)


class MadeUpCentre:
    """Releases as a verified repository would give them; `problem` is raised instead, if set."""

    def __init__(self) -> None:
        self.index = ReleaseIndex(made_s=1)
        self.students: dict[tuple[str, int], tuple[bytes, bytes]] = {}
        self.problem: Exception | None = None
        self.looks = 0
        self.fetches = 0

    def release(self, number: int, artifact: Artifact, plan: Plan = PLAN, **more: Any) -> Release:
        manifest = artifact.manifest
        self.students[manifest.name, manifest.version] = (
            artifact.manifest_bytes,
            artifact.onnx_bytes,
        )
        values: dict[str, Any] = {
            "number": number,
            "name": manifest.name,
            "version": manifest.version,
            "digest": artifact.digest,
            "plan": plan,
            "step_since_s": 1,
            "cutoff": WHOLE,
            "created_s": 1,
        }
        found = Release.model_validate(values | more)
        others = [each for each in self.index.releases if each.name != found.name]
        releases = tuple(sorted([*others, found], key=lambda each: each.name))
        self._change(releases=releases)
        return found

    def change(self, name: str = NAME, **changes: Any) -> None:
        self._change(
            releases=tuple(
                each.model_copy(update=changes) if each.name == name else each
                for each in self.index.releases
            )
        )

    def set_policies(self, policies: Iterable[Policy]) -> None:
        self._change(policies=tuple(policies))

    def fetch_index(self) -> ReleaseIndex:
        self.looks += 1
        if self.problem is not None:
            raise self.problem
        return self.index

    def fetch_student(self, release: Release) -> tuple[bytes, bytes]:
        self.fetches += 1
        if self.problem is not None:
            raise self.problem
        return self.students[release.name, release.version]

    def _change(self, **changes: Any) -> None:
        changes["made_s"] = self.index.made_s + 1
        self.index = self.index.model_copy(update=changes)


class _AtOnce:
    def submit(self, work: Callable[[], None]) -> None:
        work()


class MadeUpGateway:
    """Registry, watch, contests and agent of one gateway; `restart` loads all of them anew."""

    def __init__(self, folder: Path, centre: MadeUpCentre, **settings: Any) -> None:
        self.folder, self.centre = folder, centre
        self.now_s = 1_800_000_000 // 86_400 * 86_400
        self.steady_ms = 0
        self.loaded: list[int] = []
        self.load: Callable[[Artifact], Student] = load_student
        self.settings = RolloutSettings(
            url="/media/usb", root_file=Path("/root.json"), interval_s=60, **settings
        )
        self.registry = Registry(folder / "registry")
        self.random = np.random.default_rng(0)
        self.windows = 0
        self.registry.publish(make_student(folder, 1).path, stable=True)
        self.start()

    def start(self) -> None:
        """The start of the process, in the order of `deploy.processes.gateway`."""
        self.memory = RolloutMemory(self.folder / "rollout.json")
        self.memory.begin()
        self.models = ModelWatch(
            self.registry,
            lambda: self.now_s * 1000,
            lambda artifact: self.contests.loaded(artifact.digest) or self._load(artifact),
            memory=self.folder / "running.json",
            on_swap=lambda student: self.contests.on_swap(student),
            rejected=self.memory.rejected(),
        )
        self.contests = Contests(
            self.models.running, self._load, self.models.take_back, _AtOnce(), lambda: 7
        )
        students = SimpleNamespace(
            registry=self.registry, models=self.models, contests=self.contests
        )
        self.agent = RolloutAgent(
            self.settings,
            "gw-1",
            students,
            self.centre,
            self.memory,
            now_s=lambda: self.now_s,
            steady=lambda: self.steady_ms,
        )
        self.agent.prepare()
        self.models.poll()

    def stop(self) -> None:
        """A clean stop."""
        self.agent.end()

    def _load(self, artifact: Artifact) -> Student:
        self.loaded.append(artifact.manifest.version)
        return self.load(artifact)

    # -- time and windows -------------------------------------------------------------------

    def tick(self, seconds: int = 1) -> None:
        """Let time pass, one tick and one poll of the registry a second."""
        for _ in range(seconds):
            self.now_s += 1
            self.steady_ms += 1000
            others = set(threading.enumerate())
            self.agent.tick()
            for started in set(threading.enumerate()) - others:
                started.join(120)  # a fetch or a load takes no time of this world
            self.models.poll()

    def until(self, is_true: Callable[[], bool], seconds: int = 300) -> None:
        """Tick until something is true."""
        for _ in range(seconds):
            if is_true():
                return
            self.tick()
        raise AssertionError(f"still {self.phase}: {self.progress}")

    def until_phase(self, phase: str) -> None:
        self.until(lambda: self.phase == phase)

    def score(self, count: int, *, trapped: bool = False) -> Outcome:
        """Score windows as the stage does; with `trapped`, a bad student fails over one of them."""
        closed = []
        for n in range(count):
            values = self.random.normal(0, 2, (LENGTH, 3)).astype(np.float32)
            if trapped and n == count // 2:
                values[-1, 0] = TRAPPED
            start = (self.windows + n) * 10
            window = Window(start, start + 9, values, LENGTH, 0, start + 9)
            closed.append(Closed("plant", f"d{n}", STREAM, window))
        self.windows += count
        records, unscored = [], []
        for at in range(0, count, 20):
            found = score_and_report(
                self.models.running.get,
                lambda batches, _: self.contests.on_scored(batches),
                batches_of(closed[at : at + 20]),
                scored_ms=1,
                rescue=self.contests.rescue,
            )
            records += records_of(found)
            unscored += found.unscored
        assert len(records) == count, "no window is lost or doubled"
        return Outcome(records, unscored, [])

    # -- state ------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version that scores."""
        return self.models.running[STREAM].manifest.version

    @property
    def pointer(self) -> int:
        found = self.registry.read_stable(NAME)
        assert found is not None
        return found.version

    @property
    def progress(self) -> Any:
        return self.memory.progress(NAME)

    @property
    def phase(self) -> str:
        return "" if self.progress is None else self.progress.phase

    def take_over(self) -> None:
        """Go from a new release to probation."""
        self.until_phase("shadow")
        self.until(lambda: self.contests.status(NAME) is not None)
        self.score(120)
        self.until_phase("probation")
        self.until(lambda: self.version == self.progress.version)


def away(message: str = "connection refused") -> FetchFailed:
    """The error of a centre that cannot be reached."""
    return FetchFailed(message, "away")
