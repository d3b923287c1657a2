"""Score records: what the log accepts, and the points that they become."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PointError
from pipeline.points.lines import to_line
from pipeline.points.pointblocks import each_point
from pipeline.points.scorepoints import ScorePoints
from pipeline.points.scores import (
    ScoreRecord,
    decode_scores,
    points_of,
)
from tests.fakes.scores import encode_old, encode_records

COMMON: ScoreRecord = {
    "site": "plant-7",
    "device": "press-2",
    "stream": "engine",
    "model": "rul-fd001",
    "version": 3,
    "start_ms": 1_700_000_000_000,
    "end_ms": 1_700_000_000_600,
    "readings": 30,
    "gaps": 0,
    "recv_ms": 1_700_000_000_700,
    "scored_ms": 1_700_000_000_712,
}
RUL = COMMON | {"task": "rul", "rul": 95.0, "rul_low": 80.5, "rul_high": 110.25}
ACTIVITY = COMMON | {
    "task": "activity",
    "activity": "WALKING",
    "probability": 0.75,
    "probabilities": {"WALKING": 0.75, "SITTING": 0.25},
}
RATED = ACTIVITY | {"made_up": 0.25, "rate_hz": 40.0, "run_ms": 1_699_999_999_000}
FORECAST = COMMON | {
    "task": "forecast",
    "score": 0.5,
    "channel": "OT",
    "alarm": 0,
    "mae": 0.25,
    "covered": 0.75,
    "step_ms": 1000,
    "forecast": {
        "OT": {"1": [1.0, 2.0, 3.0], "4": [1.5, 2.5, 3.5]},
        "HUFL": {"1": [4.0, 5.0, 6.0], "4": [4.5, 5.5, 6.5]},
    },
    "actual": {"OT": 2.25, "HUFL": 5.25},
}


def test_points_are_decoded_as_in_two_steps() -> None:
    records = [RUL, ACTIVITY, FORECAST]
    found = ScorePoints()
    found.add(encode_records(records))
    found.finish()
    assert list(each_point(found.points)) == points_of(records)
    assert found.end_ms == [record["end_ms"] for record in records]


def test_a_flawed_score_affects_no_other() -> None:
    wrong = FORECAST | {"actual": {"OT": None}}
    found = ScorePoints()
    found.add(orjson.dumps([RUL, wrong, ACTIVITY]))
    found.finish()
    assert found.points == points_of([RUL, ACTIVITY])
    (flawed,) = found.flawed
    assert orjson.loads(flawed.raw) == [wrong]
    with pytest.raises(PointError):
        found.add(b"{}")


def test_rul_point_has_the_identity_of_its_window() -> None:
    (point,) = points_of([RUL])
    assert (point.measurement, point.time_ns) == ("rul", 1_700_000_000_600_000_000)
    assert dict(point.tags) == {
        "site": "plant-7",
        "device": "press-2",
        "stream": "engine",
        "model": "rul-fd001",
    }
    assert dict(point.fields) == {
        "rul": 95.0,
        "rul_low": 80.5,
        "rul_high": 110.25,
        "version": 3,
        "start_ms": 1_700_000_000_000,
        "readings": 30,
        "gaps": 0,
        "latency_ms": 12,
    }


def test_another_version_or_a_later_scoring_is_the_same_point() -> None:
    first, again = points_of(
        [RUL, RUL | {"version": 4, "scored_ms": 1_800_000_000_000, "rul": 1.0}]
    )
    assert (first.measurement, first.tags, first.time_ns) == (
        again.measurement,
        again.tags,
        again.time_ns,
    )


def test_activity_point_has_a_field_per_label() -> None:
    fields = dict(points_of([ACTIVITY])[0].fields)
    assert fields["activity"] == "WALKING"
    assert fields["probability"] == fields["p_WALKING"] == 0.75
    assert fields["p_SITTING"] == 0.25


def test_a_forecast_is_a_point_for_its_window_and_one_for_every_channel_and_lead() -> None:
    points = points_of([FORECAST])
    assert [point.measurement for point in points] == ["anomaly"] + 6 * ["forecast"]
    assert dict(points[0].fields)["channel"] == "OT"
    found = {
        (tags["channel"], tags["lead"]): (point.time_ns // 1_000_000, dict(point.fields))
        for point in points[1:]
        for tags in [dict(point.tags)]
    }
    end_ms = FORECAST["end_ms"]
    assert found["OT", "0"] == (end_ms, {"value": 2.25})
    assert found["OT", "1"] == (end_ms + 1000, {"p10": 1.0, "p50": 2.0, "p90": 3.0})
    assert found["HUFL", "4"] == (end_ms + 4000, {"p10": 4.5, "p50": 5.5, "p90": 6.5})
    assert all(dict(point.tags)["device"] == "press-2" for point in points)
    again = points_of([FORECAST | {"version": 4, "scored_ms": FORECAST["scored_ms"] + 5}])
    assert [(p.tags, p.time_ns) for p in again] == [(p.tags, p.time_ns) for p in points]


def test_a_score_of_a_resampled_window_has_the_fields_of_the_resampling() -> None:
    for record in (RATED, RUL | {"made_up": 0.25, "rate_hz": 40.0, "run_ms": 1_699_999_999_000}):
        (decoded,) = decode_scores(encode_records([record]))
        fields = dict(points_of([decoded])[0].fields)
        assert (fields["made_up"], fields["rate_hz"]) == (0.25, 40.0)
        assert fields["run_ms"] == 1_699_999_999_000
    assert {"made_up", "rate_hz", "run_ms"}.isdisjoint(dict(points_of([ACTIVITY])[0].fields))


def test_interval_may_be_missing() -> None:
    record = {key: value for key, value in RUL.items() if key not in ("rul_low", "rul_high")}
    (decoded,) = decode_scores(encode_records([record]))
    assert {"rul_low", "rul_high"}.isdisjoint(dict(points_of([decoded])[0].fields))


def test_whole_number_is_a_float_all_the_same() -> None:
    (point,) = points_of([RUL | {"rul": 95}])
    assert type(dict(point.fields)["rul"]) is float
    assert "rul=95," in to_line(point)
    assert "version=3i" in to_line(point)


def test_records_survive_the_log() -> None:
    records = [RUL, ACTIVITY, FORECAST]
    assert decode_scores(encode_records(records)) == records
    assert decode_scores(encode_records([])) == []


BROKEN: list[dict[str, Any]] = [
    {"rul": math.nan},
    {"rul": math.inf},
    {"rul_low": -math.inf},
    {"rul": None},
    {"rul": "95"},
    {"rul": True},
    {"task": "level"},
    {"task": "forecast"},
    *(
        FORECAST | change
        for change in (
            {"channel": None},
            {"alarm": 0.5},
            {"step_ms": None},
            {"step_ms": 0.5},
            {"step_ms": 0},
            {"step_ms": True},
            {"actual": None},
            {"actual": {"OT": math.nan}},
            {"actual": {"": 1.0}},
            {"forecast": []},
            {"forecast": {"OT": {"1": [1.0, 2.0]}}},
            {"forecast": {"OT": {"1": [1.0, 2.0, "3"]}}},
            {"forecast": {"OT": {"01": [1.0, 2.0, 3.0]}}},
            {"forecast": {"OT": {"0": [1.0, 2.0, 3.0]}}},
            {"forecast": {"OT\n": {"1": [1.0, 2.0, 3.0]}}},
        )
    ),
    {"site": ""},
    {"device": None},
    {"stream": "a\nb"},
    {"version": 3.0},
    {"version": True},
    {"end_ms": None},
    {"end_ms": 2**62},
    {"task": "activity"},
    ACTIVITY | {"activity": 3},
    ACTIVITY | {"probability": math.nan},
    ACTIVITY | {"probabilities": {"WALKING": math.nan}},
    ACTIVITY | {"probabilities": [0.5]},
    ACTIVITY | {"probabilities": {"": None}},
    {"made_up": None},
    {"rate_hz": math.nan},
    {"rate_hz": "50"},
    {"run_ms": 0.5},
    {"run_ms": 2**63},
]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_broken_record_is_an_error(change: dict[str, Any]) -> None:
    record = RUL | change
    if record.get("rul_low") != -math.inf:  # JSON's null, which stands for "no interval"
        with pytest.raises(PointError):
            decode_scores(encode_old([RUL, record]))


@pytest.mark.parametrize("value", [b"", b"{}", b"null", b"[1]", b"[{}]", b"\xff", b"[null]"])
def test_foreign_record_is_an_error(value: bytes) -> None:
    with pytest.raises(PointError):
        decode_scores(value)


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(deadline=None)
@given(
    record=st.sampled_from([RUL, ACTIVITY, RATED]),
    changes=st.dictionaries(st.sampled_from(sorted({**RUL, **RATED})), JUNK, max_size=2),
)
def test_decoded_scores_make_points(record: ScoreRecord, changes: dict[str, Any]) -> None:
    try:
        records = decode_scores(encode_old([record | changes]))
    except (PointError, TypeError):
        return
    (point,) = points_of(records)
    assert to_line(point)


WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8
) | st.sampled_from(["a b", "a,b", "a=b", 'a"b', "a\\b", "a\\", "é x", "\\,"])
