"""Sparkplug's bytes, datatypes, mapping file, names and state file."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import LogUnavailable, RefusalReason, RefusedMessage
from ingest.sparkplug.names import MappingInvalid, read_mapping, site_and_device
from ingest.sparkplug.store import Checkpoint, SparkplugStore, StoreUnusable
from ingest.sparkplug.wire import DataType, Metric, decode_sparkplug, encode_sparkplug, number
from ingest.topics import is_name

# Written by code generated from the definition that the specification prints (protobuf 7.36).
FOREIGN = bytes.fromhex(
    "08eaf2f5a8a02b12150a03543234100718ebf2f5a8a02b200965006020441211100818ebf2f5a8a02b200350fe"
    "ffffff0f121110092004280158fdffffffffffffffff01121c0a0173200c38004a100a075175616c6974791205"
    "080318c0017a01781206100a200b70011206100b200a380112150a0374706c201392010b12060a02696e500122"
    "01611803"
)


def test_reads_what_the_generated_code_of_others_writes() -> None:
    found = decode_sparkplug(FOREIGN)
    assert (found.ts_ms, found.seq) == (1486144502122, 3)
    t24, small, large, text, flag, null, template = found.metrics
    assert t24 == Metric("T24", 7, 1486144502123, 9, field="float_value", value=641.5)
    assert (small.name, small.alias, number(small, DataType.Int32)) == (None, 8, -2)
    assert (large.is_historical, number(large, DataType.Int64)) == (True, -3)
    assert (text.name, text.datatype, text.field) == ("s", 12, "string_value")
    assert number(flag, DataType.Boolean) == 1
    assert (null.is_null, null.field) == (True, None)
    assert (template.name, template.datatype, template.field) == ("tpl", 19, None)


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
        (told,) = decode_sparkplug(encode_sparkplug(1, [metric])).metrics
        assert number(told, datatype) == value


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


def test_a_name_that_is_no_utf8_is_marked() -> None:
    (metric,) = decode_sparkplug(b"\x12\x04\x0a\x02\xff\xfe").metrics
    assert metric.name == "\ufffd\ufffd"


level = st.text(st.characters(exclude_characters="/+#\x00", exclude_categories=["Cs"]), min_size=1)


@given(level, level, st.none() | level)
def test_every_address_has_names_of_ours(group: str, node: str, device: str | None) -> None:
    assert all(map(is_name, site_and_device(group, node, device)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("g", "a.b", None), ("g", "a", "b")),
        (("g", "a", "b.c"), ("g", "a.b", "c")),
        (("g", "a b", None), ("g", "a-b", None)),
        (("g", "a b", None), ("g", "a_b", None)),
        (("g", "ü", None), ("g", "ö", None)),
        (("g", "n" * 65, None), ("g", "n" * 66, None)),
        (("g 1", "n", None), ("g-1", "n", None)),
    ],
)
def test_two_addresses_never_share_their_names(
    one: tuple[str, str, str | None], other: tuple[str, str, str | None]
) -> None:
    assert site_and_device(*one) != site_and_device(*other)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot read the Sparkplug mapping"),
        ("[[stream]", "not TOML"),
        ("", "stream: Field required"),
        ("stream = []", "at least 1 item"),
        ('[[stream]]\nname = "e"', "stream.0.metrics: Field required"),
        ('[[stream]]\nname = "e g"\nmetrics = { a = "A" }', "stream.0.name"),
        ('[[stream]]\nname = "e"\nmetrics = { "a b" = "A" }', "stream.0.metrics"),
        ('[[stream]]\nname = "e"\nmetrics = { a = 1 }', "stream.0.metrics.a"),
        ('[[stream]]\nname = "e"\nmetrics = { a = "A" }\nunit = "K"', "stream.0.unit: Extra"),
        (
            'groups = ["a/b"]\n[[stream]]\nname = "e"\nmetrics = { a = "A" }',
            "not a level of an MQTT",
        ),
        (
            'groups = ["STATE"]\n[[stream]]\nname = "e"\nmetrics = { a = "A" }',
            "STATE cannot be a group",
        ),
        ('host_id = "#"\n[[stream]]\nname = "e"\nmetrics = { a = "A" }', "host_id"),
    ],
)
def test_an_invalid_mapping_is_reported_with_its_place(
    tmp_path: Path, text: str | None, told: str
) -> None:
    path = tmp_path / "sparkplug.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(MappingInvalid) as caught:
        read_mapping(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_the_example_of_the_module_is_a_mapping(tmp_path: Path) -> None:
    from ingest.sparkplug import names as sparkplugmap

    text = (sparkplugmap.__doc__ or "").partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "sparkplug.toml").write_text(text)
    found = read_mapping(tmp_path / "sparkplug.toml")
    assert found.filters()[0] == "spBv1.0/Plant 7/NBIRTH/+"
    assert found.filters()[-1] == "spBv1.0/STATE/kpstream"
    assert found.stream[0].fits("Plant 7/line 3/press-2")
    assert not found.stream[0].fits("Plant 7/line 3/saw")


ROWS = Checkpoint([("g", "n", b"1")], [("g", "n", "", b"2")], [("g", "n", "", b"3")], [b"d" * 8])


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    first = SparkplugStore(tmp_path / "s.db")
    first.write(ROWS)
    with pytest.raises(StoreUnusable, match="each bridge its own file"):
        SparkplugStore(tmp_path / "s.db")
    first.close()


def test_digests_are_bounded(tmp_path: Path) -> None:
    store = SparkplugStore(tmp_path / "s.db", remembered=5)
    for n in range(20):
        store.write(Checkpoint(seen=[b"%08d" % n]))
    assert store.seen() == [b"%08d" % n for n in range(15, 20)]
    store.close()


def test_a_disk_that_refuses_is_worth_another_try(tmp_path: Path) -> None:
    store = SparkplugStore(tmp_path / "s.db")
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(LogUnavailable, match="readonly"):
        store.write(ROWS)
    store._db.execute("PRAGMA query_only = 0")
    store.write(ROWS)
    assert list(store.nodes()) == [("g", "n", b"1")]
    assert list(store.devices()) == [("g", "n", "", b"2", b"3")]
    store.close()


def test_an_unusable_file_is_reported_or_renamed(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnusable, match="upgrade kpstream"):
        SparkplugStore(newer)
    with pytest.raises(StoreUnusable, match="check the folder"):
        SparkplugStore(newer / "sparkplug.db")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"not a database, though long enough for one" * 100)
    store = SparkplugStore(damaged)
    assert list(store.nodes()) == []
    store.close()
    assert (tmp_path / "damaged.db.damaged").is_file()
