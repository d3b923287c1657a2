"""A fleet and its centre: starts, kills, pauses and cuts its parts, and reads what they wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from deploy.rollout.changes import abort_release, add_release, find_release
from deploy.rollout.inventory import Inventory, Known, known_gateways
from deploy.rollout.release import INDEX_TARGET, Plan, Release, ReleaseIndex
from ingest.clock import now_ms
from ingest.mqtt.broker import LocalBroker
from ingest.statefile import replace_file
from models.artifact import Artifact
from models.dummy import write_dummy
from models.registry import Registry
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from tests.fakes.centre import make_centre, now_s, root_bytes
from tests.fakes.ports import free_port
from tests.fakes.repositoryserver import RepositoryServer, serving
from tests.rollout.gateway import LEDGER, LOG, GatewayConfig
from tests.rollout.ledger import Batch, read_batches, read_events
from tests.rollout.lines import Lines

__all__ = ["ACTIVITY", "RUL", "Fleet", "FleetFailed", "PhaseChange"]

RUL, ACTIVITY = "dummy-rul", "dummy-activity"
_PHASE = re.compile(r"release (\d+) of (\S+) v(\d+): (\w+)")
_ROOT = Path(__file__).parents[2]


class FleetFailed(AssertionError):
    """The fleet did not do what it must."""


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """A line of a gateway's log: the phase that a release entered."""

    release: int
    student: str
    phase: str


class Fleet:
    """Gateways, broker, centre and its control process, as a context manager."""

    def __init__(
        self, folder: Path, count: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare the state of every gateway, with the first version of two students."""
        self.folder, self.say = folder, say
        self.names = [f"gw-{number:02}" for number in range(count)]
        self.students = folder / "students"
        self.centre = make_centre(folder / "centre")
        (folder / "root.json").write_bytes(root_bytes(self.centre))
        self.sound: dict[str, Artifact] = {
            RUL: write_dummy(self.students / "rul-1", "rul"),
            ACTIVITY: write_dummy(self.students / "activity-1", "activity"),
        }
        self._stack = ExitStack()
        self._pids: dict[str, int] = {}
        self._configs: dict[str, GatewayConfig] = {}
        self.controls_killed = 0

    def __enter__(self) -> Fleet:
        self.mqtt_port = free_port()
        self._stack.enter_context(LocalBroker(self.folder / "mq", port=self.mqtt_port))
        self.server: RepositoryServer = self._stack.enter_context(
            serving(self.centre.folder.repository)
        )
        self.lines = Lines()
        self._stack.callback(self.lines.stop)
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "tests.rollout.forkserver"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
        )
        self._stack.callback(self._stop_forks)
        self._control: subprocess.Popen[bytes] | None = None
        self._stack.callback(self.kill_control)
        template = self._template()
        for seed, name in enumerate(self.names):
            shutil.copytree(template, self.folder / "gateways" / name)
            self._configs[name] = GatewayConfig(
                name=name,
                folder=str(self.folder / "gateways" / name),
                url=f"http://127.0.0.1:{self.lines.add(name, self.server.server_port)}",
                root=str(self.folder / "root.json"),
                mqtt_port=self.lines.add(name, self.mqtt_port),
                seed=seed,
            )
            self.start(name)
        self.start_control()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    # -- parts ------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a gateway."""
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        self._forks.stdin.write(json.dumps(asdict(self._configs[name])) + "\n")
        self._forks.stdin.flush()
        self._pids[name] = int(self._forks.stdout.readline())

    def send(self, name: str, number: int) -> None:
        """Send a signal to a gateway."""
        os.kill(self._pids[name], number)

    def kill(self, name: str) -> None:
        """Kill a gateway (SIGKILL), and start it again."""
        self.send(name, signal.SIGKILL)
        self.until(lambda: not self.is_alive(name), f"{name} ends")
        self.start(name)

    def is_alive(self, name: str) -> bool:
        """Whether the process of a gateway runs."""
        with suppress(ProcessLookupError):
            os.kill(self._pids[name], 0)
            return True
        return False

    def start_control(self) -> None:
        """Start `kpstream centre control`."""
        environment = os.environ | {
            "KPSTREAM_CENTRE_MQTT_HOST": "127.0.0.1",
            "KPSTREAM_CENTRE_MQTT_PORT": str(self.mqtt_port),
            "KPSTREAM_CENTRE_SILENT_S": "3600",
        }
        words = ["centre", "--dir", str(self.centre.folder.path), "control"]
        with (self.folder / "control.txt").open("ab") as log:
            self._control = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", *words],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill_control(self) -> None:
        """Kill the control process (SIGKILL)."""
        if self._control is not None:
            self._control.kill()
            self._control.wait()
            self._control = None
            self.controls_killed += 1

    @contextmanager
    def trap(self, text: str) -> Iterator[None]:
        """Set the traps in the windows of all gateways: `always`, or from which window on."""
        path = self.folder / "gateways" / "trap"
        replace_file(path, text.encode())
        try:
            yield
        finally:
            path.unlink()

    # -- releases ---------------------------------------------------------------------------

    def release(self, artifact: Artifact, plan: Plan) -> Release:
        """Publish a student and release it."""
        self.centre.publish(artifact)
        manifest = artifact.manifest
        index = self.centre.write_index(
            lambda index: add_release(
                index,
                name=manifest.name,
                version=manifest.version,
                digest=artifact.digest,
                plan=plan,
                now_s=now_s(),
                gateways=known_gateways(self.centre.folder.inventory),
            )
        )
        return find_release(index, manifest.name)

    def abort(self, name: str) -> None:
        """Abort the release of a student."""
        self.centre.write_index(lambda index: abort_release(index, name, "end of the case"))

    def now(self, name: str) -> Release:
        """The newest release of a student."""
        return find_release(self.centre.index(), name)

    def history(self, name: str, number: int) -> list[Release]:
        """All signed states of a release that the repository keeps, oldest first."""
        folder = self.centre.folder.repository / "targets"
        found: dict[int, list[Release]] = {}
        paths = sorted(folder.glob(f"*.{INDEX_TARGET}"), key=lambda path: path.stat().st_mtime_ns)
        for place, path in enumerate(paths):
            index = ReleaseIndex.model_validate_json(path.read_bytes())
            found[place] = [each for each in index.releases if each.name == name]
        states = [each for releases in found.values() for each in releases]
        return [each for each in states if each.number == number]

    def known(self) -> list[Known]:
        """The inventory of the centre."""
        return Inventory(self.centre.folder.inventory, now_s).known()

    # -- what gateways wrote ----------------------------------------------------------------

    def batches(self, name: str) -> list[Batch]:
        """The batches of a gateway."""
        return read_batches(self._path(name, LEDGER))

    def events(self, name: str, kind: str) -> list[dict[str, object]]:
        """Events of a gateway."""
        return [each for each in read_events(self._path(name, LEDGER)) if each["event"] == kind]

    def phases(self, name: str) -> list[PhaseChange]:
        """The phases that a gateway has entered, from its log."""
        text = self._path(name, LOG).read_text() if self._path(name, LOG).exists() else ""
        return [PhaseChange(int(m[1]), m[2], m[4]) for m in _PHASE.finditer(text)]

    def memory_mb(self) -> float:
        """Proportional share of memory of all gateways together."""
        total = 0
        for pid in self._pids.values():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
        return total / 1024

    def until(self, is_true: Callable[[], object], what: str, most_s: float = 600.0) -> None:
        """Wait for something.

        Raises:
            FleetFailed: It did not come.
        """
        until_s = time.monotonic() + most_s
        while not is_true():
            if time.monotonic() > until_s:
                msg = f"not within {most_s:.0f} s: {what}"
                raise FleetFailed(msg)
            time.sleep(0.2)

    # -- inside -----------------------------------------------------------------------------

    def _path(self, name: str, file: str) -> Path:
        return self.folder / "gateways" / name / file

    def _template(self) -> Path:
        """The state of a gateway that has tried its first students once."""
        state = self.folder / "template"
        registry = Registry(state / "registry", now_ms=now_ms)
        for artifact in self.sound.values():
            registry.publish(artifact.path, stable=True)
        students = Students(state / "registry", state / "running.json", PipelineSettings())
        students.models.poll()
        students.close()
        return state

    def _stop_forks(self) -> None:
        for name in self._pids:
            with suppress(ProcessLookupError):
                self.send(name, signal.SIGCONT)
        assert self._forks.stdin is not None
        self._forks.stdin.close()
        self._forks.wait(30)
        assert self._forks.stdout is not None
        self._forks.stdout.close()
