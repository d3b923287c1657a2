"""Topics of the wrong depth, and subscriptions that outlive their settings, with mosquitto."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.processes.bridging import sparkplug_decoder, subscribed_filters
from ingest.bridge import Bridge
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from tests.attack.account import Attack
from tests.fakes.bridging import running_bridge
from tests.fakes.log import FakeLog, body, until
from tests.fakes.sparkplugnode import EdgeNode

pytestmark = pytest.mark.needs_mosquitto

GOOD = "sensors/plant/press-1/engine"
WRONG = [
    "sensors",
    "sensors/",
    "sensors/press-1",
    "sensors/plant/press-1",
    "sensors/plant/press-1/",
    "sensors/plant//engine",
    "sensors/plant/press-1/engine/T24",
    "sensors/plant/press-1/engine/",
    "sensors/plant/hall/line/press-1/engine",
    "sensors/a b/press-1/engine",
    "sensors/" + "x/" * 90 + "y",
]
MAPPING = """groups = [{groups}]
[[stream]]
name = "engine"
metrics = {{ n = "N" }}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as found:
        yield found


@asynccontextmanager
async def running(
    broker: LocalBroker, log: FakeLog, state: Path, **settings: Any
) -> AsyncIterator[Bridge]:
    ingest = IngestSettings(mqtt_port=broker.port, **settings)
    decoder = sparkplug_decoder(ingest, state)
    decoders = () if decoder is None else (decoder,)
    bridge = Bridge(ingest, log, decoders=decoders, subscribed=subscribed_filters(ingest, state))
    try:
        async with running_bridge(bridge):
            yield bridge
    finally:
        if decoder is not None:
            decoder.close()


async def publish(broker: LocalBroker, *messages: tuple[str, bytes]) -> None:
    async with Publisher(Endpoint(broker.host, broker.port, "senders")) as senders:
        for topic, payload in messages:
            await senders.publish(topic, payload)
        await senders.flush()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"mqtt_protocol": "3.1.1"},
        {"mqtt_shared_group": "kpstream"},
        {"mqtt_sites": ("plant", "a b")[:1]},
    ],
    ids=str,
)
async def test_a_reading_on_a_topic_of_the_wrong_depth_is_a_dead_letter(
    broker: LocalBroker, tmp_path: Path, attack: Attack, settings: dict[str, Any]
) -> None:
    wrong = WRONG
    if "mqtt_sites" in settings:  # what is below no site of ours is another bridge's
        wrong = [topic for topic in WRONG if topic.startswith("sensors/plant/")]
    log = FakeLog()
    async with running(broker, log, tmp_path, **settings) as bridge:
        messages = [(topic, body(n)) for n, topic in enumerate(wrong)]
        await publish(broker, *messages, (GOOD, body(99)))
        await until(lambda: bridge.counters.logged_total == 1)
        found = Counter(letter.mqtt_topic for letter in log.dead_letters())
        lost = sum(topic not in found for topic in wrong)
        doubled = sum(count - 1 for count in found.values())
        attack.report(len(wrong), lost, doubled, "messages")
        assert {letter.reason for letter in log.dead_letters()} == {"bad_topic"}
        assert sum(bridge.health().stray_topics.values()) == len(wrong)
        assert log.numbers() == [99]


async def test_subscriptions_of_former_settings_end_and_what_they_left_is_told(
    broker: LocalBroker, tmp_path: Path, attack: Attack
) -> None:
    def written(groups: str) -> Path:
        path = tmp_path / "sparkplug.toml"
        path.write_text(MAPPING.format(groups=groups))
        return path

    async def births(group: str) -> list[tuple[str, bytes]]:
        return EdgeNode(group, "line", {"press": {"N": 1.0}}).births(1_700_000_000_000)

    both = {"sparkplug": written('"one", "two"')}
    async with running(broker, FakeLog(), tmp_path, mqtt_prefix="former", **both):
        pass
    queued = [("former/plant/press-1/engine", body(1)), *await births("two")]
    one = {"sparkplug": written('"one"')}
    steps: list[tuple[dict[str, Any], list[tuple[str, bytes]]]] = [
        (one, queued),  # prefix changed, a group removed
        ({}, await births("one")),  # Sparkplug off
        ({"mqtt_sites": ("hall",)}, [(GOOD, body(2))]),  # sites narrowed
    ]
    sent = lost = doubled = 0
    for settings, messages in steps:
        await publish(broker, *messages)  # while no bridge is there: the session keeps them
        found = await refused_topics(broker, tmp_path, settings, len(messages))
        sent += len(messages)
        lost += sum(topic not in found for topic, _ in messages)
        doubled += sum(count - 1 for count in found.values())
        await assert_nothing_is_delivered(broker, tmp_path, settings, messages)
    attack.report(sent, lost, doubled, "messages")


async def refused_topics(
    broker: LocalBroker, state: Path, settings: dict[str, Any], expected: int
) -> Counter[str]:
    """Run a bridge until it has refused what was queued."""
    log = FakeLog()
    async with running(broker, log, state, **settings) as bridge:
        await until(lambda: bridge.unconfirmed == 0 and len(log.dead_letters()) >= expected, 5)
    assert {letter.reason for letter in log.dead_letters()} == {"bad_topic"}
    return Counter(letter.mqtt_topic for letter in log.dead_letters())


async def assert_nothing_is_delivered(
    broker: LocalBroker, state: Path, settings: dict[str, Any], messages: list[tuple[str, bytes]]
) -> None:
    """Run a bridge, publish the messages again, and wait for one that is due after them."""
    log = FakeLog()
    async with running(broker, log, state, **settings):
        await publish(broker, *messages, ("sensors/hall/press-1/engine", body(99)))
        await until(lambda: log.numbers() == [99])
        assert log.dead_letters() == [], "the broker still delivers a former subscription"
