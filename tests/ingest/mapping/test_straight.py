"""The straight way and the general way return the same readings."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusedMessage
from ingest.mapping.compiled import CompiledMapping, Extract, compile_mapping
from ingest.mapping.file import parse_mapping

T0_MS = 1_700_000_000_000
HEAD = 'topic = "a/+"\ndevice = "d"\nsite = "s"\nstream = "t"\n'
PLAIN = (
    HEAD
    + """
[time]
path = "t"
form = "{form}"
step_ms = 20
[channels]
x = {{ path = "{root}x", unit = "degC", to = "K" }}
y = {{ path = "{root}in.y", scale = 1e300 }}
z = "{root}in.z[0]"
"""
)
EACH = (
    HEAD
    + """
each = "rows"
{places}
[time]
path = "t"
form = "{form}"
[channels]
x = {{ path = "x", sign = -1 }}
y = "in.y"
"""
)

forms = st.sampled_from(["epoch-ms", "epoch-s"])
numbers = st.one_of(
    st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.just(10**30)
)
odd = st.sampled_from([None, True, False, "1", "", [], [1], {}, {"y": 1}])
cells = st.one_of(numbers, numbers, numbers, odd)
columns = st.one_of(cells, st.lists(cells, min_size=1, max_size=3))
times = st.one_of(
    st.integers(T0_MS, T0_MS + 2), st.sampled_from([0, 1.7e12, "1700000000000", None])
)
inner = st.fixed_dictionaries(
    {}, optional={"y": columns, "z": st.one_of(st.lists(columns, max_size=2), odd)}
)
objects = st.fixed_dictionaries(
    {"t": st.one_of(times, st.lists(times, max_size=3)), "x": columns},
    optional={"in": st.one_of(inner, inner, odd)},
)


def _outcome(mapping: CompiledMapping, body: Any) -> Extract | tuple[str, str]:
    try:
        return mapping.read("a/d", json.dumps(body).encode(), T0_MS)
    except RefusedMessage as exc:
        return exc.reason.value, exc.detail.replace("$.", "")


def _mapping(text: str) -> CompiledMapping:
    return compile_mapping(parse_mapping(text, "test"))


@given(objects, forms)
def test_one_object(body: dict[str, Any], form: str) -> None:
    straight = _mapping(PLAIN.format(form=form, root=""))
    general = _mapping(PLAIN.format(form=form, root="$."))
    one, other = _outcome(straight, body), _outcome(general, body)
    assert _comparable(one) == _comparable(other)


@given(st.one_of(st.lists(objects, max_size=4), objects), forms)
def test_an_array_of_objects(rows: Any, form: str) -> None:
    straight = _mapping(EACH.format(form=form, places=""))
    general = _mapping(EACH.format(form=form, places='places = { k = "$.k" }'))
    body = {"rows": rows, "k": 1}
    assert _comparable(_outcome(straight, body)) == _comparable(_outcome(general, body))


_even = st.integers(1, 4).flatmap(
    lambda rows: st.fixed_dictionaries(
        {
            "t": st.one_of(st.lists(times, min_size=rows, max_size=rows), times),
            "x": st.lists(st.one_of(numbers, numbers, cells), min_size=rows, max_size=rows),
            "y": st.lists(numbers, min_size=rows, max_size=rows),
        }
    )
)
COLUMNS = (
    HEAD
    + """
[time]
path = "t"
form = "{form}"
step_ms = 20
[channels]
x = {{ path = "{root}x", offset = 1.5 }}
y = "{root}y"
"""
)


@given(_even, forms)
def test_columns(body: dict[str, Any], form: str) -> None:
    straight = _mapping(COLUMNS.format(form=form, root=""))
    general = _mapping(COLUMNS.format(form=form, root="$."))
    assert _comparable(_outcome(straight, body)) == _comparable(_outcome(general, body))


def test_plain_columns_take_the_straight_way_and_keep_their_values() -> None:
    body = {"t": [T0_MS, T0_MS + 5], "x": [1, 2.5], "y": [True, -3]}
    mapping = _mapping(COLUMNS.format(form="epoch-ms", root=""))
    [block] = mapping.read("a/d", json.dumps(body).encode(), T0_MS).blocks
    assert block.values == {"x": [2.5, 4.0], "y": [1.0, -3.0]}
    assert block.ts_ms == [T0_MS, T0_MS + 5]
    assert list(map(type, block.values["y"])) == [float, float]


def test_a_plain_message_takes_the_straight_way() -> None:
    body = {"t": T0_MS, "x": 1, "in": {"y": 0, "z": [2]}}
    mapping = _mapping(PLAIN.format(form="epoch-ms", root=""))
    [block] = mapping.read("a/d", json.dumps(body).encode(), T0_MS).blocks
    assert block.values == {"x": (274.15,), "y": (0.0,), "z": (2.0,)}  # tuples: of this way only


def _comparable(outcome: Extract | tuple[str, str]) -> Any:
    if isinstance(outcome, tuple):
        return outcome
    refused = outcome.refused and (outcome.refused.reason, outcome.refused.detail.replace("$.", ""))
    return outcome.readings, outcome.ignored, refused
