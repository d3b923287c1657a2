"""Scores as columns: what the log holds, the lines made of it, and flawed scores among others."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tasks.rul import RUL as RUL_TASK
from pipeline.errors import PointError
from pipeline.points.lines import lines_of, to_line
from pipeline.points.pointblocks import PointBlock, count_points, each_point
from pipeline.points.scorecolumns import ScoreColumns, encode_scores, join_scores, parse_scores
from pipeline.points.scorepoints import ScorePoints
from pipeline.points.scores import (
    ScoreRecord,
    decode_scores,
    points_of,
)
from tests.fakes.duecases import DUE_CASES
from tests.fakes.scores import columns_of, encode_old, encode_records
from tests.pipeline.points.test_scores import (
    ACTIVITY,
    BROKEN,
    FORECAST,
    JUNK,
    RATED,
    RUL,
    WORDS,
)


def found_in(value: bytes) -> ScorePoints:
    into = ScorePoints()
    into.add(value)
    into.finish()
    return into


def plain(line: str) -> str:
    """A line without the `.0` of whole numbers and the zeros before a time of 0."""
    return re.sub(r" 0+(?=0$)", " ", re.sub(r"(?<=\d)\.0(?=[ ,])", "", line))


def test_the_log_holds_arrays_and_one_value_where_all_are_the_same() -> None:
    columns = {
        "task": "rul",
        "device": ["a", "b"],
        "site": ["p", "p"],
        "rul": np.array([0.1, 95], np.float32),
        "end_ms": np.array([1, 2]),
        "p": {"x": np.array([[1, 2], [3, 4]], np.float32)[:, 1]},
    }
    (value,) = encode_scores([ScoreColumns(2, columns)])
    assert orjson.loads(value) == {
        "scores": [
            {
                "task": "rul",
                "device": ["a", "b"],
                "site": "p",
                "rul": [0.10000000149011612, 95.0],
                "end_ms": [1, 2],
                "p": {"x": [2.0, 4.0]},
            }
        ]
    }


def test_many_scores_become_several_records_within_both_limits_in_order() -> None:
    records = [FORECAST | {"end_ms": FORECAST["end_ms"] + i} for i in range(40)]
    scores = columns_of([RUL, *records])
    one = len(encode_scores([part.take(slice(0, 1)) for part in scores[1:]])[0])
    for limits in ({"max_bytes": 3 * one}, {"max_scores": 7}, {"max_bytes": one // 2}, {}):
        values = encode_scores(scores, **limits)
        assert [r for value in values for r in decode_scores(value)] == [RUL, *records]
        assert len(values) == 1 or max(map(len, values)) <= max(3 * one, 7 * one)
    assert len(encode_scores(scores, max_bytes=one // 2)) == 41  # none is divided
    assert [len(decode_scores(v)) for v in encode_scores(scores, max_scores=7)] == [7] * 5 + [6]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_no_column(number: float) -> None:
    with pytest.raises(PointError, match="rul that is not finite"):
        encode_scores([ScoreColumns(1, {"rul": np.array([number]), "end_ms": [1]})])


def test_a_score_of_each_task_is_the_line_of_its_point() -> None:
    records = [RUL, ACTIVITY, FORECAST, RATED, RUL | {"rate_hz": 50.5}]
    for value in (encode_records(records), encode_old(records)):
        found = found_in(value)
        lines = sorted(map(plain, lines_of(found.points)))
        assert lines == sorted(plain(to_line(p)) for p in points_of(records))
        assert found.end_ms == [record["end_ms"] for record in records]
        assert found.flawed == []
    assert "rul=95.0," in next(lines_of(found_in(encode_records([RUL])).points)), "it stays a float"


@settings(deadline=None)
@given(
    record=st.sampled_from([RUL, ACTIVITY, FORECAST, RATED]),
    names=st.fixed_dictionaries(
        {}, optional={name: WORDS for name in ("site", "device", "stream", "model", "activity")}
    ),
    changes=st.dictionaries(
        st.sampled_from(sorted({**RUL, **RATED, **FORECAST})), JUNK, max_size=2
    ),
    labels=st.dictionaries(WORDS, st.floats(0, 1), min_size=1, max_size=3) | st.none(),
)
def test_scores_in_columns_make_the_points_of_single_ones_or_are_flawed_like_them(
    record: ScoreRecord, names: dict[str, str], changes: dict[str, Any], labels: Any
) -> None:
    odd = record | names | changes
    if labels is not None:
        odd["probabilities"] = labels
    columns = {name: [value, odd.get(name)] for name, value in record.items()}
    columns |= {name: [None, value] for name, value in odd.items() if name not in record}
    for name in ("probabilities", "forecast", "actual"):
        if name in columns:
            columns[name] = odd[name] if isinstance(odd[name], dict) else columns[name]
            columns[name] = _as_columns(columns[name])
    try:
        value = orjson.dumps({"scores": [columns]})
    except TypeError:  # beyond 64 bits, or no Unicode
        return
    (scores,) = parse_scores(value)
    singles = list(scores.records())
    single, together = found_in(encode_old(singles)), found_in(value)
    assert sorted(map(to_line, each_point(together.points))) == sorted(
        map(to_line, each_point(single.points))
    )
    assert sorted(map(plain, lines_of(together.points))) == sorted(
        plain(to_line(point)) for point in each_point(single.points)
    )
    assert together.end_ms == single.end_ms
    assert [flawed.raw for flawed in together.flawed] == [flawed.raw for flawed in single.flawed]
    assert len(together.end_ms) + len(together.flawed) == 2


def _as_columns(column: Any) -> Any:
    """An object of values as one of columns, which hold for both scores."""
    if isinstance(column, dict):
        return {name: _as_columns(each) for name, each in column.items()}
    return [column, column]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("is_old", [False, True])
def test_a_flawed_score_is_reported_and_the_others_become_points(
    change: dict[str, Any], is_old: bool
) -> None:
    if change == {"rul_low": float("-inf")}:
        return  # null in JSON: no interval
    record = RUL | change
    if is_old:
        value = encode_old([RUL, record, ACTIVITY])
    elif any(isinstance(each, dict) for each in record.values()):
        return  # labels of a student are the same for all of its scores
    else:
        good = RUL | {name: each for name, each in RATED.items() if name in record}
        good = {**good, "task": "rul"}
        columns = {name: [good.get(name), each, good.get(name)] for name, each in record.items()}
        value = orjson.dumps({"scores": [columns]})
    found = found_in(value)
    wanted = points_of([RUL, ACTIVITY] if is_old else [good, good])
    assert list(each_point(found.points)) == wanted
    (flawed,) = found.flawed
    assert orjson.loads(flawed.raw) == orjson.loads(orjson.dumps([record]))
    assert flawed.detail


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"{}", b"null", b"\xff", b'"x"', b"[1", b'{"scores":1}', b'{"scores":[1]}'),
        *(b'{"scores":[{}]}', b'{"scores":[{"end_ms":[]}]}', b'{"scores":[{"end_ms":5}]}'),
        *(b'{"scores":[{"end_ms":[5,6],"rul":[1]}]}', b'{"scores":[{"end_ms":[5],"p":{"a":[]}}]}'),
    ],
)
def test_a_record_that_is_no_scores_is_an_error_and_affects_no_other(value: bytes) -> None:
    into = found_in(encode_records([RUL]))
    with pytest.raises(PointError):
        into.add(value)
    into.finish()
    assert count_points(into.points) == 1


@pytest.mark.parametrize("value", [b"[1]", b"[null]", b"[[]]", b'["x"]', b"[{}]"])
def test_a_score_that_is_no_object_is_flawed(value: bytes) -> None:
    assert [flawed.raw for flawed in found_in(value).flawed] == [value]


def test_a_score_without_interval_is_a_point() -> None:
    record = {key: value for key, value in RUL.items() if key not in ("rul_low", "rul_high")}
    for value in (encode_old([record]), encode_records([record])):
        assert list(each_point(found_in(value).points)) == points_of([record])


def test_nothing_can_be_smuggled_into_a_line() -> None:
    for name in ("site", "device", "stream", "model"):
        found = found_in(orjson.dumps({"scores": columns(RUL | {name: "x rul=1 5\nrul,a=b"})}))
        assert found.points == [], name
        assert len(found.flawed) == 1
    (line,) = lines_of(found_in(encode_records([ACTIVITY | {"activity": 'x",rul=1 5\n'}])).points)
    assert line.count('\\"') == 1


def columns(record: ScoreRecord) -> list[dict[str, Any]]:
    return [part.columns for part in columns_of([record])]


@pytest.mark.parametrize("record", [RUL, ACTIVITY, RATED, FORECAST], ids=lambda r: str(r["task"]))
def test_scores_of_the_product_become_blocks(record: ScoreRecord) -> None:
    first, *details = found_in(encode_records([record, record])).points
    assert isinstance(first, PointBlock)
    assert len(first) == 2
    assert list(first.points()) == points_of([record, record])[:: len(details) // 2 + 1]


def test_records_of_one_student_become_one_block_in_their_order() -> None:
    records = [RUL | {"end_ms": RUL["end_ms"] + n, "version": 3 + n // 2} for n in range(4)]
    into = ScorePoints()
    for record in [*records, ACTIVITY]:
        into.add(encode_records([record]))
    into.finish()
    first, second = into.points
    assert isinstance(first, PointBlock)
    assert list(first.points()) == points_of(records)
    assert list(each_point([second])) == points_of([ACTIVITY])
    assert into.end_ms == [record["end_ms"] for record in [*records, ACTIVITY]]


def test_records_of_other_forms_keep_the_order_and_a_flawed_one_harms_no_other() -> None:
    without = {key: value for key, value in RUL.items() if key != "rul_low"}
    same = [RUL | {"rul": 1.0}, without | {"rul": 2.0}, RUL | {"rul": 3.0}, RUL | {"rul": 4.0}]
    into = ScorePoints()
    for record in same[:3]:
        into.add(encode_records([record]))
    into.add(encode_old(same[3:]))
    into.add(encode_records([RUL]))
    into.add(encode_records([RUL]).replace(b"95.0", b"null"))
    into.add(encode_records([RUL | {"rul": 5.0}]))
    into.finish()
    points = list(each_point(into.points))
    assert points == points_of([*same, RUL, RUL | {"rul": 5.0}])
    assert [flawed.raw for flawed in into.flawed] == [encode_old([RUL | {"rul": None}])]


def test_objects_are_joined_by_label_and_one_value_stays_one_of_its_type() -> None:
    parts = [
        ScoreColumns(1, {"end_ms": [1], "p": {"a": [0.5], "b": 1.0}, "version": 1, "n": 1}),
        ScoreColumns(2, {"end_ms": [2, 3], "p": {"a": 0.25, "b": 1.0}, "version": 1, "n": True}),
    ]
    assert join_scores(parts) == ScoreColumns(
        3,
        {
            "end_ms": [1, 2, 3],
            "p": {"a": [0.5, 0.25, 0.25], "b": 1.0},
            "version": 1,
            "n": [1, True, True],
        },
    )


def test_scores_that_say_nothing_of_a_machine_lack_what_alerts_compare() -> None:
    """Points made of columns are those of single records, in the same order."""
    records = [case.record(1_000 * place) for place, case in enumerate(DUE_CASES, start=1)]
    told = [record for record in records if "quality" in record and "rul_low" in record]
    found = found_in(encode_records(told))
    assert all(isinstance(item, PointBlock) for item in found.points)
    assert list(each_point(found.points)) == points_of(told)
    assert found.end_ms == [record["end_ms"] for record in told]
    for record, point in zip(records, points_of(records), strict=True):
        due = RUL_TASK.is_alarming(record)
        has_it = "quality" in record and due is not None
        low = record.get("rul_low", record["rul"])
        assert dict(point.fields).get("rul_due") == (low if has_it else None)
    hostile = {**records[0], "rul_due": "soon"}
    assert points_of([hostile]) == points_of(records[:1])
