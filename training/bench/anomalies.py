"""The anomaly benchmark: injected or labelled faults, found at a stated rate of false alarms.

`python -m training.bench.anomalies run --data ett.zip --set ETTh1 --student DIR` injects faults of
six kinds (`ingest.simulators.faults`) into the test part of every device. With `--labels FILE` the
faults are those of real recordings instead: a CSV with the columns `device,start,end` and
optionally `kind`, times as in the recordings (ISO 8601 or epoch milliseconds).

A detector's threshold is set on the validation part, free of injected faults, so that it raises the
stated number of false alarms a day and device there. An alarm stands for `_STANDS` readings;
odd readings after that raise the next one. On the test part the benchmark reports, per kind:

- **recall**: share of faults with an alarm from their first reading to `_TAIL` readings after them;
- **chance**: the same share on the same readings without the fault, because a long fault is also
  found by an alarm that has nothing to do with it;
- **delay**: readings from the first faulty one to the first alarm, median of the faults found;
- the false alarms a day that really came on the undisturbed test part.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from ingest.simulators.faults import Fault, FaultPlan, draw_faults, inject
from models.artifact import read_artifact
from models.session import Student
from training.bench.anomalyreport import anomaly_report
from training.bench.detectors import (
    Detector,
    fit_isolation_forest,
    fit_matrix_profile,
    fit_seasonal_naive,
    student_detector,
)
from training.bench.ledger import append_line, read_results
from training.candidate import code_revision
from training.datasets.series import SeriesSet
from training.datasets.series_sources import read_series, read_series_file
from training.errors import DataSetError, TrainingError, exit_on_errors
from training.forecasting.candidate import train_forecaster
from training.forecasting.recipe import read_forecast_recipe

__all__ = [
    "Labelled",
    "alarms",
    "baselines",
    "compare_detectors",
    "count_alarms",
    "find_threshold",
    "judge",
    "read_labels",
]

RESULTS = Path("docs/results/anomalies.jsonl")
_STANDS = 6
_TAIL = 6
_PROFILE_READINGS = 24
_MS_PER_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class Labelled:
    """A fault of a recording: a kind and the rows `[start, end)` of its device."""

    kind: str
    start: int
    end: int


def count_alarms(scores: NDArray[np.float64], threshold: float, stands: int = _STANDS) -> int:
    """Count alarms: the first reading above the threshold, then the first after it has stood.

    >>> count_alarms(np.array([0, 1, 0, 1, 0, 0, 0, 1.0]), 0.5, stands=3)
    2
    """
    count, free = 0, 0
    for place in np.flatnonzero(scores > threshold).tolist():
        if place >= free:
            count, free = count + 1, place + stands
    return count


def find_threshold(parts: Sequence[NDArray[np.float64]], allowed: float) -> float:
    """The lowest threshold from which on all devices together raise at most `allowed` alarms.

    Raises:
        DataSetError: No reading has a score.
    """
    known = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not len(known):
        msg = "no reading of the validation part has a score: use longer recordings"
        raise DataSetError(msg)
    levels = np.unique(known)[::-1]
    # Readings above the threshold grow as it falls, and alarms with them, so halve the range.
    low, high = 0, len(levels)
    while high - low > 1:
        middle = (low + high) // 2
        if sum(count_alarms(part, float(levels[middle])) for part in parts) > allowed:
            high = middle
        else:
            low = middle
    return float(levels[low])


def alarms(scores: NDArray[np.float64], threshold: float, fault: Labelled | Fault) -> int | None:
    """Readings from the start of a fault to its first alarm; None if there is none in time."""
    hits = np.flatnonzero(scores[fault.start : fault.end + _TAIL] > threshold)
    return int(hits[0]) if len(hits) else None


def judge(
    disturbed: Sequence[tuple[NDArray[np.float64], Sequence[Labelled | Fault]]],
    clean: Sequence[NDArray[np.float64]] | None,
    threshold: float,
) -> dict[str, dict[str, float]]:
    """Recall, chance and delay by kind of fault.

    Args:
        disturbed: Scores of each device and its faults.
        clean: Scores of the same devices without faults; None where there are none.
        threshold: Alarm above it.
    """
    found: dict[str, list[tuple[int | None, int | None]]] = {}
    for device, (scores, faults) in enumerate(disturbed):
        for fault in faults:
            by_chance = None if clean is None else alarms(clean[device], threshold, fault)
            found.setdefault(fault.kind, []).append((alarms(scores, threshold, fault), by_chance))
    result: dict[str, dict[str, float]] = {}
    for kind, pairs in sorted(found.items()):
        delays = [delay for delay, _ in pairs if delay is not None]
        row = {"faults": float(len(pairs)), "recall": len(delays) / len(pairs)}
        if clean is not None:
            row["chance"] = sum(chance is not None for _, chance in pairs) / len(pairs)
        if delays:
            row["delay"] = float(np.median(delays))
        result[kind] = row
    return result


def read_labels(path: Path, data: SeriesSet) -> dict[str, list[Labelled]]:
    """Read the faults of real recordings, by device.

    Raises:
        DataSetError: A column is missing, a device is unknown, or a time cannot be read.
    """
    found: dict[str, list[Labelled]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        msg = f"cannot read the labels {path}: {exc}: use a CSV file with device, start and end"
        raise DataSetError(msg) from exc
    for row in rows:
        try:
            device, start, end = row["device"], _time_ms(row["start"]), _time_ms(row["end"])
            times = data.times_ms[data.devices.index(device)]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            msg = (
                f"{path}: {row} needs device (one of {', '.join(data.devices[:5])} ...), "
                f"start and end: {exc}"
            )
            raise DataSetError(msg) from exc
        if end < start:
            msg = f"{path}: {row} ends before it starts: correct the line"
            raise DataSetError(msg)
        first, last = np.searchsorted(times, [start, end])
        label = Labelled(row.get("kind") or "fault", int(first), max(int(last), int(first) + 1))
        found.setdefault(device, []).append(label)
    return found


def _time_ms(text: str) -> int:
    if text.strip().lstrip("-").isdigit():
        return int(text)
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return int(moment.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class _Device:
    """The parts of one device, in raw units; `before` is the history that the test part needs."""

    name: str
    validation: NDArray[np.float32]
    test: NDArray[np.float32]
    first_test_row: int


def _devices(data: SeriesSet, history: int) -> list[_Device]:
    found = []
    rows = zip(data.devices, data.series, data.borders, strict=True)
    for name, series, (train, validation, test) in rows:
        if test - validation < 1 or validation - train < 1:
            continue
        found.append(
            _Device(
                name,
                series[max(train - history, 0) : validation],
                series[max(validation - history, 0) : test],
                max(validation - history, 0),
            )
        )
    if not found:
        msg = f"{data.name} has no device with a validation and a test part: move its borders"
        raise DataSetError(msg)
    return found


def compare_detectors(
    data: SeriesSet,
    detectors: Mapping[str, Detector],
    *,
    history: int,
    rates: Iterable[float] = (1.0, 1 / 7),
    seeds: Iterable[int] = (0, 1, 2),
    labels: Mapping[str, Sequence[Labelled]] | None = None,
) -> list[dict[str, Any]]:
    """Judge detectors on one set; one line per detector and rate of false alarms.

    Args:
        data: Recordings with a validation and a test part.
        detectors: Detectors by name, fitted on the training part.
        history: Readings before a part that detectors need for its first score.
        rates: False alarms a day and device at which detectors are compared.
        seeds: Seeds of the injected faults; unused with `labels`.
        labels: Faults of the recordings by device; None to inject faults.
    """
    devices = _devices(data, history)
    days = sum((len(d.validation) - history) * data.step_ms / _MS_PER_DAY for d in devices)
    test_days = sum((len(d.test) - history) * data.step_ms / _MS_PER_DAY for d in devices)
    cases = _labelled(devices, labels) if labels else _injected(data, devices, history, seeds)
    lines = []
    for name, detector in detectors.items():
        started = time.perf_counter()
        known = [_after(detector(d.validation), history) for d in devices]
        clean = [_after(detector(d.test), history) for d in devices]
        scored = [
            [(_after(detector(series), history), faults) for series, faults in case]
            for case in cases
        ]
        for rate in rates:
            threshold = find_threshold(known, rate * days)
            came = sum(count_alarms(scores, threshold) for scores in clean) / test_days
            judged = judge(
                [pair for case in scored for pair in case],
                None if labels else [scores for _ in scored for scores in clean],
                threshold,
            )
            lines.append(
                {
                    "config": f"{data.name}/{name}/{rate:.4g}",
                    "benchmark": data.name,
                    "detector": name,
                    "false_alarms_wanted": round(rate, 4),
                    "false_alarms_on_test": round(came, 3),
                    "threshold": threshold,
                    "kinds": judged,
                    "data": data.digest[:16],
                    "revision": code_revision(),
                    "seconds": round(time.perf_counter() - started, 1),
                }
            )
    return lines


def _after(scores: NDArray[np.float64], history: int) -> NDArray[np.float64]:
    """Scores of the part itself; its history has none."""
    scores = scores.copy()
    scores[:history] = np.nan
    return scores


def _injected(
    data: SeriesSet, devices: Sequence[_Device], history: int, seeds: Iterable[int]
) -> list[list[tuple[NDArray[np.float32], Sequence[Labelled | Fault]]]]:
    cases = []
    for seed in seeds:
        case: list[tuple[NDArray[np.float32], Sequence[Labelled | Fault]]] = []
        for place, device in enumerate(devices):
            rng = np.random.default_rng((seed, place))
            faults = draw_faults(
                len(device.test) - _TAIL, len(data.channels), rng, FaultPlan(first=history)
            )
            broken = inject(device.test, faults, data.deviation, seed)
            case.append((broken.astype(np.float32), faults))
        cases.append(case)
    return cases


def _labelled(
    devices: Sequence[_Device], labels: Mapping[str, Sequence[Labelled]]
) -> list[list[tuple[NDArray[np.float32], Sequence[Labelled | Fault]]]]:
    case: list[tuple[NDArray[np.float32], Sequence[Labelled | Fault]]] = []
    for device in devices:
        first, end = device.first_test_row, device.first_test_row + len(device.test)
        inside = [
            Labelled(label.kind, label.start - first, label.end - first)
            for label in labels.get(device.name, ())
            if first <= label.start and label.end <= end
        ]
        case.append((device.test, inside))
    return [case]


def baselines(data: SeriesSet, steps: int, seed: int = 0) -> dict[str, Detector]:
    """Fit the baselines on the training part of all devices, one after the other."""
    rows = [
        series[:end] for series, (end, _, _) in zip(data.series, data.borders, strict=True) if end
    ]
    training = np.concatenate(rows)
    limit = 10_000  # readings of the matrix profile's memory: 12 stations have 300 000
    return {
        "seasonal naive": fit_seasonal_naive(training, period=data.period, steps=steps),
        "isolation forest": fit_isolation_forest(training, steps=steps, seed=seed),
        "matrix profile": fit_matrix_profile(training[-limit:], length=_PROFILE_READINGS),
    }


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Compare the anomaly score of forecast students with classical detectors."""


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="File or folder.")
@click.option("--set", "name", required=True, help="Name of the set, such as ETTh1.")
@click.option(
    "--student",
    "students",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Artifact of a forecast student of these channels; may be repeated.",
)
@click.option(
    "--recipe",
    "recipes",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Recipe of a forecast student to train first; may be repeated.",
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    default=Path("runs/anomalies"),
    help="Folder of students trained from --recipe.",
)
@click.option("--labels", type=click.Path(path_type=Path, exists=True), help="CSV of real faults.")
@click.option("--seeds", default=3, help="Draws of the injected faults.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=RESULTS,
    help="Results file to append to.",
)
@exit_on_errors("training.bench.anomalies")
def run(
    data: Path,
    name: str,
    students: tuple[Path, ...],
    recipes: tuple[Path, ...],
    scratch: Path,
    labels: Path | None,
    seeds: int,
    results: Path,
) -> None:
    """Judge students and baselines on one set, and append a line for each."""
    series = read_series(name, data) if data.is_dir() else read_series_file(data, name)
    loaded = [Student(read_artifact(path)) for path in students]
    loaded += [_trained(path, series, scratch) for path in recipes]
    detectors = {
        f"{one.manifest.name} v{one.manifest.version}": student_detector(one) for one in loaded
    }
    detectors |= baselines(series, steps=6)
    longest = max([one.manifest.window.length for one in loaded], default=0)
    history = max(longest, series.period + _PROFILE_READINGS)
    found = read_labels(labels, series) if labels else None
    lines = compare_detectors(series, detectors, history=history, seeds=range(seeds), labels=found)
    for line in lines:
        append_line(results, line)
        click.echo(_row(line))


def _trained(path: Path, data: SeriesSet, scratch: Path) -> Student:
    """Train the student of a recipe on the training part, or take the one that is there."""
    recipe, folder = read_forecast_recipe(path), scratch / path.stem
    done = train_forecaster(
        data,
        recipe,
        path.stem,
        folder,
        command=f"python -m training.bench.anomalies run --recipe {path.name}",
        on_epoch=lambda one: click.echo(f"{path.stem}: pass {one.number}/{one.epochs}", err=True),
    )
    if done is None:  # impossible without a deadline
        msg = f"{path}: training stopped before its last pass: run the command again"
        raise TrainingError(msg)
    return Student(done.artifact)


@main.command()
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, help="Results file.")
@exit_on_errors("training.bench.anomalies")
def report(results: Path) -> None:
    """Write the tables (Markdown) beside the results file."""
    lines = read_results(results, "python -m training.bench.anomalies run")
    path = results.with_suffix(".md")
    path.write_text(anomaly_report(lines), encoding="utf-8")
    click.echo(path)


def _row(line: Mapping[str, Any]) -> str:
    kinds = "  ".join(
        f"{kind} {row['recall']:.2f}"
        + (f" (chance {row['chance']:.2f})" if "chance" in row else "")
        + (f" after {row['delay']:.0f}" if "delay" in row else "")
        for kind, row in line["kinds"].items()
    )
    return (
        f"{line['detector']:>24}  at {line['false_alarms_wanted']:.2f} false alarms a day "
        f"(test: {line['false_alarms_on_test']:.2f}):  {kinds}"
    )


if __name__ == "__main__":
    main()
