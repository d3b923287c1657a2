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
from pipeline.points.scores import ScoreRecord, decode_scores, encode_scores, points_of

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


def test_interval_may_be_missing() -> None:
    record = {key: value for key, value in RUL.items() if key not in ("rul_low", "rul_high")}
    (decoded,) = decode_scores(encode_scores([record]))
    assert {"rul_low", "rul_high"}.isdisjoint(dict(points_of([decoded])[0].fields))


def test_whole_number_is_a_float_all_the_same() -> None:
    (point,) = points_of([RUL | {"rul": 95}])
    assert type(dict(point.fields)["rul"]) is float
    assert "rul=95," in to_line(point)
    assert "version=3i" in to_line(point)


def test_records_survive_the_log() -> None:
    assert decode_scores(encode_scores([RUL, ACTIVITY])) == [RUL, ACTIVITY]
    assert decode_scores(encode_scores([])) == []


BROKEN: list[dict[str, Any]] = [
    {"rul": math.nan},
    {"rul": math.inf},
    {"rul_low": -math.inf},
    {"rul": None},
    {"rul": "95"},
    {"rul": True},
    {"task": "forecast"},
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
]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_broken_record_is_an_error_where_it_is_made_and_where_it_is_read(
    change: dict[str, Any],
) -> None:
    record = RUL | change
    with pytest.raises(PointError):
        encode_scores([RUL, record])
    if record.get("rul_low") != -math.inf:  # JSON's null, which stands for "no interval"
        with pytest.raises(PointError):
            decode_scores(orjson.dumps([record]))


@pytest.mark.parametrize("value", [b"", b"{}", b"null", b"[1]", b"[{}]", b"\xff", b"[null]"])
def test_foreign_record_is_an_error(value: bytes) -> None:
    with pytest.raises(PointError):
        decode_scores(value)


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(deadline=None)
@given(
    record=st.sampled_from([RUL, ACTIVITY]),
    changes=st.dictionaries(st.sampled_from(sorted({**RUL, **ACTIVITY})), JUNK, max_size=2),
)
def test_decoded_scores_make_points(record: ScoreRecord, changes: dict[str, Any]) -> None:
    try:
        value = encode_scores([record | changes])
    except PointError:
        return
    (point,) = points_of(decode_scores(value))
    assert to_line(point)


WORDS = st.text(
    st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8
) | st.sampled_from(["a b", "a,b", "a=b", 'a"b', "a\\b", "a\\", "é x", "\\,"])
