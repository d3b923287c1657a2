"""Addresses, names and partitions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import RefusalReason, RefusedMessage
from ingest.topics import (
    Address,
    device_key,
    former_subscriptions,
    is_name,
    murmur2,
    parse_topic,
    partition_of,
    subscription,
    topic_shape,
)

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)


@given(site=NAMES, device=NAMES, stream=NAMES, prefix=st.sampled_from(["sensors", "a/b", "x.y"]))
def test_address_survives_its_topic(site: str, device: str, stream: str, prefix: str) -> None:
    address = Address(site, device, stream)
    assert parse_topic(address.mqtt_topic(prefix), prefix) == address


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sensors",
        "sensors/a/b",
        "sensors/a/b/c/d",
        "sensors//b/c",
        "sensors/a/b/c\n",
        "sensors/a/../c",
        "sensors/-a/b/c",
        "sensors/a b/b/c",
        "sensors/ä/b/c",
        "sensors/a/b/" + "c" * 65,
        "sensorsx/a/b/c",
        "other/a/b/c",
        "sensors/+/b/c",
        "$SYS/broker/load/x",
    ],
)
def test_other_topics_are_refused_with_their_reason(topic: str) -> None:
    with pytest.raises(RefusedMessage) as refused:
        parse_topic(topic)
    assert refused.value.reason is RefusalReason.bad_topic


@given(st.text(max_size=70))
def test_a_name_has_no_separator_and_no_space(text: str) -> None:
    if is_name(text):
        assert text.isascii()
        assert text.isprintable()
        assert not set(text) & set("/+#$ ")
        assert 1 <= len(text) <= 64


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # from Kafka's own UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_the_vectors_of_kafka(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(key=st.binary(max_size=64), partitions=st.integers(1, 64))
def test_partition_is_that_of_the_kafka_client(key: bytes, partitions: int) -> None:
    partitioner = pytest.importorskip("aiokafka.partitioner")
    chosen = partitioner.DefaultPartitioner()(key, list(range(partitions)), [])
    assert partition_of(key, partitions) == chosen


def test_devices_are_spread_over_all_partitions() -> None:
    used = {partition_of(device_key("plant", f"engine-{n}"), 4) for n in range(50)}
    assert used == {0, 1, 2, 3}


def test_no_partitions_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 partitions: a topic has at least one"):
        partition_of(b"a/b", 0)


def test_subscription_takes_every_depth_so_that_a_wrong_one_is_refused() -> None:
    assert subscription("a/b") == "a/b/#"
    assert subscription("a/b", "plant") == "a/b/plant/#"
    assert former_subscriptions("a/b")[0] == "a/b/+/+/+"


@given(topic=st.text(max_size=200))
def test_shapes_of_topics_are_bounded(topic: str) -> None:
    for prefix in ("sensors", "a/b"):
        for found in (topic, f"{prefix}/{topic}"):
            shape = topic_shape(found).split("/")
            assert len(shape) <= 9
            assert all(level in ("+", "#") for level in shape[1:])
            assert shape[0] == "?" or is_name(shape[0])
