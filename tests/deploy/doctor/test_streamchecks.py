from dataclasses import replace

import pytest

from deploy.doctor.streamchecks import check_streams
from models.registry import Registry
from models.zoo import zoo_path
from pipeline.points.measurements import DRIFT
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile

NOW = 1_900_000_000_000


@pytest.fixture
def place(tmp_path):
    Registry(tmp_path / "registry").seed(zoo_path("har-waist"))
    return tmp_path / "results.db", tmp_path / "registry"


def score(device: str, rate_hz: float | None = 50.0, quality: str = "good") -> Point:
    tags = (("site", "lab"), ("device", device), ("stream", "imu"), ("model", "har-waist"))
    rate = () if rate_hz is None else (("rate_hz", rate_hz),)
    return Point("activity", tags, (("activity", "WALKING"), *rate, ("quality", quality)), NOW)


def findings(place, *points: Point, clock=lambda: NOW) -> list:
    results = ResultsFile(place[0], now_ms=clock)
    results.write(points)
    results.close()
    return [(f.state, f.text) for f in check_streams(*place, clock)]


def test_each_stream_is_told_with_its_rate_and_that_of_its_student(place):
    points = [score("anna"), score("bo", 49.7), score("cy", 104.2), score("dee", 24.9)]
    assert findings(place, *points, score("old", None)) == [
        (
            "warn",
            "stream imu of lab/dee comes at 24.9 Hz; its student wants 50 Hz: below half",
        ),
        ("ok", "stream imu of lab/cy comes at 104 Hz; its student wants 50 Hz; resampled"),
        ("ok", "2 come at the rates of their students"),
    ]


def test_a_doubtful_score_is_told_with_its_reason(place):
    found = findings(place, score("anna", None, "unit: total_acc_x (m/s2)"), score("bo", None))
    assert found == [
        ("warn", "newest score doubtful: imu of lab/anna: unit: total_acc_x (m/s2)"),
    ]


def test_many_streams_are_shortened(place):
    ((state, text),) = findings(place, *[score(f"d{i}", 10.0) for i in range(8)])
    assert state == "warn"
    assert text.count("below half") == 5
    assert text.endswith("; and 3 more")


def test_a_stream_that_has_drifted_is_told_and_its_devices_are_not(place):
    def judged(device: str) -> Point:
        tags = tuple(zip(DRIFT.tags, ("gate", "*", device, "imu", "*"), strict=True))
        fields = (
            ("drifted", 1),
            ("since_ms", NOW),
            ("version", 1),
            ("windows", 200),
            ("text", "60% of the windows are doubtful"),
        )
        return Point(DRIFT.name, tags, fields, NOW * 1_000_000)

    assert findings(place, judged("*"), judged("anna")) == [
        ("warn", "stream imu has drifted: 60% of the windows are doubtful")
    ]


def test_scores_of_long_ago_and_a_missing_file_say_nothing(place):
    assert check_streams(*place) == []
    point = replace(score("anna", 10.0), time_ns=NOW)
    findings(place, point, clock=lambda: NOW - 2 * 86_400_000)
    assert check_streams(*place, lambda: NOW) == []
