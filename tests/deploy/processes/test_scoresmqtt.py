"""Scores and alarms over MQTT: retained, in order, and again when the broker was away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTProtocolVersion

from deploy.processes.scoresmqtt import MqttSink
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from pipeline.errors import SinkUnavailable
from pipeline.points.points import Point

T0 = 1_750_000_000_000


def score(number: int, low: float, device: str = "press-1", quality: str = "good") -> Point:
    tags = (("site", "plant"), ("device", device), ("stream", "engine"), ("model", "rul-fd001"))
    fields = (("rul", low + 15.0), ("rul_low", low), ("rul_high", low + 30.0), ("version", 1))
    fields = (*fields, ("quality", quality))
    return Point("rul", tags, fields, (T0 + number) * 1_000_000)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker") as started:
        yield started


@contextmanager
def sink_of(broker: LocalBroker) -> Iterator[MqttSink]:
    sink = MqttSink(Endpoint(broker.host, broker.port, "scores-test"))
    try:
        yield sink
    finally:
        sink.close()


def heard(broker: LocalBroker, count: int, write=lambda: None) -> list[tuple[str, Any, bool]]:
    """What a subscriber gets: topic, content, and whether it was retained."""
    found: list[tuple[str, Any, bool]] = []
    complete, subscribed = threading.Event(), threading.Event()
    client = Client(
        CallbackAPIVersion.VERSION2, client_id="listener", protocol=MQTTProtocolVersion.MQTTv5
    )

    def on_message(_client, _data, message) -> None:
        found.append((message.topic, orjson.loads(message.payload), message.retain))
        if len(found) >= count:
            complete.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.subscribe([("scores/#", 1), ("alarms/#", 1)])
    assert subscribed.wait(30)
    write()
    assert complete.wait(30), found
    client.disconnect()
    client.loop_stop()
    return found


def test_each_score_comes_once_with_the_fields_of_its_point(broker: LocalBroker) -> None:
    with sink_of(broker) as sink:
        points = [score(number, 90.0) for number in range(5)]
        found = heard(broker, 7, lambda: sink.write(points))
    scores = [content for topic, content, _ in found if topic == "scores/plant/press-1/engine"]
    assert [content["time_ms"] for content in scores] == [T0 + number for number in range(5)]
    assert scores[0] == {
        "measurement": "rul",
        "model": "rul-fd001",
        "time_ms": T0,
        **dict(points[0].fields),
    }


def test_an_alarm_is_published_when_it_begins_and_when_it_ends(broker: LocalBroker) -> None:
    with sink_of(broker) as sink:
        lows = [90.0, 60.0, 19.0, 12.0, 90.0]
        sink.write([score(number, low) for number, low in enumerate(lows[:3])])
        found = heard(
            broker, 6, lambda: sink.write([score(n, lows[n]) for n in range(3, len(lows))])
        )
        alarms = states(found, "alarms/plant/press-1/engine")
        assert alarms == [(True, 2, True), (False, 4, False)]
        assert ("scores/plant/press-1/engine", T0 + 2) in [
            (topic, content["time_ms"]) for topic, content, kept in found if kept
        ]
        assert heard(broker, 3)[0][2] is True


def states(found: list[tuple[str, Any, bool]], topic: str) -> list[tuple[bool, int, bool]]:
    """What was told on a topic of alarms: the alarm, at which time, and whether it was retained."""
    return [(c["alarm"], c["time_ms"] - T0, kept) for t, c, kept in found if t == topic]


def test_a_doubtful_score_moves_no_alarm_and_has_an_alarm_of_its_own(broker: LocalBroker) -> None:
    odd = "range: T24, T30"
    course = [(90.0, "good"), (1.6, odd), (1.6, odd), (12.0, "good"), (90.0, odd), (13.0, "good")]
    points = [score(n, low, quality=why) for n, (low, why) in enumerate(course)]
    with sink_of(broker) as sink:
        found = heard(broker, 13, lambda: sink.write(points))
    assert [c["quality"] for t, c, _ in found if t.startswith("scores/")] == [q for _, q in course]
    assert states(found, "alarms/plant/press-1/engine") == [(False, 0, False), (True, 3, False)]
    doubts = states(found, "alarms/plant/press-1/engine/quality")
    assert [(alarm, at) for alarm, at, _ in doubts] == [
        (False, 0),
        (True, 1),
        (False, 3),
        (True, 4),
        (False, 5),
    ]


def test_an_unfamiliar_score_raises_an_alarm_by_its_upper_end_and_ends_none(
    broker: LocalBroker,
) -> None:
    """An engine that is worn further than those learned from, and repaired at last."""

    def lost(number: int, high: float) -> Point:
        return Point(
            "rul",
            (("site", "plant"), ("device", "press-1"), ("stream", "engine"), ("model", "m")),
            (("rul", 6.0), ("rul_low", 0.0), ("rul_high", high), ("quality", "unfamiliar")),
            (T0 + number) * 1_000_000,
        )

    points = [score(0, 40.0), lost(1, 70.0), lost(2, 19.0), lost(3, 90.0), score(4, 95.0)]
    with sink_of(broker) as sink:
        found = heard(broker, 11, lambda: sink.write(points))
    assert states(found, "alarms/plant/press-1/engine") == [
        (False, 0, False),
        (True, 2, False),
        (False, 4, False),
    ]


def test_an_anomaly_counts_although_its_readings_are_out_of_range(broker: LocalBroker) -> None:
    tags = (("site", "grid"), ("device", "t1"), ("stream", "transformer"), ("model", "f"))
    fields = (("score", 0.99), ("alarm", 1), ("quality", "range: OT"))
    point = Point("anomaly", tags, fields, T0 * 1_000_000)
    with sink_of(broker) as sink:
        found = heard(broker, 3, lambda: sink.write([point]))
    assert states(found, "alarms/grid/t1/transformer")[0][0] is True


def test_a_broker_that_is_away_makes_the_sink_unavailable_until_it_is_back(
    broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.processes.scoresmqtt._CONNECT_S", 0.5)
    monkeypatch.setattr("deploy.processes.scoresmqtt._CONFIRM_S", 1.0)
    with sink_of(broker) as sink:
        sink.write([score(0, 90.0)])
        broker.kill()
        with pytest.raises(SinkUnavailable, match=r"cannot publish scores|has not confirmed"):
            for number in range(1, 50):
                sink.write([score(number, 90.0)])
        broker.start()
        for _ in range(60):
            try:
                assert sink.write([score(7, 42.0)]) == []
                break
            except SinkUnavailable:
                continue
        else:
            raise AssertionError("the sink did not find the broker again")
        assert heard(broker, 1)[0][1]["rul_low"] == 42.0


def test_other_points_are_left_out_and_need_no_broker() -> None:
    sink = MqttSink(Endpoint("127.0.0.1", 1, "nobody"))
    tags = (("site", "a"), ("device", "b"), ("stream", "c"), ("model", "d"), ("channel", "e"))
    assert sink.write([Point("forecast", tags, (("p50", 1.0),), 1)]) == []
    sink.close()
