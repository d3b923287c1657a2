"""Mapped devices as a format of the bridge: whole readings, joined ones, refusals, files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.blocks import decode_messages
from ingest.bridgehealth import BridgeCounters
from ingest.decoder import Canonical, Checked
from ingest.decoders import Claim, Decoders
from ingest.errors import MappingInvalid, RefusalReason
from ingest.intake import Intake
from ingest.mapping.decoder import Mappings
from ingest.mapping.folder import MappingFolder
from ingest.mapping.store import JoinStore
from ingest.messages import Batch
from ingest.payloads import decode_payload, event_times
from ingest.roster import RosterLimits
from ingest.settings import IngestSettings
from ingest.topicfilters import TopicSet
from ingest.topics import READINGS

T0 = 1_700_000_000_000
WHOLE = """
topic = "tele/{device}/SENSOR"
site = "hall"
stream = "meter"
[time]
path = "t"
form = "epoch-ms"
[channels]
power = { path = "E.P", unit = "kW", to = "W" }
volt = "E.V"
"""
EACH = """
topic = "gw/{site}/batch"
device = { path = "id" }
stream = "climate"
each = "all[*]"
[time]
path = "t"
form = "epoch-ms"
[channels]
temp = "T"
"""
APART = """
topic = ["shelly/{device}/power", "shelly/{device}/voltage"]
site = "hall"
stream = "meter"
[time]
path = "t"
form = "epoch-ms"
[channels]
power = "p"
voltage = "v"
[join]
max_age_ms = 2000
lateness_ms = 500
emit = "power"
"""


class World:
    """A folder of mappings and the decoder of one bridge after the other."""

    def __init__(self, tmp_path: Path) -> None:
        self.files = tmp_path / "files"
        self.state = tmp_path / "state"
        self.files.mkdir(exist_ok=True)

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.files / f"{name}.toml").write_text(content)

    @contextmanager
    def running(self, limits: RosterLimits | None = None, **settings: Any) -> Iterator[Mappings]:
        reserved = [Claim("ours", [TopicSet("sensors/#")])]
        folder = MappingFolder(self.files, self.state / "mappings", reserved)
        store = JoinStore(self.state / "mappings.db")
        more: dict[str, Any] = {} if limits is None else {"limits": limits}
        decoder = Mappings(folder, store, IngestSettings(**settings), ["sensors/#"], **more)
        try:
            yield decoder
        finally:
            decoder.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rows(messages: Any) -> list[tuple[str, int, dict[str, float]]]:
    """Device, time and values of every reading; each body passes the check of our own form."""
    found = []
    for message in messages:
        assert isinstance(message, Checked)
        document = decode_payload(orjson.dumps(message.body))
        times = event_times(document).tolist()
        assert (min(times), len(times)) == (message.earliest_ms, message.readings)
        for at, ts_ms in enumerate(times):
            values = {
                name: cell[at] if isinstance(cell, list) else cell
                for name, cell in document["values"].items()
            }
            found.append((message.address.device, ts_ms, values))
    return found


def sent(topic: str, **body: Any) -> tuple[str, bytes]:
    return topic, orjson.dumps(body)


def take(decoder: Mappings, topic: str, payload: bytes, recv_ms: int = T0, **more: bool) -> Any:
    assert decoder.takes(topic)
    decoder.sent_at(topic, payload, recv_ms)
    return decoder.decode(topic, payload, recv_ms, 1, **more)


# -- whole readings -------------------------------------------------------------------------


def test_a_message_becomes_a_reading_in_the_units_of_the_file(world: World) -> None:
    world.write(plugs=WHOLE)
    with world.running() as decoder:
        topic, body = sent("tele/plug-3/SENSOR", t=T0, E={"P": 0.5, "V": 231})
        found = take(decoder, topic, body)
        assert found.refused is None
        assert rows(found.messages) == [("plug-3", T0, {"power": 500.0, "volt": 231.0})]
        assert decoder.sent_at(topic, body, T0) == ("hall/plug-3", T0, T0)
        assert decoder.checkpoint() is None
        assert decoder.status()["counters"]["plugs"] == {
            "messages_total": 1,
            "readings_total": 1,
            "refused_total": 0,
            "ignored_total": 0,
            "retained_total": 0,
            "other_sites_total": 0,
        }


def test_one_message_of_many_devices_becomes_readings_of_each(world: World) -> None:
    world.write(gw=EACH)
    with world.running() as decoder:
        several = [{"id": d, "t": T0 + n, "T": n} for n, d in enumerate(["a", "b", "a"])]
        found = take(decoder, *sent("gw/plant/batch", all=several))
        assert rows(found.messages) == [
            ("a", T0, {"temp": 0}),
            ("b", T0 + 1, {"temp": 1}),
            ("a", T0 + 2, {"temp": 2}),
        ]


def test_a_refusal_has_the_reason_and_the_name_of_the_mapping(world: World) -> None:
    world.write(plugs=WHOLE)
    with world.running() as decoder:
        for body in (b"not json", b'{"t": 1, "E": {"P": 1, "V": 2}}', b'{"t": 5}'):
            found = take(decoder, "tele/plug-3/SENSOR", body)
            assert found.messages == ()
            assert found.refused.reason in (RefusalReason.mapping, RefusalReason.missing_channel)
            assert "plugs" in found.refused.detail
        empty = take(decoder, "tele//SENSOR", b"{}")
        assert empty.refused.reason is RefusalReason.mapping
        assert decoder.status()["counters"]["plugs"]["refused_total"] == 4


def test_a_time_beyond_64_bits_is_refused(world: World) -> None:
    world.write(plugs=WHOLE)
    with world.running() as decoder:
        for number in (10**18, 2**63 - 1, 2**63, 10**30):
            found = take(
                decoder, *sent("tele/p/SENSOR", t=min(number, 2**64 - 1), E={"P": 1, "V": 1})
            )
            assert found.refused is not None or found.messages[0].earliest_ms < 2**63


def test_what_a_file_leaves_out_is_ignored_and_counted(world: World) -> None:
    world.write(plugs='devices = ["plug-*"]\n' + WHOLE)
    with world.running() as decoder:
        found = take(decoder, *sent("tele/door/SENSOR", t=T0, E={"P": 1, "V": 2}))
        assert (found.messages, found.refused) == ((), None)
        assert decoder.status()["counters"]["plugs"]["ignored_total"] == 1


def test_topics_of_others_are_not_taken(world: World) -> None:
    world.write(wild=WHOLE.replace("tele/{device}/SENSOR", "{a}/{b}/{device}/data"))
    with world.running() as decoder:
        assert decoder.takes("x/y/z/data")
        assert not decoder.takes("sensors/y/z/data")
        assert not decoder.takes("x/y/z/other")
        assert not decoder.takes("$SYS/y/z/data")


def test_a_bridge_of_some_sites_counts_the_readings_of_others(world: World) -> None:
    world.write(gw=EACH)
    with world.running(mqtt_sites=("plant",)) as decoder:
        message = [{"id": "a", "t": T0, "T": 1}]
        assert rows(take(decoder, *sent("gw/plant/batch", all=message)).messages)
        assert not take(decoder, *sent("gw/other/batch", all=message)).messages
        assert decoder.status()["counters"]["gw"]["other_sites_total"] == 1


def test_a_retained_message_without_a_time_is_no_reading(world: World) -> None:
    received = WHOLE.replace('[time]\npath = "t"\nform = "epoch-ms"\n', "")
    world.write(plugs=WHOLE, others=received.replace("tele/", "other/"))
    with world.running() as decoder:
        topic, body = sent("tele/p/SENSOR", t=T0, E={"P": 1, "V": 1})
        assert rows(take(decoder, topic, body, is_retained=True).messages)
        assert take(decoder, "other/p/SENSOR", body, is_retained=True) == ((), None)
        assert rows(take(decoder, "other/p/SENSOR", body).messages)
        counters = decoder.status()["counters"]
        assert (counters["plugs"]["retained_total"], counters["others"]["retained_total"]) == (0, 1)


# -- joined readings ------------------------------------------------------------------------


def apart(ts_ms: int, **values: float) -> tuple[str, bytes]:
    what = "power" if "p" in values else "voltage"
    return sent(f"shelly/em/{what}", t=ts_ms, **values)


def test_channels_of_two_topics_become_one_reading(world: World) -> None:
    world.write(meter=APART)
    with world.running() as decoder:
        assert not take(decoder, *apart(T0, v=230)).messages
        assert not take(decoder, *apart(T0 + 100, p=7)).messages
        assert rows(take(decoder, *apart(T0 + 600, v=231)).messages) == [
            ("em", T0 + 100, {"power": 7, "voltage": 230})
        ]
        counters = decoder.status()["counters"]["meter"]
        assert counters["readings_total"] == counters["join_readings_total"] == 1
        assert (counters["join_values_total"], counters["join_used_total"]) == (3, 2)
        assert decoder.status()["waiting"] == 1


def test_a_silent_device_gets_its_reading_when_silence_means_something(world: World) -> None:
    world.write(meter=APART)
    with world.running() as decoder:
        take(decoder, *apart(T0, v=230), recv_ms=T0)
        take(decoder, *apart(T0 + 100, p=7), recv_ms=T0 + 100)
        assert decoder.due(T0 + 5000, None) == []  # not connected, or behind
        assert decoder.due(T0 + 5000, T0 + 4900) == []  # just connected
        assert decoder.due(T0 + 500, T0 - 9999) == []
        assert decoder.due(None, None) == []  # the next process goes on
        assert len(rows(decoder.due(T0 + 900, T0 - 9999))) == 1
        assert decoder.due(T0 + 9000, T0 - 9999) == []


def test_a_value_of_the_future_does_not_make_the_others_late(world: World) -> None:
    world.write(meter=APART)
    with world.running(future_ms=1000) as decoder:
        take(decoder, *apart(T0, v=230))
        found = take(decoder, *apart(T0 + 10**9, p=7))
        assert found.refused.reason is RefusalReason.future
        take(decoder, *apart(T0 + 100, p=7))
        assert len(rows(decoder.due(T0 + 10**4, T0))) == 1


def test_the_number_of_joined_streams_is_bounded(world: World) -> None:
    world.write(meter=APART)
    limits = RosterLimits(10, 5, 10**9, 10**8, 10**7)
    with world.running(limits) as decoder:
        for number in range(20):
            topic, body = sent(f"shelly/d{number}/voltage", t=T0, v=1)
            found = take(decoder, topic, body)
        assert found.refused.reason is RefusalReason.too_many_devices
        assert decoder.status()["joining"] == 5


def test_a_mapping_that_changes_gives_up_what_it_had_and_says_so(world: World) -> None:
    world.write(meter=APART)
    with world.running() as decoder:
        take(decoder, *apart(T0, v=230))
        take(decoder, *apart(T0 + 100, p=7))
        take(decoder, *apart(T0 + 200, v=231))
        world.write(meter=APART.replace('"v"', '"volt"'))
        assert decoder.look(now=True)
        assert len(rows(decoder.due(T0 + 200, None))) == 1  # what was complete
        assert decoder.status()["joining"] == 0
        counters = decoder.status()["counters"]["meter"]
        assert counters["join_dropped_total"] == 1
        checkpoint = decoder.checkpoint()
        assert checkpoint is not None
        assert [key[0] for key in checkpoint.gone] == ["meter"]


def test_a_removed_mapping_takes_no_more_topics(world: World) -> None:
    world.write(meter=APART, plugs=WHOLE)
    with world.running() as decoder:
        take(decoder, *apart(T0, v=230))
        (world.files / "meter.toml").unlink()
        assert decoder.look(now=True)
        assert list(decoder.filters) == ["tele/+/SENSOR"]
        assert not decoder.takes("shelly/em/power")
        found = decoder.decode(*apart(T0, p=1), T0, 1)  # held before, for example
        assert found.refused.reason is RefusalReason.mapping


def test_a_trigger_that_a_stream_does_not_have_is_refused(world: World) -> None:
    mapping = APART.replace('"meter"', '"{what}"').replace(
        'topic = ["shelly/{device}/power", "shelly/{device}/voltage"]',
        'topic = "shelly/{device}/{what}"',
    )
    power = 'power = { path = "p", when = { what = ["power"] } }'
    world.write(meter=mapping.replace('power = "p"', power))
    with world.running() as decoder:
        found = take(decoder, *apart(T0, v=230))
        assert found.refused.reason is RefusalReason.mapping
        assert "join.emit" in found.refused.detail


LINE = [
    apart(T0 + 100 * n + (7 if n % 2 else 0), **({"p": n} if n % 2 else {"v": n}))
    for n in range(14)
]


def joined_by(world: World, kills: list[int]) -> list[Any]:
    """Feed the line through processes that are killed before message numbers in `kills`."""
    found: list[Canonical] = []
    durable = at = 0
    for kill in [*kills, len(LINE)]:
        with world.running() as decoder:
            at = durable
            while at < max(kill, durable):
                found += take(decoder, *LINE[at], recv_ms=T0 + at).messages
                at += 1
                if at % 3 == 0:
                    checkpoint = decoder.checkpoint()
                    if checkpoint is not None:
                        decoder._store.write(checkpoint)
                    durable = at
            if kill == len(LINE):
                found += decoder.due(T0 + 10**6, T0)
    return sorted({orjson.dumps(row): row for row in rows(found)}.values(), key=lambda r: r[1])


@given(st.lists(st.integers(0, len(LINE)), max_size=4).map(sorted))
def test_kills_at_any_point_change_no_reading(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("kills")
    for name in ("a", "b"):
        (folder / name).mkdir()
    disturbed, undisturbed = World(folder / "a"), World(folder / "b")
    for each in (disturbed, undisturbed):
        each.write(meter=APART)
    wanted = joined_by(undisturbed, [])
    assert len(wanted) == 7
    assert joined_by(disturbed, kills) == wanted


def test_values_of_a_mapping_that_changed_while_the_process_was_off_are_given_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(meter=APART)
    with world.running() as decoder:
        take(decoder, *apart(T0, v=230))
        checkpoint = decoder.checkpoint()
        assert checkpoint is not None
        decoder._store.write(checkpoint)
    world.write(meter=APART.replace("2000", "3000"))
    with world.running() as decoder:
        assert decoder.status()["joining"] == 0
        checkpoint = decoder.checkpoint()
        assert checkpoint is not None
        assert len(checkpoint.gone) == 1
    assert "1 streams are given up" in caplog.text


def test_a_broken_file_is_in_the_health_view_and_the_good_one_goes_on(world: World) -> None:
    world.write(plugs=WHOLE)
    with world.running() as decoder:
        world.write(plugs="nonsense")
        assert not decoder.look(now=True)
        status = decoder.status()
        assert status["in_force"]["plugs"]["is_former"]
        assert "not TOML" in status["faults"]["plugs"]
        assert rows(take(decoder, *sent("tele/p/SENSOR", t=T0, E={"P": 1, "V": 1})).messages)


def test_two_mappings_that_take_one_topic_after_all_refuse_it(world: World) -> None:
    # The readable form of a name fits the pattern of the other file.
    world.write(
        a=WHOLE.replace("tele/{device}/SENSOR", "z/{device}").replace(
            "site =", 'devices = ["K *"]\nsite ='
        ),
        b=WHOLE.replace("tele/{device}/SENSOR", "z/{device}").replace(
            "site =", 'devices = ["K-*"]\nsite ='
        ),
    )
    with world.running() as decoder:
        found = take(decoder, *sent("z/K 1", t=T0, E={"P": 1, "V": 1}))
        assert "a.toml and b.toml both claim 'z/K 1'" in found.refused.detail


def test_a_start_with_a_broken_file_is_refused(world: World) -> None:
    world.write(plugs="nonsense")
    with pytest.raises(MappingInvalid, match="plugs"), world.running():
        pass


# -- anything -------------------------------------------------------------------------------

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.booleans() | st.none()
documents = st.recursive(
    numbers | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["t", "p", "v", "E", "P", "V", "all", "id", "T"]), inner, max_size=5
        )
    ),
    max_leaves=12,
)
payloads = st.binary(max_size=40) | documents.map(lambda each: json.dumps(each).encode())
topics = st.sampled_from(
    ["tele/a/SENSOR", "tele//SENSOR", "gw/p/batch", "shelly/d/power", "shelly/d/voltage"]
) | st.text(max_size=12).map(lambda text: f"tele/{text}/SENSOR")


@given(st.lists(st.tuples(topics, payloads, st.booleans()), max_size=12))
def test_whatever_comes_on_mapped_topics_is_a_reading_or_a_dead_letter(
    tmp_path_factory: pytest.TempPathFactory, messages: list[tuple[str, bytes, bool]]
) -> None:
    world = World(tmp_path_factory.mktemp("any"))
    world.write(plugs=WHOLE, gw=EACH, meter=APART)
    counters = BridgeCounters()
    with world.running() as decoder:
        intake = Intake(IngestSettings(), lambda: 4, Decoders([decoder]), counters)
        for topic, payload, is_dup in messages:
            intake.take(topic, payload, T0, 1, is_dup=is_dup)
        good = ("tele/good/SENSOR", orjson.dumps({"t": T0, "E": {"P": 1, "V": 2}}))
        intake.take(*good, T0, 1)
        load = intake.close_load()
        records = intake.records(load, T0)
        found = [each for r in records if r.topic == READINGS for each in decoded(r.value)]
    assert counters.faults_total == 0
    assert load.messages == load.accepted + len(load.refused) == len(messages) + 1
    assert [batch.device for batch in found].count("good") == 1


def decoded(value: bytes) -> list[Batch]:
    items = decode_messages(value)
    assert all(isinstance(each, Batch) for each in items)  # nothing unreadable
    return [each for each in items if isinstance(each, Batch)]
