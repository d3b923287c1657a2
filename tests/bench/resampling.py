"""What a stream's rate does to its scores, with and without resampling, and what resampling costs.

    python -m tests.bench.resampling [--results]

The recordings are those of people whom the students have not seen: UCI-HAR (test people) at the
waist, and SPSW (people 19 to 23) at the wrist. They go through `OneDevice` in messages of a
hundred readings with the settings of the product. UCI-HAR has 50 Hz; other rates are made of it by
band-limited interpolation to 1000 Hz, of which readings are taken at the times of the sensor's
clock and stamped in whole milliseconds. A window has the label of the middle of its span.
It needs scipy and the data of `KPSTREAM_TEST_DATA`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.files import read_matching_files
from ingest.recordings.har import HAR_LABELS, read_uci_har
from models.artifact import read_artifact
from models.session import Student
from models.tasks.activity import macro_f1
from models.zoo import zoo_path
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings
from pipeline.windows.spec import Window, WindowSpec
from tests.fakes.onedevice import OneDevice

_RESULTS = Path(__file__).parents[2] / "docs" / "results" / "rate.md"
_T0 = 1_700_000_000_000
_SPSW_LABELS = ("SEATED", "STANDING_UP", "WALKING", "TURNING", "SITTING_DOWN")
_CASES: tuple[tuple[float, float, float], ...] = (
    (50, 0, 0),
    (50, 0, 0.01),
    (50, 0.05, -0.01),
    (20, 0, 0),
    (25, 0, 0),
    (40, 0, 0),
    (40, 0.05, 0.01),
    (60, 0.05, 0.01),
    (100, 0, 0),
    (100, 0.05, 0.01),
    (200, 0.05, 0.01),
)
"""Rate in Hz, jitter as a share of the step, and drift of the clock."""


class Run(NamedTuple):
    """Readings of one person without a break; `truth[i]` is the activity at `ts_ms[i]`."""

    ts_ms: NDArray[np.int64]
    values: NDArray[np.float32]
    truth: NDArray[np.int64]


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    parser = argparse.ArgumentParser(prog="python -m tests.bench.resampling")
    parser.add_argument("--results", action="store_true", help="write docs/results/rate.md")
    parser.add_argument("--cost", action="store_true", help="only the CPU time; needs no data")
    args = parser.parse_args()
    if args.cost:
        print(cost_table())
        return
    data = Path(os.environ["KPSTREAM_TEST_DATA"])
    parts = [waist_table(data), wrist_table(data), cost_table()]
    text = "# Rates and resampling: results\n\n" + "\n\n".join(parts) + "\n"
    print(text)
    if args.results:
        _RESULTS.write_text(
            "<!-- Written by `python -m tests.bench.resampling --results`. -->\n\n" + text,
            encoding="utf-8",
        )


def waist_table(data: Path) -> str:
    """Macro-F1 of har-waist by rate."""
    student = Student(read_artifact(zoo_path("har-waist")))
    lines = [
        "## har-waist, UCI-HAR test people\n",
        "| sent | windows | macro-F1 | made up | as they come: windows | macro-F1 |",
        "|---|---|---|---|---|---|",
    ]
    recorded = _waist_runs(data)
    for rate_hz, jitter, drift in _CASES:
        rng = np.random.default_rng(0)
        runs = [_sent(run, rate_hz, jitter, drift, rng) for run in recorded]
        cells = _scored(student, runs, HAR_LABELS)
        name = f"{rate_hz:g} Hz"
        name += f", jitter {jitter:.0%}" if jitter else ""
        name += f", clock {drift:+.0%}" if drift else ""
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def wrist_table(data: Path) -> str:
    """Macro-F1 of har-wrist for watches that are read less often, and for offline resampling."""
    student = Student(read_artifact(zoo_path("har-wrist")))
    lines = [
        "## har-wrist, SPSW watches of people 19 to 23\n",
        "| sent | windows | macro-F1 | made up | as they come: windows | macro-F1 "
        "| offline: windows | macro-F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    recorded = _wrist_runs(data)
    for every in (1, 2, 3, 4, 5):
        runs = [Run(*(part[::every] for part in run)) for run in recorded]
        offline = [_interpolated(run, 103.0) for run in runs]
        cells = _scored(student, runs, _SPSW_LABELS)
        cells += _scored(student, offline, _SPSW_LABELS)[3:]
        steps = np.concatenate([np.diff(run.ts_ms) for run in runs])
        lines.append(f"| {1000 / steps.mean():.1f} Hz | {' | '.join(cells)} |")
    return "\n".join(lines)


def cost_table() -> str:
    """CPU-seconds of windowing per million readings, medians of five interleaved runs."""
    plan = stream_plan(read_artifact(zoo_path("har-waist")).manifest, PipelineSettings())
    plain = replace(plan.spec, rate_hz=None)
    lines = [
        "## Cost\n",
        "CPU-seconds per million readings of nine channels, windowing alone, median of five.\n",
        "| readings per message | as they come | resampled, 50 Hz sent | ratio "
        "| resampled, 40 Hz sent | ratio | resampled, 100 Hz sent | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in (1, 10, 100):
        taken: dict[tuple[bool, int], list[float]] = {}
        for _ in range(5):
            for is_plain, rate_hz in ((True, 50), (False, 50), (False, 40), (False, 100)):
                seconds = _cpu_seconds(plain if is_plain else plan.spec, rate_hz, size)
                taken.setdefault((is_plain, rate_hz), []).append(seconds)
        base = float(np.median(taken.pop((True, 50))))
        cells = [f"{value:.1f} | {value / base:.2f}" for value in map(np.median, taken.values())]
        lines.append(f"| {size} | {base:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cpu_seconds(spec: WindowSpec, rate_hz: int, size: int) -> float:
    count = 10_000 if size == 1 else 50_000
    ts = _T0 + (np.arange(count) * 1000 // rate_hz).astype(np.int64)
    values = np.random.default_rng(0).normal(size=(count, 9)).astype(np.float32)
    windower = OneDevice(spec, 9)
    began = time.process_time()
    for start in range(0, count, size):
        stop = start + size
        windower.step(ts[start:stop], values[start:stop], int(ts[min(stop, count) - 1]))
    return (time.process_time() - began) * 1e6 / count


def _scored(student: Student, runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """Windows, macro-F1 and made-up share when resampled; windows and macro-F1 as they come."""
    manifest, cells = student.manifest, []
    for settings in (PipelineSettings(), PipelineSettings(unresampled=(manifest.stream,))):
        spec = stream_plan(manifest, settings).spec
        found = [(w, _truth(run, w)) for run in runs for w in _windows(spec, run)]
        batch = np.stack([window.values for window, _ in found])
        scores: Any = student.score(batch)
        order = [manifest.decoding.labels.index(label) for label in labels]  # type: ignore[attr-defined]
        probabilities = scores.probabilities[:, order]
        truth = np.array([label for _, label in found])
        score = macro_f1(truth, probabilities.argmax(axis=1), len(labels))
        cells += [f"{len(found)}", f"{score:.3f}"]
        if spec.rate_hz is not None:
            cells.append(f"{np.mean([window.made_up for window, _ in found]):.2f}")
    return cells


def _windows(spec: WindowSpec, run: Run) -> list[Window]:
    windower = OneDevice(spec, run.values.shape[1])
    windows: list[Window] = []
    for start in range(0, len(run.ts_ms), 100):
        ts = run.ts_ms[start : start + 100]
        windows += windower.step(ts, run.values[start : start + 100], int(ts[-1])).windows
    return windows + windower.advance(int(run.ts_ms[-1]) + 10_000, 0)


def _truth(run: Run, window: Window) -> int:
    middle = (window.start_ms + window.end_ms) // 2
    return int(run.truth[min(np.searchsorted(run.ts_ms, middle), len(run.truth) - 1)])


def _waist_runs(data: Path) -> list[Run]:
    """Continuous recordings at 50 Hz from the overlapping windows; each half window has a label."""
    windows = read_uci_har(data, "test")
    runs = []
    for person in np.unique(windows.subject):
        at = np.flatnonzero(windows.subject == person)
        X, y = windows.X[at], windows.y[at]
        follows = (X[:-1, 64:] == X[1:, :64]).all(axis=(1, 2)) & (y[:-1] == y[1:])
        for part in np.split(np.arange(len(at)), np.flatnonzero(~follows) + 1):
            values = np.concatenate([X[part[0], :64], *X[part, 64:]])
            ts = _T0 + 20 * np.arange(len(values), dtype=np.int64)
            runs.append(Run(ts, values, np.full(len(ts), y[part[0]])))
    return runs


def _sent(run: Run, rate_hz: float, jitter: float, drift: float, rng: np.random.Generator) -> Run:
    """The same movement as another sensor sends it."""
    from scipy.signal import resample_poly

    pad = 64
    mirrored = [2 * run.values[:1] - run.values[pad:0:-1], run.values]
    mirrored.append(2 * run.values[-1:] - run.values[-2 : -pad - 2 : -1])
    fine = resample_poly(np.concatenate(mirrored).astype(np.float64), 20, 1, axis=0)
    fine = fine[pad * 20 : pad * 20 + (len(run.values) - 1) * 20 + 1]  # one a millisecond
    step_ms = 1000 / rate_hz / (1 + drift)
    times = np.arange(0, len(fine) - 1 + 1e-6, step_ms)
    times = np.sort(np.clip(times + rng.uniform(-jitter, jitter, len(times)) * step_ms, 0, None))
    times = np.minimum(times, len(fine) - 1)
    columns = [np.interp(times, np.arange(len(fine)), column) for column in fine.T]
    ts = _T0 + np.rint(times).astype(np.int64)
    keep = np.append(True, np.diff(ts) > 0)
    values = np.stack(columns, axis=1).astype(np.float32)[keep]
    return Run(ts[keep], values, np.full(len(values), run.truth[0]))


def _wrist_runs(data: Path) -> list[Run]:
    files = read_matching_files(data / "spsw_har.tar.xz", r"(s\d\d_\d\d_sw)\.csv", "s01", "SPSW")
    runs = []
    for name, content in files.items():
        if int(name[1:3]) < 19:
            continue
        rows = [line.split(b",") for line in content.splitlines()[1:] if line.strip()]
        ts = np.array([int(float(row[6])) for row in rows])
        values = np.array([[float(cell) for cell in row[:3]] for row in rows], dtype=np.float32)
        truth = np.array([_SPSW_LABELS.index(row[7].strip().decode()) for row in rows])
        keep = np.append(True, np.diff(ts) > 0)
        runs.append(Run(ts[keep], values[keep], truth[keep]))
    return runs


def _interpolated(run: Run, rate_hz: float) -> Run:
    """The whole run at another rate, by numpy's linear interpolation."""
    count = int((run.ts_ms[-1] - run.ts_ms[0]) * rate_hz / 1000)
    times = run.ts_ms[0] + np.arange(count) * 1000 / rate_hz
    columns = [np.interp(times, run.ts_ms, column) for column in run.values.T]
    at = np.minimum(np.searchsorted(run.ts_ms, times), len(run.ts_ms) - 1)
    values = np.stack(columns, axis=1).astype(np.float32)
    return Run(np.rint(times).astype(np.int64), values, run.truth[at])


if __name__ == "__main__":
    main()
