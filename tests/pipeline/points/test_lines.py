"""Lines: the same as InfluxDB's own client writes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.points.lines import to_line
from pipeline.points.points import Point
from tests.pipeline.points.test_scores import WORDS

FIELD_VALUES = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.text(max_size=8)
    | st.sampled_from(['say "hi"', "back\\slash", "two\nlines", 1e300, 5e-324, -0.0, 1e16])
)


@settings(deadline=None)  # the first example imports the client
@given(
    measurement=WORDS.filter(lambda name: name[0] not in "#_"),
    tags=st.dictionaries(WORDS, WORDS, max_size=4),
    fields=st.dictionaries(
        WORDS.filter(lambda name: "\\" not in name), FIELD_VALUES, min_size=1, max_size=4
    ),
    time_ns=st.integers(-(2**63), 2**63 - 1),
)
def test_line_is_that_of_the_influxdb_client(
    measurement: str, tags: dict[str, str], fields: dict[str, Any], time_ns: int
) -> None:
    client = pytest.importorskip("influxdb_client")
    theirs = client.Point(measurement).time(time_ns)
    for name, text in tags.items():
        theirs.tag(name, text)
    for name, value in fields.items():
        theirs.field(name, value)
    ours = Point(measurement, tuple(tags.items()), tuple(fields.items()), time_ns)
    assert to_line(ours) == theirs.to_line_protocol()
