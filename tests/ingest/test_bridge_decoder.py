"""The seam for other formats: the memory is kept after the log confirms and before the ack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from deploy.processes.bridging import subscribed_filters
from ingest.bridge import Bridge
from ingest.decoder import Checked, Decoded, Outgoing, Sent
from ingest.decoders import Decoders
from ingest.errors import LogUnavailable, RefusalReason, RefusedMessage
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.topics import Address
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.sparkplugnode import EdgeNode


class Plain:
    """A format whose messages are `<device> <number> ...`; it remembers how many there were."""

    def __init__(self) -> None:
        self.filters = ("plain/+",)
        self.taken = 0
        self.kept: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failures_left = 0
        self.to_say: list[Outgoing] = []
        self.will: Outgoing | None = None
        self.connects = 0
        self.held: list[tuple[Address, bytes]] = []

    def decode(
        self,
        topic: str,
        payload: bytes,
        recv_ms: int,
        qos: int,
        *,
        is_dup: bool = False,
        is_retained: bool = False,
    ) -> Decoded:
        self.taken += 1
        if payload == b"fault":
            raise KeyError("of ours")
        words = payload.decode().split()
        found = [(Address("s", words[0], "imu"), body(float(word))) for word in words[1:]]
        refused = RefusedMessage(RefusalReason.empty, "no number") if not found else None
        if "-1" in words:
            found.append((Address("s", words[0], "imu"), b"{}"))
        return Decoded(found, refused)

    def takes(self, topic: str) -> bool:
        return topic.startswith(self.filters[0].removesuffix("+"))

    def due(self, now_ms: int | None, quiet_since_ms: int | None) -> list[tuple[Address, bytes]]:
        held, self.held = self.held, []
        return held

    def checkpoint(self) -> int | None:
        return self.taken or None

    async def keep(self, checkpoint: int) -> None:
        await self.open.wait()
        if self.failures_left:
            self.failures_left -= 1
            raise LogUnavailable("told to fail")
        self.kept.append(checkpoint)

    def connected(self, now_ms: int) -> None:
        self.connects += 1

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        said, self.to_say = self.to_say, []
        return said

    def sent_at(self, topic: str, payload: bytes, recv_ms: int) -> Sent | None:
        return None

    def farewell(self, now_ms: int) -> Outgoing | None:
        return self.will


@asynccontextmanager
async def running(
    broker: ScriptedBroker, log: FakeLog, decoder: Plain | Sparkplug
) -> AsyncIterator[Bridge]:
    bridge = Bridge(IngestSettings(mqtt_port=broker.port), log, decoders=[decoder])
    task = asyncio.ensure_future(bridge.run())
    await until(lambda: bridge.health().connected)
    try:
        yield bridge
    finally:
        bridge.stop()
        await asyncio.wait_for(task, 120)


async def test_acknowledges_when_the_memory_is_kept_which_is_when_the_log_has_confirmed() -> None:
    log, plain = FakeLog(), Plain()
    plain.open.clear()
    log.open.clear()
    async with ScriptedBroker() as broker, running(broker, log, plain) as bridge:
        assert b"plain/+" in broker.subscriptions[0]
        broker.publish(1, "plain/x", b"press 5 6")
        await until(lambda: log.under_way)
        assert plain.kept == []
        log.open.set()
        await until(lambda: log.numbers("press") == [5.0, 6.0])
        await asyncio.sleep(0.02)
        assert broker.acks == plain.kept == []
        broker.publish(2, "plain/x", b"press 7")  # of the next load, not of this checkpoint
        plain.open.set()
        await until(lambda: broker.acks == [1, 2])
        assert plain.kept == [1, 2]
        assert bridge.counters.logged_total == 2


async def test_a_memory_that_is_not_kept_is_tried_again_with_its_load() -> None:
    log, plain = FakeLog(), Plain()
    plain.failures_left = 2
    async with ScriptedBroker() as broker, running(broker, log, plain) as bridge:
        broker.publish(1, "plain/x", b"press 5")
        await until(lambda: broker.acks == [1])
        assert bridge.counters.append_failures_total == 2
        assert set(log.numbers()) == {5.0}
        assert plain.kept[-1] == 1


@pytest.mark.parametrize(
    ("payload", "numbers", "reason", "faults"),
    [
        (b"press", [], "empty", 0),
        (b"press 5 -1", [5.0, -1.0], "wrong_shape", 0),  # one of its bodies is none
        (b"fault", [], "wrong_shape", 1),
    ],
)
async def test_a_refused_message_is_one_dead_letter_and_its_good_readings_are_taken(
    payload: bytes, numbers: list[float], reason: str, faults: int
) -> None:
    log, plain = FakeLog(), Plain()
    async with ScriptedBroker() as broker, running(broker, log, plain) as bridge:
        broker.publish(1, "plain/x", payload)
        broker.publish(2, "sensors/s/d/imu", body(1))
        await until(lambda: broker.acks == [1, 2])
        assert [(x.reason, x.raw, x.mqtt_topic) for x in log.dead_letters()] == [
            (reason, payload, "plain/x")
        ]
        assert log.numbers("press") == numbers
        assert log.numbers("d") == [1.0]
        assert bridge.counters.faults_total == faults
        assert bridge.counters.logged_total == 1


async def test_readings_that_the_format_held_back_are_logged_when_due_and_at_the_end() -> None:
    log, plain = FakeLog(), Plain()
    held = Address("s", "press", "imu")
    async with ScriptedBroker() as broker:
        async with running(broker, log, plain):
            plain.held = [(held, body(5)), (held, body(10**12))]
            await until(lambda: log.numbers("press") == [5.0] and log.dead_letters())
            plain.held = [(held, body(6))]
        assert log.numbers("press") == [5.0, 6.0]
    (refused,) = log.dead_letters()
    assert (refused.reason, refused.mqtt_topic) == ("future", "sensors/s/press/imu")


async def test_publishes_the_outgoing_messages_of_the_format_and_its_will() -> None:
    log, plain = FakeLog(), Plain()
    plain.will = Outgoing("plain/gone", b"farewell", 1, retain=True)
    async with ScriptedBroker() as broker:
        async with running(broker, log, plain):
            assert plain.connects == 1
            flags = broker.connects[0][7]
            assert flags & 0x3C == 0x2C  # a will, QoS 1, retained
            assert b"plain/gone" in broker.connects[0]
            plain.to_say = [Outgoing("plain/say", b"hello", 1)]
            await until(lambda: b"hello" in broker.received)
            plain.open.clear()
            late = asyncio.get_running_loop().call_later
            late(0.1, broker.publish, 7, "plain/x", b"press 5")  # on the way while we say it
            late(0.3, plain.open.set)
        assert broker.received[-1] == b"farewell"
        assert broker.acks == [7]
    assert log.numbers("press") == [5.0]


async def test_asks_a_sparkplug_node_for_a_birth(tmp_path: Path) -> None:
    log = FakeLog()
    table = {"host_id": "kp", "stream": [{"name": "imu", "metrics": {"n": "N"}}]}
    store = SparkplugStore(tmp_path / "sparkplug.db")
    sparkplug = Sparkplug(SparkplugMapping.model_validate(table), store)
    node = EdgeNode("g", "node", {"": {"N": 1.0}})
    async with ScriptedBroker() as broker, running(broker, log, sparkplug):
        await until(lambda: any(b'"online":true' in payload for payload in broker.received))
        broker.publish(0, *node.data("", 1_700_000_000_000, {"N": 2.0}), qos=0)
        await until(lambda: any(b"Node Control/Rebirth" in payload for payload in broker.received))
        for topic, payload in node.births(1_700_000_000_000):
            broker.publish(0, topic, payload, qos=0)
        broker.publish(1, *node.data("", 1_700_000_000_001, {"N": 3.0}))
        await until(lambda: broker.acks == [1])
    assert log.numbers("node") == [3.0]
    assert [dead_letter.reason for dead_letter in log.dead_letters()] == [RefusalReason.no_birth]
    sparkplug.close()


async def test_a_host_that_may_not_retain_says_so_and_the_readings_flow() -> None:
    plain, log = Plain(), FakeLog()
    plain.will = Outgoing("spBv1.0/STATE/us", b"gone", qos=1, retain=True)
    plain.to_say = [plain.will]
    async with ScriptedBroker() as broker:
        broker.announce(retain_available=0)
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), log, decoders=[plain])
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().promise_void)
        health = bridge.health()
        assert not health.connected
        assert "the retained message 'spBv1.0/STATE/us'" in str(health.error)
        broker.publish(1, "plain/e", b"e 7")
        await until(lambda: broker.acks == [1])
        assert len(broker.connects) == 1
        broker.announce()
        await broker.drop()
        await until(lambda: bridge.health().connected)
        broker.announce(retain_available=0)
        await broker.drop()
        await until(lambda: len(broker.connects) == 3 and broker.ready)
        bridge.stop()  # the farewell is refused, which must not stop the stop
        await asyncio.wait_for(task, 120)


async def test_two_formats_each_get_their_own_messages_and_keep_their_own_memory() -> None:
    log, one, other = FakeLog(), Plain(), Plain()
    other.filters = ("other/+",)
    async with ScriptedBroker() as broker:
        bridge = Bridge(IngestSettings(mqtt_port=broker.port), log, decoders=[one, other])
        task = asyncio.ensure_future(bridge.run())
        await until(lambda: bridge.health().connected)
        assert all(each in broker.subscriptions[0] for each in (b"plain/+", b"other/+"))
        broker.publish(1, "plain/x", b"press 5")
        broker.publish(2, "other/x", b"pump 6")
        broker.publish(3, "sensors/s/fan/imu", body(7.0))
        await until(lambda: broker.acks == [1, 2, 3])
        bridge.stop()
        await asyncio.wait_for(task, 120)
    assert (one.taken, other.taken) == (1, 1)
    assert set(one.kept) == set(other.kept) == {1}
    assert [log.numbers(device) for device in ("press", "pump", "fan")] == [[5.0], [6.0], [7.0]]
    assert log.dead_letters() == []


async def test_after_a_failure_what_is_durable_already_is_not_kept_again() -> None:
    one, other = Plain(), Plain()
    one.taken, other.taken, other.failures_left = 1, 2, 1
    both = Decoders([one, other])
    checkpoint = both.checkpoint()
    assert checkpoint is not None
    with pytest.raises(LogUnavailable):
        await both.keep(checkpoint)
    await both.keep(checkpoint)
    assert (one.kept, other.kept) == ([1], [2])


async def test_a_body_that_its_decoder_checked_is_checked_for_its_time_only() -> None:
    log, plain = FakeLog(), Plain()
    at_ms = 1_700_000_000_000
    far_ms = 4_000_000_000_000
    plain.held = [
        Checked(Address("s", "press", "imu"), orjson.loads(body(1.0, at_ms)), at_ms, 1),
        Checked(Address("s", "press", "imu"), orjson.loads(body(2.0, far_ms)), far_ms, 1),
    ]
    async with ScriptedBroker() as broker, running(broker, log, plain):
        await until(lambda: log.numbers("press") == [1.0] and log.dead_letters())
    assert [letter.reason for letter in log.dead_letters()] == [RefusalReason.future]


async def test_a_format_that_changes_its_topics_is_subscribed_to_them(tmp_path: Path) -> None:
    log, plain = FakeLog(), Plain()
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as broker:
        subscribed = subscribed_filters(IngestSettings(mqtt_port=broker.port), tmp_path)
        settings = IngestSettings(mqtt_port=broker.port)
        bridge = Bridge(settings, log, decoders=[plain], subscribed=subscribed)
        async with running_bridge(bridge), senders(broker) as publish:
            await publish("plain/x", b"press 1")
            await until(lambda: log.numbers("press") == [1.0])
            plain.filters = ("other/+",)
            bridge.resubscribe()
            await until(lambda: list(subscribed.read()) == ["sensors/#", "labels/#", "other/+"])
            await publish("plain/x", b"press 2")
            await publish("other/x", b"press 3")
            await until(lambda: log.numbers("press") == [1.0, 3.0])
            assert bridge.counters.connects_total == 1  # nothing was interrupted


@asynccontextmanager
async def senders(
    broker: LocalBroker,
) -> AsyncIterator[Callable[[str, bytes], Awaitable[None]]]:
    async with Publisher(Endpoint(broker.host, broker.port, "senders")) as publisher:

        async def publish(topic: str, payload: bytes) -> None:
            await publisher.publish(topic, payload)
            await publisher.flush()

        yield publish
