"""Several bridges share the messages (MQTT 5), and each ticks its own partitions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ingest.bridge import Bridge
from ingest.errors import LogUnavailable
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from ingest.topics import partition_of
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker

DEVICES = 20


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as found:
        yield found


def _settings(port: int, name: str, **settings: Any) -> IngestSettings:
    return IngestSettings(
        mqtt_port=port, mqtt_client_id=name, **{"mqtt_shared_group": "kpstream", **settings}
    )


@asynccontextmanager
async def bridge(
    port: int, log: FakeLog, name: str, *, leaves: bool = False, **settings: Any
) -> AsyncIterator[Bridge]:
    found = Bridge(_settings(port, name, **settings), log, leaves=leaves)
    task = asyncio.ensure_future(found.run())
    await until(lambda: found.health().connected)
    try:
        yield found
    finally:
        found.stop()
        await asyncio.wait_for(task, 120)


async def publish(broker: LocalBroker, first: int, last: int) -> None:
    endpoint = Endpoint(broker.host, broker.port, "test-devices")
    async with Publisher(endpoint) as devices:
        for number in range(first, last + 1):
            await devices.publish(f"sensors/plant/press-{number % DEVICES}/engine", body(number))
        await devices.flush()


@pytest.mark.needs_mosquitto
async def test_bridges_share_the_messages_and_together_have_each_once(broker: LocalBroker) -> None:
    logs = [FakeLog(), FakeLog(), FakeLog()]
    async with AsyncExitStack() as stack:
        for number, log in enumerate(logs):
            await stack.enter_async_context(bridge(broker.port, log, f"bridge-{number}"))
        await publish(broker, 1, 3000)
        await until(lambda: sum(len(log.numbers()) for log in logs) == 3000)
    counts = Counter(int(number) for log in logs for number in log.numbers())
    assert counts == Counter(range(1, 3001))
    assert min(len(log.numbers()) for log in logs) > 500


@pytest.mark.needs_mosquitto
async def test_messages_assigned_to_an_absent_bridge_wait_for_its_return(
    broker: LocalBroker,
) -> None:
    log = FakeLog()
    async with bridge(broker.port, log, "bridge-1"):
        async with bridge(broker.port, log, "bridge-2"):
            await publish(broker, 1, 200)
            await until(lambda: len(log.numbers()) == 200)
        await publish(broker, 201, 600)
        await until(lambda: len(log.numbers()) > 300)
        async with bridge(broker.port, log, "bridge-2"):
            await until(lambda: len(log.numbers()) == 600)
    assert Counter(int(number) for number in log.numbers()) == Counter(range(1, 601))


@pytest.mark.needs_mosquitto
async def test_a_bridge_that_leaves_takes_its_messages_and_the_others_take_the_rest(
    broker: LocalBroker,
) -> None:
    log, left = FakeLog(), FakeLog()
    async with bridge(broker.port, log, "bridge-1"):
        async with bridge(broker.port, left, "bridge-2"):
            await publish(broker, 1, 100)
            await until(lambda: len(log.numbers()) + len(left.numbers()) == 100)
        await publish(broker, 101, 300)  # a part of them waits for bridge-2
        async with bridge(broker.port, left, "bridge-2", leaves=True) as leaving:
            await until(lambda: leaving.is_drained(300))
            assert len(log.numbers()) + len(left.numbers()) == 300
        was_left = len(left.numbers())
        await publish(broker, 301, 500)
        await until(lambda: len(log.numbers()) + was_left == 500)
        async with bridge(broker.port, left, "bridge-2", leaves=True) as leaving:
            await until(lambda: leaving.is_drained(300))
    assert len(left.numbers()) == was_left  # nothing was kept for it
    counts = Counter(int(number) for number in (*log.numbers(), *left.numbers()))
    assert counts == Counter(range(1, 501))


@pytest.mark.needs_mosquitto
async def test_a_bridge_that_failed_to_leave_loses_no_waiting_message(
    broker: LocalBroker,
) -> None:
    log, away = FakeLog(), FakeLog()
    away.failures_left = 10**9
    async with bridge(broker.port, log, "bridge-1"):
        async with bridge(broker.port, log, "bridge-2"):
            pass
        await publish(broker, 1, 200)
        settings = _settings(broker.port, "bridge-2", log_patience_s=0.3)
        with pytest.raises(LogUnavailable):
            await asyncio.wait_for(Bridge(settings, away, leaves=True).run(), 120)
        async with bridge(broker.port, log, "bridge-2", leaves=True) as leaving:
            await until(lambda: leaving.is_drained(300))
    assert Counter(int(number) for number in log.numbers()) == Counter(range(1, 201))


@pytest.mark.needs_mosquitto
async def test_a_bridge_that_shares_from_now_on_no_longer_takes_everything_and_back(
    broker: LocalBroker,
) -> None:
    log, other = FakeLog(), FakeLog()
    async with bridge(broker.port, log, "bridge-1", mqtt_shared_group=None):
        await publish(broker, 1, 100)
        await until(lambda: len(log.numbers()) == 100)
    await publish(broker, 101, 200)  # wait in its session, by the old subscription
    async with (
        bridge(broker.port, log, "bridge-1"),
        bridge(broker.port, other, "bridge-2"),
    ):
        await until(lambda: len(log.numbers()) == 200)
        await publish(broker, 201, 600)
        await until(lambda: len(log.numbers()) + len(other.numbers()) == 600)
    async with bridge(broker.port, other, "bridge-2", leaves=True) as leaving:
        await until(lambda: leaving.is_drained(300))
    async with bridge(broker.port, log, "bridge-1", mqtt_shared_group=None):
        await publish(broker, 601, 700)
        await until(lambda: len(log.numbers()) + len(other.numbers()) >= 700)
        await asyncio.sleep(0.3)
    counts = Counter(int(number) for number in (*log.numbers(), *other.numbers()))
    assert counts == Counter(range(1, 701))
    assert len(other.numbers()) > 50


@pytest.mark.needs_mosquitto
async def test_bridges_of_different_sites_keep_the_order_of_every_device(
    broker: LocalBroker,
) -> None:
    logs = {"plant": FakeLog(), "hall": FakeLog()}
    async with AsyncExitStack() as stack:
        for site, log in logs.items():
            alone = bridge(broker.port, log, site, mqtt_shared_group=None, mqtt_sites=(site,))
            await stack.enter_async_context(alone)
        endpoint = Endpoint(broker.host, broker.port, "test-devices")
        async with Publisher(endpoint) as devices:
            for number in range(1, 401):
                for site in ("plant", "hall", "elsewhere"):
                    await devices.publish(f"sensors/{site}/press-1/engine", body(number))
            await devices.flush()
        await until(lambda: all(len(log.numbers()) == 400 for log in logs.values()))
    for site, log in logs.items():
        assert log.numbers() == list(range(1, 401))
        assert {batch.site for batch in log.batches()} == {site}


async def test_a_bridge_subscribes_to_its_share_with_mqtt_5_only() -> None:
    async with ScriptedBroker() as broker, bridge(broker.port, FakeLog(), "bridge-1") as found:
        assert found.health().protocol == "5"
        assert b"$share/kpstream/sensors/#" in b"".join(broker.subscriptions)


@pytest.mark.parametrize(("answer", "gives_up"), [(0x01, True), (0x9E, False)])
async def test_the_old_subscription_is_dropped_once_the_new_one_is_in_place(
    answer: int, gives_up: bool
) -> None:
    async with ScriptedBroker(session_present=True) as broker:
        broker.subscription_code = answer
        settings = IngestSettings(mqtt_port=broker.port, mqtt_shared_group="kpstream")
        found = Bridge(settings, FakeLog())
        task = asyncio.ensure_future(found.run())
        await until(lambda: len(broker.subscriptions) == (1 if gives_up else 2))
        await until(lambda: len(broker.unsubscriptions) >= int(gives_up))
        await asyncio.sleep(0.2)  # nothing more comes
        found.stop()
        await asyncio.wait_for(task, 120)
        assert len(broker.unsubscriptions) == int(gives_up)
        assert all(b"sensors/#" in packet for packet in broker.unsubscriptions)


@pytest.mark.parametrize(
    "others", [{"mqtt_protocol": "3.1.1"}, {"sparkplug": Path("map.toml")}], ids=str
)
def test_settings_that_exclude_sharing_are_refused(others: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="MQTT_SHARED_GROUP"):
        IngestSettings(mqtt_shared_group="kpstream", **others)


def test_an_invalid_site_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="'plant/#' is not a valid name of a site"):
        IngestSettings(mqtt_sites=("plant-1", "plant/#"))


class Clock:
    ms = 1_700_000_100_000

    def __call__(self) -> int:
        return self.ms


async def test_a_bridge_ticks_its_own_partitions_and_all_after_a_connect() -> None:
    clock, log = Clock(), FakeLog()
    home = partition_of(b"plant/press-1", 4)
    async with ScriptedBroker() as broker:
        found = Bridge(
            IngestSettings(mqtt_port=broker.port),
            log,
            now_ms=clock,
            steady_s=lambda: clock.ms / 1000,
        )
        assert found.quiet_partitions(6000) == []
        task = asyncio.ensure_future(found.run())
        await until(lambda: found.health().connected)
        assert found.quiet_partitions(6000) == [0, 1, 2, 3]
        clock.ms += 6001
        assert found.quiet_partitions(6000) == []

        broker.publish(1, "sensors/plant/press-1/engine", body(1))
        await until(lambda: broker.acks == [1])
        clock.ms += 6000
        assert found.quiet_partitions(6000) == [home]
        clock.ms += 1
        assert found.quiet_partitions(6000) == []

        broker.publish(2, "sensors/plant/press-1/engine", b"not json")
        await until(lambda: broker.acks == [1, 2])
        assert found.quiet_partitions(6000) == []  # a dead letter waits for nothing
        found.stop()
        await asyncio.wait_for(task, 120)
