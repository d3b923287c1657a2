"""What a student in shadow costs, and how far good and bad ones stay from the limits.

    python -m tests.bench.shadow --data DIR [--student ARTIFACT ...] [--results]

Good students are the eight-bit forms of the starters and the ones given (students of a starter's
stream, such as those of `train-redistill`); bad ones are made of the starters. The windows are
those of the official test parts of C-MAPSS FD001 and UCI HAR, and the second year of ETTh1. Prints
tables and asserts nothing.
"""

from __future__ import annotations

import argparse
import csv
import gc
import io
import os
import platform
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ingest.clock import utc_now
from models.artifact import Artifact, read_artifact
from models.features import scaler_arrays
from models.registry import Registry
from models.session import Student
from models.zoo import STARTERS, zoo_path
from pipeline.scoring.batch import score_and_report
from pipeline.scoring.contests import Contest
from pipeline.scoring.evidence import Evidence
from pipeline.scoring.students import SHADOW_SHARE, Students
from pipeline.scoring.thresholds import Thresholds
from pipeline.settings import PipelineSettings
from pipeline.windows.spec import Window
from tests.fakes.badstudents import Trap, write_bad
from tests.fakes.scores import Closed, batches_of, records_of

_PAGE = Path(__file__).parents[2] / "docs" / "results" / "shadow-bench.md"
_LIMITS = Thresholds()
_FAULTS = {
    "rul-fd001": ("nan", "raises", "constant", "shifted", "slow"),
    "har-waist": ("nan", "raises", "constant", "labels", "slow"),
    "forecast-transformer": ("nan", "raises", "constant", "shifted", "slow"),
}
_BATCHES = (1, 16, 64)
_STRETCH = 500


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shadow")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--student", type=Path, action="append", default=[])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    parser.add_argument("--results", action="store_true", help=f"write {_PAGE.name}")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    load = os.getloadavg()
    parts = [
        _table("Good students: the worst of all stretches and batch sizes", good(args)),
        _table("Bad students: windows until they are caught, at 1, 16 and 64 a batch", bad(args)),
        _table("Cost", cost(args)),
    ]
    text = (
        f"# Students in shadow\n\n`python -m tests.bench.shadow`, {utc_now().date().isoformat()}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores ({platform.machine()}) shared "
        f"with other work: load average {load[0]:.0f} at the start, {os.getloadavg()[0]:.0f} at "
        "the end. Wall-clock times (the swap, the pause) and the windows compared suffer from it; "
        f"CPU times hardly do.\nLimits are those of `Thresholds()`.\n\n" + "\n".join(parts)
    )
    print(text)
    if args.results:
        _PAGE.write_text(text)


def good(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The largest figures of each good student."""
    given = [read_artifact(path) for path in args.student]
    for name in STARTERS:
        champion = read_artifact(zoo_path(name))
        others = [("eight bits", read_artifact(zoo_path(f"{name}-int8")))]
        others += [
            (f"retrained, seed {one.manifest.lineage.seed}", one)
            for one in given
            if one.manifest.stream == champion.manifest.stream
        ]
        for title, other in others:
            yield {"champion": name, "challenger": title} | _worst(
                champion, other, windows_of(name, args.data)
            )


def _worst(champion: Artifact, other: Artifact, windows: NDArray[np.float32]) -> dict[str, Any]:
    found: list[Evidence] = []
    verdicts = set()
    for start in range(0, len(windows) - _STRETCH, len(windows) // 8):
        for batch in _BATCHES:
            contest, reason = _run(champion, other, windows[start : start + _STRETCH], batch)
            found.append(contest.evidence())
            verdicts.add(reason)

    def most(pick: Callable[[Any], Any], name: str) -> Any:
        values = [v for one in found if (v := getattr(one, name)) is not None]
        return pick(values) if values else ""

    return {
        "disagreement (300 ‰)": most(max, "disagreement_permille"),
        "PSI (2000 ‰)": most(max, "psi_permille"),
        "spread (20 %)": most(min, "spread_percent"),
        "more unknown (100 ‰)": most(max, "unknown_permille"),
        "time (300 %)": most(max, "latency_percent"),
        "live error (150 %)": most(max, "error_percent"),
        "coverage lost (100 ‰)": most(max, "coverage_permille"),
        "verdict": "passes" if verdicts == {None} else "; ".join(map(str, verdicts - {None})),
    }


def bad(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """When each bad student is caught, and why."""
    for name, faults in _FAULTS.items():
        windows, sound = windows_of(name, args.data), read_artifact(zoo_path(name))
        for fault in faults:
            counts, reasons = [], []
            with tempfile.TemporaryDirectory() as folder:
                made = write_bad(
                    Path(folder) / "bad",
                    sound,
                    fault,
                    version=2,
                    trap=_trap(sound, windows),
                    shift=_two_widths(Student(sound).score(windows[:500])),
                    work=_ten_times(sound, windows, Path(folder)),
                )
                for batch in _BATCHES:
                    contest, reason = _run(sound, made, windows, batch)
                    counts.append(contest.evidence().windows)
                    reasons.append(reason or "not caught")
            row = {"student": name, "fault": fault, "windows": ", ".join(map(str, counts))}
            yield row | {"reason": reasons[0].split(": [ONNX")[0]}


def _run(
    champion: Artifact, challenger: Artifact, windows: NDArray[np.float32], batch: int
) -> tuple[Contest, str | None]:
    contest = Contest(Student(champion), Student(challenger), _LIMITS, 0)
    stream = champion.manifest.stream
    reason = None
    for at in range(0, len(windows), batch):
        contest.offer([_closed(stream, values, at) for values in windows[at : at + batch]])
        reason, _ = contest.compare(0)
        if reason is not None:
            break
    return contest, reason


def _two_widths(scores: Any) -> float | NDArray[np.float32]:
    if hasattr(scores, "high"):
        return 2 * float(np.mean(scores.high - scores.low))
    if hasattr(scores, "covered"):
        widths = (scores.values[..., 2] - scores.values[..., 0]).mean(axis=(0, 1))
        return np.asarray(2 * widths[:, None], dtype=np.float32)
    return 0.0


def _trap(artifact: Artifact, windows: NDArray[np.float32]) -> Trap:
    """A narrow range of one channel that holds some of the first 200 windows."""
    factor, offset = scaler_arrays(artifact.manifest.scaler)
    newest = np.sort((windows[:200, -1] * factor + offset)[:, 0])
    middle = newest[len(newest) // 3]
    return Trap(0, float(middle - 1e-4), float(middle + 1e-4))


def _ten_times(sound: Artifact, windows: NDArray[np.float32], folder: Path) -> int:
    """The work with which `slow` takes ten times as long for a single window."""
    work = 500
    probe = Student(write_bad(folder / "probe", sound, "slow", version=2, work=work))
    students, times = (Student(sound), probe), np.empty((100, 2))
    for row, window in zip(times, windows[:100], strict=True):
        for place, student in enumerate(students):  # in turn, as in a contest
            started = time.thread_time()
            student.score(window[None])
            row[place] = time.thread_time() - started
    once, more = np.median(times, axis=0)
    return max(1, round(work * 9 * once / max(more - once, 1e-6)))


def cost(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Share of a core, windows compared, memory, and time of a swap."""
    for name in STARTERS:
        windows = windows_of(name, args.data)
        for rate in (50, 500):
            with tempfile.TemporaryDirectory() as folder:
                yield {"student": name, "windows/s": rate} | _load(
                    Path(folder), name, windows, rate, args.seconds
                )


def _load(
    folder: Path, name: str, windows: NDArray[np.float32], rate: int, seconds: float
) -> dict[str, Any]:
    students = Students(folder / "registry", folder / "running.json", PipelineSettings())
    students.models.poll()
    other = _as_version_two(folder, name, students.registry)
    stream = other.manifest.stream
    gc.collect()
    before = psutil.Process().memory_info().rss
    students.contests.start_shadow(name, other, _LIMITS)
    champion_s, ended, scored, place = 0.0, time.monotonic() + seconds, 0, 0
    while time.monotonic() < ended:  # a tenth of a second of windows in each batch
        closed = [
            _closed(stream, windows[(place + n) % len(windows)], place + n)
            for n in range(rate // 10)
        ]
        place += len(closed)
        started = time.thread_time()
        _score(students, closed)
        champion_s += time.thread_time() - started
        scored += len(closed)
        time.sleep(0.1)
    shadow_s = students._shadow.submit(time.thread_time).result()
    status = students.contests.status(name)
    assert status is not None
    gc.collect()
    rss = psutil.Process().memory_info().rss - before
    swap_ms, pause_ms, swap_cpu_ms = _swap(students, name, stream, windows)
    students.close()
    return {
        f"share of a core (limit {100 * SHADOW_SHARE:.0f} %)": f"{100 * shadow_s / seconds:.1f} %",
        "scoring itself": f"{100 * champion_s / seconds:.1f} %",
        "windows compared": f"{100 * status.windows / scored:.0f} %",
        "200 windows after": f"{200 * seconds / max(status.windows, 1):.1f} s",
        "memory, MB": f"{rss / 1e6:.1f}",
        "CPU time of the swap, ms": f"{swap_cpu_ms:.1f}",
        "swap, ms": f"{swap_ms:.1f}",
        "longest pause of scoring, ms": f"{pause_ms:.1f}",
    }


def _swap(
    students: Students, name: str, stream: str, windows: NDArray[np.float32]
) -> tuple[float, float, float]:
    """From the decision to the first score by the new student, the longest pause, the CPU time."""
    cpu_s: list[float] = []

    def decide() -> None:
        students.registry.set_stable(name, 2, who="bench")
        students.models.poll()
        cpu_s.append(time.thread_time())

    deciding = threading.Thread(target=decide)
    decided = last = time.perf_counter()
    pause, version = 0.0, 1
    deciding.start()
    while version == 1:
        version = records_of(_score(students, [_closed(stream, windows[0], 0)]))[0]["version"]
        now = time.perf_counter()
        pause, last = max(pause, now - last), now
        time.sleep(1e-3)
    deciding.join()
    return 1e3 * (last - decided), 1e3 * pause, 1e3 * cpu_s[0]


def _score(students: Students, closed: list[Closed]) -> Any:
    return score_and_report(
        students.models.running.get,
        lambda batches, _: students.contests.on_scored(batches),
        batches_of(closed),
        scored_ms=0,
        rescue=students.contests.rescue,
    )


def _as_version_two(folder: Path, name: str, registry: Registry) -> Artifact:
    """The eight-bit form, published as the next version of the starter."""
    registry.publish(zoo_path(f"{name}-int8"), name)
    return registry.read(name, 2)


def _closed(stream: str, values: NDArray[np.float32], number: int) -> Closed:
    window = Window(number, number + 1, values, len(values), 0, number)
    return Closed("bench", "device", stream, window)


@cache
def windows_of(name: str, data: Path) -> NDArray[np.float32]:
    """Real windows of a starter's stream, [n, length, channels]."""
    manifest = read_artifact(zoo_path(name)).manifest
    if manifest.stream == "engine":
        from ingest import recordings
        from training.datasets.cmapss import label_engines

        return label_engines(
            list(recordings.read_cmapss(data / "cmapss.zip", "FD001", "test"))
        ).windows
    if manifest.stream == "imu":
        from training.datasets.uci_har import read_uci_har

        test = read_uci_har(data).test
        assert test is not None
        return test.windows
    with zipfile.ZipFile(data / "ett.zip") as archive:
        (inner,) = (found for found in archive.namelist() if found.endswith("ETTh1.csv"))
        rows = list(csv.reader(io.StringIO(archive.read(inner).decode())))
    places = [rows[0].index(channel) for channel in manifest.channel_names]
    values = np.array([[row[place] for place in places] for row in rows[1:]], dtype=np.float32)
    second_year = values[365 * 24 :]
    cut = sliding_window_view(second_year, manifest.window.length, axis=0)
    return np.ascontiguousarray(cut.transpose(0, 2, 1))


def _table(title: str, rows: Iterator[dict[str, Any]]) -> str:
    found = list(rows)
    heads = list(found[0])
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(str(row[head]) for head in heads)} |" for row in found]
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
