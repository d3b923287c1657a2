"""`python -m tests.bench.drift DATA_FOLDER`: the figures of docs/drift.md.

Counts false flags and false drift over undisturbed streams, the share of changed windows that is
flagged, and the windows until a changed stream is told as drifted. It takes some minutes and
asserts nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ingest.recordings import CMAPSS_SENSORS, read_cmapss
from ingest.simulators.imu import Person, markov_bouts
from ingest.simulators.turbofan import engine_history
from models.artifact import read_artifact
from models.features import slice_windows
from models.session import Student
from models.tasks.quality import is_doubtful
from models.tasks.registry import find_task
from models.zoo import zoo_path
from pipeline.drift.watch import ALL, DriftWatch
from pipeline.points.scores import ScoreRecord
from pipeline.scoring.batch import Scored, StudentScores
from pipeline.scoring.quality import QualityCheck
from pipeline.windows.spec import Window
from tests.fakes.scores import Closed, batches_of, columns_of, rows_of
from training.datasets.cmapss import label_engines
from training.datasets.uci_har import read_uci_har

__all__: list[str] = []

Change = Callable[[np.ndarray], np.ndarray]
Fed = tuple[str, int]
"""Device, and place of the window."""

_DAY_S = 86_400
_STEP = 50


class Rig:
    """A student with its check, and a watch over its stream."""

    def __init__(self, name: str) -> None:
        self.student = Student(read_artifact(zoo_path(name)))
        self.manifest = self.student.manifest
        self.check = QualityCheck(self.manifest)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self.watch = DriftWatch(lambda _: self.student, "bench", lambda: 1)
        self.windows = self.judged = self.drifted = 0

    def score(self, windows: np.ndarray) -> list[ScoreRecord]:
        """The fields of the scores of windows, with their quality."""
        answer = find_task(self.manifest.task).answer
        found: list[ScoreRecord] = []
        for at in range(0, len(windows), 512):
            part = np.ascontiguousarray(windows[at : at + 512])
            rows = rows_of(answer.columns(self.student.score(part)), len(part))
            flags = self.check.flags(part)
            found += [row | {"quality": flag} for row, flag in zip(rows, flags, strict=True)]
        return found

    def feed(self, device: str, windows: np.ndarray, rows: Sequence[ScoreRecord]) -> bool:
        """Let windows pass; True if the stream has drifted."""
        manifest = self.manifest
        ends = range(self.windows + 1, self.windows + len(windows) + 1)
        self.windows += len(windows)
        closed = [
            Closed("s", device, manifest.stream, Window(end, end, values, len(values), 0, end))
            for values, end in zip(windows, ends, strict=True)
        ]
        who = {"task": manifest.task, "stream": manifest.stream, "model": manifest.name}
        given = {**who, "version": manifest.version, "scored_ms": 0}
        (scores,) = columns_of([{**row, **given} for row in rows])
        self.watch.look(Scored([StudentScores(batches_of(closed)[0], scores)]))
        if not any(dict(point.tags)["device"] == ALL for point in self.watch.points()):
            return False
        whole = next(drift for drift in self.watch.drifts() if drift.device == ALL)
        self.judged += 1
        self.drifted += whole.judgement.has_drifted
        return whole.judgement.has_drifted

    def report(self, what: str) -> None:
        """Print how often the stream was told as drifted."""
        print(f"{what}: {self.windows} windows, {self.judged} judgements, {self.drifted} drifted")

    def undisturbed(self, what: str, windows: np.ndarray, order: Iterable[Fed]) -> None:
        """Count how often an undisturbed stream is told as drifted."""
        rows = self.score(windows)
        self.reset()
        for device, at in order:
            self.feed(device, windows[at : at + 1], rows[at : at + 1])
        self.report(what)

    def changed(
        self, what: str, windows: np.ndarray, change: Change, order: Sequence[Fed], before: int
    ) -> None:
        """Count the windows until a change is told, and the share of windows that is flagged."""
        other = change(windows.copy()).astype(np.float32)
        rows, changed = self.score(windows), self.score(other)
        flagged = np.mean([is_doubtful(row) for row in changed])
        self.reset()
        told = None
        for number, (device, at) in enumerate(order):
            source, found = (windows, rows) if number < before else (other, changed)
            if self.feed(device, source[at : at + 1], found[at : at + 1]):
                told = self.windows - before
                break
        print(f"{what}: {flagged:.0%} flagged; drifted after {told} windows")


def _people(folder: Path) -> None:
    rig, data = Rig("har-waist"), read_uci_har(folder, with_test=True)
    if data.test is None:
        return
    windows, groups = data.test.windows, data.test.groups
    own = {f"p{name}": np.flatnonzero(groups == name) for name in np.unique(groups)}
    flagged = sum(flag != "good" for flag in rig.check.flags(windows))
    print(f"har-waist, test set: {flagged} of {len(windows)} windows flagged")
    for name, places in own.items():
        rig.undisturbed(f"{name} alone", windows, [(name, at) for at in [*places] * 10])
    longest = max(map(len, own.values()))
    order = [(n, p[t % len(p)]) for t in range(6 * longest) for n, p in own.items()]
    rig.undisturbed("all at once", windows, order)
    names = rig.manifest.channel_names
    spread = data.train.windows.astype(np.float64).std(axis=(0, 1))
    for channel in ("total_acc_x", "total_acc_y", "total_acc_z", "body_acc_y", "body_gyro_x"):
        place = names.index(channel)
        for times in (0.5, 1, 2):
            change = _added(place, times * spread[place])
            rig.changed(f"{channel} + {times} sd", windows, change, order[:4000], 2000)
    for what, places, factor in (
        ("total acceleration in m/s2", slice(6, 9), 9.80665),
        ("body acceleration in m/s2", slice(0, 3), 9.80665),
        ("gyroscope in deg/s", slice(3, 6), 57.29578),
    ):
        rig.changed(what, windows, _multiplied(places, factor), order[:4000], 2000)


def _simulated_people() -> None:
    rig = Rig("har-waist")
    length, hop = rig.manifest.window.length, rig.manifest.window.hop
    for seed in (1, 2, 3):
        person = Person(seed=seed, schedule=markov_bouts(seed))
        rig.reset()
        rest = np.zeros((0, len(rig.manifest.channels)), np.float32)
        for _ in range(0, 50 * _DAY_S, 500 * hop):
            taken = person.take(500 * hop).values.astype(np.float32)
            readings = np.concatenate([rest, taken])
            windows = slice_windows(readings, length, hop)
            rest = readings[len(windows) * hop :]
            rows = rig.score(windows)
            for at in range(0, len(windows), _STEP):
                rig.feed("p", windows[at : at + _STEP], rows[at : at + _STEP])
        rig.report(f"simulated person {seed}, a day")


def _engines(folder: Path) -> None:
    rig = Rig("rul-fd001")
    length = rig.manifest.window.length
    test = label_engines(read_cmapss(folder / "cmapss.zip", "FD001", "test"), length)
    flagged = sum(flag != "good" for flag in rig.check.flags(test.windows))
    print(f"rul-fd001, all cycles of the test engines: {flagged} of {len(test)} windows flagged")
    own = [np.flatnonzero(test.groups == name) for name in np.unique(test.groups)]
    for devices in (1, 10, 20, 100):
        order = _fleet(own, devices, 20_000)
        rig.undisturbed(f"test engines on {devices} devices", test.windows, order)
    columns = [CMAPSS_SENSORS.index(name) for name in rig.manifest.channel_names]
    lives = [
        slice_windows(engine_history(seed=seed).values[:, columns].astype(np.float32), length, 1)
        for seed in range(300)
    ]
    windows = np.concatenate(lives)
    ends = np.cumsum([len(life) for life in lives])
    own = [np.arange(end - len(life), end) for end, life in zip(ends, lives, strict=True)]
    for devices in (1, 10, 100):
        order = _fleet(own, devices, _DAY_S)
        rig.undisturbed(f"simulated engines on {devices} devices", windows, order)
    spread = windows.astype(np.float64).std(axis=(0, 1))
    names = rig.manifest.channel_names
    for devices in (1, 20):
        order = _fleet(own, devices, 23_000)[18_500:]
        for channel, times in (("T24", 1), ("T24", 2), ("T24", 4), ("Ps30", 2), ("Nc", 2)):
            change = _added(names.index(channel), times * spread[names.index(channel)])
            rig.changed(f"{channel} + {times} sd, {devices} devices", windows, change, order, 1500)
        rig.changed("temperatures in K", windows, _multiplied(slice(0, 3), 1 / 1.8), order, 1500)
        rig.changed("P30 in kPa", windows, _multiplied(slice(3, 4), 6.894757), order, 1500)


def _fleet(lives: Sequence[np.ndarray], devices: int, windows: int) -> list[Fed]:
    """Devices in turn, each with one engine after the other."""
    random = np.random.default_rng(1)
    running = [[0, device % len(lives)] for device in range(devices)]
    order: list[Fed] = []
    while len(order) < windows:
        for device, slot in enumerate(running):
            if slot[0] >= len(lives[slot[1]]):
                slot[:] = [0, int(random.integers(len(lives)))]
            order.append((f"e{device}", int(lives[slot[1]][slot[0]])))
            slot[0] += 1
    return order[:windows]


def _added(place: int, number: float) -> Change:
    def change(windows: np.ndarray) -> np.ndarray:
        windows[:, :, place] += number
        return windows

    return change


def _multiplied(places: slice, factor: float) -> Change:
    def change(windows: np.ndarray) -> np.ndarray:
        windows[:, :, places] *= factor
        return windows

    return change


if __name__ == "__main__":
    data_folder = Path(sys.argv[1])
    _people(data_folder)
    _engines(data_folder)
    _simulated_people()
