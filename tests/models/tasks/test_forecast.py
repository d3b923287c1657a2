"""The task `forecast`: a graph with two outputs, its decoding, and its measures."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx, write_dummy
from models.errors import ManifestInvalid, ShapeMismatch
from models.manifest import decode_manifest
from models.session import Student
from models.tasks.columns import row_of
from models.tasks.forecast import FORECAST, coverage, mae, mse, pinball
from models.tasks.quantiles import ForecastDecoding, ForecastScores


@pytest.fixture
def student(tmp_path: Path) -> Student:
    return Student(write_dummy(tmp_path / "student", "forecast"))


def readings(count: int = 20) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, (count, 3)).astype(np.float32)


def decoding() -> ForecastDecoding:
    found = dummy_draft("forecast").decoding
    assert isinstance(found, ForecastDecoding)
    return found


def test_a_backtest_is_the_forecast_that_was_made_then(student: Student) -> None:
    series = readings()
    student.self_test()
    form = decoding()
    length, back = form.length, form.backtest
    now = series[: length + 2 * back]
    scores = student.score(np.stack([now[:-back], now[back:]]))
    assert isinstance(scores, ForecastScores)
    then = scores.values[0, :back].astype(np.float64)
    actual = now[-back:]
    errors = np.abs(actual - then[..., 1]) / np.array(form.spread)
    inside = (then[..., 0] <= actual) & (actual <= then[..., 2])
    assert scores.mae[1] == pytest.approx(errors.mean(), abs=1e-5)
    assert scores.covered[1] == pytest.approx(inside.mean(), abs=1e-6)


def test_a_record_holds_each_lead_of_each_channel_and_the_newest_reading(student: Student) -> None:
    window = readings(8)
    scores = student.score(window[None])
    record = row_of(FORECAST.answer.columns(scores), 0)
    assert record["actual"] == dict(zip(("HUFL", "LUFL", "OT"), window[-1].tolist(), strict=True))
    assert isinstance(scores, ForecastScores)
    for place, channel in enumerate(("HUFL", "LUFL", "OT")):
        for lead in (1, 4):
            wanted = scores.values[0, lead - 1, place].tolist()
            assert record["forecast"][channel][str(lead)] == wanted
    assert record["alarm"] == int(record["score"] >= 0.99)
    assert record["step_ms"] == 1000


def test_a_window_that_is_not_finite_affects_no_other(student: Student) -> None:
    windows = np.stack([readings(8), readings(8)])
    alone = student.score(windows[:1])
    windows[1, 3, 1] = math.nan
    both = student.score(windows)
    assert both.valid.tolist() == [True, False]
    assert isinstance(both, ForecastScores)
    assert isinstance(alone, ForecastScores)
    assert both.values[0] == pytest.approx(alone.values[0], abs=1e-5)
    assert both.score[0] == pytest.approx(alone.score[0], abs=1e-5)
    assert both.score[1] == both.mae[1] == both.covered[1] == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"leads": [4, 1]}, "ascending"),
        ({"leads": [1, 1]}, "ascending"),
        ({"leads": [1, 5]}, "horizon 4"),
        ({"backtest": 5}, "above the horizon"),
        ({"length": 7}, "add up to 9"),
        ({"spread": [1.0, 2.0]}, "spread has 2 numbers"),
        ({"spread": [1.0, 2.0, -1.0]}, "greater than or equal to 0"),
        ({"channels": ["OT", "HUFL", "LUFL"]}, "differ from the channels"),
        ({"channels": ["OT", "OT", "LUFL"]}, "more than once"),
        ({"step_ms": 2000}, "rate_hz is 1.0, but decoding.step_ms is 2000"),
    ],
)
def test_a_decoding_that_contradicts_itself_or_the_manifest_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    manifest = write_dummy(tmp_path / "student", "forecast").manifest
    table = manifest.model_dump(mode="json")
    table["decoding"] |= change
    with pytest.raises(ManifestInvalid, match=reason):
        decode_manifest(json.dumps(table).encode())


def test_a_graph_without_the_backtest_is_refused(tmp_path: Path) -> None:
    draft = dummy_draft("forecast")
    shorter = draft.decoding.model_copy(update={"backtest": 1, "length": 7})
    other = draft.model_copy(update={"decoding": shorter})
    with pytest.raises(ShapeMismatch, match="backtest"):
        write_artifact(tmp_path / "student", draft, dummy_onnx(other))
    graph = dummy_onnx(draft).replace(b"backtest", b"forecast")
    with pytest.raises(ShapeMismatch, match="and one float32 output 'backtest'"):
        write_artifact(tmp_path / "second", draft, graph)


def test_an_artifact_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = write_dummy(tmp_path / "student", "forecast")
    assert read_artifact(tmp_path / "student").manifest == written.manifest


def test_the_error_is_finite_however_large_readings_are_and_small_the_deviation(
    tmp_path: Path,
) -> None:
    draft = dummy_draft("forecast")
    decoding = draft.decoding.model_copy(update={"spread": (1e-40, 0.0, 1e-3)})
    draft = draft.model_copy(update={"decoding": decoding})
    student = Student(write_artifact(tmp_path / "student", draft, dummy_onnx(draft)))
    windows = np.zeros((2, 8, 3), dtype=np.float32)
    windows[0, -2:] = 1e37
    scores = student.score(windows)
    assert scores.valid.all(), "else the window has no score at all"
    assert np.isfinite([scores.mae, scores.score, scores.covered]).all()


def test_measures_by_hand() -> None:
    truth = np.array([[[0.0], [2.0]]])
    values = np.array([[[[-1, 1, 2]], [[3, 4, 5]]]], dtype=np.float32)
    assert mse(truth, values) == pytest.approx((1 + 4) / 2)
    assert mae(truth, values) == pytest.approx((1 + 2) / 2)
    assert coverage(truth, values) == pytest.approx(0.5)
    by_hand = [0.1 * 1, 0.5 * 1, 0.1 * 2, 0.9 * 1, 0.5 * 2, 0.1 * 3]
    assert pinball(truth, values) == pytest.approx(sum(by_hand) / 6)


def test_a_forecast_has_no_decoding_without_calibration() -> None:
    with pytest.raises(ValueError, match="needs a calibration"):
        FORECAST.new_decoding((), None)
