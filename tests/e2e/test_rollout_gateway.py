"""A real gateway follows a real centre: good students take over, bad ones go back, nothing is lost.

The student scores a window for each reading, so the identities of all scores are known from what
was published: a swap that loses or doubles one shows.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.rollout.release import WHOLE, Plan, Release, ReleaseIndex, Step
from deploy.rollout.report import GatewayReport, StudentReport, decode_report
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.topics import report_topic
from models.artifact import Artifact
from models.dummy import write_dummy
from models.registry import Registry
from pipeline.console.queries import all_points
from pipeline.scoring.thresholds import Thresholds
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.plant import Plant

pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")
pytest.importorskip("tuf", reason="needs the extra [rollout]")
from tests.fakes.badstudents import Trap, write_bad
from tests.fakes.centre import make_centre, now_s, root_bytes

NAME, STREAM, GATEWAY = "dummy-pump", "pump", "gw-e2e"
T0_MS, DT_MS = 1_750_000_000_000, 1000
TRAP, TRAPPED = Trap(channel=0, low=50.0, high=1000.0), 200.0
PLAN = Plan(
    steps=(Step(percent=100, seconds=0, windows=1),),
    shadow_seconds=2,
    shadow_windows=100,
    probation_seconds=8,
    thresholds=Thresholds(windows=100, latency_percent=100_000),
)

pytestmark = [pytest.mark.needs_mosquitto, pytest.mark.slow]


class World:
    """One centre, one gateway that follows it, and devices that send."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.centre = make_centre(folder / "centre")
        root = folder / "root.json"
        root.write_bytes(root_bytes(self.centre))
        self.plant = Plant(
            folder,
            broker_kind="mosquitto",
            KPSTREAM_GATEWAY_NAME=GATEWAY,
            KPSTREAM_ROLLOUT_URL=str(self.centre.folder.repository),
            KPSTREAM_ROLLOUT_ROOT_FILE=str(root),
            KPSTREAM_ROLLOUT_INTERVAL_S="10",
            KPSTREAM_ROLLOUT_REPORT_S="5",
        )
        self.registry = Registry(self.plant.state_dir / "registry")
        self.sound = write_dummy(folder / "sound", "rul", name=NAME, stream=STREAM)
        self.registry.publish(self.sound.path, stable=True)

    def student(self, version: int, fault: str = "shifted") -> Artifact:
        shift = 1e-3 if fault == "shifted" else 0.0
        path = self.folder / f"student-{version}"
        return write_bad(path, self.sound, fault, version=version, trap=TRAP, shift=shift)

    def release(self, number: int, student: Artifact, plan: Plan = PLAN) -> None:
        self.centre.publish(student)
        found = Release(
            number=number,
            name=NAME,
            version=student.manifest.version,
            digest=student.digest,
            plan=plan,
            step_since_s=now_s(),
            cutoff=WHOLE,
            created_s=now_s(),
        )

        def change(index: ReleaseIndex) -> ReleaseIndex:
            return index.model_copy(update={"releases": (found,)})

        self.centre.write_index(change)

    def report(self) -> GatewayReport:
        """The retained report."""
        topic = report_topic(GATEWAY)
        command = ["mosquitto_sub", "-p", str(self.plant.broker.port), "-t", topic, "-C", "1"]
        done = subprocess.run([*command, "-W", "20"], capture_output=True, check=True)
        return decode_report(topic, done.stdout.removesuffix(b"\n"))

    def state(self) -> dict[str, Any]:
        """What the models page says of the student."""
        page = self.plant.get("api/v1/models") or {"models": []}
        return next((each for each in page["models"] if each["name"] == NAME), {})

    def phase(self) -> str:
        return (self.state().get("release") or {}).get("phase", "")

    def until_phase(self, phase: str, version: int) -> None:
        def is_there() -> bool:
            return (self.phase(), self.state().get("version")) == (phase, version)

        self.plant.wait_until(is_there, f"{phase}, v{version}")

    def assert_whole(self, flow: Flow) -> list[dict[str, Any]]:
        """Every window of every device has exactly one score."""
        sent = flow.stop()
        count = sum(sent.values())
        self.plant.wait_until(lambda: self.plant.totals().get("windowed", 0) >= count, "all in")
        expected = {
            (device, T0_MS + number * DT_MS + 1)  # a window is half-open
            for device, readings in sent.items()
            for number in range(3, readings)
        }
        self.plant.wait_until(lambda: len(self.points()) == len(expected), "all stored")
        found = self.points()
        assert {(each["device"], each["end_ms"]) for each in found} == expected
        assert len(found) == len(expected)
        return sorted(found, key=lambda each: each["end_ms"])

    def points(self) -> list[dict[str, Any]]:
        results = ResultsFile(self.plant.results_path, read_only=True)
        try:
            return [dict(each) for each in all_points(results, "rul") if each["model"] == NAME]
        finally:
            results.close()


@contextmanager
def world(folder: Path) -> Iterator[tuple[World, Flow]]:
    made = World(folder)
    with made.plant:
        flow = Flow(made.plant.broker.port)
        flow.start()
        try:
            yield made, flow
        finally:
            flow.stop()


class Flow(threading.Thread):
    """Four devices; `is_trapped` makes every twentieth reading one over which a bad one fails."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.is_trapped = False
        self._port = port
        self._end = threading.Event()
        self._sent = dict.fromkeys((f"pump-{n}" for n in range(4)), 0)

    def stop(self) -> dict[str, int]:
        """Stop, and return the readings of each device that the broker has confirmed."""
        self._end.set()
        self.join(60)
        return self._sent

    def run(self) -> None:
        asyncio.run(self._publish())

    async def _publish(self) -> None:
        async with Publisher(Endpoint("127.0.0.1", self._port, "flow")) as publisher:
            while not self._end.is_set():
                for device, start in self._sent.items():
                    body = self._readings(device, start)
                    await publisher.publish(f"sensors/e2e/{device}/{STREAM}", body)
                    self._sent[device] = start + 5
                await asyncio.sleep(0.05)
            await publisher.flush()

    def _readings(self, device: str, start: int) -> bytes:
        numbers = range(start, start + 5)
        values = {
            channel: [2 * math.sin(n * speed + len(device) + int(device[-1])) for n in numbers]
            for channel, speed in (("T24", 0.7), ("T30", 1.3), ("Nf", 2.1))
        }
        if self.is_trapped and start % 20 == 0:
            values["T24"][0] = TRAPPED
        body = {"t0": T0_MS + start * DT_MS, "dt_ms": DT_MS, "values": values}
        return orjson.dumps(body)


def test_good_student_takes_over_and_a_bad_one_comes_back(tmp_path: Path) -> None:
    with world(tmp_path) as (at, flow):
        at.plant.wait_until(lambda: at.plant.totals().get("scored", 0) > 50, "scoring")
        at.release(1, at.student(2))
        at.until_phase("probation", 2)
        at.until_phase("champion", 2)
        at.plant.wait_until(lambda: _reported(at).phase == "champion", "reported")
        student = _reported(at)
        assert (student.version, student.release, student.candidate) == (2, 1, 2)
        assert student.evidence.windows > 100
        assert at.report().fetch == "ok"

        at.release(2, at.student(3, "nan"))
        at.until_phase("probation", 3)
        flow.is_trapped = True
        at.until_phase("failed", 2)
        assert at.registry.read_stable(NAME).version == 2  # type: ignore[union-attr]
        at.plant.wait_until(lambda: _reported(at).phase == "failed", "reported")
        assert "no finite score" in _reported(at).reason
        assert (at.plant.get("ready") or {})["ready"], "a rollout never makes a gateway unready"
        points = at.assert_whole(flow)
        assert at.plant.stop_gateway() == 0
    versions = [each["version"] for each in points]
    assert set(versions) == {1, 2, 3}
    assert (versions[0], versions[-1]) == (1, 2)


def _reported(at: World) -> StudentReport:
    (student,) = [each for each in at.report().students if each.name == NAME]
    return student


def test_killed_gateway_goes_on_where_it_was_and_goes_back_at_the_second_death(
    tmp_path: Path,
) -> None:
    plan = PLAN.model_copy(update={"probation_seconds": 600})
    with world(tmp_path) as (at, flow):
        at.release(1, at.student(2), plan)
        at.plant.wait_until(lambda: at.phase() == "shadow", "shadow")
        at.plant.kill_gateway()
        at.plant.start_gateway()
        at.until_phase("probation", 2)
        at.plant.kill_gateway()
        at.plant.start_gateway()
        at.until_phase("probation", 2)
        assert at.plant.stop_gateway() == 0, "a clean stop is not counted"
        at.plant.start_gateway()
        at.until_phase("probation", 2)
        at.plant.kill_gateway()
        at.plant.start_gateway()
        at.until_phase("failed", 1)
        assert "without a clean stop" in at.state()["release"]["reason"]
        at.assert_whole(flow)


def test_centre_that_is_gone_or_expired_changes_nothing(tmp_path: Path) -> None:
    with world(tmp_path) as (at, flow):
        hidden = at.centre.folder.repository.with_name("hidden")
        at.plant.wait_until(lambda: _centre(at)["centre"] == "ok", "seen")
        at.centre.folder.repository.rename(hidden)
        at.plant.wait_until(lambda: _centre(at)["centre"] == "away", "away")
        assert (at.plant.get("ready") or {})["ready"]
        hidden.rename(at.centre.folder.repository)
        at.plant.wait_until(lambda: _centre(at)["centre"] == "ok", "back")
        at.assert_whole(flow)


def _centre(at: World) -> dict[str, Any]:
    return ((at.plant.get("health") or {}).get("parts") or {}).get("rollout") or {"centre": ""}
