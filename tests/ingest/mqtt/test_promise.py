"""Every announced limit, alone and in pairs: void, weaker, refused, or nothing to do with us."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pytest

from ingest.errors import MqttError
from ingest.mqtt.announced import Announced, read_announced
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.promise import (
    Wanted,
    keep_alive_s,
    lost_session_text,
    refused_publication,
    unusable_filter,
    void_promises,
    weaker_promises,
)
from ingest.mqtt.publisher import Publisher
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker

WEEK_S = 7 * 86_400
PLAIN, SHARED = "sensors/#", "$share/bridges/sensors/#"
BODY = b"x" * 200


@dataclass(frozen=True)
class Limit:
    """One announced limit, and what it means alone.

    Attributes:
        connack: Properties of CONNACK.
        suback: Code of SUBACK.
        void: Words of the reason why a subscriber is not ready.
        weaker: Words of the notice to a subscriber.
        unusable: Words of the refusal of a plain filter.
        unusable_shared: Words of the refusal of a shared filter.
        refused: Words of the refusal of a publication of 200 bytes.
        refused_retained: Words of the refusal of one of 2 bytes that is to be retained.
    """

    connack: dict[str, Any] = field(default_factory=dict)
    suback: int = 1
    void: str | None = None
    weaker: str | None = None
    unusable: str | None = None
    unusable_shared: str | None = None
    refused: str | None = None
    refused_retained: str | None = None


NO_WILDCARDS = "has no wildcard subscriptions"
LIMITS = {
    "granted 0": Limit(suback=0, void="with QoS 0 instead of 1"),
    "granted 2": Limit(suback=2),
    "maximum QoS 0": Limit(
        {"maximum_qos": 0},
        suback=0,
        void="grants QoS 0 at most",
        refused="takes QoS 0 at most",
        refused_retained="takes QoS 0 at most",
    ),
    "maximum QoS 1": Limit({"maximum_qos": 1}),
    "session 0 s": Limit(
        {"session_expiry_interval": 0}, void="keeps our session for 0 s, asked for 7 days"
    ),
    "session 4 s": Limit(
        {"session_expiry_interval": 4}, void="keeps our session for 4 s, asked for 7 days"
    ),
    "session 1 day": Limit(
        {"session_expiry_interval": 86_400}, weaker="keeps our session for 1 day, asked for 7 days"
    ),
    "session longer": Limit({"session_expiry_interval": 0xFFFF_FFFF}),
    "other client id": Limit(
        {"assigned_client_identifier": "auto-1"}, void="calls us 'auto-1' instead of 'us'"
    ),
    "our client id": Limit({"assigned_client_identifier": "us"}),
    "receive maximum": Limit({"receive_maximum": 3}),
    "small packets": Limit(
        {"maximum_packet_size": 100}, refused="cannot publish 200 bytes.*at most 100 bytes"
    ),
    "tiny packets": Limit(
        {"maximum_packet_size": 19},
        unusable="takes packets of at most 19 bytes",
        unusable_shared="takes packets of at most 19 bytes",
        refused="cannot publish 200 bytes.*at most 19 bytes",
    ),
    "no retained": Limit({"retain_available": 0}, refused_retained="takes none .Retain Available"),
    "no wildcards": Limit(
        {"wildcard_subscription_available": 0}, unusable=NO_WILDCARDS, unusable_shared=NO_WILDCARDS
    ),
    "no shared": Limit(
        {"shared_subscription_available": 0}, unusable_shared="has no shared subscriptions"
    ),
    "no identifiers": Limit({"subscription_identifier_available": 0}),
    "aliases": Limit({"topic_alias_maximum": 10}),
    "keep alive": Limit({"server_keep_alive": 5}),
}
PAIRS = [(name,) for name in LIMITS] + [
    pair
    for pair in combinations(LIMITS, 2)
    if not LIMITS[pair[0]].connack.keys() & LIMITS[pair[1]].connack.keys()
    and not {"granted 0", "granted 2"} >= set(pair)
    and {"granted 2", "maximum QoS 0"} != set(pair)
]
FIELD_NAMES = {
    "session_expiry_interval": "SessionExpiryInterval",
    "receive_maximum": "ReceiveMaximum",
    "maximum_qos": "MaximumQoS",
    "retain_available": "RetainAvailable",
    "maximum_packet_size": "MaximumPacketSize",
    "assigned_client_identifier": "AssignedClientIdentifier",
    "topic_alias_maximum": "TopicAliasMaximum",
    "wildcard_subscription_available": "WildcardSubscriptionAvailable",
    "subscription_identifier_available": "SubscriptionIdentifierAvailable",
    "shared_subscription_available": "SharedSubscriptionAvailable",
    "server_keep_alive": "ServerKeepAlive",
}


def announced_by(names: tuple[str, ...], mqtt_filter: str = PLAIN) -> Announced:
    properties = {FIELD_NAMES[k]: v for name in names for k, v in LIMITS[name].connack.items()}
    codes = [LIMITS[name].suback for name in names if LIMITS[name].suback != 1] or [1]
    return read_announced("5", True, properties).with_granted([mqtt_filter], codes[:1])


def expected(names: tuple[str, ...], attribute: str) -> list[str]:
    found = [getattr(LIMITS[name], attribute) for name in names]
    words = [each for each in found if each is not None]
    if {"granted 0", "maximum QoS 0"} == set(names) and attribute == "void":
        return words[1:]  # one cause, said once
    return words


def assert_says(texts: tuple[str, ...], words: list[str]) -> None:
    assert len(texts) == len(words), texts
    for each in words:
        assert any(each in text for text in texts), (each, texts)


@pytest.mark.parametrize("names", PAIRS, ids=", ".join)
def test_the_verdicts_of_a_pair_are_those_of_its_parts(names: tuple[str, ...]) -> None:
    announced = announced_by(names)
    wanted = Wanted("us", (PLAIN,), WEEK_S)
    assert_says(void_promises(announced, wanted), expected(names, "void"))
    assert_says(weaker_promises(announced, wanted), expected(names, "weaker"))
    for mqtt_filter, attribute in ((PLAIN, "unusable"), (SHARED, "unusable_shared")):
        words = expected(names, attribute)
        text = unusable_filter(announced, [mqtt_filter])
        assert (text is None) == (not words)
        assert not words or any(each in str(text) for each in words)
    for body, retain, attribute in ((BODY, False, "refused"), (b"ok", True, "refused_retained")):
        words = [each.split(".*")[0].split(" .")[0] for each in expected(names, attribute)]
        text = refused_publication(announced, "a/b", len(body), 1, retain=retain)
        if not (retain and "tiny packets" in names):  # 2 bytes just fit
            assert (text is None) == (not words)
        assert not words or any(each in str(text) for each in words)


@pytest.mark.parametrize("names", PAIRS, ids=", ".join)
def test_a_publisher_has_no_promise_that_a_session_could_void(names: tuple[str, ...]) -> None:
    announced = announced_by(names)
    assert void_promises(announced, Wanted("us")) == ()
    assert weaker_promises(announced, Wanted("us")) == ()


async def _bridge_agrees(names: tuple[str, ...]) -> None:
    async with ScriptedBroker(session_present=True) as broker:
        broker.announce(**{k: v for name in names for k, v in LIMITS[name].connack.items()})
        codes = [LIMITS[name].suback for name in names if LIMITS[name].suback != 1] or [1]
        broker.suback_codes = codes[:1]
        endpoint = Endpoint("127.0.0.1", broker.port, "us")
        line = Connection(endpoint, subscribe=PLAIN, session_expiry_s=WEEK_S)
        line.start()
        if expected(names, "unusable"):
            await until(lambda: line.error is not None)
            assert broker.subscriptions == []
            assert any(each in str(line.error) for each in expected(names, "unusable"))
        else:
            await until(lambda: line.announced is not None and bool(line.announced.granted))
            assert line.connected.is_set()
            assert_says(line.void, expected(names, "void"))
            assert_says(line.weaker, expected(names, "weaker"))
            assert line.subscribed == (not line.void)
            assert (line.error is None) == line.subscribed
        await line.stop()


async def test_a_connection_gives_these_verdicts_for_every_pair() -> None:
    for at in range(0, len(PAIRS), 20):
        await asyncio.gather(*(_bridge_agrees(names) for names in PAIRS[at : at + 20]))


async def _publisher_agrees(names: tuple[str, ...]) -> None:
    async with ScriptedBroker() as broker:
        broker.announce(**{k: v for name in names for k, v in LIMITS[name].connack.items()})
        broker.confirms = True
        async with Publisher(Endpoint("127.0.0.1", broker.port, "us")) as publisher:
            words = expected(names, "refused")
            if words:
                with pytest.raises(MqttError, match="|".join(words)):
                    await publisher.publish("a/b", BODY)
            else:
                await publisher.publish("a/b", BODY)
                await publisher.flush()
            assert publisher.confirmed_total == len(broker.received) == (not words)


async def test_a_publisher_gives_them_too() -> None:
    for at in range(0, len(PAIRS), 20):
        await asyncio.gather(*(_publisher_agrees(names) for names in PAIRS[at : at + 20]))


def test_nothing_is_announced_by_mqtt_3_1_1_but_the_granted_qos() -> None:
    announced = Announced("3.1.1", session_present=True)
    wanted = Wanted("us", (PLAIN,), WEEK_S)
    assert void_promises(announced, wanted) == weaker_promises(announced, wanted) == ()
    downgraded = announced.with_granted([PLAIN], [0])
    assert_says(void_promises(downgraded, wanted), ["with QoS 0 instead of 1"])
    assert "does not say for how long" in lost_session_text(announced, WEEK_S)


@pytest.mark.parametrize(
    ("theirs_s", "ours_s", "used_s"), [(None, 30, 30), (5, 30, 5), (90, 30, 30), (0, 30, 30)]
)
def test_pings_come_at_the_smaller_of_both_intervals(
    theirs_s: int | None, ours_s: int, used_s: int
) -> None:
    assert keep_alive_s(Announced("5", keep_alive_s=theirs_s), ours_s) == used_s
