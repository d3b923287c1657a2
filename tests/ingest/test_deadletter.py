"""Dead letters keep all bytes, and equal refusals have equal ids."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.deadletter import DeadLetter, decode_dead_letter, encode_dead_letter
from ingest.errors import RefusalReason, RefusedMessage

SAMPLE = DeadLetter(
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
    dead_letter = DeadLetter(reason, detail, topic, recv_ms, raw, source)  # type: ignore[arg-type]
    found = decode_dead_letter(encode_dead_letter(dead_letter))
    assert dataclasses.replace(found, detail=detail) == dead_letter
    assert found.id == dead_letter.id


def test_id_is_the_same_when_delivered_again_and_another_for_anything_else() -> None:
    assert dataclasses.replace(SAMPLE, recv_ms=1, detail="other words").id == SAMPLE.id
    others = [
        dataclasses.replace(SAMPLE, reason=RefusalReason.empty),
        dataclasses.replace(SAMPLE, mqtt_topic="sensors/a/b/d"),
        dataclasses.replace(SAMPLE, raw=b"}"),
        dataclasses.replace(SAMPLE, source="windows"),
    ]
    assert len({dead_letter.id for dead_letter in [SAMPLE, *others]}) == 5
    assert len(SAMPLE.id) == 32


def test_topic_that_is_no_unicode_can_be_stored() -> None:
    dead_letter = dataclasses.replace(SAMPLE, mqtt_topic="sensors/\ud800/b/c")
    found = decode_dead_letter(encode_dead_letter(dead_letter))
    assert found.mqtt_topic == "sensors/?/b/c"
    assert found.id == dead_letter.id


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        encode_dead_letter(SAMPLE).replace(b"not_json", b"who_knows"),
        encode_dead_letter(SAMPLE).replace(b'"raw":"ew=="', b'"raw":"?"'),
        encode_dead_letter(SAMPLE).replace(b'"raw":"ew=="', b'"raw":7'),
        encode_dead_letter(SAMPLE).replace(b'"bridge"', b'"moon"'),
        encode_dead_letter(SAMPLE).replace(b'"bridge"', b"[]"),
        encode_dead_letter(SAMPLE).replace(b"1700000000000", b"true"),
    ],
)
def test_anything_else_is_unreadable(value: bytes) -> None:
    with pytest.raises(RefusedMessage) as refused:
        decode_dead_letter(value)
    assert refused.value.reason is RefusalReason.unreadable
