"""Message bodies, and the bundles that carry them."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest import payloads
from ingest.blocks import decode_messages
from ingest.errors import RefusalReason, RefusedMessage
from ingest.messages import Batch, Tick, Unreadable, columns, encode_envelope
from ingest.payloads import (
    MAX_CHANNELS,
    MAX_PAYLOAD_BYTES,
    MAX_READINGS,
    YEAR_2000_MS,
    BatchMessage,
    ReadingMessage,
    SteadyBatchMessage,
    check_document,
    decode_payload,
    encode_payload,
    event_times,
    unit_advice,
)
from ingest.topics import Address
from tests.fakes.records import encode_bundle, encode_tick

T0 = 1_700_000_000_000
ONE = {"ts": T0, "values": {"T24": 641.8, "T30": 1589}}
COLUMNS = {"ts": [T0, T0 - 20], "values": {"acc_x": [0, 0.1], "acc_y": [1, -1.5]}}
STEADY = {"t0": T0, "dt_ms": 20, "values": {"acc_x": [0, 0.1, 0.2]}}


def refusal(payload: bytes | dict[str, Any]) -> RefusedMessage:
    with pytest.raises(RefusedMessage) as refused:
        decode_payload(payload if isinstance(payload, bytes) else orjson.dumps(payload))
    return refused.value


@pytest.mark.parametrize(
    ("body", "times"),
    [(ONE, [T0]), (COLUMNS, [T0, T0 - 20]), (STEADY, [T0, T0 + 20, T0 + 40])],
)
def test_each_form_is_accepted_and_has_event_times(body: dict[str, Any], times: list[int]) -> None:
    document = decode_payload(orjson.dumps(body))
    assert document == body
    found = event_times(document)
    assert found.dtype == np.int64
    assert found.tolist() == times


WRONG: list[tuple[str, bytes | dict[str, Any]]] = [
    ("empty", b""),
    ("empty", b" \n"),
    ("empty", {"ts": T0, "values": {}}),
    ("empty", {"ts": [], "values": {"a": []}}),
    ("empty", {"t0": T0, "dt_ms": 1, "values": {"a": []}}),
    ("not_json", b"{"),
    ("not_json", b"\xff\xfe"),
    ("not_json", b'{"ts": 1700000000000, "values": {"a": NaN}}'),
    ("not_json", b'{"ts": 1700000000000, "values": {"a": -Infinity}}'),
    ("not_json", b'{"ts": 1700000000000, "values": {"a": 1e999}}'),
    ("not_json", b'{"ts": 1700000000000, "values": {"a": "\xc3"}}'),
    ("not_json", b"[" * 5000),
    ("wrong_shape", b"[" * 500 + b"]" * 500),
    ("wrong_shape", b"null"),
    ("wrong_shape", b"17"),
    ("wrong_shape", {}),
    ("wrong_shape", {"ts": T0}),
    ("wrong_shape", {"values": {"a": 1}}),
    ("wrong_shape", ONE | {"unit": "K"}),
    ("wrong_shape", COLUMNS | {"t0": T0}),
    ("wrong_shape", {"ts": T0, "values": [1]}),
    ("wrong_shape", {"ts": T0, "values": {"a b": 1}}),
    ("wrong_shape", {"ts": T0, "values": {"": 1}}),
    ("wrong_shape", {"ts": T0, "values": {"a" * 65: 1}}),
    ("wrong_shape", {"ts": [T0], "values": {"a": 1}}),
    ("wrong_shape", {"ts": [T0], "values": {"a": [1], "b": [1, 2]}}),
    ("wrong_shape", {"ts": [T0, T0], "values": {"a": [1]}}),
    ("wrong_shape", {"t0": T0, "dt_ms": 1, "values": {"a": [1], "b": [1, 2]}}),
    ("wrong_shape", {"t0": T0, "values": {"a": [1]}}),
    ("wrong_type", {"ts": T0, "values": {"a": [1]}}),
    ("wrong_type", {"ts": T0, "values": {"a": True}}),
    ("wrong_type", {"ts": T0, "values": {"a": None}}),
    ("wrong_type", {"ts": T0, "values": {"a": "1"}}),
    ("wrong_type", {"ts": [T0], "values": {"a": [{}]}}),
    ("wrong_type", {"ts": [T0, T0], "values": {"a": [1, False]}}),
    ("wrong_type", {"ts": float(T0), "values": {"a": 1}}),
    ("wrong_type", {"ts": True, "values": {"a": 1}}),
    ("wrong_type", {"ts": str(T0), "values": {"a": 1}}),
    ("wrong_type", {"ts": None, "values": {"a": 1}}),
    ("wrong_type", {"ts": [T0, 0.5], "values": {"a": [1, 1]}}),
    ("wrong_type", {"ts": 2**63, "values": {"a": 1}}),
    ("wrong_type", b'{"ts": 18446744073709551616, "values": {"a": 1}}'),
    ("wrong_type", {"t0": T0, "dt_ms": 0, "values": {"a": [1]}}),
    ("wrong_type", {"t0": T0, "dt_ms": 1.0, "values": {"a": [1]}}),
    ("wrong_type", {"t0": T0, "dt_ms": True, "values": {"a": [1]}}),
    ("wrong_type", {"t0": T0, "dt_ms": 2**62, "values": {"a": [1, 2, 3]}}),
    ("not_finite", {"ts": T0, "values": {"a": 1e39}}),
    ("not_finite", {"ts": [T0], "values": {"a": [-1e300]}}),
    ("not_finite", b'{"ts": 1700000000000, "values": {"a": 1' + b"0" * 300 + b"}}"),
    ("clock_unset", {"ts": 17, "values": {"a": 1}}),
    ("clock_unset", {"ts": -1, "values": {"a": 1}}),
    ("clock_unset", {"ts": [T0, YEAR_2000_MS - 1], "values": {"a": [1, 1]}}),
    ("clock_unset", {"t0": 0, "dt_ms": 20, "values": {"a": [1]}}),
    ("too_large", b" " * (MAX_PAYLOAD_BYTES + 1)),
    ("too_large", {"ts": T0, "values": {f"c{n}": 1 for n in range(MAX_CHANNELS + 1)}}),
    ("too_many_readings", {"t0": T0, "dt_ms": 1, "values": {"a": [0] * (MAX_READINGS + 1)}}),
]


@pytest.mark.parametrize(("reason", "payload"), WRONG, ids=range(len(WRONG)))
def test_wrong_body_is_refused_with_its_reason(
    reason: str, payload: bytes | dict[str, Any]
) -> None:
    found = refusal(payload)
    assert found.reason.value == reason, found.detail
    assert len(found.detail) < 700


def test_refusal_names_the_place_and_the_value() -> None:
    detail = refusal({"ts": [T0], "values": {"acc_x": ["fast"]}}).detail
    assert detail == "values.acc_x.0: Input should be a valid number, got 'fast'"
    detail = refusal({"ts": [T0], "values": {"acc_x": [1, 2]}}).detail
    assert "acc_x has 2 values for 1 event times" in detail


def test_limits_are_inclusive() -> None:
    check_document({"ts": YEAR_2000_MS, "values": {"a": 3.4e38}})
    check_document({"ts": 2**63 - 1, "values": {"a": -3.4028234663852886e38}})
    check_document({"ts": T0, "values": {f"c{n}": 1 for n in range(MAX_CHANNELS)}})
    check_document({"t0": T0, "dt_ms": 1, "values": {"a": [0] * MAX_READINGS}})
    check_document({"t0": T0, "dt_ms": 2**62, "values": {"a": [1]}})
    assert event_times({"t0": T0, "dt_ms": 2**63, "values": {"a": [1]}}).tolist() == [T0]


TIMES = st.one_of(
    st.integers(T0, T0 + 10**6),
    st.sampled_from([YEAR_2000_MS, YEAR_2000_MS - 1, 2**63 - 1, 2**63, 2**64 - 1, 0, -1, -(2**63)]),
    st.sampled_from([True, None, 1.5, float(T0), "1", [], {}]),
)
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([True, None, "1", [], {}, 1e39, -1e39, 3.4028234663852886e38]),
)
CHANNELS = st.sampled_from(["a", "b", "T24", "acc_x"]) | st.sampled_from(["", "a b", "-a", "ä"])
GOOD_TIMES = st.integers(T0, T0 + 10**6)
GOOD_VALUES = st.floats(allow_nan=False, width=32, allow_infinity=False) | st.integers(-9, 9)


def mostly(good: st.SearchStrategy, bad: st.SearchStrategy) -> st.SearchStrategy:
    return st.integers(0, 15).flatmap(lambda n: bad if n == 0 else good)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(0, 4))
    time, value = mostly(GOOD_TIMES, TIMES), mostly(GOOD_VALUES, VALUES)
    size = mostly(st.just(n), st.integers(0, 4))
    column = size.flatmap(lambda k: st.lists(value, min_size=k, max_size=k))
    names = mostly(st.sampled_from(["a", "b", "T24"]), CHANNELS)
    cells = draw(st.sampled_from([value, column, column]))
    document: dict[str, Any] = {"values": draw(st.dictionaries(names, cells, max_size=4))}
    if draw(st.booleans()):
        times = st.lists(time, min_size=n, max_size=n) if cells is column else time
        document["ts"] = draw(mostly(times, TIMES))
    else:
        document["t0"] = draw(time)
        document["dt_ms"] = draw(mostly(st.integers(1, 1000), TIMES | st.just(0)))
    for key in draw(mostly(st.just([]), st.lists(st.sampled_from(["ts", "t0", "x"]), max_size=2))):
        document[key] = draw(time)
    for key in draw(mostly(st.just([]), st.lists(st.sampled_from(["ts", "values"]), max_size=1))):
        document.pop(key, None)
    return document


def by_the_models(document: dict[str, Any]) -> bool:
    for form in (ReadingMessage, BatchMessage, SteadyBatchMessage):
        try:
            form.model_validate(document)
        except ValidationError:
            continue
        return True
    return False


@settings(max_examples=600, deadline=None)
@given(document=documents())
def test_fast_path_and_models_accept_the_same(document: dict[str, Any]) -> None:
    accepted = by_the_models(document)
    assert payloads._is_plain(document) is accepted
    try:
        decode_payload(orjson.dumps(document))
    except RefusedMessage:
        assert not accepted
    else:
        assert accepted
        times = event_times(document)
        assert (times >= YEAR_2000_MS).all()


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists) | st.binary())
def test_any_bytes_raise_nothing_but_a_refusal(content: Any) -> None:
    payload = content if isinstance(content, bytes) else orjson.dumps(content)
    with pytest.raises(RefusedMessage):
        decode_payload(payload)


def test_later_of_two_equal_keys_counts_and_is_stored_with_the_earlier() -> None:
    payload = b'{"ts": 1700000000000, "values": {"a": "x", "a": 1}}'
    assert decode_payload(payload)["values"] == {"a": 1}


def test_worst_garbage_is_refused_in_little_time() -> None:
    """Faults are not collected: one per column at most (a bound on work, not on time)."""
    flood = orjson.dumps({"ts": [""] * 9000, "values": {"a": [""] * 9000}})
    assert refusal(flood).reason is RefusalReason.wrong_type


# Bundles ----------------------------------------------------------------------------------------


def test_bundle_keeps_order_content_and_receive_times() -> None:
    sent = [(ONE, 5), (COLUMNS, 6), (STEADY, 7)]
    lines = [encode_envelope("s", "d", "imu", recv, orjson.dumps(b)) for b, recv in sent]
    tick = Tick(now_ms=T0, since_ms=T0 - 9)
    items = decode_messages(encode_bundle([*lines, encode_tick(tick)]))
    assert items[3] == tick
    for item, (body, recv_ms) in zip(items[:3], sent, strict=True):
        assert isinstance(item, Batch)
        assert (item.site, item.device, item.stream, item.recv_ms) == ("s", "d", "imu", recv_ms)
        assert item.ts_ms.tolist() == event_times(body).tolist()
    assert items[0].values == {"T24": (641.8,), "T30": (1589,)}
    assert items[1].values == COLUMNS["values"]


def test_a_body_is_kept_unchanged_on_one_line() -> None:
    payload = b'{"ts": 1700000000000,\r\n "values": {"a": 1.50}}'
    line = encode_envelope("s", "d", "imu", 1, payload)
    assert b'"b":{"ts": 1700000000000,   "values": {"a": 1.50}}' in line
    assert len(encode_bundle([line, line]).splitlines()) == 2


def test_empty_bundle() -> None:
    assert decode_messages(encode_bundle([])) == []


@pytest.mark.parametrize(
    "bad",
    [
        b"17",
        b"null",
        b"[]",
        b"{}",
        b'{"d":["s","d"],"r":1,"b":{}}',
        b'{"d":["s","d","x"],"r":1}',
        b'{"d":["s","d",["x"]],"r":1,"b":{}}',
        b'{"d":["s","d","../x"],"r":1,"b":{}}',
        b'{"d":["s","d",7],"r":1,"b":{}}',
        b'{"d":"sdx","r":true,"b":{}}',
        b'{"d":["s","d","x"],"r":-1,"b":{}}',
        b'{"d":["s","d","x"],"r":9223372036854775807,"b":{}}',
        b'{"tick":1}',
        b'{"tick":1,"since":"2"}',
        b'{"tick":1.5,"since":2}',
        b'{"d":["s","d","x"],"r":1,"b":{"ts"',
        b'{"d":["s","d","x"],"r":1,"b":{"ts":NaN}}',
        b"\xff\xff",
    ],
)
def test_a_bad_envelope_affects_no_neighbour(bad: bytes) -> None:
    good = encode_envelope("s", "d", "imu", 5, orjson.dumps(ONE))
    before, found, after = decode_messages(encode_bundle([good, bad, good]))
    assert isinstance(found, Unreadable)
    assert found.reason is RefusalReason.unreadable
    for neighbour in (before, after):
        assert isinstance(neighbour, Batch)
        assert neighbour.values == {"T24": (641.8,), "T30": (1589,)}


def test_bad_body_in_a_good_envelope_keeps_its_address_and_reason() -> None:
    body = orjson.dumps({"ts": 1, "values": {"a": 1}})
    (found,) = decode_messages(encode_bundle([encode_envelope("s", "d", "imu", 5, body)]))
    assert isinstance(found, Unreadable)
    assert (found.reason, found.raw) == (RefusalReason.clock_unset, body)
    assert (found.address, found.recv_ms) == (Address("s", "d", "imu"), 5)


@pytest.mark.parametrize("value", [b"", b"{}", b"\x00", b"[", b'"x"', b"[[["])
def test_record_that_is_not_a_bundle_is_unreadable_as_a_whole(value: bytes) -> None:
    found = decode_messages(value)
    assert [type(item) for item in found] == [Unreadable]


@given(st.binary(max_size=60))
def test_decoding_a_bundle_never_raises(value: bytes) -> None:
    decode_messages(value)
    decode_messages(b"[" + value + b"]")


# Batches ----------------------------------------------------------------------------------------


def batch(values: dict[str, list[float]]) -> Batch:
    n = len(next(iter(values.values())))
    return Batch("s", "d", "imu", 1, T0 + np.arange(n), values)


def test_columns_are_float32_in_model_order_and_extra_channels_stay_out() -> None:
    table = columns(batch({"x": [0.1, 2], "y": [3, 4], "z": [5, 6]}), ("z", "x"))
    assert table.dtype == np.float32
    assert table.shape == (2, 2)
    assert table.tolist() == [[5, float(np.float32(0.1))], [6, 2]]


@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=20))
def test_values_are_rounded_to_float32_once(values: list[float]) -> None:
    expected = np.array(values, dtype=np.float64).astype(np.float32)
    document = decode_payload(encode_payload([T0] * len(values), {"x": values}))
    table = columns(batch(document["values"]), ["x"])
    np.testing.assert_array_equal(table[:, 0], expected)


def test_missing_channels_are_all_named() -> None:
    with pytest.raises(RefusedMessage, match="needs a, c; the message has b, d") as refused:
        columns(batch({"b": [1.0], "d": [1.0]}), ("a", "b", "c"))
    assert refused.value.reason is RefusalReason.missing_channel


@pytest.mark.parametrize(
    ("scale", "unit"), [(1, "seconds"), (10**6, "microseconds"), (10**9, "nanoseconds")]
)
def test_an_event_time_in_another_unit_is_told_as_that(scale, unit):
    assert unit_advice(1_750_000_000 * scale).startswith(f"it looks like {unit}, send milliseconds")
    assert unit_advice(1_750_000_000_000) == unit_advice(17) == unit_advice(-1) == ""


def test_the_refusal_of_epoch_seconds_names_the_unit():
    body = b'{"ts": 1750000000, "values": {"a": 1}}'
    with pytest.raises(RefusedMessage, match="looks like seconds, send milliseconds") as caught:
        decode_payload(body)
    assert caught.value.reason is RefusalReason.clock_unset
