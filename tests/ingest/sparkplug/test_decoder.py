"""Births, data and deaths of Sparkplug nodes become readings, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ingest.decoder import Decoded
from ingest.errors import RefusalReason
from ingest.payloads import decode_payload, event_times
from ingest.sparkplug.decoder import Sparkplug, sparkplug_of
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.sparkplug.wire import DataType, Metric, encode_sparkplug
from tests.fakes.sparkplugnode import EdgeNode, Message, is_rebirth, template

T0_MS = 1_750_000_000_000
CHANNELS = {"a": "Sensors/A", "b": "Sensors/B"}
Reading = tuple[str, str, int, dict[str, float]]


def mapping(**changes: object) -> SparkplugMapping:
    table: dict[str, object] = {"stream": [{"name": "pair", "metrics": CHANNELS}]}
    table["complete_within_ms"] = 0  # `test_moments` tests the wait
    return SparkplugMapping.model_validate(table | changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterable[SparkplugStore]:
    found = SparkplugStore(tmp_path / "sparkplug.db")
    yield found
    found.close()


@pytest.fixture
def sparkplug(store: SparkplugStore) -> Sparkplug:
    return Sparkplug(mapping(), store)


def node(*devices: str, **changes: object) -> EdgeNode:
    values = {device: {"Sensors/A": 1.0, "Sensors/B": 2.0} for device in devices or ("press",)}
    return EdgeNode("plant", "line", values, **changes)  # type: ignore[arg-type]


def readings(decoded: Decoded) -> list[Reading]:
    found = []
    for address, body in decoded.messages:
        document = decode_payload(body)
        for at, ts_ms in enumerate(event_times(document).tolist()):
            values = {channel: column[at] for channel, column in document["values"].items()}
            found.append((f"{address.site}/{address.device}", address.stream, ts_ms, values))
    return found


def take(
    sparkplug: Sparkplug, *messages: Message, qos: int = 1, is_dup: bool = False
) -> list[Reading]:
    """Return the readings of messages, after checking that none is refused."""
    found = []
    for topic, payload in messages:
        decoded = sparkplug.decode(topic, payload, T0_MS, qos, is_dup=is_dup)
        assert decoded.refused is None, decoded.refused
        found += readings(decoded)
    return found


def refusal(sparkplug: Sparkplug, message: Message) -> tuple[RefusalReason, str]:
    decoded = sparkplug.decode(*message, T0_MS, 1)
    assert decoded.refused is not None
    return decoded.refused.reason, decoded.refused.detail


def rebirths(sparkplug: Sparkplug, now_ms: int = T0_MS) -> list[str]:
    out = sparkplug.outgoing(now_ms)
    assert all(is_rebirth(each.topic, each.payload) for each in out)
    assert not any(each.retain or each.qos for each in out)
    return [each.topic for each in out]


@pytest.mark.parametrize("use_aliases", [True, False])
def test_report_by_exception_becomes_whole_readings(
    sparkplug: Sparkplug, use_aliases: bool
) -> None:
    line = node(use_aliases=use_aliases)
    assert take(sparkplug, *line.births(T0_MS)) == []
    found = take(
        sparkplug,
        line.data("press", T0_MS + 10, {"Sensors/A": 5.0}),
        line.data("press", T0_MS + 20, {"Sensors/B": -7.5}),
        line.data("press", T0_MS + 30, {"Sensors/A": 6.0, "Sensors/B": 8.0}),
    )
    where = ("plant/line.press", "pair")
    assert found == [
        (*where, T0_MS + 10, {"a": 5.0, "b": 2.0}),
        (*where, T0_MS + 20, {"a": 5.0, "b": -7.5}),
        (*where, T0_MS + 30, {"a": 6.0, "b": 8.0}),
    ]
    assert rebirths(sparkplug) == []
    assert sparkplug.counters.readings_total == 3


def test_values_are_converted_to_the_unit_of_the_channel(store: SparkplugStore) -> None:
    metrics = {
        "a": {"metric": "Sensors/A", "unit": "degC", "to": "K"},
        "b": {"metric": "Sensors/B", "sign": -1, "scale": 1e38},
    }
    sparkplug = Sparkplug(mapping(stream=[{"name": "pair", "metrics": metrics}]), store)
    line = node()
    take(sparkplug, *line.births(T0_MS))
    [reading] = take(sparkplug, line.data("press", T0_MS + 10, {"Sensors/A": 5.0}))
    assert reading[3] == {"a": 278.15, "b": -2e38}
    message = line.data("press", T0_MS + 20, {"Sensors/B": 4.0})
    reason, detail = refusal(sparkplug, message)
    assert reason is RefusalReason.not_finite
    assert "b has no finite float32" in detail
    [reading] = take(sparkplug, line.data("press", T0_MS + 30, {"Sensors/B": 1.0}))
    assert reading[3] == {"a": 278.15, "b": -1e38}


def test_one_message_may_hold_several_times_of_several_streams(store: SparkplugStore) -> None:
    streams = [
        {"name": "pair", "metrics": CHANNELS},
        {"name": "solo", "metrics": {"x": "Sensors/B"}},
        {"name": "elsewhere", "devices": ["other/*"], "metrics": {"x": "Sensors/B"}},
    ]
    sparkplug = Sparkplug(mapping(stream=streams), store)
    line = node("")
    take(sparkplug, *line.births(T0_MS))
    samples = [(T0_MS + 20, 1, 20.0), (T0_MS + 10, 0, 10.0), (T0_MS + 10, 1, 11.0)]
    metrics = [
        Metric(alias=alias, ts_ms=ts_ms, field="double_value", value=value)
        for ts_ms, alias, value in samples
    ]
    found = take(sparkplug, (line.topic("NDATA"), encode_sparkplug(T0_MS, metrics, 1)))
    assert sorted(found, key=lambda r: (r[1], r[2])) == [
        ("plant/line", "pair", T0_MS + 10, {"a": 10.0, "b": 11.0}),
        ("plant/line", "pair", T0_MS + 20, {"a": 10.0, "b": 20.0}),
        ("plant/line", "solo", T0_MS + 10, {"x": 11.0}),
        ("plant/line", "solo", T0_MS + 20, {"x": 20.0}),
    ]


def test_null_is_no_value_and_readings_wait_until_there_is_one(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    reason, detail = refusal(sparkplug, line.data("press", T0_MS + 1, {"Sensors/A": None}))
    assert reason is RefusalReason.missing_channel
    assert detail == "pair: Sensors/A has no value now"
    assert refusal(sparkplug, line.data("press", T0_MS + 2, {"Sensors/B": 3.0}))[0] is reason
    (back,) = take(sparkplug, line.data("press", T0_MS + 3, {"Sensors/A": 4.0}))
    assert back[3] == {"a": 4.0, "b": 3.0}
    assert rebirths(sparkplug) == []


def test_historical_values_continue_from_before_the_birth_and_leave_the_present_alone(
    sparkplug: Sparkplug,
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    take(sparkplug, line.data("press", T0_MS + 10, {"Sensors/A": 3.0}))
    take(sparkplug, line.ndeath(T0_MS + 20))
    line.bdseq += 1
    line.devices["press"] |= {"Sensors/A": 9.0, "Sensors/B": 10.0}  # while it was offline
    take(sparkplug, *line.births(T0_MS + 1000))
    (then,) = take(sparkplug, line.data("press", T0_MS + 100, {"Sensors/B": 4.0}, historical=True))
    assert then[2:] == (T0_MS + 100, {"a": 3.0, "b": 4.0})
    (now,) = take(sparkplug, line.data("press", T0_MS + 1010, {"Sensors/A": 11.0}))
    assert now[3] == {"a": 11.0, "b": 10.0}


def test_births_are_readings_if_the_mapping_requests_it(store: SparkplugStore) -> None:
    sparkplug = Sparkplug(mapping(births_are_readings=True), store)
    (found,) = take(sparkplug, *node().births(T0_MS))
    assert found[2:] == (T0_MS, {"a": 1.0, "b": 2.0})


@pytest.mark.parametrize("births", [0, 1], ids=["nothing", "only the node's"])
def test_data_before_birth_is_refused_and_a_birth_is_asked_for(
    sparkplug: Sparkplug, births: int
) -> None:
    line = node()
    reported = line.births(T0_MS)
    take(sparkplug, *reported[:births])
    line.seq = births - 1
    message = line.data("press", T0_MS + 1, {"Sensors/A": 1.0})
    assert refusal(sparkplug, message)[0] is RefusalReason.no_birth
    assert rebirths(sparkplug) == ["spBv1.0/plant/NCMD/line"]
    take(sparkplug, *line.births(T0_MS + 2))
    assert len(take(sparkplug, line.data("press", T0_MS + 3, {"Sensors/A": 1.5}))) == 1


def test_requests_are_rare_and_end_with_the_birth(sparkplug: Sparkplug) -> None:
    line = node()
    refusal(sparkplug, line.data("press", T0_MS, {"Sensors/A": 1.0}))
    asked = [at for at in range(0, 600_000, 250) if rebirths(sparkplug, T0_MS + at)]
    assert asked == [0, 5_000, 15_000, 35_000, 75_000, 155_000, 315_000]
    take(sparkplug, *line.births(T0_MS))
    assert not rebirths(sparkplug, T0_MS + 10_000_000)
    take(sparkplug, line.data("press", T0_MS, {"Sensors/A": 1.0}))
    line.seq += 1
    line.data("press", T0_MS, {})
    take(sparkplug, line.data("press", T0_MS, {"Sensors/A": 1.0, "Sensors/B": 1.0}))
    assert rebirths(sparkplug, T0_MS + 10_000_000)
    assert sparkplug.counters.rebirths_requested_total == 8


def test_many_nodes_are_not_asked_at_once(sparkplug: Sparkplug) -> None:
    for number in range(30):
        line = EdgeNode("plant", f"line-{number}", {"": {"Sensors/A": 1.0}})
        refusal(sparkplug, line.data("", T0_MS, {"Sensors/A": 1.0}))
    found = [rebirths(sparkplug, T0_MS + at * 250) for at in range(7)]
    assert [len(each) for each in found] == [5] * 6 + [0]
    assert len({topic for each in found for topic in each}) == 30


def test_gap_discards_values_and_reports_the_missing_messages(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    for number in range(300):  # beyond 255
        take(sparkplug, line.data("press", T0_MS + number, {"Sensors/A": float(number)}))
    for _ in range(3):
        line.data("press", T0_MS + 300, {"Sensors/B": 99.0})  # lost
    reason, detail = refusal(sparkplug, line.data("press", T0_MS + 301, {"Sensors/A": 5.0}))
    assert reason is RefusalReason.no_birth
    assert "Sensors/B was not sent again since" in detail
    assert "3 messages are missing" in detail
    counters = sparkplug.counters
    assert (counters.seq_gaps_total, counters.lost_messages_total) == (1, 3)
    assert rebirths(sparkplug) == ["spBv1.0/plant/NCMD/line"]
    # Complete messages are taken meanwhile, and repeated values are known again.
    whole = {"Sensors/A": 6.0, "Sensors/B": 7.0}
    assert len(take(sparkplug, line.data("press", T0_MS + 302, whole))) == 1
    assert len(take(sparkplug, line.data("press", T0_MS + 303, {"Sensors/A": 8.0}))) == 1


def test_a_gap_concerns_all_devices_of_the_node_and_no_other_node(sparkplug: Sparkplug) -> None:
    line = node("press", "saw")
    other = EdgeNode("plant", "line-2", {"press": {"Sensors/A": 1.0, "Sensors/B": 2.0}})
    take(sparkplug, *line.births(T0_MS), *other.births(T0_MS))
    line.data("press", T0_MS, {"Sensors/B": 99.0})  # lost
    assert refusal(sparkplug, line.data("saw", T0_MS + 1, {"Sensors/A": 5.0}))[0] == "no_birth"
    assert len(take(sparkplug, other.data("press", T0_MS + 1, {"Sensors/A": 5.0}))) == 1


def test_death_of_the_node_takes_its_devices_offline(sparkplug: Sparkplug) -> None:
    line = node("press", "saw")
    take(sparkplug, *line.births(T0_MS))
    assert sparkplug.status()["offline"] == []
    take(sparkplug, line.ndeath(T0_MS + 5))
    assert sparkplug.status()["offline"] == ["plant/line", "plant/line.press", "plant/line.saw"]
    assert sparkplug.status()["nodes_online"] == sparkplug.status()["devices_online"] == 0
    assert refusal(sparkplug, line.data("press", T0_MS, {"Sensors/A": 1.0}))[0] == "no_birth"
    line.bdseq += 1
    take(sparkplug, *line.births(T0_MS + 10))
    assert sparkplug.status()["devices_online"] == 2
    assert sparkplug.counters.bdseq_gaps_total == 0


def test_late_death_of_an_earlier_session_is_without_effect(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    late = line.ndeath(T0_MS)
    line.bdseq += 1
    take(sparkplug, *line.births(T0_MS + 10), late)
    assert sparkplug.counters.stale_deaths_total == 1
    assert len(take(sparkplug, line.data("press", T0_MS + 20, {"Sensors/A": 1.5}))) == 1
    line.bdseq += 3
    take(sparkplug, *line.births(T0_MS + 30))
    assert sparkplug.counters.bdseq_gaps_total == 1


def test_death_of_a_device_concerns_it_alone(sparkplug: Sparkplug) -> None:
    line = node("press", "saw")
    take(sparkplug, *line.births(T0_MS), line.ddeath("press", T0_MS + 1))
    assert sparkplug.status()["offline"] == ["plant/line.press"]
    assert len(take(sparkplug, line.data("saw", T0_MS + 2, {"Sensors/A": 1.5}))) == 1
    assert refusal(sparkplug, line.data("press", T0_MS + 3, {"Sensors/A": 1.5}))[0] == "no_birth"
    assert sparkplug.counters.seq_gaps_total == 0


@pytest.mark.parametrize(
    ("metric", "reason", "reported"),
    [
        (Metric(alias=0, ts_ms=T0_MS), "wrong_type", "no value"),
        (Metric(alias=0, ts_ms=T0_MS, field="int_value", value=3), "wrong_type", "3 as int_value"),
        (
            Metric(alias=0, ts_ms=T0_MS, datatype=12, field="double_value", value=3.0),
            "wrong_type",
            "12",
        ),
        (
            Metric(alias=0, ts_ms=T0_MS, field="double_value", value=float("nan")),
            "not_finite",
            "nan",
        ),
        (Metric(alias=0, ts_ms=T0_MS, field="double_value", value=1e39), "not_finite", "float32"),
        (Metric(alias=0, ts_ms=5, field="double_value", value=1.0), "clock_unset", "timestamp 5"),
        (
            Metric(alias=0, ts_ms=2**64 - 1, field="double_value", value=1.0),
            "clock_unset",
            "timest",
        ),
        (Metric(alias=77, ts_ms=T0_MS, field="double_value", value=1.0), "no_birth", "alias 77"),
        (Metric("Sensors/A ", ts_ms=T0_MS, field="double_value", value=1.0), None, ""),
    ],
)
def test_faults_of_metrics_are_reported(
    sparkplug: Sparkplug, metric: Metric, reason: str | None, reported: str
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    good = Metric(alias=1, ts_ms=T0_MS + 1, field="double_value", value=4.0)
    payload = encode_sparkplug(T0_MS, [metric, good], line.seq + 1)
    decoded = sparkplug.decode(line.topic("DDATA", "press"), payload, T0_MS, 1)
    if reason is None:
        assert decoded.refused is None
    else:
        assert decoded.refused is not None
        assert decoded.refused.reason == reason
        assert reported in decoded.refused.detail
    # An unusable value sets no current value; usable ones are taken.
    usable = reason in (None, "clock_unset", "no_birth")
    assert [r[3]["b"] for r in readings(decoded)] == ([4.0] if usable else [])


@pytest.mark.parametrize(
    ("types", "values", "reason", "reported"),
    [
        ({"Sensors/A": 12}, None, "wrong_type", "datatype 12"),
        ({}, {"Sensors/A": 1.0, "Other": 2.0}, "missing_channel", "no Sensors/B"),
        ({}, {"Other": 2.0}, None, ""),
    ],
)
def test_a_birth_that_does_not_fit_the_mapping_is_reported_once(
    sparkplug: Sparkplug,
    types: dict[str, DataType],
    values: dict[str, float | None] | None,
    reason: str | None,
    reported: str,
) -> None:
    line = node(types=types)
    if values is not None:
        line.devices["press"] = values
    nbirth, dbirth = line.births(T0_MS)
    take(sparkplug, nbirth)
    if reason is None:
        take(sparkplug, dbirth)
    else:
        found, detail = refusal(sparkplug, dbirth)
        assert found == reason
        assert reported in detail
    assert take(sparkplug, line.data("press", T0_MS + 1, {})) == []
    assert not rebirths(sparkplug)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("spBv1.0/", b"", "bad_topic"),
        ("spBv1.0/g", b"", "bad_topic"),
        ("spBv1.0/g/NBIRTH", b"", "bad_topic"),
        ("spBv1.0/g/NBIRTH/n/d", b"", "bad_topic"),
        ("spBv1.0/g/DDATA/n", b"", "bad_topic"),
        ("spBv1.0/g/NCMD/n/d", b"", "bad_topic"),
        ("spBv1.0/g/ndata/n", b"", "bad_topic"),
        ("spBv1.0//NDATA/n", b"", "bad_topic"),
        ("spBv1.0/g/NDATA/\ufffd", b"", "bad_topic"),
        ("spBv1.0/g/NDATA/" + "n" * 2000, b"", "bad_topic"),
        ("spBv1.0/g/NBIRTH/n", b"", "empty"),
        ("spBv1.0/g/NBIRTH/n", b'{"ts": 1}', "not_sparkplug"),
        ("spBv1.0/g/NBIRTH/n", b"\x18\x80\x02", "not_sparkplug"),  # sequence number 256
        ("spBv1.0/g/NBIRTH/n", b"\x12\x00" * 20_001, "too_large"),
        ("spBv1.0/g/NBIRTH/n", b"\x00" * 1_100_000, "too_large"),
    ],
)
def test_a_message_that_is_not_sparkplug_is_refused(
    sparkplug: Sparkplug, topic: str, payload: bytes, reason: str
) -> None:
    assert refusal(sparkplug, (topic, payload))[0] == reason


def test_a_large_message_becomes_bodies_that_fit(sparkplug: Sparkplug) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    metrics = [
        Metric(alias=0, ts_ms=T0_MS + n, field="double_value", value=n / 3) for n in range(19_000)
    ]
    payload = encode_sparkplug(T0_MS, metrics, line.seq + 1)
    found = take(sparkplug, (line.topic("DDATA", "press"), payload))
    assert [r[2] for r in found] == [T0_MS + n for n in range(19_000)]


def udt(ts_ms: int, seq: int, name: str, values: dict[str, float], *, alias: int = 0) -> bytes:
    """A payload with one Template whose members are Doubles."""
    members = encode_sparkplug(
        ts_ms,
        [Metric(n, None, ts_ms, 10, field="double_value", value=v) for n, v in values.items()],
    )[7:]  # without the timestamp of the payload
    return encode_sparkplug(ts_ms, [], seq) + template(name, members, alias=alias)


def test_members_of_a_template_are_metrics_with_its_name_in_front(store: SparkplugStore) -> None:
    streams = [{"name": "pair", "metrics": {"a": "Motor 1/A", "b": "Motor 1/B"}}]
    sparkplug = Sparkplug(mapping(stream=streams), store)
    line = node()
    take(sparkplug, line.births(T0_MS)[0])
    topic = "spBv1.0/plant/{}/line/press"
    whole = {"A": 1.0, "B": 2.0}
    take(sparkplug, (topic.format("DBIRTH"), udt(T0_MS, 1, "Motor 1", whole, alias=7)))
    (found,) = take(sparkplug, (topic.format("DDATA"), udt(T0_MS + 1, 2, "", {"A": 5.0}, alias=7)))
    assert found[2:] == (T0_MS + 1, {"a": 5.0, "b": 2.0})
    assert sparkplug.status()["notices"] == []
    null = encode_sparkplug(T0_MS + 2, [Metric(alias=7, is_null=True)], 3)
    reason, detail = refusal(sparkplug, (topic.format("DDATA"), null))
    assert (reason, detail) == ("missing_channel", "pair: Motor 1/A, Motor 1/B has no value now")


@pytest.mark.parametrize(
    ("metrics", "streams", "shown"),
    [
        ({"sensors/A": 1.0, "Sensors/B": 1.0}, {}, "sensors/A (mapped: Sensors/A)"),
        ({"Line 1/Sensors/A": 1.0}, {"metrics": {"a": "A"}}, "map them so: Line 1/Sensors/A"),
        ({"Other": 1.0, "More": 2.0}, {}, "none of its 2 metrics is in the mapping: Other, More"),
        (
            {"Sensors/A": 1.0, "Sensors/B": 1.0},
            {"devices": ["Plant/*"]},
            "its path fits none of its `devices` 'Plant/*'",
        ),
        ({"Sensors/A": 1.0, "Sensors/B": 1.0}, {}, None),
    ],
)
def test_a_birth_that_matches_no_stream_is_told_by_name(
    store: SparkplugStore,
    restart: Callable[..., Sparkplug],
    metrics: dict[str, float | None],
    streams: dict[str, object],
    shown: str | None,
) -> None:
    changed = mapping(stream=[{"name": "pair", "metrics": CHANNELS} | streams])
    sparkplug = Sparkplug(changed, store)
    line = EdgeNode("plant", "line", {"press": metrics})
    for message in line.births(T0_MS):
        sparkplug.decode(*message, T0_MS, 1)
    for found in (sparkplug, again := restart(sparkplug, changed)):
        notices = found.status()["notices"]
        assert isinstance(notices, list)
        assert found.status()["without_stream"] == len(notices) == int(shown is not None)
        assert all(each.startswith("plant/line/press: ") for each in notices)
        assert all(shown in each for each in notices if shown is not None)
    again.close()


def test_notices_are_bounded(sparkplug: Sparkplug) -> None:
    metrics: dict[str, float | None] = {f"{'x' * 900}{n}": 1.0 for n in range(300)}
    for number in range(40):
        line = EdgeNode("g" * 300, f"line-{number}", {"press": metrics})
        for message in line.births(T0_MS):
            sparkplug.decode(*message, T0_MS, 1)
    status = sparkplug.status()
    assert status["without_stream"] == 40
    assert len(str(status["notices"])) < 25_000


def test_commands_to_nodes_are_counted_and_have_no_effect(sparkplug: Sparkplug) -> None:
    for topic in ("spBv1.0/plant/NCMD/line", "spBv1.0/plant/DCMD/line/press"):
        assert take(sparkplug, (topic, b"whatever")) == []
    assert sparkplug.counters.commands_total == 2
    assert sparkplug.status()["nodes"] == 0


def test_a_group_that_is_not_configured_is_refused_not_read(store: SparkplugStore) -> None:
    sparkplug = Sparkplug(mapping(groups=["hall"]), store)
    reason, detail = refusal(sparkplug, node().births(T0_MS)[0])
    assert reason == "bad_topic"
    assert "group 'plant' is not among `groups` of the mapping" in detail
    assert sparkplug.status()["nodes"] == 0


def test_host_announces_its_presence_and_leaves_a_will(store: SparkplugStore) -> None:
    sparkplug = Sparkplug(mapping(host_id="kp"), store)
    assert sparkplug.filters == ["spBv1.0/#"]
    will = sparkplug.farewell(T0_MS)
    sparkplug.connected(T0_MS + 5)
    (birth,) = sparkplug.outgoing(T0_MS + 5)
    assert will is not None
    assert will == (birth.topic, b'{"online":false,"timestamp":%d}' % T0_MS, 1, True)
    assert birth == ("spBv1.0/STATE/kp", b'{"online":true,"timestamp":%d}' % T0_MS, 1, True)
    assert take(sparkplug, birth[:2]) == []
    assert sparkplug.outgoing(T0_MS + 60_000) == []
    assert take(sparkplug, will[:2]) == []  # a late will reports the host as offline
    assert sparkplug.outgoing(T0_MS + 60_000) == [birth]


def test_without_host_id_nothing_is_announced(sparkplug: Sparkplug) -> None:
    assert sparkplug.farewell(T0_MS) is None
    sparkplug.connected(T0_MS)
    assert sparkplug.outgoing(T0_MS) == []


@pytest.mark.parametrize(("qos", "asked"), [(0, 1), (1, 0)])
def test_after_a_reconnect_nodes_without_a_promise_are_asked(
    sparkplug: Sparkplug, qos: int, asked: int
) -> None:
    take(sparkplug, *node().births(T0_MS), qos=qos)
    sparkplug.connected(T0_MS)
    assert len(rebirths(sparkplug)) == asked


Restart = Callable[[Sparkplug], Sparkplug]


@pytest.fixture
def restart(tmp_path: Path) -> Restart:
    def begin_anew(old: Sparkplug, changed: SparkplugMapping | None = None) -> Sparkplug:
        checkpoint = old.checkpoint()
        if checkpoint is not None:
            asyncio.run(old.keep(checkpoint))
        old.close()
        return Sparkplug(changed or mapping(), SparkplugStore(tmp_path / "sparkplug.db"))

    return begin_anew


def test_kept_memory_continues_after_a_restart(sparkplug: Sparkplug, restart: Restart) -> None:
    line = node("press", "saw")
    take(sparkplug, *line.births(T0_MS))
    last = line.data("press", T0_MS + 1, {"Sensors/A": 5.0})
    take(sparkplug, last)
    again = restart(sparkplug)
    assert take(again, last, is_dup=True) == []  # delivered again
    (found,) = take(again, line.data("press", T0_MS + 2, {"Sensors/B": 6.0}))
    assert found[3] == {"a": 5.0, "b": 6.0}
    assert again.counters.duplicates_total == 1
    assert again.counters.seq_gaps_total == 0
    assert again.status()["devices_online"] == 2
    assert not rebirths(again)
    again.close()


def test_messages_that_were_not_kept_are_taken_again(
    sparkplug: Sparkplug, restart: Restart
) -> None:
    line = node()
    births, data = line.births(T0_MS), line.data("press", T0_MS + 1, {"Sensors/A": 5.0})
    take(sparkplug, *births)
    checkpoint = sparkplug.checkpoint()
    assert checkpoint is not None
    asyncio.run(sparkplug.keep(checkpoint))
    first = take(sparkplug, data)
    assert sparkplug.checkpoint()  # taken, and lost with the process
    again = restart(sparkplug)
    assert take(again, data) == first
    again.close()


def test_another_mapping_asks_every_node_for_a_birth(
    sparkplug: Sparkplug, restart: Callable[..., Sparkplug]
) -> None:
    line = node()
    take(sparkplug, *line.births(T0_MS))
    other = mapping(stream=[{"name": "solo", "metrics": {"x": "Sensors/B"}}])
    again = restart(sparkplug, other)
    assert rebirths(again) == ["spBv1.0/plant/NCMD/line"]
    (found,) = take(again, line.data("press", T0_MS, {"Sensors/B": 3.0}))
    assert found[1:] == ("solo", T0_MS, {"x": 3.0})
    again.close()


def test_the_settings_switch_the_decoder_on(tmp_path: Path) -> None:
    from ingest.settings import IngestSettings

    assert sparkplug_of(IngestSettings(), tmp_path) is None
    path = tmp_path / "sparkplug.toml"
    path.write_text('[[stream]]\nname = "pair"\nmetrics = { a = "Sensors/A" }\n')
    found = sparkplug_of(IngestSettings(sparkplug=path), tmp_path / "state")
    assert found is not None
    assert (tmp_path / "state" / "sparkplug.db").is_file()
    found.close()


def test_each_counter_is_a_metric(sparkplug: Sparkplug) -> None:
    from pipeline.console.formatmetrics import sparkplug_metrics

    take(sparkplug, *node().births(T0_MS))
    families = {each.name: each for each in sparkplug_metrics(sparkplug.status())}
    assert (
        families["kpstream_sparkplug_births"].samples[0].name == "kpstream_sparkplug_births_total"
    )
    assert families["kpstream_sparkplug_births"].samples[0].value == 2
    assert families["kpstream_sparkplug_devices_online"].samples[0].value == 1
    assert "kpstream_sparkplug_offline" not in families
