"""A bridge whose broker cannot keep the delivery promise says so, and goes on taking readings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.bridge import Bridge
from ingest.bridgehealth import lost_sessions
from ingest.errors import MqttError
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from ingest.subscribed import SubscribedFilters
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port

TOPIC = "sensors/plant/press-1/engine"
NOW_MS = 1_700_000_100_000


@asynccontextmanager
async def running(
    broker: ScriptedBroker, log: FakeLog, folder: Path | None = None, **settings: Any
) -> AsyncIterator[Bridge]:
    """Run a bridge until the end of the block, connected or not."""
    ingest = IngestSettings(mqtt_port=broker.port, **settings)
    memory = None
    if folder is not None:
        memory = SubscribedFilters(folder / "s.json", "127.0.0.1", broker.port, "kpstream-bridge")
    bridge = Bridge(ingest, log, subscribed=memory, now_ms=lambda: NOW_MS)
    task = asyncio.ensure_future(bridge.run())
    try:
        yield bridge
    finally:
        bridge.stop()
        await asyncio.wait_for(task, 120)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_downgraded_subscription_is_not_ready_until_the_broker_grants_qos_1(
    version: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker:
        broker.suback_codes = [0]
        async with running(broker, log, mqtt_protocol=version) as bridge:
            await until(lambda: bridge.health().promise_void)
            broker.publish(0, TOPIC, body(1), qos=0)
            await until(lambda: log.numbers() == [1])
            health = bridge.health()
            assert not health.connected
            assert "'sensors/#' with QoS 0 instead of 1" in str(health.error)
            assert health.announced is not None
            assert health.announced["granted"] == {"sensors/#": 0}
            assert caplog.text.count("with QoS 0 instead of 1") == 1
            broker.suback_codes = None
            await broker.drop()
            await until(lambda: bridge.health().connected)
            assert (bridge.health().promise_void, bridge.health().error) == ((), None)


async def test_a_session_forgotten_between_two_processes_is_a_counted_loss(tmp_path: Path) -> None:
    log = FakeLog()
    async with ScriptedBroker() as broker:
        async with running(broker, log, tmp_path) as bridge:
            await until(lambda: bridge.health().connected)
            assert (bridge.health().sessions_lost, bridge.health().notices) == (0, ())
        broker.session_present = True
        async with running(broker, log, tmp_path) as bridge:
            await until(lambda: bridge.health().connected)
            assert bridge.counters.sessions_lost_total == 0
        broker.session_present = False
        broker.announce(session_expiry_interval=86_400)
        async with running(broker, log, tmp_path) as bridge:
            await until(lambda: bridge.health().connected)
            health = bridge.health()
            assert health.sessions_lost == bridge.counters.sessions_lost_total == 1
            assert health.session_lost_ms == NOW_MS
            shortened, lost = health.notices
            assert "keeps our session for 1 day, asked for 7 days" in shortened
            assert (
                "forgotten our session once since the start, last noticed at 2023-11-14 22:15"
                in lost
            )


async def test_a_session_that_never_was_is_not_reported_as_lost(tmp_path: Path) -> None:
    async with ScriptedBroker() as broker:
        broker.closes_at = "subscribe"
        async with running(broker, FakeLog(), tmp_path) as bridge:
            await until(lambda: bridge.counters.connects_total >= 2)
        broker.closes_at = None
        async with running(broker, FakeLog(), tmp_path) as bridge:
            await until(lambda: bridge.health().connected)
            assert bridge.health().sessions_lost == 0
        broker.closes_at = "subscribe"  # and one that is lost is lost once
        async with running(broker, FakeLog(), tmp_path) as bridge:
            await until(lambda: bridge.counters.connects_total >= 3)
            assert bridge.health().sessions_lost == 1


@pytest.mark.parametrize(
    ("announced", "group", "word"),
    [
        ({"wildcard_subscription_available": 0}, None, "no wildcard subscriptions"),
        ({"shared_subscription_available": 0}, "line", "no shared subscriptions"),
        ({"maximum_packet_size": 10}, None, "packets of at most 10 bytes"),
        ({"session_expiry_interval": 4}, None, "keeps our session for 4 s, asked for 7 days"),
        ({"assigned_client_identifier": "auto-7"}, None, "calls us 'auto-7'"),
    ],
)
async def test_what_the_broker_cannot_do_is_named_and_not_asked_for_in_vain(
    announced: dict[str, Any], group: str | None, word: str
) -> None:
    async with ScriptedBroker() as broker:
        broker.announce(**announced)
        async with running(broker, FakeLog(), mqtt_shared_group=group) as bridge:
            await until(lambda: word in str(bridge.health().error))
            assert not bridge.health().connected
            broker.announce()
            await broker.drop()
            await until(lambda: bridge.health().connected)
            assert bridge.health().error is None


def test_losses_are_told_with_their_number() -> None:
    assert lost_sessions(0, None) == ()
    assert (
        "3 times since the start, last noticed at 2023-11-14 22:15" in lost_sessions(3, NOW_MS)[0]
    )


@pytest.mark.needs_mosquitto
async def test_mosquitto_announces_its_limits_and_we_keep_to_them(tmp_path: Path) -> None:
    port = free_port()
    lines = (
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_qos 0\n"
        "max_packet_size 1000\nretain_available false\nmax_keepalive 20\n"
    )
    with LocalBroker(tmp_path / "broker", kind="mosquitto", port=port, listeners=lines) as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port, keepalive_s=60), FakeLog())
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().promise_void)
        health = bridge.health()
        assert health.announced is not None
        known = {"maximum_qos": 0, "maximum_packet_bytes": 1000, "retain_available": False}
        assert health.announced | known == health.announced
        assert health.announced["keep_alive_s"] == 20
        assert not health.connected
        assert "grants QoS 0 at most" in str(health.error)
        async with Publisher(Endpoint("127.0.0.1", port, "devices")) as publisher:
            with pytest.raises(MqttError, match="takes QoS 0 at most"):
                await publisher.publish(TOPIC, body(1))
        bridge.stop()
        await asyncio.wait_for(task, 120)
