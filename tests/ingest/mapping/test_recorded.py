"""Recorded messages are read in every form, and a line that is none says what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.recorded import BadLine, RecordedMessage, read_recorded

# As mosquitto_sub 2.0 prints them.
J = (
    b'{"tst":"2026-11-29T13:58:21.636824Z+0000","topic":"a b/c","qos":0,"retain":0,'
    b'"payloadlen":8,"payload":"{\\"x\\": 1}"}\n'
)
BIG_J = b'{"tst":"2026-11-29T13:58:22.050531Z+0000","topic":"a/d","payloadlen":4,"payload":21.5}\n'
HEX = b'{"topic":"a/e","payload_hex":"01ff02","tst":"2026-11-29T14:58:22+0100"}\n'
UTC_MS = 1_795_960_702_000  # 2026-11-29T13:58:22Z


@pytest.mark.parametrize(
    ("line", "topic", "payload", "recv_ms"),
    [
        (J, "a b/c", b'{"x": 1}', UTC_MS - 364),
        (BIG_J, "a/d", b"21.5", UTC_MS + 50),
        (HEX, "a/e", b"\x01\xff\x02", UTC_MS),
        (b'{"topic":"a","payload_base64":"Af8C","recv_ms":7}', "a", b"\x01\xff\x02", 7),
        (b'{"topic":"a","payload":null}', "a", b"", None),
        (b'{"topic":"a","payload":[1, 2]}', "a", b"[1,2]", None),
        (b'a/b {"x": 1}\r\n', "a/b", b'{"x": 1}', None),
        (b"a/b (null)", "a/b", b"", None),
        (b"a/b \xff\xfe", "a/b", b"\xff\xfe", None),
        (b"\xef\xbb\xbfa/b 1", "a/b", b"1", None),
    ],
)
def test_forms_of_a_line(line: bytes, topic: str, payload: bytes, recv_ms: int | None) -> None:
    assert list(read_recorded([line])) == [RecordedMessage(topic, payload, recv_ms, 1)]


def test_a_known_topic_decides_where_a_topic_with_spaces_ends() -> None:
    lines = [b"z2m/washing machine {}", b"z2m/lamp on {}"]
    found = list(read_recorded(lines, lambda topic: topic == "z2m/washing machine"))
    assert [(each.topic, each.payload) for each in found if isinstance(each, RecordedMessage)] == [
        ("z2m/washing machine", b"{}"),
        ("z2m/lamp", b"on {}"),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"x": 1}', 'no "topic"'),
        (b'{"topic": 5, "payload": ""}', '"topic" is 5, not text'),
        (b'{"topic": "a"}', "no payload; write one of payload, payload_base64, payload_hex"),
        (b'{"topic": "a", "payload": "", "payload_hex": ""}', "payload and payload_hex"),
        (b'{"topic": "a", "payload_hex": "zz"}', "is not hex: 'zz'"),
        (b'{"topic": "a", "payload_base64": "?"}', "is not base64: '?'"),
        (b'{"topic": "a", "payload_hex": 5}', '"payload_hex" is 5, not text'),
        (b'{"topic": "a", "payload": "", "recv_ms": "now"}', "\"recv_ms\" is 'now'"),
        (b'{"topic": "a", "payload": "", "tst": "2026-11-29"}', "\"tst\" is '2026-11-29'"),
        (b'{"topic": "a", "payload": "", "tst": "2026-99-29T13:58:22Z"}', '"tst" is'),
        (b'{"topic": "a", ', "not JSON"),
        (b'{"topic": "a", "payload": "\xff"}', "%x"),
        (b"online", "is one word"),
        (b"\xff\xfe 1", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_message_says_why(line: bytes, told: str) -> None:
    (found,) = read_recorded([b"", line])
    assert isinstance(found, BadLine)
    assert found.line == 2
    assert told in found.detail


@given(st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b" "))))
def test_every_line_gives_one_item_and_nothing_raises(lines: list[bytes]) -> None:
    found = list(read_recorded(lines))
    first = [line.removeprefix(b"\xef\xbb\xbf") for line in lines[:1]]
    assert len(found) == sum(bool(line.strip()) for line in [*first, *lines[1:]])
