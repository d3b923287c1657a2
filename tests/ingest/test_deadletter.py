"""Dead letters keep all bytes, and equal refusals have equal ids."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.deadletter import DeadLetter, decode_dead_letter, encode_dead_letter
from ingest.errors import RefusalReason, RefusedMessage

LETTER = DeadLetter(
    RefusalReason.not_json, "no", "sensors/a/b/c", 1_700_000_000_000, b"{", "bridge"
)


@given(
    reason=st.sampled_from(RefusalReason),
    detail=st.text(),
    topic=st.text(st.characters(exclude_categories=["Cs"])),
    recv_ms=st.integers(0, 2**53),
    raw=st.binary(),
    source=st.sampled_from(["bridge", "windows"]),
)
def test_a_dead_letter_survives_the_log(
    reason: RefusalReason, detail: str, topic: str, recv_ms: int, raw: bytes, source: str
) -> None:
    letter = DeadLetter(reason, detail, topic, recv_ms, raw, source)  # type: ignore[arg-type]
    found = decode_dead_letter(encode_dead_letter(letter))
    assert dataclasses.replace(found, detail=detail) == letter
    assert found.id == letter.id


def test_id_is_the_same_when_delivered_again_and_another_for_anything_else() -> None:
    assert dataclasses.replace(LETTER, recv_ms=1, detail="other words").id == LETTER.id
    others = [
        dataclasses.replace(LETTER, reason=RefusalReason.empty),
        dataclasses.replace(LETTER, mqtt_topic="sensors/a/b/d"),
        dataclasses.replace(LETTER, raw=b"}"),
        dataclasses.replace(LETTER, source="windows"),
    ]
    assert len({letter.id for letter in [LETTER, *others]}) == 5
    assert len(LETTER.id) == 32


def test_topic_that_is_no_unicode_can_be_stored() -> None:
    letter = dataclasses.replace(LETTER, mqtt_topic="sensors/\ud800/b/c")
    found = decode_dead_letter(encode_dead_letter(letter))
    assert found.mqtt_topic == "sensors/?/b/c"
    assert found.id == letter.id


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        encode_dead_letter(LETTER).replace(b"not_json", b"who_knows"),
        encode_dead_letter(LETTER).replace(b'"raw":"ew=="', b'"raw":"?"'),
        encode_dead_letter(LETTER).replace(b'"raw":"ew=="', b'"raw":7'),
        encode_dead_letter(LETTER).replace(b'"bridge"', b'"moon"'),
        encode_dead_letter(LETTER).replace(b'"bridge"', b"[]"),
        encode_dead_letter(LETTER).replace(b"1700000000000", b"true"),
    ],
)
def test_anything_else_is_unreadable(value: bytes) -> None:
    with pytest.raises(RefusedMessage) as refused:
        decode_dead_letter(value)
    assert refused.value.reason is RefusalReason.unreadable
