"""A label is one point, whatever comes first, and however often."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from ingest.labels import LabelRecord, encode_label_record
from pipeline.errors import PointError
from pipeline.points.labels import label_point, read_label_point
from pipeline.points.lines import to_line
from pipeline.points.measurements import LABEL, measurements
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.recordings import T0_MS, label

GIVEN = label("engine-1", "a", "failed", T0_MS, by="Ada")
REVOKED = label("engine-1", "a", "failed", T0_MS, revoked=True)


def test_point_has_the_tags_and_fields_of_the_table() -> None:
    point = label_point(label("engine-1", "a", "span", T0_MS, T0_MS + 10, label="climbing"))
    assert tuple(name for name, _ in point.tags) == LABEL.tags
    fields = {name for name, _ in point.fields}
    assert fields == {field.name for field in LABEL.fields if field.always}
    assert {name for name, _ in label_point(REVOKED).fields} - fields == {"revoked"}
    assert point.time_ns // 1_000_000 == T0_MS
    assert LABEL in measurements()


@pytest.mark.parametrize("order", list(permutations([GIVEN, GIVEN, REVOKED])))
def test_label_overwrites_itself_and_a_revocation_stays(
    tmp_path: Path, order: tuple[LabelRecord, ...]
) -> None:
    results = ResultsFile(tmp_path / "results.db")
    for record in order:
        assert results.write([label_point(record)]) == []
    assert results.select("SELECT id, revoked FROM label") == [("a", 1)]
    results.close()


def test_labels_of_one_moment_are_several_points(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.db")
    for name in "abc":
        results.write([label_point(label("engine-1", name, "failed", T0_MS))])
    assert results.select("SELECT id FROM label ORDER BY id") == [("a",), ("b",), ("c",)]
    results.close()


def test_line_of_a_label() -> None:
    line = to_line(read_label_point(encode_label_record(GIVEN)))
    assert line.startswith('label,device=engine-1,kind=failed,site=plant-7,stream=engine by="Ada"')


def test_record_that_is_no_label_is_refused() -> None:
    with pytest.raises(PointError, match="not a label"):
        read_label_point(b'{"id": "a"}')
