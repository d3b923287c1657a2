"""Sparkplug messages on the wire: protobuf, datatypes and integers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusalReason, RefusedMessage
from ingest.sparkplug.wire import DataType, Metric, decode_sparkplug, encode_sparkplug, number

# Written by code generated from the definition that the specification prints (protobuf 7.36).
FOREIGN = bytes.fromhex(
    "08eaf2f5a8a02b12150a03543234100718ebf2f5a8a02b200965006020441211100818ebf2f5a8a02b200350fe"
    "ffffff0f121110092004280158fdffffffffffffffff01121c0a0173200c38004a100a075175616c6974791205"
    "080318c0017a01781206100a200b70011206100b200a380112150a0374706c201392010b12060a02696e500122"
    "01611803"
)


def test_decodes_messages_of_generated_code() -> None:
    found = decode_sparkplug(FOREIGN)
    assert (found.ts_ms, found.seq) == (1486144502122, 3)
    t24, small, large, text, flag, null, template = found.metrics
    assert t24 == Metric("T24", 7, 1486144502123, 9, field="float_value", value=641.5)
    assert (small.name, small.alias, number(small, DataType.Int32)) == (None, 8, -2)
    assert (large.is_historical, number(large, DataType.Int64)) == (True, -3)
    assert (text.name, text.datatype, text.field) == ("s", 12, "string_value")
    assert number(flag, DataType.Boolean) == 1
    assert (null.is_null, null.field) == (True, None)
    assert (template.name, template.datatype, template.field) == ("tpl", 19, "template_value")


INTEGERS = {
    DataType.Int8: (8, True),
    DataType.Int16: (16, True),
    DataType.Int32: (32, True),
    DataType.Int64: (64, True),
    DataType.UInt8: (8, False),
    DataType.UInt16: (16, False),
    DataType.UInt32: (32, False),
    DataType.UInt64: (64, False),
}


@given(st.sampled_from(sorted(INTEGERS)), st.integers(0, 2**64 - 1), st.sampled_from([0, 32, 64]))
def test_every_integer_survives_each_way_of_writing_it(
    datatype: DataType, raw: int, extended: int
) -> None:
    bits, is_signed = INTEGERS[datatype]
    value = raw % (1 << bits)
    if is_signed and value >= 1 << bits - 1:
        value -= 1 << bits
    width = max(bits, extended)
    for field in ("int_value", "long_value")[width > 32 :]:
        metric = Metric(field=field, value=value % (1 << width))
        (reported,) = decode_sparkplug(encode_sparkplug(1, [metric])).metrics
        assert number(reported, datatype) == value


@pytest.mark.parametrize(
    ("datatype", "field", "value"),
    [
        (DataType.Int8, "int_value", 300),
        (DataType.Int8, "int_value", 0xFFFF_FF00),
        (DataType.Int16, "long_value", 2**63),
        (DataType.UInt8, "int_value", 256),
        (DataType.UInt32, "long_value", 2**32),
        (DataType.Int32, "double_value", 3.0),
        (DataType.Boolean, "int_value", 1),
        (DataType.Float, "int_value", 1),
        (DataType.Double, None, None),
        (12, "string_value", None),
        (99, "int_value", 1),
    ],
)
def test_a_value_that_is_not_of_its_datatype_is_refused(
    datatype: int, field: str | None, value: float | None
) -> None:
    with pytest.raises(RefusedMessage) as refused:
        number(Metric(field=field, value=value), datatype)
    assert refused.value.reason is RefusalReason.wrong_type


@given(st.floats(), st.sampled_from(["float_value", "double_value"]))
def test_a_float_is_itself_or_refused(value: float, field: str) -> None:
    metric = Metric(field=field, value=value)
    if math.isfinite(value) and abs(value) <= 3.4028234663852886e38:
        assert number(metric, DataType.Double) == value
    else:
        with pytest.raises(RefusedMessage, match="not_finite"):
            number(metric, DataType.Float)


def test_a_name_that_is_not_utf8_is_marked() -> None:
    (metric,) = decode_sparkplug(b"\x12\x04\x0a\x02\xff\xfe").metrics
    assert metric.name == "\ufffd\ufffd"
