"""Hypothesis strategies for untrusted input: nearly valid JSON, nearly valid bytes, any bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

from ingest.sparkplug.wire import Metric, encode_sparkplug

T0_MS = 1_750_000_000_000

names = st.sampled_from(["ts", "t0", "dt_ms", "values", "acc_x", "T24", "", "a b", "x" * 65])
numbers = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from([0, 1, T0_MS, -1, 2**53, 1e308, 3.5e38])
)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5)
anything: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return the bytes with a few of them changed, removed or inserted."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + draw(st.integers(1, 40))]
            case 2:
                data[at:at] = draw(st.binary(max_size=12))
            case _:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


VALID = [
    b'{"ts": 1750000000000, "values": {"n": 1}}',
    b'{"ts": [1750000000000, 1750000000020], "values": {"n": [1, 2.5], "m": [0, -1e-5]}}',
    b'{"t0": 1750000000000, "dt_ms": 20, "values": {"acc_x": [0, 0.1, 3]}}',
]
forms = st.fixed_dictionaries(
    {},
    optional={
        "ts": st.just(T0_MS) | st.lists(st.just(T0_MS), max_size=3) | anything,
        "t0": st.just(T0_MS) | anything,
        "dt_ms": st.integers(-1, 50) | anything,
        "values": st.dictionaries(
            names, numbers | st.lists(numbers, max_size=3) | anything, max_size=4
        )
        | anything,
    },
)
bodies = (
    st.binary(max_size=200)
    | st.sampled_from(VALID).flatmap(nearly)
    | (forms | anything).map(
        lambda document: orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
    )
    | st.sampled_from([b"[" * 3000, b'{"values":' * 1500, b"1" * 3000, b'"' + b"\xff" * 9])
)
"""Bodies of JSON messages."""

metrics = st.builds(
    Metric,
    name=st.none()
    | st.sampled_from(["A", "B", "bdSeq", "", "\ufffd", "x" * 300])
    | st.text(max_size=4),
    alias=st.none() | st.integers(0, 4) | st.integers(0, 2**64 - 1),
    ts_ms=st.none() | st.integers(T0_MS, T0_MS + 50) | st.integers(0, 2**64 - 1),
    datatype=st.none() | st.integers(0, 40) | st.integers(0, 2**32 - 1),
    is_historical=st.booleans(),
    is_null=st.booleans(),
)
values = st.sampled_from(
    [
        ("int_value", st.integers(0, 2**32 - 1)),
        ("long_value", st.integers(0, 2**64 - 1)),
        ("float_value", st.floats(width=32)),
        ("double_value", st.floats()),
        ("boolean_value", st.booleans()),
        ("string_value", st.text(max_size=4)),
        ("bytes_value", st.binary(max_size=4)),
        (None, st.none()),
    ]
).flatmap(lambda kind: st.tuples(st.just(kind[0]), kind[1]))


def _payload(
    reported: Sequence[tuple[Metric, tuple[Any, Any]]], ts_ms: int, seq: int | None
) -> bytes:
    filled = [metric._replace(field=field, value=value) for metric, (field, value) in reported]
    return encode_sparkplug(ts_ms, filled, seq)


payloads = st.builds(
    _payload,
    st.lists(st.tuples(metrics, values), max_size=6),
    st.just(T0_MS) | st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 5) | st.integers(0, 300),
)
"""Bodies of Sparkplug messages: valid protobuf with any content."""

sparkplug_bodies = payloads | payloads.flatmap(nearly) | st.binary(max_size=100)

topics = st.sampled_from(
    ["sensors/p/d/imu", "sensors/p/d", "sensors/../d/imu", "sensors/", "other/a/b/c", "", "\ufffd"]
) | st.text(max_size=30)
sparkplug_topics = st.sampled_from(
    [
        *(f"spBv1.0/g/{kind}/n" for kind in ("NBIRTH", "NDATA", "NDEATH")),
        *(f"spBv1.0/g/{kind}/n/d" for kind in ("DBIRTH", "DDATA", "DDEATH")),
    ]
)
odd_sparkplug_topics = st.sampled_from(
    ["spBv1.0/", "spBv1.0/STATE/kp", "spBv1.0/STATE", "spBv1.0/g/NCMD/n", "spBv1.0/g/NDATA/"]
) | st.text(max_size=30).map("spBv1.0/".__add__)
