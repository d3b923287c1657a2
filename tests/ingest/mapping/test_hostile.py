"""Any bytes, in any format, are readings within the limits or a refusal; nothing else comes out."""

from __future__ import annotations

import itertools

import cbor2
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusedMessage
from ingest.mapping.compiled import CompiledMapping, compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.payloads import MAX_PAYLOAD_BYTES, decode_payload, encode_payload
from tests.ingest.mapping.samples import SAMPLES, T0_MS

MAPPINGS = {
    name: compile_mapping(parse_mapping(sample.text, name)) for name, sample in SAMPLES.items()
}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from([T0_MS, "1.5", "", "nan"]),
)
keys = st.sampled_from(["rows", "t", "x", "y", "1", 1, True, None, b"x", 1.5])
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=20,
)
_row = st.fixed_dictionaries(
    {"t": st.one_of(st.just(T0_MS), scalars)}, optional={1: documents, "y": documents}
)
rows = st.fixed_dictionaries({"rows": st.lists(_row, max_size=3)})


@st.composite
def _damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A sample of which some bytes are others, missing, or doubled."""
    name = draw(st.sampled_from(sorted(SAMPLES)))
    body = bytearray(SAMPLES[name].body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return name, bytes(body)


def _check(mapping: CompiledMapping, body: bytes) -> None:
    try:
        extract = mapping.read("a/d", body, T0_MS)
    except RefusedMessage as exc:
        assert exc.reason.value in ("mapping", "missing_channel")
        assert len(exc.detail) < 2000
        return
    for block in extract.blocks:
        decode_payload(encode_payload(block.ts_ms, block.values))


@given(_damaged())
def test_damaged_samples(case: tuple[str, bytes]) -> None:
    _check(MAPPINGS[case[0]], case[1])


@given(st.sampled_from(sorted(SAMPLES)), st.binary(max_size=60))
def test_any_bytes(name: str, body: bytes) -> None:
    _check(MAPPINGS[name], body)


@given(
    st.sampled_from(["value", "csv", "csv without header", "line-protocol", "packed hex"]),
    st.text(),
)
def test_any_text(name: str, body: str) -> None:
    _check(MAPPINGS[name], body.encode("utf-8", "surrogatepass"))


@given(st.one_of(documents, rows))
def test_any_cbor_document(document: object) -> None:
    _check(MAPPINGS["cbor"], cbor2.dumps(document))


@given(st.one_of(documents, rows))
def test_any_messagepack_document(document: object) -> None:
    _check(MAPPINGS["msgpack"], msgpack.packb(document))


def _colliding() -> bytes:
    """A map whose keys are arrays of one hash, as large as a message may be."""
    length = 13
    found = [bytes([0x80 + length, *key]) for key in itertools.product((0x20, 0x21), repeat=length)]
    entries = b"".join(key + b"\x01" for key in found)
    return b"\xb9" + len(found).to_bytes(2, "big") + entries


BOMBS = {
    "cbor keys of one hash": ("cbor", _colliding()),
    "cbor depth": ("cbor", b"\x81" * 200_000),
    "cbor tags in tags": ("cbor", b"\xc1" * 200_000 + b"\x01"),
    "cbor long array": ("cbor", b"\x9a\x00\x03\x00\x00" + b"\x01" * 0x30000),
    "cbor pieces without end": ("cbor", b"\x7f" + b"\x61a" * 80_000),
    "msgpack depth": ("msgpack", b"\x91" * 200_000 + b"\x01"),
    "msgpack long array": ("msgpack", b"\xdd\x00\x03\x00\x00" + b"\x01" * 0x30000),
    "json long array": ("json", b'{"rows":[' + b"1," * 100_000 + b"1]}"),
    "json depth": ("json", b'{"rows":' + b"[" * 200_000),
    "json digits": ("json", b'{"rows":[{"t":1' + b"0" * 200_000 + b"}]}"),
    "value digits": ("value", b"1" * 200_000),
    "csv line": ("csv", b"t;" + b"x" * 200_000),
    "csv cells": ("csv without header", b"1 " * 100_000),
    "csv lines": ("csv without header", b"1\n" * 100_000),
    "line protocol tags": ("line-protocol", b"m" + b",a=b" * 50_000 + b" x=1"),
    "line protocol fields": ("line-protocol", b"m " + b"x=1," * 50_000),
    "line protocol backslashes": ("line-protocol", b"m" + b"\\" * 200_000),
    "line protocol quotes": ("line-protocol", b'm x="' + b'\\"' * 100_000),
    "line protocol lines": ("line-protocol", b"m x=1\n" * 20_000),
    "packed records": ("packed records", b"\x00" * 200_000),
    "hex": ("packed hex", b"0" * 200_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_message_made_to_be_costly_is_refused(name: str) -> None:
    of, body = BOMBS[name]
    assert len(body) <= MAX_PAYLOAD_BYTES
    with pytest.raises(RefusedMessage):
        MAPPINGS[of].read("a/d", body, T0_MS)
