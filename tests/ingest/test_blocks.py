"""Records of the topic `readings` as columns."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.blocks import (
    Block,
    batches_of,
    decode_messages,
    decode_record,
    decode_ticks,
    encode_record,
)
from ingest.errors import RefusalReason
from ingest.messages import Batch, Tick, Unreadable, encode_envelope
from ingest.payloads import MAX_FLOAT32, YEAR_2000_MS
from tests.fakes.records import encode_bundle
from tests.fuzz.limits import examples, within
from tests.fuzz.strategies import nearly
from tests.fuzz.targets import record as decode_any

T0 = 1_700_000_000_000
FLOAT32 = st.floats(-MAX_FLOAT32, MAX_FLOAT32, width=32)
FLOAT64 = st.floats(-MAX_FLOAT32, MAX_FLOAT32)


def block(
    counts: list[int],
    values: list[list[float]],
    *,
    sender: list[int] | None = None,
    ts_ms: list[int] | None = None,
    recv_ms: list[int] | None = None,
    stream: str = "engine",
) -> Block:
    channels = tuple(f"c{at}" for at in range(len(values[0])))
    sender = sender or [0] * len(counts)
    return Block(
        stream=stream,
        channels=channels,
        senders=tuple(("plant", f"d{at}") for at in range(max(sender) + 1)),
        sender=np.array(sender, np.int32),
        recv_ms=np.array(recv_ms or [T0] * len(counts), np.int64),
        counts=np.array(counts, np.int64),
        ts_ms=np.array(ts_ms or [T0] * sum(counts), np.int64),
        values=np.array(values, np.float64),
    )


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    if draw(st.booleans()):
        counts = [counts[0]] * len(counts)
    n, c = sum(counts), draw(st.integers(1, 4))
    number = draw(st.sampled_from([FLOAT32, FLOAT64]))
    row = st.lists(number, min_size=c, max_size=c)
    spread = draw(st.sampled_from([0, 200, 60_000, 2**31, 2**62]))
    first = draw(st.sampled_from([YEAR_2000_MS, T0, 2**63 - 1 - spread]))
    return block(
        counts,
        draw(st.lists(row, min_size=n, max_size=n)),
        sender=draw(st.lists(st.integers(0, 300), min_size=len(counts), max_size=len(counts))),
        ts_ms=draw(st.lists(st.integers(first, first + spread), min_size=n, max_size=n)),
        recv_ms=draw(
            st.lists(st.integers(0, 2**53 - 1), min_size=len(counts), max_size=len(counts))
        ),
    )


def assert_same(found: Any, expected: Block) -> None:
    assert isinstance(found, Block)
    for name in ("stream", "channels", "senders"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("sender", "recv_ms", "counts", "ts_ms", "values"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@given(st.lists(blocks() | st.builds(Tick, st.integers(0, 2**53 - 1), st.just(5)), max_size=4))
def test_a_record_gives_back_its_parts_in_order(parts: list[Block | Tick]) -> None:
    value = encode_record(parts)
    found = decode_record(value)
    assert len(found) == len(parts)
    for item, part in zip(found, parts, strict=True):
        if isinstance(part, Tick):
            assert item == part
        else:
            assert_same(item, part)
    assert decode_ticks(value) == [part for part in parts if isinstance(part, Tick)]


def test_numbers_take_half_the_bytes_where_float32_is_exact() -> None:
    exact, inexact = block([1] * 100, [[0.5] * 4] * 100), block([1] * 100, [[0.1] * 4] * 100)
    sizes = [len(encode_record([each])) for each in (exact, inexact)]
    assert sizes[1] - sizes[0] == 100 * 4 * 4
    assert sizes[0] < 100 * (4 * 4 + 3) + 200  # sender, times, and one header


def test_messages_of_a_block_are_batches() -> None:
    one = block(
        [2, 1, 1], [[0, 1], [2, 3], [4, 5], [6, 7]], sender=[1, 0, 1], recv_ms=[T0, T0 + 1, T0 + 2]
    )
    found = decode_messages(encode_record([one, Tick(T0, 0)]))
    assert found[-1] == Tick(T0, 0)
    assert [(b.device, b.recv_ms, b.values) for b in found if isinstance(b, Batch)] == [
        ("d1", T0, {"c0": [0, 2], "c1": [1, 3]}),
        ("d0", T0 + 1, {"c0": [4], "c1": [5]}),
        ("d1", T0 + 2, {"c0": [6], "c1": [7]}),
    ]
    chosen = batches_of(one, ("plant", "d1"))
    assert [b.recv_ms for b in chosen] == [T0, T0 + 2]
    assert batches_of(one, ("plant", "d2")) == []


def test_records_of_earlier_versions_are_read() -> None:
    body = orjson.dumps({"ts": T0, "values": {"T24": 641.8}})
    (found,) = decode_record(encode_bundle([encode_envelope("s", "d", "imu", 5, body)]))
    assert isinstance(found, Batch)
    assert found.values == {"T24": (641.8,)}


def altered(change: dict[str, Any], cut: int = 0) -> bytes:
    """A record of one block with a changed header, between two good blocks."""
    good = encode_record([block([1, 1], [[1, 2], [3, 4]])])
    (size,) = struct.unpack_from("<I", good, 9)
    header = orjson.dumps(orjson.loads(good[13 : 13 + size]) | change)
    arrays = good[13 + size : len(good) - cut]
    body = struct.pack("<I", len(header)) + header + arrays
    return good + struct.pack("<cI", b"B", len(body)) + body + good[4:]


WRONG: list[dict[str, Any]] = [
    {"s": "../x"},
    {"s": 7},
    {"c": ["a", "a"]},
    {"c": ["a", "b c"]},
    {"c": "ab"},
    {"c": []},
    {"d": [["plant"]]},
    {"d": ["ab"]},
    {"d": [["plant", "d 0"]]},
    {"d": [["plant", 7]]},
    {"d": [["plant", "d0"], ["plant", "d0"]]},
    {"d": []},
    {"d": None},
    {"m": 3},
    {"m": 2.0},
    {"m": "2"},
    {"m": [1]},
    {"m": -2},
    {"m": 2**62},
    {"n": 2**62},
    {"n": 0},
    {"k": 2},
    {"k": 0},
    {"k": True},
    {"k": "u1"},
    {"i": "f4"},
    {"i": "i4"},
    {"i": None},
    {"v": "u4"},
    {"v": "f8"},
    {"v": []},
    {"r": [-1, "u1"]},
    {"r": [2**53, "u1"]},
    {"r": [1.5, "u1"]},
    {"r": "u1"},
    {"t": [YEAR_2000_MS - 1, "u1"]},
    {"t": [2**63, "u1"]},
    {"t": [True, "u1"]},
    {"t": [T0, "u1", 1]},
]


@pytest.mark.parametrize("change", WRONG, ids=range(len(WRONG)))
def test_a_damaged_block_affects_no_neighbour(change: dict[str, Any]) -> None:
    before, found, after = decode_record(altered(change))
    assert isinstance(before, Block)
    assert isinstance(found, Unreadable)
    assert found.reason is RefusalReason.unreadable
    assert isinstance(after, Block)
    assert [type(item) for item in decode_record(altered({}))] == [Block] * 3
    assert isinstance(decode_record(altered({}, cut=1))[1], Unreadable)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_a_number_that_no_device_can_send_makes_a_block_unreadable(value: float) -> None:
    good = encode_record([block([1], [[0.1]])])
    assert good[-8:] == struct.pack("<d", 0.1)
    (found,) = decode_record(good[:-8] + struct.pack("<d", value))
    assert isinstance(found, Unreadable)
    signalling = encode_record([block([1], [[0.5]])])[:-4] + b"\x01\x00\xa0\x7f"
    assert isinstance(decode_record(signalling)[0], Unreadable)


@pytest.mark.parametrize("times", [(-1, 0), (0, -1), (2**53, 0), (0, 2**53)])
def test_a_tick_with_impossible_times_is_unreadable(times: tuple[int, int]) -> None:
    value = b"KPB1" + struct.pack("<cIqq", b"T", 16, *times)
    assert [type(item) for item in decode_record(value)] == [Unreadable]
    assert decode_ticks(value) == []


@pytest.mark.parametrize(
    "rest",
    [b"B", b"T\x00\x00", b"T\x10\x00\x00\x00short", b"X\x00\x00\x00\x00", b"B" + b"\xff" * 4],
)
def test_a_record_that_ends_too_soon_keeps_what_came_before(rest: bytes) -> None:
    found = decode_record(encode_record([Tick(1, 0)]) + rest)
    assert [type(item) for item in found] == [Tick, Unreadable]
    assert decode_ticks(encode_record([Tick(1, 0)]) + rest) == [Tick(1, 0)]


def test_a_record_without_parts_is_empty() -> None:
    assert decode_record(encode_record([])) == []


@examples(200)
@given(blocks().map(lambda each: encode_record([each, Tick(T0, 0), each])).flatmap(nearly))
def test_nearly_valid_records_raise_nothing(value: bytes) -> None:
    with within(10):
        decode_any(value)
