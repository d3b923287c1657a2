"""Recorded data through the whole site: InfluxDB holds the scores of the offline evaluation.

All 707 test engines of C-MAPSS (FD001 to FD004, scored by the student that ships for FD001, because
only equality matters here) and the UCI-HAR test recordings, through mosquitto, a bridge, Kafka, two
workers and a store. The offline side is independent of the stream: it cuts the arrays as the papers
do and scores them in one batch.
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
    EngineHistory,
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
from tests.e2e.replaying import START_MS, Replaying
from tests.e2e.site_plant import SitePlant

pytestmark = [
    pytest.mark.needs_data,
    pytest.mark.needs_mosquitto,
    pytest.mark.needs_kafka_server,
    pytest.mark.needs_influxd,
    pytest.mark.slow,
]

SUBSETS = ("FD001", "FD002", "FD003", "FD004")
TOLERANCE = 1e-4
NOWHERE = Endpoint("127.0.0.1", 1, "replay")
CALM = ReplayOptions(NOWHERE, readings_per_message=5)
PATIENT = {"KPSTREAM_PIPELINE_IDLE_MS": "5000"}
"""A busy machine may take long between two messages of a device, and that is not its silence."""
ROUGH = ReplayOptions(NOWHERE, readings_per_message=5, duplicates=0.05, disorder_ms=150)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("options", [CALM, ROUGH], ids=["calm", "twice and out of order"])
def test_all_test_engines_and_people_end_in_influxdb_as_scored_offline(
    data_dir: Path, tmp_path: Path, options: ReplayOptions
) -> None:
    histories = {subset: read_cmapss(data_dir / "cmapss.zip", subset, "test") for subset in SUBSETS}
    engines = [
        recording
        for subset, found in histories.items()
        for recording in engine_recordings(found, subset, interval_ms=100)
    ]
    assert len(engines) >= 700
    windows = read_uci_har(data_dir, "test")
    people = recordings_of(windows)
    ruls = _offline_ruls(histories)
    activities = Student(read_artifact(zoo_path("har-waist"))).score(windows.X)
    assert isinstance(activities, ActivityScores)

    with SitePlant(tmp_path, workers=2, **PATIENT) as plant:
        _stream(plant, engines, options, "rul", "rul", sum(map(len, ruls.values())))
        _stream(plant, people, options, "activity", "probability", len(windows.X))
        streamed = _by_device(plant, "rul", "rul")
        found = {(device, at): value for device, at, value in plant.values("activity", "activity")}
        sure = {(device, at): p for device, at, p in plant.values("activity", "probability")}
        readings = sum(len(recording.offsets_ms) for recording in (*engines, *people))
        plant.wait_until(lambda: _accounted(plant) == readings, "accounts")
        shares = [worker.get()["parts"]["line"]["scored"] for worker in plant.of("worker")]

    assert min(shares) > 10_000  # both have worked
    assert sorted(streamed) == sorted(ruls)
    for device, want in ruls.items():
        np.testing.assert_allclose(streamed[device], want, atol=TOLERANCE, rtol=0)
    assert len(found) == len(windows.X)
    for recording in people:
        for index, offset_ms in zip(recording.windows, recording.window_offsets_ms, strict=True):
            key = (recording.device, START_MS + int(offset_ms) + 1)
            assert found[key] == activities.activity(index)
            assert sure[key] == pytest.approx(activities.probability(index), abs=TOLERANCE)


def _offline_ruls(
    histories: dict[str, list[EngineHistory]],
) -> dict[str, NDArray[np.float32]]:
    """The RUL of every window of 30 cycles, by engine."""
    student = Student(read_artifact(zoo_path("rul-fd001")))
    columns = [CMAPSS_SENSORS.index(name) for name in ENGINE_CHANNELS]
    found = {}
    for subset, engines in histories.items():
        for history in engines:
            rows = history.sensors[:, columns].astype(np.float32)
            cut = [rows[end - 30 : end] for end in range(30, len(rows) + 1)]
            if cut:
                scores = student.score(np.stack(cut))
                assert isinstance(scores, RulScores)
                found[f"{subset}-{history.engine:03d}"] = scores.rul
    return found


def _stream(
    plant: SitePlant,
    recordings: Sequence[Recording],
    options: ReplayOptions,
    measurement: str,
    field: str,
    windows: int,
) -> None:
    """Publish, and wait until all windows are stored."""
    publishing = Replaying(recordings, options, plant.mosquitto.port)
    publishing.start()
    assert publishing.result(200).complete
    plant.wait_until(lambda: plant.count(measurement, field) >= windows, f"{windows} stored")
    assert plant.count(measurement, field) == windows


def _by_device(plant: SitePlant, measurement: str, field: str) -> dict[str, list[float]]:
    """The values of every device in the order of their windows' ends."""
    found: dict[str, list[tuple[int, float]]] = {}
    for device, at_ms, value in plant.values(measurement, field):
        found.setdefault(device, []).append((at_ms, value))
    return {device: [value for _, value in sorted(pairs)] for device, pairs in found.items()}


def _accounted(plant: SitePlant) -> int:
    """Readings that were windowed, once every account balances; else 0."""
    accounts = plant.accounts().values()
    for account in accounts:
        others = account["duplicate"] + account["late"] + account["dead_lettered"]
        assert account["received"] == account["windowed"] + others
    return sum(account["windowed"] for account in accounts)
