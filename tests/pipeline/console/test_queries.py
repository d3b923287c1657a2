"""Queries of the page on the results file, compared with plain Python over the same points."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.console.queries import PointCounts, Run, counts, latest, runs, series, trend
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile

DEVICE = ("lab", "anna", "imu")


def activity(time_ms: int, label: str, device: str = "anna", model: str = "har") -> Point:
    tags = (("site", "lab"), ("device", device), ("stream", "imu"), ("model", model))
    return Point("activity", tags, (("activity", label), ("version", 1)), time_ms * 10**6)


def rul(time_ms: int, value: float, model: str = "m", version: int = 1) -> Point:
    tags = (("site", "lab"), ("device", "anna"), ("stream", "imu"), ("model", model))
    return Point("rul", tags, (("rul", value), ("version", version)), time_ms * 10**6)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsFile]:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: 77)
    yield results
    results.close()


def test_an_empty_file_answers_every_question(results: ResultsFile) -> None:
    assert counts(results) == {}
    assert latest(results, "rul") == []
    assert trend(results, "rul", "rul", DEVICE, last=9, points=3) == []
    assert runs(results, "rul", "version", DEVICE, since_ms=0, until_ms=9) == []
    assert series(results, "rul", ["rul"], DEVICE, since_ms=0, until_ms=9, max_points=3) == []


def test_the_newest_point_counts_even_if_written_first(results: ResultsFile) -> None:
    results.write([activity(5_000, "SITTING")])
    results.write([activity(4_000, "WALKING"), activity(9, "LAYING", "bo")])
    anna, bo = latest(results, "activity")
    assert (anna.device, anna.time_ms, anna.written_ms) == ("anna", 5_000, 77)
    assert anna.fields == {"activity": "SITTING", "version": 1}
    assert (bo.device, bo.fields["activity"]) == ("bo", "LAYING")


def test_a_device_is_the_same_for_every_model(results: ResultsFile) -> None:
    results.write([rul(1_000, 9.0, "first"), rul(2_000, 8.0, "second", 4)])
    (only,) = latest(results, "rul")
    assert (only.model, only.fields["rul"]) == ("second", 8.0)
    assert [v for _, v in trend(results, "rul", "rul", DEVICE, last=9, points=9)] == [9.0, 8.0]


def test_a_trend_ends_with_the_newest_and_is_thinned(results: ResultsFile) -> None:
    results.write([rul(i * 1_000, float(i)) for i in range(100)])
    found = trend(results, "rul", "rul", DEVICE, last=40, points=10)
    assert found == [(i * 1_000, float(i)) for i in range(63, 100, 4)]
    assert len(trend(results, "rul", "rul", DEVICE, last=500, points=100)) == 100


def test_a_series_keeps_spikes_and_the_newest_value(results: ResultsFile) -> None:
    values = [50.0] * 1_000
    values[333] = 120.0
    values[666] = 3.0
    results.write([rul(i * 10, value) for i, value in enumerate(values)])
    results.write([rul(9_999, 41.0)])
    buckets = series(
        results, "rul", ["rul", "version"], DEVICE, since_ms=0, until_ms=10_000, max_points=50
    )
    assert len(buckets) == 50
    assert sum(b.points for b in buckets) == 1_001
    assert (max(b.high for b in buckets), min(b.low for b in buckets)) == (120.0, 3.0)
    assert (buckets[-1].time_ms, buckets[-1].last) == (9_999, {"rul": 41.0, "version": 1})


def test_activity_runs_merge_equal_neighbours_and_break_at_holes(results: ResultsFile) -> None:
    labels = "WWWSSW"
    results.write([activity(10_000 + 1_000 * i, label) for i, label in enumerate(labels)])
    results.write([activity(60_000 + 1_000 * i, "W") for i in range(3)])
    found = runs(results, "activity", "activity", DEVICE, since_ms=0, until_ms=100_000)
    assert found == [
        Run(9_000, 12_000, "W"),
        Run(12_000, 14_000, "S"),
        Run(14_000, 15_000, "W"),
        Run(59_000, 62_000, "W"),
    ]


def test_version_runs_ignore_holes(results: ResultsFile) -> None:
    versions = (1, 1, 2, 2, 1)
    results.write([rul(100_000 * i, 5.0, version=v) for i, v in enumerate(versions, start=1)])
    found = runs(results, "rul", "version", DEVICE, since_ms=0, until_ms=10**9, gap_ms=None)
    assert [run.value for run in found] == [1, 2, 1]
    assert found[1].start_ms == 200_000


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(1, 60), st.sampled_from("AB"), min_size=1, max_size=25),
    st.integers(1, 8),
)
def test_runs_equal_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, points: dict[int, str], hole_s: int
) -> None:
    results = ResultsFile(tmp_path_factory.mktemp("r") / "r.db")
    results.write([activity(t * 1_000, label) for t, label in points.items()])
    found = runs(
        results,
        "activity",
        "activity",
        DEVICE,
        since_ms=0,
        until_ms=10**6,
        gap_ms=hole_s * 1_000,
    )
    results.close()
    expected: list[tuple[str, int]] = []  # value and end of each run
    previous = None
    for t in sorted(points):
        if previous is None or points[t] != points[previous] or t - previous > hole_s:
            expected.append((points[t], t * 1_000))
        expected[-1] = (points[t], t * 1_000)
        previous = t
    assert [(run.value, run.end_ms) for run in found] == expected
    assert all(run.start_ms < run.end_ms for run in found)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(found))


def test_points_are_counted_at_most_a_twentieth_of_the_time(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "r.db")
    times = iter([0.0, 1.0, 20.9, 21.0, 21.5])
    count = PointCounts(clock=lambda: next(times))
    tags = (("site", "s"), ("device", "d"), ("stream", "x"), ("model", "m"))
    results.write([Point("rul", tags, (("rul", 1.0),), 10**15)])
    assert count(results) == {"rul": 1}
    results.write([Point("rul", tags, (("rul", 2.0),), 2 * 10**15)])
    assert count(results) == {"rul": 1}
    assert count(results) == {"rul": 2}
    results.close()
