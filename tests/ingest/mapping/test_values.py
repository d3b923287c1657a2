"""The number of a channel, from whatever a device sends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.errors import ValueFault
from ingest.mapping.values import converter
from ingest.payloads import MAX_FLOAT32


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        ({}, 2, 2.0),
        ({}, True, 1.0),
        ({}, None, None),
        ({"scale": -0.5, "offset": 1.0}, 3, -0.5),
        ({"text": True}, "23.4", 23.4),
        ({"text": True}, " -1e-2 ", -0.01),
        ({"text": True}, ".5", 0.5),
        ({"text": True, "decimal": ","}, "23,4", 23.4),
        ({"text": True}, 7, 7.0),
        ({"missing": frozenset({"", "unknown"})}, " unknown ", None),
        ({"missing": frozenset({"", "unknown"})}, "", None),
        ({"values": {"open": 1, "1": 2, "true": 3}}, "open", 1.0),
        ({"values": {"open": 1, "1": 2, "true": 3}}, 1, 2.0),
        ({"values": {"open": 1, "1": 2, "true": 3}}, True, 3.0),
        ({"values": {"open": 1}}, None, None),
    ],
)
def test_what_is_a_number(keys: dict[str, Any], value: Any, expected: float | None) -> None:
    found = converter(**keys)(value)
    assert found == expected
    assert found is None or type(found) is float


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        ({}, "2", "set text = true"),
        ({}, [], "an array is not a number"),
        ({}, {}, "an object is not a number"),
        ({}, b"2", "a byte string is not a number"),
        ({}, float("nan"), "no finite float32"),
        ({}, float("-inf"), "no finite float32"),
        ({}, 10**400, "no finite float32"),
        ({"scale": 1e300}, 1e300, "no finite float32"),
        ({"text": True}, "23,4", "decimal sign '.'"),
        ({"text": True, "decimal": ","}, "23.4", "decimal sign ','"),
        ({"text": True}, "1_0", "is not a number"),
        ({"text": True}, "nan", "is not a number"),
        ({"text": True}, "٣", "is not a number"),
        ({"text": True}, "23 W", "is not a number"),
        ({"values": {"open": 1}}, "ajar", "'ajar' is not in values, which has open"),
        ({"values": {"open": 1}}, 1.5, "a float is not a text"),
        ({"values": {"open": 1}}, 10**30, "an integer is not a text"),
    ],
)
def test_what_is_none_is_told(keys: dict[str, Any], value: Any, told: str) -> None:
    with pytest.raises(ValueFault) as caught:
        converter(**keys)(value)
    assert told in str(caught.value)


@given(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
def test_any_value_is_a_finite_number_or_a_fault(
    value: Any, scale: float, offset: float, text: bool
) -> None:
    try:
        found = converter(scale, offset, text=text)(value)
    except ValueFault:
        return
    assert found is None or abs(found) <= MAX_FLOAT32
