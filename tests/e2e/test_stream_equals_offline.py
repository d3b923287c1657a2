"""The pipeline gives the scores of an offline evaluation, on real data, undisturbed or killed.

FD001: all 100 test engines; every window of every engine, hence the official RMSE. UCI-HAR: all
2947 test windows, rebuilt into the raw recording of each subject. The offline side is independent
of the stream: it cuts the arrays as the papers do and scores them in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ingest.mqtt.endpoint import Endpoint
from ingest.recordings import (
    CMAPSS_SENSORS,
    ENGINE_CHANNELS,
    Recording,
    engine_recordings,
    read_cmapss,
    read_uci_har,
    recordings_of,
)
from ingest.replay import ReplayOptions
from models.artifact import read_artifact
from models.session import Student
from models.tasks.activity import ActivityScores
from models.tasks.rul import RulScores
from models.zoo import zoo_path
from pipeline.console.queries import all_points
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.plant import Plant
from tests.e2e.replaying import START_MS, Replaying

pytestmark = [pytest.mark.needs_data, pytest.mark.needs_mosquitto, pytest.mark.slow]

CALM = ReplayOptions(Endpoint("127.0.0.1", 1, "replay"), readings_per_message=5)
ROUGH = ReplayOptions(
    Endpoint("127.0.0.1", 1, "replay"), readings_per_message=5, duplicates=0.05, disorder_ms=150
)
CYCLES_TOLERANCE = 1e-4
# A pause of the machine is no silence of a device. With the default of 500 ms, readings that are
# out of order beside a pause of a second are late, as they should be.
PATIENT = {"KPSTREAM_PIPELINE_IDLE_MS": "10000"}


@pytest.mark.parametrize(("options", "killed"), [(CALM, False), (ROUGH, True)])
def test_fd001_test_engines_end_with_the_offline_rul(
    data_dir: Path, tmp_path: Path, options: ReplayOptions, killed: bool
) -> None:
    histories = read_cmapss(data_dir / "cmapss.zip", "FD001", "test")
    columns = [CMAPSS_SENSORS.index(name) for name in ENGINE_CHANNELS]
    offline = {
        f"FD001-{history.engine:03d}": _offline_rul(history.sensors[:, columns])
        for history in histories
    }
    recordings = engine_recordings(histories, interval_ms=100)
    points = _stream(tmp_path, recordings, options, "rul", sum(map(len, offline.values())), killed)

    streamed: dict[str, list[float]] = {}
    for point in sorted(points, key=lambda p: p["end_ms"]):
        streamed.setdefault(point["device"], []).append(point["rul"])
    assert sorted(streamed) == sorted(offline)
    for device, want in offline.items():
        np.testing.assert_allclose(streamed[device], want, atol=CYCLES_TOLERANCE, rtol=0)
    truth = np.minimum([history.rul_cycles for history in histories], 125)
    last = np.array([streamed[device][-1] for device in sorted(streamed)])
    rmse = float(np.sqrt(np.mean((last - truth) ** 2)))
    want_rmse = float(np.sqrt(np.mean(([offline[d][-1] for d in sorted(offline)] - truth) ** 2)))
    assert rmse == pytest.approx(want_rmse, abs=CYCLES_TOLERANCE)
    assert rmse <= 14.5


@pytest.mark.parametrize(("options", "killed"), [(CALM, False), (ROUGH, True)])
def test_uci_har_test_recordings_give_the_offline_activity_of_every_window(
    data_dir: Path, tmp_path: Path, options: ReplayOptions, killed: bool
) -> None:
    windows = read_uci_har(data_dir, "test")
    scores = Student(read_artifact(zoo_path("har-waist"))).score(windows.X)
    assert isinstance(scores, ActivityScores)
    recordings = recordings_of(windows)
    points = _stream(tmp_path, recordings, options, "activity", len(windows.X), killed)

    found = {(point["device"], point["end_ms"]): point for point in points}
    assert len(found) == len(points) == len(windows.X)
    for recording in recordings:
        for index, offset_ms in zip(recording.windows, recording.window_offsets_ms, strict=True):
            point = found[recording.device, START_MS + int(offset_ms) + 1]
            assert point["activity"] == scores.activity(int(index))
            assert point["probability"] == pytest.approx(scores.probability(index), abs=1e-4)


def _offline_rul(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    cut = np.stack([rows[end - 30 : end] for end in range(30, len(rows) + 1)])
    scores = Student(read_artifact(zoo_path("rul-fd001"))).score(cut.astype(np.float32))
    assert isinstance(scores, RulScores)
    return scores.rul


def _stream(
    folder: Path,
    recordings: Sequence[Recording],
    options: ReplayOptions,
    measurement: str,
    windows: int,
    killed: bool,
) -> list[dict]:
    """Replay through a whole gateway; the points it stored, once all `windows` are there."""
    readings = sum(len(recording.offsets_ms) for recording in recordings)
    with Plant(folder, broker_kind="mosquitto", **PATIENT) as plant:
        publishing = Replaying(recordings, options, plant.broker.port)
        publishing.start()
        if killed:
            plant.wait_until(lambda: plant.totals().get("windowed", 0) > readings // 3, "third")
            plant.kill_gateway()
            plant.start_gateway()
        report = publishing.result(180)
        assert report.complete
        assert (report.duplicates > 0) == (options.duplicates > 0)
        plant.wait_until(
            lambda: plant.totals().get("windowed") == readings, "windowed", timeout_s=200
        )
        plant.wait_until(lambda: _stored(plant, measurement) >= windows, "stored")
        totals = plant.totals()
        assert (totals["missing"], totals["dead_lettered"]) == (0, 0)
        # After a kill the broker sends a long backlog again: a copy of a reading that is older
        # than the windower's memory counts as late. Every reading was windowed nevertheless.
        again = totals["duplicate"] + (totals["late"] if killed else 0)
        assert again == totals["received"] - readings >= report.duplicates
        assert killed or totals["late"] == 0
        assert plant.stop_gateway() == 0
        results = ResultsFile(plant.results_path, read_only=True)
        try:
            return all_points(results, measurement)
        finally:
            results.close()


def _stored(plant: Plant, measurement: str) -> int:
    page = plant.get("api/v1/pipeline") or {}
    return int(page.get("results", {}).get("points", {}).get(measurement, 0))
