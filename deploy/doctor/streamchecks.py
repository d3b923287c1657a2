"""Checks of the streams that were scored within a day: rate, quality, drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.doctor.findings import Finding
from ingest.clock import now_ms

if TYPE_CHECKING:
    from pipeline.console.queries import Latest
    from pipeline.stores.resultsfile import ResultsFile

__all__ = ["check_streams"]

_DAY_MS = 86_400_000
_MOST = 5
_SAME = 0.02


def check_streams(path: Path, registry: Path, clock: Callable[[], int] = now_ms) -> list[Finding]:
    """Check what the newest scores of a gateway tell about its streams.

    Args:
        path: Results file; it may be missing.
        registry: Registry of the students.
        clock: Processing time, epoch milliseconds.
    """
    from pipeline.errors import SinkError
    from pipeline.stores.resultsfile import ResultsFile

    if not path.is_file():
        return []
    since_ms = clock() - _DAY_MS
    try:
        with closing(ResultsFile(path, read_only=True)) as results:
            newest = _newest(results, since_ms)
            drifted = _drift(results, since_ms)
    except SinkError:
        return []  # the check of the results says so
    return [*_rates(newest, registry), *_doubts(newest), *drifted]


def _newest(results: ResultsFile, since_ms: int) -> list[Latest]:
    """The newest score of each stream of a device that was scored since."""
    from models.tasks.registry import tasks
    from pipeline.console.queries import latest

    return [
        point
        for task in tasks()
        for point in latest(results, task.measurement)
        if point.written_ms >= since_ms
    ]


def _rates(newest: Sequence[Latest], registry: Path) -> list[Finding]:
    wanted = _wanted_rates(registry, {point.model for point in newest})
    slow, resampled, fitting = [], [], 0
    for point in newest:
        rate, want = point.fields.get("rate_hz"), wanted.get(point.model)
        if rate is None or want is None:
            continue
        text = (
            f"stream {point.stream} of {point.site}/{point.device} comes at {rate:.3g} Hz; its "
            f"student wants {want:.3g} Hz"
        )
        if rate < want / 2:
            slow.append(f"{text}: below half")
        elif abs(rate / want - 1) > _SAME:
            resampled.append(f"{text}; resampled")
        else:
            fitting += 1
    found = []
    if slow:
        advice = "send faster, or train a student at this rate; its scores are doubtful"
        found.append(Finding("streams", "warn", _few(slow), advice))
    if resampled:
        found.append(Finding("streams", "ok", _few(resampled)))
    if fitting:
        text = f"{fitting} come at the rates of their students"
        found.append(Finding("streams", "ok", text))
    return found


def _wanted_rates(registry: Path, names: set[str]) -> dict[str, float]:
    from models.errors import ModelError
    from models.registry import Registry

    models, found = Registry(registry), {}
    for name in names:
        try:
            pointer = models.read_stable(name)
            if pointer is not None:
                rate_hz = models.read(name, pointer.version, pointer.digest).manifest.rate_hz
                if rate_hz is not None:
                    found[name] = rate_hz
        except ModelError:
            continue  # the check of the models says so
    return found


def _doubts(newest: Sequence[Latest]) -> list[Finding]:
    from models.tasks.quality import QUALITY, is_doubtful

    doubtful = [
        f"{point.stream} of {point.site}/{point.device}: {point.fields[QUALITY]}"
        for point in newest
        if is_doubtful(point.fields)
    ]
    if not doubtful:
        return []
    advice = "compare what the device sends with the channels of its student (docs/drift.md)"
    return [Finding("streams", "warn", f"newest score doubtful: {_few(doubtful)}", advice)]


def _drift(results: ResultsFile, since_ms: int) -> list[Finding]:
    from pipeline.drift.reasons import reasons_in_results

    return [
        Finding(
            "streams",
            "warn",
            f"stream {reason.stream} has drifted: {reason.text}",
            "mend the device, or train on newer readings (docs/drift.md)",
        )
        for reason in reasons_in_results(results, since_ms)
        if reason.is_whole
    ]


def _few(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return "; ".join(texts[:_MOST]) + more
