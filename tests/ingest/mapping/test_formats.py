"""Every format says the same; a body that is not of its format is refused with what is wrong."""

from __future__ import annotations

import json

import cbor2
import msgpack
import pytest

from ingest.errors import MappingInvalid, RefusalReason, RefusedMessage
from ingest.mapping.compiled import CompiledMapping, compile_mapping
from ingest.mapping.file import parse_mapping
from tests.ingest.mapping.samples import ROW, SAMPLES, T0_MS, Sample

RECV_MS = 1_700_000_100_000


def _mapping(name: str) -> CompiledMapping:
    return compile_mapping(parse_mapping(SAMPLES[name].text, name))


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_gives_the_same_readings(name: str) -> None:
    sample: Sample = SAMPLES[name]
    extract = _mapping(name).read("a/d", sample.body, RECV_MS)
    assert [piece.values for piece in extract.readings] == [ROW] * sample.rows
    times = [piece.ts_ms for piece in extract.readings]
    if extract.readings[0].is_received_time:
        assert times == [RECV_MS - 1, RECV_MS][-sample.rows :]
    else:
        assert times == [T0_MS, T0_MS + 1][: sample.rows]
    assert extract.refused is None


REFUSED = [
    ("json", b"\xff", "not JSON"),
    ("json", b"[" * 100_000, "not JSON"),
    ("json", b'{"rows": 1e999}', "infinity"),
    ("value", b"\xff", "not UTF-8"),
    ("value", b"1.5", "is not a number with the decimal sign ','"),
    ("value", b"nan", "is not a number"),
    ("value", b"1_0", "is not a number"),
    ("value", b"1" * 401, "is not a number"),
    ("value", b"1e999", "no finite float32"),
    ("csv", b"", "no header"),
    ("csv", b"t;t;y\n1;2;3", "no header with different names"),
    ("csv", b"t;x;y\n", "no rows"),
    ("csv", b'1;"x\n', "not CSV"),
    ("csv", b"t;x;y\n" + b"1\n" * 10_001, "more than 10000 rows"),
    ("csv", b"t;x;y\n1;2", "a row has 2 cells and there are 3 columns"),
    ("csv", b"t;x;y\n%d;;2" % T0_MS, "no value at x"),
    ("line-protocol", b"# nothing", "no lines"),
    ("line-protocol", b"m 5", "fields like name=1.5"),
    ("line-protocol", b"m x=1.5 y=2", "'y=2' is not a time"),
    ("line-protocol", b"m x=abc", "'abc' is not a value"),
    ("line-protocol", b"m,x=1", "a space before the fields is missing"),
    ("line-protocol", b",a=1 x=1", "no measurement"),
    ("line-protocol", b"m x=1,y=2", 'from = "received" (at time)'),
    ("line-protocol", b"m x=99999999999999999999i,y=2 1", "is not a value"),
    ("cbor", b"", "not CBOR"),
    ("cbor", b"\x81" * 33 + b"\x01", "depth (32) exceeded"),
    ("cbor", b"\xd8\x23\x62(a", "nothing at rows"),
    ("cbor", b"\x01\x02", "ends after 1 of 2 bytes"),
    ("cbor", b"\xd8\x1c\x81\xd8\x1d\x00", "a reference to another place"),
    ("cbor", b"\xc2\x49" + b"\xff" * 9, "an integer of more than 64 bits"),
    ("cbor", b"\xc5\x82\x1b" + b"\x7f" * 8 + b"\x01", "a decimal or rational number"),
    ("cbor", b"\x9b" + b"\xff" * 8, "not CBOR"),
    ("cbor", b"\xa1\x81\x01\x01", "key of type tuple"),
    ("cbor", b"\xa2\x61a\x01\x61a\x02", "not CBOR"),
    ("msgpack", b"", "not MessagePack"),
    ("msgpack", b"\x91" * 100_000 + b"\x01", "not MessagePack"),
    ("msgpack", b"\xdd\xff\xff\xff\xff", "not MessagePack"),
    ("msgpack", b"\x01\x02", "ExtraData"),
    ("msgpack", msgpack.packb(msgpack.ExtType(5, b"a")), "extension type 5 is not read"),
    ("msgpack", b"\x81\x91\x01\x01", "not MessagePack"),
    ("packed", b"\x00" * 9, "9 packed bytes; the format <hd takes 10"),
    ("packed", b"\x00" * 20, "20 packed bytes"),
    ("packed", b"\x00\x00" + b"\xff" * 8, "no finite float32"),
    ("packed hex", b"0g", "is not hex"),
    ("packed in JSON", b"{}", "no text at up.payload"),
    ("packed in JSON", b'{"up": {"payload": "a"}}', "is not base64"),
    ("packed records", b"", "0 packed bytes; the format <hd takes 10 each"),
]


@pytest.mark.parametrize(("name", "body", "told"), REFUSED)
def test_what_is_not_of_the_format_is_refused(name: str, body: bytes, told: str) -> None:
    with pytest.raises(RefusedMessage) as caught:
        _mapping(name).read("a/d", body, RECV_MS)
    assert caught.value.reason in (RefusalReason.mapping, RefusalReason.missing_channel)
    assert told in caught.value.detail


def test_a_bad_line_harms_only_itself() -> None:
    body = SAMPLES["line-protocol"].body + b"broken\n"
    extract = _mapping("line-protocol").read("a/d", body, RECV_MS)
    assert len(extract.readings) == 2
    assert extract.refused is not None
    assert "'broken' is not line protocol" in extract.refused.detail


def test_line_protocol_has_a_time_of_its_own() -> None:
    text = SAMPLES["line-protocol"].text
    text = text.replace('[time]\npath = "time"\nform = "epoch-ns"\n', "")
    extract = compile_mapping(parse_mapping(text, "t")).read(
        "a/d", SAMPLES["line-protocol"].body, RECV_MS
    )
    assert [piece.ts_ms for piece in extract.readings] == [T0_MS, T0_MS + 1]


def test_line_protocol_names_may_have_escaped_characters() -> None:
    text = SAMPLES["line-protocol"].text.replace("x = {}", "x = 'fields.\"my x\"'")
    text = "places = { host = 'tags.\"the host\"' }\nwhen = { host = 'a,b=c' }\n" + text
    body = rb'm\ 1,the\ host=a\,b\=c my\ x=1,y=2u,t="a\"b" 1700000000000000000'
    extract = compile_mapping(parse_mapping(text, "t")).read("a/d", body, RECV_MS)
    assert [piece.values for piece in extract.readings] == [{"x": 1.0, "y": 2.0}]


def test_a_timestamp_of_messagepack_is_nanoseconds() -> None:
    text = SAMPLES["msgpack"].text.replace("epoch-ms", "epoch-ns")
    rows = [{"t": msgpack.Timestamp.from_unix_nano(T0_MS * 10**6 + 400_000), 1: 1, "y": 2}]
    extract = compile_mapping(parse_mapping(text, "t")).read(
        "a/d", msgpack.packb({"rows": rows}), RECV_MS
    )
    assert [piece.ts_ms for piece in extract.readings] == [T0_MS]


def test_tags_of_cbor_are_read_as_their_content() -> None:
    text = SAMPLES["cbor"].text.replace("epoch-ms", "iso8601")
    rows = [{"t": cbor2.CBORTag(0, "2023-11-14T22:13:20Z"), 1: cbor2.undefined, "y": 2}]
    body = cbor2.dumps(cbor2.CBORTag(55799, {"rows": rows}))
    with pytest.raises(RefusedMessage, match="x: no value at 1"):
        compile_mapping(parse_mapping(text, "t")).read("a/d", body, RECV_MS)


def test_keys_that_are_no_text_are_read_in_small_cbor_bodies_only() -> None:
    rows = [{"t": T0_MS + n, 1: 1.5, "y": -2} for n in range(500)]
    with pytest.raises(RefusedMessage, match="map key must be a text string"):
        _mapping("cbor").read("a/d", cbor2.dumps({"rows": rows}), RECV_MS)


def test_texts_may_be_numbers_only_where_the_file_says_so() -> None:
    body = json.dumps({"rows": [{"t": T0_MS, "x": "1.5", "y": "-2"}]}).encode()
    with pytest.raises(RefusedMessage, match="set text = true"):
        _mapping("json").read("a/d", body, RECV_MS)
    text = "text = true\n" + SAMPLES["json"].text
    extract = compile_mapping(parse_mapping(text, "t")).read("a/d", body, RECV_MS)
    assert [piece.values for piece in extract.readings] == [ROW]


FILE_FAULTS = [
    ("csv", 'delimiter = ";"', 'delimiter = ";;"', "';;' is not one character"),
    ("csv", 'delimiter = ";"', 'columns = ["a", "a"]', "two have the same name"),
    ("csv", 'format = "csv"', 'format = "csv"\neach = "a"', "every line is one reading"),
    ("csv", 'format = "csv"', 'format = "json"', 'write format = "csv"'),
    ("packed", "[packed]", "[csv]", "csv.format: no such key"),
    ("packed", '"<hd"', '"hd"', "format begins with < or >"),
    ("packed", '"<hd"', '"<hs"', "format begins with < or >"),
    ("packed", '"<hd"', '"<h"', "gives 1 numbers, so fields needs 1 names"),
    ("packed", '"<hd"', '"<9999999999999999999999h"', "no format of Python's struct"),
    ("packed", '"<hd"', '"<99999h"', "takes 199998 bytes"),
    ("packed in JSON", 'encoding = "base64"', "", 'encoding = "base64" or "hex"'),
    ("packed", 'format = "packed"', 'format = "msgpack"', 'write format = "packed"'),
]


@pytest.mark.parametrize(("name", "old", "new", "told"), FILE_FAULTS)
def test_faults_of_the_tables_of_formats(name: str, old: str, new: str, told: str) -> None:
    assert old in SAMPLES[name].text
    with pytest.raises(MappingInvalid) as caught:
        parse_mapping(SAMPLES[name].text.replace(old, new), name)
    assert told in str(caught.value)
