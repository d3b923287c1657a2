"""Score records as lines: equal to those through points; a bad score affects no other."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PointError
from pipeline.points.lines import to_line
from pipeline.points.scorelines import ScoreLines, score_lines
from pipeline.points.scores import ScoreRecord, decode_scores, encode_scores, points_of
from tests.pipeline.points.test_scores import (
    ACTIVITY,
    BROKEN,
    FORECAST,
    JUNK,
    RATED,
    RUL,
    WORDS,
)


def lines_of(*records: Any) -> ScoreLines:
    into = ScoreLines()
    score_lines(orjson.dumps(records), into)
    return into


def plain(line: str) -> str:
    """A line without the `.0` of whole numbers and the zeros before a time of 0."""
    return re.sub(r" 0+(?=0$)", " ", re.sub(r"(?<=\d)\.0(?=[ ,])", "", line))


def test_a_score_of_each_task_is_the_line_of_its_point() -> None:
    records = [RUL, ACTIVITY, FORECAST, RATED, RUL | {"rate_hz": 50.5}]
    found = lines_of(*records)
    assert [plain(line) for line in found.lines] == [plain(to_line(p)) for p in points_of(records)]
    assert found.end_ms == [record["end_ms"] for record in records]
    assert found.flawed == []
    assert "rul=95.0," in found.lines[0], "a float stays one"


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
def test_any_score_makes_the_line_of_its_point_or_is_flawed_like_it(
    record: ScoreRecord, names: dict[str, str], changes: dict[str, Any], labels: Any
) -> None:
    record = record | names | changes
    if labels is not None:
        record["probabilities"] = labels
    try:
        value = orjson.dumps([RUL, record])
    except TypeError:  # beyond 64 bits, or no Unicode
        return
    into = ScoreLines()
    score_lines(value, into)
    assert len(into.end_ms) + len(into.flawed) == 2
    assert len(into.lines) >= len(into.end_ms)
    try:
        points = points_of(decode_scores(value))
    except PointError:
        # The remaining lines have a number of more than 64 bits, which InfluxDB refuses.
        if len(into.end_ms) == 2:
            rest = " ".join(line.split(" ", 1)[1] for line in into.lines[1:])
            numbers = map(int, re.findall(r"-?\d+(?=i[, ]|\b$)", rest))
            assert any(not -(2**63) <= number < 2**63 for number in numbers)
        return
    assert [plain(line) for line in into.lines] == [plain(to_line(point)) for point in points]


@pytest.mark.parametrize("change", BROKEN, ids=range(len(BROKEN)))
def test_a_flawed_score_is_reported_and_the_others_become_lines(change: dict[str, Any]) -> None:
    if change in ({"end_ms": 2**62}, {"run_ms": 2**63}):
        return  # a line, which InfluxDB refuses
    if change == {"rul_low": float("-inf")}:
        return  # null in JSON: no interval
    record = RUL | change
    found = lines_of(RUL, record, ACTIVITY)
    assert [plain(line) for line in found.lines] == [to_line(p) for p in points_of([RUL, ACTIVITY])]
    (flawed,) = found.flawed
    assert orjson.loads(flawed.raw) == orjson.loads(orjson.dumps([record]))
    assert flawed.detail


@pytest.mark.parametrize("value", [b"", b"{}", b"null", b"\xff", b'"x"', b"[1"])
def test_a_record_that_is_no_array_is_an_error_and_affects_no_other(value: bytes) -> None:
    into = lines_of(RUL)
    with pytest.raises(PointError):
        score_lines(value, into)
    assert len(into.lines) == 1


@pytest.mark.parametrize("value", [b"[1]", b"[null]", b"[[]]", b'["x"]', b"[{}]"])
def test_a_score_that_is_no_object_is_flawed(value: bytes) -> None:
    into = ScoreLines()
    score_lines(value, into)
    assert [flawed.raw for flawed in into.flawed] == [value]


def test_a_score_without_interval_is_a_line() -> None:
    record = {key: value for key, value in RUL.items() if key not in ("rul_low", "rul_high")}
    assert lines_of(record).lines == [to_line(points_of([record])[0])]


def test_nothing_can_be_smuggled_into_a_line() -> None:
    for name in ("site", "device", "stream", "model"):
        found = lines_of(RUL | {name: "x rul=1 5\nrul,a=b"})
        assert found.lines == [], name
        assert len(found.flawed) == 1
    found = lines_of(ACTIVITY | {"activity": 'x",rul=1 5\n'})
    assert found.lines[0].count('\\"') == 1


def test_records_of_the_product_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pipeline.points.scorelines._slow_lines", lambda record: pytest.fail(f"slow: {record}")
    )
    into = ScoreLines()
    score_lines(encode_scores([RUL, ACTIVITY]), into)
    assert len(into.lines) == 2
