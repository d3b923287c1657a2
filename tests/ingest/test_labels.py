"""What is a label, what is refused with which reason, and which record of an id counts."""

from __future__ import annotations

from itertools import permutations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusalReason, RefusedMessage
from ingest.labels import (
    LABEL_KINDS,
    Label,
    LabelRecord,
    current_labels,
    decode_label,
    decode_label_record,
    encode_label,
    encode_label_record,
    label_key,
)
from ingest.topics import Address

AT_MS = 1_764_412_800_000
ENGINE = Address("plant-7", "press-2", "engine")


def body(**changes: object) -> bytes:
    """A valid label with changes; None removes a key."""
    document = {"id": "a", "kind": "failed", "at_ms": AT_MS, **changes}
    return orjson.dumps({name: value for name, value in document.items() if value is not None})


@st.composite
def labels(draw: st.DrawFn) -> Label:
    kind = draw(st.sampled_from(LABEL_KINDS))
    from_ms = draw(st.integers(AT_MS, AT_MS + 10**6))
    is_moment = kind in ("failed", "replaced") or (kind != "span" and draw(st.booleans()))
    to_ms = from_ms if is_moment else from_ms + draw(st.integers(1, 10**6))
    text = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=80)
    name = draw(text) if kind == "span" else draw(st.just("") | text)
    revoked = draw(st.booleans())
    return Label(draw(st.sampled_from("ab")), kind, from_ms, to_ms, name, revoked, draw(text))


@given(labels(), st.integers(0, 2**53 - 1))
def test_label_and_record_survive_encoding(label: Label, recv_ms: int) -> None:
    assert decode_label(encode_label(label)) == label
    record = LabelRecord(ENGINE, recv_ms, label)
    assert decode_label_record(encode_label_record(record)) == record


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"", "empty", "no body"),
        (b"{", "not_json", "begins with"),
        (b"[]", "wrong_shape", "a label is a JSON object"),
        (b'{"id": NaN}', "not_json", "begins with"),
        (b" " * 5000, "too_large", "at most 4096"),
        (body(id=None), "wrong_shape", "id None is not a name"),
        (body(id="../a"), "wrong_shape", "is not a name"),
        (body(id=7), "wrong_shape", "is not a name"),
        (body(kind="broken"), "wrong_shape", "none of failed, replaced"),
        (body(kind=["failed"]), "wrong_shape", "none of failed, replaced"),
        (body(at_ms=None), "wrong_shape", "kind failed has at_ms"),
        (body(from_ms=AT_MS), "wrong_shape", "and no other time"),
        (body(at_ms=None, from_ms=AT_MS, to_ms=AT_MS + 1), "wrong_shape", "kind failed has at_ms"),
        (body(kind="span", label="x"), "wrong_shape", "kind span has from_ms and to_ms"),
        (body(kind="wrong", at_ms=None), "wrong_shape", "from_ms and to_ms, or at_ms"),
        (
            body(kind="span", at_ms=None, from_ms=AT_MS, to_ms=AT_MS, label="x"),
            "wrong_shape",
            "is not before to_ms",
        ),
        (
            body(kind="span", at_ms=None, from_ms=AT_MS, to_ms=AT_MS + 1),
            "wrong_shape",
            "a span needs a `label`",
        ),
        (body(at_ms="now"), "wrong_type", "at_ms is epoch milliseconds"),
        (body(at_ms=True), "wrong_type", "at_ms is epoch milliseconds"),
        (body(at_ms=AT_MS + 0.5), "wrong_type", "at_ms is epoch milliseconds"),
        (body(at_ms=AT_MS // 1000), "clock_unset", "looks like seconds"),
        (body(at_ms=AT_MS * 1000), "clock_unset", "looks like microseconds"),
        (body(revoked=1), "wrong_type", "revoked is true or false"),
        (body(label=7), "wrong_type", "label is text"),
        (body(label="x" * 81), "wrong_shape", "up to 80 printable"),
        (body(label="a\nb"), "wrong_shape", "up to 80 printable"),
        (body(by=" Ada"), "wrong_shape", "without spaces at its ends"),
        (body(note="x"), "wrong_shape", "unknown key 'note'"),
        (body(site="plant-7"), "wrong_shape", "unknown key 'site'"),
    ],
)
def test_invalid_label_is_refused_with_a_reason(payload: bytes, reason: str, detail: str) -> None:
    with pytest.raises(RefusedMessage) as caught:
        decode_label(payload)
    assert caught.value.reason is RefusalReason(reason)
    assert detail in caught.value.detail


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_raises_anything_else(payload: bytes) -> None:
    for decode in (decode_label, decode_label_record):
        with pytest.raises(RefusedMessage):
            decode(payload)


@given(st.lists(st.tuples(st.integers(0, 5), labels()), min_size=1, max_size=4))
def test_order_and_duplicates_of_records_do_not_matter(said: list[tuple[int, Label]]) -> None:
    records = [LabelRecord(ENGINE, recv_ms, label) for recv_ms, label in said]
    wanted = current_labels(records)
    for order in permutations(records):
        assert current_labels([*order, *order]) == wanted
    for record in records:
        if record.label.revoked:
            assert wanted[ENGINE, record.label.id].label.revoked


def test_revocation_is_kept_beside_the_label_in_a_compacted_topic() -> None:
    given_label = Label("a", "failed", AT_MS, AT_MS)
    revoked = Label("a", "failed", AT_MS, AT_MS, revoked=True)
    keys = {label_key(LabelRecord(ENGINE, 0, label)) for label in (given_label, revoked)}
    assert len(keys) == 2
