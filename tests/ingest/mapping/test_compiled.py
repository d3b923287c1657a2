"""A mapping at work, on messages as devices send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingest.errors import RefusalReason, RefusedMessage
from ingest.mapping.compiled import CompiledMapping, Extract, compile_mapping
from ingest.mapping.file import parse_mapping
from ingest.topics import Address

RECV_MS = 1_700_000_100_000
T0_MS = 1_700_000_000_000


def mapping(text: str) -> CompiledMapping:
    return compile_mapping(parse_mapping(text, "test"))


def read(of: CompiledMapping, topic: str, body: Any) -> Extract:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return of.read(topic, raw, RECV_MS)


def rows(extract: Extract) -> list[tuple[int, dict[str, float]]]:
    return [(piece.ts_ms, piece.values) for piece in extract.readings]


PLUG = """
topic = "tele/{device}/SENSOR"
site = "home"
stream = "power"
[time]
path = "Time"
form = "iso8601"
zone = "UTC"
[channels]
power = { path = "ENERGY.Power", unit = "kW", to = "W" }
voltage = "ENERGY.Voltage"
"""
SENSOR = {"Time": "2023-11-14T22:13:20", "ENERGY": {"Power": 1.5, "Voltage": 230}}


def test_one_object_is_one_reading() -> None:
    extract = read(mapping(PLUG), "tele/plug-3/SENSOR", SENSOR)
    assert rows(extract) == [(T0_MS, {"power": 1500.0, "voltage": 230.0})]
    [piece] = extract.readings
    assert piece.address == Address("home", "plug-3", "power")
    assert piece.channels == ("power", "voltage")
    assert not piece.is_received_time
    assert extract.skipped == []
    assert extract.refused is None


def test_the_mapping_says_what_it_takes() -> None:
    plug = mapping(PLUG)
    assert plug.filters == ("tele/+/SENSOR",)
    assert plug.match("tele/plug-3/SENSOR") == {"device": "plug-3"}
    assert plug.match("tele/plug-3/STATE") is None
    assert plug.match("tele/a/b/SENSOR") is None
    power, voltage = plug.channels
    assert (power.name, power.source_unit, power.unit, power.scale) == ("power", "kW", "W", 1000.0)
    assert (voltage.unit, voltage.scale, voltage.offset) == (None, 1.0, 0.0)
    assert plug.join is None


@pytest.mark.parametrize(
    ("topic", "body", "reason", "told"),
    [
        ("tele/a/STATE", SENSOR, "mapping", "does not take the topic"),
        ("tele/a/SENSOR", b"", "mapping", "not JSON"),
        ("tele/a/SENSOR", b'{"Time": ', "mapping", "not JSON"),
        ("tele/a/SENSOR", b" " * 300_000, "mapping", "at most"),
        ("tele/a/SENSOR", {"Time": "2023-11-14T22:13:20"}, "missing_channel", "power, voltage"),
        ("tele/a/SENSOR", {**SENSOR, "ENERGY": {"Power": 1}}, "missing_channel", "ENERGY.Voltage"),
        ("tele/a/SENSOR", {**SENSOR, "ENERGY": []}, "missing_channel", "power, voltage"),
        ("tele/a/SENSOR", {**SENSOR, "Time": None}, "mapping", 'from = "received" (at Time)'),
        ("tele/a/SENSOR", {**SENSOR, "Time": "now"}, "mapping", "'now' is not ISO 8601"),
        ("tele/a/SENSOR", {**SENSOR, "Time": "1970-01-01T00:00:00Z"}, "mapping", "clock"),
        (
            "tele/a/SENSOR",
            {**SENSOR, "ENERGY": {"Power": "1.5", "Voltage": 1}},
            "mapping",
            "power: '1.5' is text: set text = true",
        ),
        (
            "tele/a/SENSOR",
            {**SENSOR, "ENERGY": {"Power": 1e38, "Voltage": 1}},
            "mapping",
            "no finite float32",
        ),
        (
            "tele/a/SENSOR",
            {**SENSOR, "ENERGY": {"Power": {}, "Voltage": 1}},
            "mapping",
            "an object is not a number",
        ),
    ],
)
def test_a_message_that_does_not_fit_is_refused(
    topic: str, body: Any, reason: str, told: str
) -> None:
    with pytest.raises(RefusedMessage) as caught:
        read(mapping(PLUG), topic, body)
    assert caught.value.reason == RefusalReason(reason)
    assert told in caught.value.detail


def test_names_that_are_no_names_become_readable_ones() -> None:
    extract = read(mapping(PLUG), "tele/Büro Lampe/SENSOR", SENSOR)
    assert extract.readings[0].address.device == "B-ro-Lampe-0819ce2a"


ARRAY = """
topic = "gw/{site}"
device = { path = "$.name" }
stream = "imu"
each = "readings"
[time]
path = "t"
form = "epoch-s"
[channels]
x = "acc[0]"
y = { path = "acc[1]", sign = -1, unit = "g", to = "m/s2" }
"""


def test_each_object_of_an_array_is_a_reading() -> None:
    body = {"name": "a 1", "readings": [{"t": 1.7e9 + n, "acc": [n, 1]} for n in range(3)]}
    extract = read(mapping(ARRAY), "gw/s", body)
    assert rows(extract) == [(T0_MS + 1000 * n, {"x": float(n), "y": -9.80665}) for n in range(3)]
    assert {piece.address for piece in extract.readings} == {Address("s", "a-1-042a5f2e", "imu")}


def test_a_fault_in_one_object_refuses_only_this_one() -> None:
    body = {
        "name": "a",
        "readings": [
            {"t": 1.7e9, "acc": [1, 2]},
            {"t": 1.7e9, "acc": ["1", 2]},
            7,
            {"t": 1.7e9 + 1, "acc": [1]},
            {"t": 1.7e9 + 2, "acc": [3, 4]},
        ],
    }
    extract = read(mapping(ARRAY), "gw/s", body)
    assert [ts for ts, _ in rows(extract)] == [T0_MS, T0_MS + 2000]
    assert extract.refused is not None
    assert extract.refused.reason is RefusalReason.mapping
    assert "3 readings are refused" in extract.refused.detail


def test_too_many_readings_are_refused() -> None:
    body = b'{"name": "a", "readings": [' + b"1," * 10_000 + b"1]}"
    with pytest.raises(RefusedMessage, match="more than 10000 objects"):
        read(mapping(ARRAY), "gw/s", body)


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        (0.001, "looks like seconds: check form in [time]"),
        (1000, "looks like microseconds: check form in [time]"),
        (0.00001, "set the device's clock"),
        (3, "set the device's clock"),
    ],
)
def test_times_of_another_century_are_refused_with_advice(factor: float, told: str) -> None:
    body = {"t0": int(T0_MS * factor), "x": 1, "y": 2, "bat": 80}
    for message in (body, {**body, "x": [1], "y": [2]}):
        with pytest.raises(RefusedMessage) as caught:
            read(mapping(COLUMNS), "imu/s/d", message)
        assert caught.value.reason is RefusalReason.mapping
        assert told in caught.value.detail


COLUMNS = """
topic = "imu/{site}/{device}"
stream = "imu"
[time]
path = "t0"
form = "epoch-ms"
step_ms = 20
[channels]
x = "x"
y = "y"
battery = "bat"
"""


def test_columns_are_rows_and_a_single_value_holds_for_all() -> None:
    body = {"t0": T0_MS, "x": [1, 2], "y": [3, 4], "bat": 80}
    extract = read(mapping(COLUMNS), "imu/s/d", body)
    assert rows(extract) == [
        (T0_MS, {"x": 1.0, "y": 3.0, "battery": 80.0}),
        (T0_MS + 20, {"x": 2.0, "y": 4.0, "battery": 80.0}),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"y": [1]}, "different lengths: x 2, y 1"),
        ({"t0": [T0_MS]}, None),
        ({"t0": [T0_MS] * 3}, "3 times for 2 readings"),
        ({"x": [], "y": []}, "columns of 0 values"),
        ({"x": [1, [2]]}, "an array is not a number"),
    ],
)
def test_uneven_columns_are_refused(change: dict[str, Any], told: str | None) -> None:
    body = {"t0": T0_MS, "x": [1, 2], "y": [3, 4], "bat": 80, **change}
    if told is None:
        assert len(rows(read(mapping(COLUMNS), "imu/s/d", body))) == 2
        return
    with pytest.raises(RefusedMessage, match=told):
        read(mapping(COLUMNS), "imu/s/d", body)


EMETER = """
topic = "shellies/{device}/emeter/{n}/{what}"
format = "value"
site = "home"
stream = "mains"
missing = ["unknown"]
[channels]
power_a = { when = { n = "0", what = "power" } }
power_b = { when = { n = "1", what = "power" } }
[join]
max_age_ms = 2000
emit = "power_a"
"""


def test_a_bare_value_is_a_piece_of_a_reading() -> None:
    emeter = mapping(EMETER)
    extract = read(emeter, "shellies/em/emeter/1/power", b"23.5")
    assert rows(extract) == [(RECV_MS, {"power_b": 23.5})]
    assert extract.readings[0].is_received_time
    assert extract.readings[0].channels == ("power_a", "power_b")
    assert emeter.join is not None
    assert emeter.join.emit == "power_a"


def test_a_topic_of_no_channel_is_ignored() -> None:
    emeter = mapping(EMETER)
    assert read(emeter, "shellies/em/emeter/1/voltage", b"23.5") == Extract(ignored=1)


def test_a_value_that_the_device_does_not_have_is_ignored_where_channels_are_joined() -> None:
    extract = read(mapping(EMETER), "shellies/em/emeter/1/power", b"unknown")
    assert (extract.readings, extract.ignored) == ([], 1)
    assert extract.skipped == ["power_b: no value at $"]
    with pytest.raises(RefusedMessage, match="is not a number"):
        read(mapping(EMETER), "shellies/em/emeter/1/power", b"unknowable")


def test_a_topic_that_only_the_filter_takes_is_ignored() -> None:
    climate = mapping(
        'topic = "ha/sensor/{device}_temperature/state"\nformat = "value"\nsite = "s"\n'
        'stream = "climate"\n[channels]\ntemperature = {}\n'
    )
    assert climate.filters == ("ha/sensor/+/state",)
    extract = read(climate, "ha/sensor/hall_2_temperature/state", b"21.5")
    assert extract.readings[0].address == ("s", "hall_2", "climate")
    assert climate.match("ha/sensor/hall_2_power/state") is None
    assert read(climate, "ha/sensor/hall_2_power/state", b"21.5") == Extract(ignored=1)


def test_when_takes_patterns_of_texts() -> None:
    probes = mapping(
        'topic = "tele/{device}/SENSOR"\nsite = "s"\nstream = "{probe}"\neach = "{probe}"\n'
        'when = { probe = ["DS18B20*", "AM2301"] }\n[channels]\n'
        'temperature = { path = "Temperature", when = { probe = "*" } }\n'
    )
    body = {"DS18B20-1": {"Temperature": 1}, "AM2301": {"Temperature": 2}, "TempUnit": "C"}
    extract = read(probes, "tele/a/SENSOR", body)
    assert [each.address.stream for each in extract.readings] == ["DS18B20-1", "AM2301"]
    assert extract.ignored == 1


SENML = """
topic = "senml"
site = "lab"
device = "{base}"
stream = "{kind}"
each = "$"
places = { base = "bn", name = "n", kind = "k" }
[time]
path = "t"
form = "epoch-s"
[channels]
temperature = { path = "v", when = { name = "temp", kind = "air" } }
humidity = { path = "v", when = { name = "hum", kind = "air" } }
speed = { path = "v", when = { name = "speed", kind = "fan" } }
"""


def test_objects_of_one_sender_and_time_are_one_reading() -> None:
    common = {"bn": "dev", "t": 1.7e9}
    body = [
        {**common, "k": "air", "n": "temp", "v": 20},
        {**common, "k": "air", "n": "hum", "v": 40},
        {**common, "k": "fan", "n": "speed", "v": 900},
    ]
    extract = read(mapping(SENML), "senml", body)
    assert [(p.address.stream, p.values) for p in extract.readings] == [
        ("air", {"temperature": 20.0, "humidity": 40.0}),
        ("fan", {"speed": 900.0}),
    ]


GATEWAY = """
topic = "v1/gateway/telemetry"
site = "hall"
stream = "engine"
each = "{device}"
devices = ["press-*"]
[time]
path = "ts"
form = "epoch-ms"
[channels]
T24 = "values.T24"
"""


def test_keys_of_an_object_name_devices_and_other_devices_are_ignored() -> None:
    body = {
        "press-1": [{"ts": T0_MS, "values": {"T24": 1}}, {"ts": T0_MS + 1, "values": {"T24": 2}}],
        "lamp": [{"ts": T0_MS, "values": {}}],
    }
    extract = read(mapping(GATEWAY), "v1/gateway/telemetry", body)
    assert rows(extract) == [(T0_MS, {"T24": 1.0}), (T0_MS + 1, {"T24": 2.0})]
    assert extract.ignored == 1
    assert extract.refused is None


def test_a_topic_of_another_device_is_not_taken() -> None:
    plug = mapping('devices = ["plug-?"]\n' + PLUG)
    assert plug.match("tele/plug-3/SENSOR") == {"device": "plug-3"}
    assert plug.match("tele/lamp/SENSOR") is None


OFFSETS = """
topic = "imu/{device}"
site = "s"
stream = "imu"
each = "samples"
[time]
path = "up_ms"
form = "offset-ms"
base = {base}
[channels]
x = "x"
"""


def test_offsets_count_from_a_base_or_end_at_receipt() -> None:
    body = {"t": 1.7e9, "samples": [{"up_ms": 40, "x": 1}, {"up_ms": 60, "x": 2}]}
    based = mapping(OFFSETS.replace("{base}", '{ path = "$.t", form = "epoch-s" }'))
    assert [ts for ts, _ in rows(read(based, "imu/d", body))] == [T0_MS + 40, T0_MS + 60]
    received = mapping(OFFSETS.replace("{base}", '"received"'))
    assert [ts for ts, _ in rows(read(received, "imu/d", body))] == [RECV_MS - 20, RECV_MS]


def test_readings_of_one_message_need_times_of_their_own() -> None:
    text = 'topic = "a/{device}"\nsite = "s"\nstream = "t"\neach = "$"\n[channels]\nx = "x"\n'
    body = [{"x": 1}, {"x": 2}, {"x": 3}]
    assert rows(read(mapping(text), "a/d", body[:1])) == [(RECV_MS, {"x": 1.0})]
    with pytest.raises(RefusedMessage, match="3 readings have one time: give step_ms"):
        read(mapping(text), "a/d", body)
    stepped = mapping(text + '[time]\nfrom = "received"\nstep_ms = 20\n')
    assert [ts for ts, _ in rows(read(stepped, "a/d", body))] == [
        RECV_MS - 40,
        RECV_MS - 20,
        RECV_MS,
    ]


def test_readings_with_the_time_of_their_message_need_a_step() -> None:
    text = 'topic = "a/{device}"\nsite = "s"\nstream = "t"\neach = "s"\n'
    text = text.replace("{", "{{").replace("}", "}}") + "{when}"
    text += '[time]\npath = "$.t"\nform = "epoch-ms"\n{step}[channels]\nx = "x"\n'
    body = {"t": T0_MS, "k": 1, "s": [{"x": 1}, {"x": 2}, {"x": 3}]}
    for when in ("", 'places = { k = "$.k" }\n'):  # the straight way, and the general one
        with pytest.raises(RefusedMessage, match="3 readings have one time: give step_ms"):
            read(mapping(text.format(when=when, step="")), "a/d", body)
        stepped = mapping(text.format(when=when, step="step_ms = 20\n"))
        assert [ts for ts, _ in rows(read(stepped, "a/d", body))] == [
            T0_MS,
            T0_MS + 20,
            T0_MS + 40,
        ]
        [one] = rows(read(stepped, "a/d", {**body, "s": [{"x": 1}]}))
        assert one == (T0_MS, {"x": 1.0})


def test_a_refusal_says_where_a_path_begins() -> None:
    text = 'topic = "a"\nsite = "s"\ndevice = { path = "id" }\nstream = "t"\neach = "s"\n'
    told = r"device: the message has no text at id in an object of each \(\$\.id begins"
    with pytest.raises(RefusedMessage, match=told):
        read(mapping(text + '[channels]\nx = "x"\n'), "a", {"id": "d", "s": [{"x": 1}]})


def test_a_device_may_have_other_keys_of_a_channel() -> None:
    text = PLUG + '[[override]]\ndevices = "plug-[79]"\nchannels.power = { unit = "W" }\n'
    for device, watts in (("plug-3", 1500.0), ("plug-7", 1.5)):
        [(_, values)] = rows(read(mapping(text), f"tele/{device}/SENSOR", SENSOR))
        assert values == {"power": watts, "voltage": 230.0}


UPLINK = """
topic = "v3/{device}/up"
format = "packed"
site = "s"
stream = "air"
places = { port = "port" }
when = { port = "2" }
[packed]
path = "raw"
encoding = "hex"
format = ">h"
fields = ["temperature"]
[channels]
temperature = { scale = 0.01 }
"""


@pytest.mark.parametrize(
    ("body", "ignored"),
    [({"port": 5, "raw": "0102030405"}, 1), ({"raw": "00"}, 1), ({"port": 2, "raw": "07d0"}, 0)],
)
def test_when_decides_before_packed_numbers_are_read(body: Any, ignored: int) -> None:
    extract = read(mapping(UPLINK), "v3/probe/up", body)
    assert extract.ignored == ignored
    assert [each.values for each in extract.readings] == [{"temperature": 20.0}] * (1 - ignored)


def test_packed_numbers_may_stand_in_each_object_of_an_array() -> None:
    each = UPLINK.replace('format = "packed"', 'format = "packed"\neach = "$"')
    each += '[time]\npath = "at"\nform = "epoch-ms"\n'
    body = [
        {"port": 5, "at": T0_MS},
        {"port": 2, "at": T0_MS, "raw": "07d0"},
        {"port": 2, "at": T0_MS + 5, "raw": "07"},
        7,
        {"port": 2, "at": T0_MS + 9},
    ]
    extract = read(mapping(each), "v3/probe/up", body)
    assert rows(extract) == [(T0_MS, {"temperature": 20.0})]
    assert extract.ignored == 2
    assert extract.refused is not None
    assert "1 packed bytes" in extract.refused.detail
    assert "the message has no text at raw" in extract.refused.detail


def test_when_decides_before_packed_records_are_read() -> None:
    records = mapping(
        UPLINK.replace('"port" }', '"$.port" }').replace('">h"', '">h"\nrepeat = true')
        + '[time]\nfrom = "received"\nstep_ms = 1000\n'
    )
    assert read(records, "v3/probe/up", {"port": 5, "raw": "01"}) == Extract(ignored=1)
    extract = read(records, "v3/probe/up", {"port": 2, "raw": "07d003e8"})
    assert [values["temperature"] for _, values in rows(extract)] == [20.0, 10.0]
    with pytest.raises(RefusedMessage, match="1 packed bytes; the format >h takes 2 each"):
        read(records, "v3/probe/up", {"port": 2, "raw": "01"})


def test_packed_numbers_of_a_message_for_the_mapping_are_refused_if_they_do_not_fit() -> None:
    with pytest.raises(RefusedMessage, match="5 packed bytes; the format >h takes 2"):
        read(mapping(UPLINK), "v3/probe/up", {"port": 2, "raw": "0102030405"})


def test_a_place_that_names_the_device_must_be_in_the_message() -> None:
    named = mapping(UPLINK.replace('site = "s"', 'site = "s-{port}"'))
    with pytest.raises(RefusedMessage, match="site: the message has no text at port"):
        read(named, "v3/probe/up", {"raw": "07d0"})


def test_an_object_without_a_place_is_left_out_unless_its_name_needs_it() -> None:
    common = {"bn": "dev", "t": 1.7e9, "k": "air"}
    whole = [{**common, "n": "temp", "v": 20}, {**common, "n": "hum", "v": 40}]
    extract = read(
        mapping(SENML), "senml", [*whole, {**common, "v": 3}, {**common, "n": [], "v": 3}]
    )
    assert [piece.values for piece in extract.readings] == [{"temperature": 20.0, "humidity": 40.0}]
    assert extract.ignored == 2
    extract = read(mapping(SENML), "senml", [*whole, {"t": 1.7e9, "k": "air", "n": "temp", "v": 3}])
    assert len(extract.readings) == 1
    assert extract.refused is not None
    assert "device: the message has no text at bn" in extract.refused.detail
