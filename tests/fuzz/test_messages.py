"""Any bodies and topics, as JSON and as Sparkplug, alone and between two valid messages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.blocks import decode_messages
from ingest.bridgehealth import BridgeCounters
from ingest.deadletter import decode_dead_letter
from ingest.decoderfile import StoreUnusable
from ingest.decoders import Decoders
from ingest.errors import RefusedMessage
from ingest.intake import Intake
from ingest.messages import Batch, columns, encode_envelope
from ingest.payloads import decode_payload, event_times
from ingest.settings import IngestSettings
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.sparkplug.wire import decode_sparkplug
from tests.fakes.log import FakeLog, body
from tests.fakes.records import encode_bundle
from tests.fakes.sparkplugnode import EdgeNode
from tests.fuzz import strategies as any_of
from tests.fuzz.limits import MEMORY, examples, within
from tests.fuzz.strategies import T0_MS

fuzz = examples(60)
MAPPING = SparkplugMapping.model_validate(
    {
        "host_id": "kp",
        "births_are_readings": True,
        "complete_within_ms": 0,
        "stream": [
            {"name": "pair", "metrics": {"a": "A", "b": "B"}},
            {"name": "solo", "metrics": {"a": "A"}},
        ],
    }
)


@fuzz
@given(any_of.bodies)
def test_a_body_is_refused_or_has_readings(payload: bytes) -> None:
    with within(10):
        try:
            document = decode_payload(payload)
        except RefusedMessage as refused:
            assert refused.detail
            return
    times = event_times(document)
    assert times.dtype == np.int64
    assert len(times) > 0
    envelope = encode_envelope("s", "d", "imu", T0_MS, payload)
    (batch,) = decode_messages(encode_bundle([envelope]))
    assert isinstance(batch, Batch)
    table = columns(batch, list(document["values"]))
    assert table.shape == (len(times), len(document["values"]))
    assert np.isfinite(table).all()


@fuzz
@given(any_of.bodies | st.binary(max_size=60))
def test_a_damaged_envelope_affects_no_neighbour(middle: bytes) -> None:
    first, last = (encode_envelope("s", "d", "imu", T0_MS, body(n)) for n in (1, 2))
    with within(10):
        found = decode_messages(encode_bundle([first, middle, last]))
    assert [found[0].values["n"][0], found[-1].values["n"][0]] == [1.0, 2.0]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


def sparkplug(folder: Path, name: str = "sparkplug.db") -> Sparkplug:
    for path in folder.glob(f"{name}*"):
        path.unlink()
    return Sparkplug(MAPPING, SparkplugStore(folder / name))


@fuzz
@given(any_of.sparkplug_bodies)
def test_a_sparkplug_body_is_refused_or_read(payload: bytes) -> None:
    with within(10):
        try:
            found = decode_sparkplug(payload)
        except RefusedMessage as refused:
            assert refused.detail
            return
    assert found.seq is None or 0 <= found.seq <= 255


messages = st.lists(
    st.tuples(any_of.sparkplug_topics, any_of.payloads)
    | st.tuples(any_of.sparkplug_topics | any_of.odd_sparkplug_topics, any_of.sparkplug_bodies),
    max_size=12,
)


@fuzz
@given(messages)
def test_any_script_of_sparkplug_messages_is_taken_or_refused_and_kept(
    folder: Path, script: list[tuple[str, bytes]]
) -> None:
    decoder = sparkplug(folder)
    with within(10):
        for topic, payload in script:
            decoded = decoder.decode(topic, payload, T0_MS, 1)
            for _, document in decoded.messages:
                decode_payload(document)
        decoder.outgoing(T0_MS)
        checkpoint = decoder.checkpoint()
        if checkpoint is not None:
            decoder._store.write(checkpoint)
        decoder.close()
        again = Sparkplug(MAPPING, SparkplugStore(folder / "sparkplug.db"))
    online = ("nodes_online", "devices_online")
    assert [again.status()[name] for name in online] == [decoder.status()[name] for name in online]
    again.close()


@fuzz
@given(
    st.lists(
        st.tuples(any_of.topics, any_of.bodies)
        | st.tuples(any_of.sparkplug_topics | any_of.odd_sparkplug_topics, any_of.sparkplug_bodies),
        min_size=1,
        max_size=3,
    )
)
def test_bad_messages_do_not_affect_the_good_ones_around_them(
    folder: Path, bad: list[tuple[str, bytes]]
) -> None:
    decoder = sparkplug(folder)
    log = FakeLog()
    counters = BridgeCounters()
    intake = Intake(IngestSettings(), lambda: log.partitions, Decoders([decoder]), counters)
    node = EdgeNode("g", "good", {"press": {"A": 1.0, "B": 2.0}})
    good = ("sensors/good/press-1/imu", "spBv1.0/g/DDATA/good/press")
    with within(10):
        for topic, payload in node.births(T0_MS):
            intake.take(topic, payload, T0_MS, 1)
        intake.take(good[0], body(1), T0_MS, 1)
        intake.take(*node.data("press", T0_MS + 1, {"A": 1.0}), T0_MS, 1)
        for topic, payload in bad:
            intake.take(topic, payload, T0_MS, 1)
        intake.take(good[0], body(2), T0_MS, 1)
        intake.take(*node.data("press", T0_MS + 2, {"A": 2.0}), T0_MS, 1)
        load = intake.close_load()
        log.records += intake.records(load, T0_MS)
    decoder.close()
    assert counters.faults_total == 0
    assert load.messages == load.accepted + len(load.refused) == 6 + len(bad)
    assert log.numbers("press-1") == [1.0, 2.0]
    pairs = [b for b in log.batches() if (b.device, b.stream) == ("good.press", "pair")]
    # And the two of the birth and of the message before the bad ones.
    assert [b.values["a"][0] for b in pairs] == [1.0, 1.0, 2.0]
    dead_letters = [r for r in log.records if r.topic == "dead-letters"]
    kept = [(x.mqtt_topic, x.raw) for x in (decode_dead_letter(r.value) for r in dead_letters)]
    assert len(kept) == len(load.refused)
    reported = [(topic.encode("utf-8", "replace").decode(), payload) for topic, payload in bad]
    assert all(dead_letter in reported for dead_letter in kept)


@fuzz
@given(
    st.integers(0, 2**20).flatmap(
        lambda at: st.tuples(st.just(at), st.binary(min_size=1, max_size=30))
    )
)
def test_a_damaged_state_file_is_renamed_or_reported(
    folder: Path, damage: tuple[int, bytes]
) -> None:
    path = folder / "state.db"
    decoder = sparkplug(folder, "state.db")
    node = EdgeNode("g", "n", {"d": {"A": 1.0, "B": 2.0}})
    for message in [*node.births(T0_MS), node.data("d", T0_MS, {"A": 3.0})]:
        decoder.decode(*message, T0_MS, 1)
    checkpoint = decoder.checkpoint()
    assert checkpoint is not None
    decoder._store.write(checkpoint)
    decoder.close()
    data = bytearray(path.read_bytes())
    at = damage[0] % len(data)
    data[at : at + len(damage[1])] = damage[1]
    path.write_bytes(data)
    message = node.data("d", T0_MS + 1, {"B": 4.0})
    with within(10):
        try:
            again = Sparkplug(MAPPING, SparkplugStore(path))
        except StoreUnusable:
            return
        decoded = again.decode(*message, T0_MS, 1)
        again.close()
    if decoded.refused is None:  # never a wrong value
        ((_, document), *_) = decoded.messages
        assert decode_payload(document)["values"] == {"a": [3.0], "b": [4.0]}
    else:
        assert decoded.refused.reason.value in ("no_birth", "missing_channel")
