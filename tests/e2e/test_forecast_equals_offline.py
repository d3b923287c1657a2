"""The pipeline gives the forecasts of an offline evaluation: ETTh1's test part as a device.

The starter forecasts; the gateway is killed in the middle, readings come out of order and twice.
The offline side cuts the arrays itself and runs the graph in ONNX Runtime, without the windower,
the log or a store.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ingest.mqtt.endpoint import Endpoint
from ingest.recordings import Recording
from ingest.replay import ReplayOptions
from models.artifact import read_artifact
from models.features import scale
from models.session import Student
from models.tasks.quantiles import ForecastDecoding, ForecastScores
from models.zoo import zoo_path
from pipeline.stores.resultsfile import ResultsFile
from tests.e2e.plant import Plant
from tests.e2e.replaying import START_MS, Replaying

pytestmark = [pytest.mark.needs_data, pytest.mark.needs_mosquitto, pytest.mark.slow]

CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
HOUR_MS = 3_600_000
VALIDATION, TEST = 16 * 30 * 24, 20 * 30 * 24  # the test part is between them
STARTER = read_artifact(zoo_path("forecast-transformer"))
DECODING = cast(ForecastDecoding, STARTER.manifest.decoding)
LENGTH, BACKTEST, LEADS = DECODING.length, DECODING.backtest, DECODING.leads
DISORDER_MS = 3 * HOUR_MS
OPTIONS = ReplayOptions(
    Endpoint("127.0.0.1", 1, "replay"),
    rate_hz=600,
    readings_per_message=5,
    duplicates=0.05,
    disorder_ms=DISORDER_MS,
)
SAME_AS_OFFLINE = 1e-4
SAME_AS_THEN = 1e-5


@dataclass(frozen=True)
class Offline:
    """What a batch over all windows gives, [windows, ...], and the graph's own outputs."""

    scores: ForecastScores
    forecast: NDArray[np.float32]
    backtest: NDArray[np.float32]


@pytest.fixture(scope="module")
def readings(data_dir: Path) -> NDArray[np.float32]:
    """[17420, 7] every reading of ETTh1."""
    with zipfile.ZipFile(data_dir / "ett.zip") as archive:
        text = archive.read("ETT-small/ETTh1.csv").decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0][1:] == list(CHANNELS)
    return np.array([row[1:] for row in rows[1:]], dtype=np.float32)


@pytest.fixture(scope="module")
def offline(readings: NDArray[np.float32]) -> Offline:
    windows = _windows(readings, VALIDATION, TEST)
    scores = Student(STARTER).score(windows)
    assert isinstance(scores, ForecastScores)
    return Offline(scores, *_run(windows))


def test_every_window_of_the_test_part_is_forecast_as_offline(
    readings: NDArray[np.float32], offline: Offline, tmp_path: Path
) -> None:
    first = VALIDATION - LENGTH - BACKTEST
    values = readings[first:TEST]
    recording = Recording(
        "transformer-01",
        STARTER.manifest.stream,
        CHANNELS,
        np.arange(len(values), dtype=np.int64) * HOUR_MS,
        values,
        np.array([], dtype=np.int64),
        np.array([], dtype=np.int64),
    )
    stream = _stream(tmp_path, recording)
    windows = len(offline.scores)
    assert windows == TEST - VALIDATION + 1
    ends_ms = START_MS + 1 + HOUR_MS * (LENGTH + BACKTEST - 1 + np.arange(windows))

    scores = {row[0]: row[1:] for row in stream.scores}
    assert sorted(scores) == ends_ms.tolist()
    found = np.array([scores[end][:3] for end in ends_ms.tolist()])
    want = np.stack([offline.scores.score, offline.scores.mae, offline.scores.covered], axis=1)
    np.testing.assert_allclose(found, want, atol=SAME_AS_OFFLINE, rtol=0)
    alarms = np.array([scores[end][3] for end in ends_ms.tolist()])
    assert 0 < alarms.sum() < windows
    np.testing.assert_array_equal(alarms, found[:, 0] >= DECODING.anomaly.alarm)

    came, made = _as_arrays(stream, ends_ms)
    np.testing.assert_array_equal(came, values[LENGTH + BACKTEST - 1 :])
    steps = [lead - 1 for lead in LEADS]
    np.testing.assert_allclose(
        made, offline.forecast[:, steps], atol=SAME_AS_OFFLINE, rtol=0, err_msg="forecast"
    )
    _check_backtest(offline, came, made, found)


def _check_backtest(
    offline: Offline,
    came: NDArray[np.float32],
    made: NDArray[np.float32],
    found: NDArray[np.float64],
) -> None:
    """The backtest of a window is the forecast that was made and stored `BACKTEST` readings before.

    Error and coverage of a window are hence those of the forecasts made then against the readings
    that came.
    """
    backtest = offline.backtest[BACKTEST:]
    for place, lead in enumerate(LEADS):
        if lead <= BACKTEST:
            stored = made[:-BACKTEST, place]
            np.testing.assert_allclose(stored, backtest[:, lead - 1], atol=SAME_AS_THEN, rtol=0)
    earlier = offline.forecast[:-BACKTEST, :BACKTEST]  # [windows, steps, channels, 3]
    np.testing.assert_allclose(earlier, backtest, atol=SAME_AS_THEN, rtol=0)
    actual = sliding_window_view(came, BACKTEST, axis=0)[1:].transpose(0, 2, 1)
    errors = np.abs(actual - earlier[..., 1]) / np.array(DECODING.spread)
    np.testing.assert_allclose(found[BACKTEST:, 1], errors.mean(axis=(1, 2)), atol=1e-5, rtol=0)
    # A reading on the edge of the band may be inside by one rounding and outside by another.
    inside = (earlier[..., 0] <= actual) & (actual <= earlier[..., 2])
    few = 2 / inside[0].size
    np.testing.assert_allclose(found[BACKTEST:, 2], inside.mean(axis=(1, 2)), atol=few, rtol=0)


@dataclass(frozen=True)
class Stream:
    """What the gateway stored.

    Attributes:
        scores: (end, score, mae, covered, alarm) of every window.
        details: (channel, lead, time, value, p10, p50, p90) of every further point.
    """

    scores: list[tuple[float, ...]]
    details: list[tuple[Any, ...]]


def _stream(folder: Path, recording: Recording) -> Stream:
    """Replay through a gateway that is killed on the way; everything it stored."""
    readings = len(recording.offsets_ms)
    windows = readings - LENGTH - BACKTEST + 1
    points = windows * (1 + len(CHANNELS) * (1 + len(LEADS)))
    settings = {
        "KPSTREAM_PIPELINE_LATENESS_MS": str(DISORDER_MS),
        "KPSTREAM_PIPELINE_IDLE_MS": "3000",  # longer than a restarted bridge needs to connect
        "KPSTREAM_PIPELINE_RESULTS_DAYS": "365",  # the test part is four months long
    }
    with Plant(folder, broker_kind="mosquitto", **settings) as plant:
        publishing = Replaying([recording], OPTIONS, plant.broker.port)
        publishing.start()
        plant.wait_until(lambda: plant.totals().get("windowed", 0) > readings // 3, "third")
        plant.kill_gateway()
        plant.start_gateway()
        report = publishing.result(60)
        assert report.complete
        assert report.duplicates > 0
        plant.wait_until(lambda: plant.totals().get("windowed") == readings, "windowed")
        plant.wait_until(lambda: _stored(plant) == points, "stored")
        totals = plant.totals()
        assert (totals["missing"], totals["dead_lettered"], totals["unscored"]) == (0, 0, 0)
        # A copy that the broker sends again is late when the windower has forgotten the reading.
        again = totals["duplicate"] + totals["late"]
        assert again == totals["received"] - readings >= report.duplicates
        assert plant.stop_gateway() == 0
        results = ResultsFile(plant.results_path, read_only=True)
        try:
            return Stream(
                results.select("SELECT time_ns / 1000000, score, mae, covered, alarm FROM anomaly"),
                results.select(
                    "SELECT channel, lead, time_ns / 1000000, value, p10, p50, p90 FROM forecast"
                ),
            )
        finally:
            results.close()


def _as_arrays(
    stream: Stream, ends_ms: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Readings `[windows, channels]` and quantiles `[windows, leads, channels, 3]` as stored."""
    place = {end: row for row, end in enumerate(ends_ms.tolist())}
    came = np.full((len(place), len(CHANNELS)), np.nan, dtype=np.float32)
    made = np.full((len(place), len(LEADS), len(CHANNELS), 3), np.nan, dtype=np.float32)
    for channel, lead, time_ms, value, *quantiles in stream.details:
        row = place[time_ms - int(lead) * HOUR_MS]
        column = CHANNELS.index(channel)
        if lead == "0":
            came[row, column] = value
        else:
            made[row, LEADS.index(int(lead)), column] = quantiles
    return came, made


def _stored(plant: Plant) -> int:
    page = plant.get("api/v1/pipeline") or {}
    points = page.get("results", {}).get("points", {})
    return int(points.get("anomaly", 0) + points.get("forecast", 0))


def _windows(readings: NDArray[np.float32], first: int, last: int) -> NDArray[np.float32]:
    """Every window whose forecast begins in [first, last], `[n, length + backtest, channels]`."""
    part = readings[first - LENGTH - BACKTEST : last]
    cut = sliding_window_view(part, LENGTH + BACKTEST, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(cut)


def _run(windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The outputs `forecast` and `backtest` of the graph itself."""
    session = ort.InferenceSession(STARTER.onnx_bytes, providers=["CPUExecutionProvider"])
    forecast, backtest = session.run(
        ["forecast", "backtest"], {"windows": scale(windows, STARTER.manifest.scaler)}
    )
    return forecast, backtest
