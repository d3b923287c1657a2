"""Dead letters of mapped devices through mended mappings."""

from __future__ import annotations

import orjson

from ingest.deadletter import DeadLetter
from ingest.errors import RefusalReason
from ingest.mapping.compiled import CompiledMapping, compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.mapping.replaying import remap
from ingest.payloads import decode_payload

T0 = 1_700_000_000_000
HEAD = 'topic = "tele/{device}/SENSOR"\nsite = "hall"\nstream = "meter"\n'
TIME = '[time]\npath = "t"\nform = "epoch-ms"\n'
POWER = '[channels]\npower = "P"\n'
APART = (
    'topic = "bus/{device}/{what}"\nsite = "hall"\nstream = "meter"\n'
    + TIME
    + '[channels]\nP = "P"\nV = "V"\n[join]\nmax_age_ms = 1000\nemit = "P"\n'
)


def mapping(text: str, name: str = "plugs") -> CompiledMapping:
    return compile_mapping(parse_mapping(text, name))


def letter(topic: str, number: int = 0, source: str = "bridge", **values: float) -> DeadLetter:
    reason, recv_ms = RefusalReason.mapping, T0 + 60_000 + number
    return DeadLetter(reason, "was wrong", topic, recv_ms, orjson.dumps(values), source)  # type: ignore[arg-type]


def test_a_message_becomes_a_reading_of_our_own_form() -> None:
    found = remap([letter("tele/p/SENSOR", t=T0, P=5.0)], [mapping(HEAD + TIME + POWER)])
    (message,) = found.messages
    assert message.mqtt_topic == "sensors/hall/p/meter"
    assert decode_payload(message.raw) == {"ts": [T0], "values": {"power": [5.0]}}
    assert found.done == [letter("tele/p/SENSOR", t=T0, P=5.0).id]


def test_the_time_of_receipt_is_that_of_the_first_time() -> None:
    found = remap([letter("tele/p/SENSOR", 7, P=5.0)], [mapping(HEAD + POWER)])
    assert decode_payload(found.messages[0].raw)["ts"] == [T0 + 60_007]


def test_what_is_refused_again_stays() -> None:
    found = remap([letter("tele/p/SENSOR", t=T0, Q=5.0)], [mapping(HEAD + TIME + POWER)])
    assert (found.messages, found.done) == ([], [])
    assert "power" in found.refused[0][1]


def test_what_no_mapping_takes_is_left_to_others() -> None:
    others = [
        letter("other/p", t=T0, P=1.0),
        letter("sensors/a/b/c", t=T0, P=1.0),
        letter("tele/p/SENSOR", source="windows", t=T0, P=1.0),
    ]
    found = remap(others, [mapping(HEAD + TIME + POWER)])
    assert found.others == others
    assert found.messages == []


def test_devices_that_a_mapping_leaves_out_stay() -> None:
    narrow = 'devices = ["plug-*"]\nwhen = { device = ["plug-1"] }\n' + HEAD
    found = remap([letter("tele/plug-2/SENSOR", t=T0, P=1.0)], [mapping(narrow + TIME + POWER)])
    assert (found.messages, found.done, found.ignored) == ([], [], 1)


def test_channels_that_come_apart_are_joined_among_each_other() -> None:
    letters = [
        letter("bus/p/power", 1, t=T0 + 100, P=7.0),
        letter("bus/p/volt", 2, t=T0, V=230.0),
        letter("bus/p/power", 3, t=T0 + 200, P=8.0),
        letter("bus/q/power", 4, t=T0 + 200, P=9.0),
    ]
    found = remap(letters, [mapping(APART, "bus")])
    (message,) = found.messages
    assert message.mqtt_topic == "sensors/hall/p/meter"
    assert decode_payload(message.raw) == {
        "ts": [T0 + 100, T0 + 200],
        "values": {"P": [7.0, 8.0], "V": [230.0, 230.0]},
    }
    assert set(found.done) == {each.id for each in letters[:3]}
    assert found.without_partner == {"bus": 1}


def test_many_joined_readings_are_several_messages() -> None:
    letters = [letter("bus/p/x", n, t=T0 + n, P=float(n), V=1.0) for n in range(4500)]
    found = remap(letters, [mapping(APART, "bus")])
    assert [len(orjson.loads(each.raw)["ts"]) for each in found.messages] == [2000, 2000, 500]
    assert len(found.done) == 4500
