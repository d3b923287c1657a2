"""A probe: one connection, one step after the other, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.probe import Probe, StepFailed
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port

PATIENT_S = 30.0


def endpoint(broker: ScriptedBroker, **changes: Any) -> Endpoint:
    return Endpoint("127.0.0.1", broker.port, "bridge", **changes)


async def failure(broker: ScriptedBroker, version: Any = "5", limit_s: float = 30) -> StepFailed:
    """The failure of the first step that fails: CONNECT, SUBSCRIBE, PUBLISH."""
    with pytest.raises(StepFailed) as failed:
        async with Probe(endpoint(broker), version, "probe") as probe:
            await probe.connect(limit_s)
            await probe.subscribe(["a/#"], limit_s)
            await probe.publish("a/b", b"x", limit_s)
    return failed.value


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_probe_asks_step_by_step_and_leaves_nothing(version: Any) -> None:
    came: list[tuple[str, bytes]] = []
    async with ScriptedBroker() as broker:
        broker.confirms = broker.echoes = True
        broker.announce(receive_maximum=7)
        probe = Probe(
            endpoint(broker), version, "probe", on_message=lambda *each: came.append(each)
        )
        async with probe:
            reason, announced = await probe.connect(PATIENT_S)
            assert not reason.is_failure
            assert announced.receive_maximum == (7 if version == "5" else 65_535)
            assert [each.code for each in await probe.subscribe(["a/#", "b"], PATIENT_S)] == [1, 1]
            assert not (await probe.publish("a/b", b"hello", PATIENT_S)).is_failure
            while not broker.acks:
                await asyncio.sleep(0.01)
        assert came == [("a/b", b"hello")]
        assert broker.connects[0][7] & 0x02, "clean start"
        assert b"bridge-probe" in broker.connects[0]
        while not broker.said_goodbye:
            await asyncio.sleep(0.01)
        assert broker.goodbyes == [b""] if version == "3.1.1" else [b"\x00\x05\x11\x00\x00\x00\x00"]


@pytest.mark.parametrize(
    ("traits", "kind", "text"),
    [
        ({"closes_at": "connect"}, "ended", "before the broker answered our CONNECT (MQTT 5)"),
        ({"closes_at": "subscribe"}, "ended", "when we subscribed to 'a/#', and gave no reason"),
        ({"closes_at": "publish"}, "ended", "connection lost when we published on 'a/b'"),
        (
            {"closes_at": "subscribe", "goodbye_with": 0x87, "goodbye_text": "topic a"},
            "ended",
            "when we subscribed to 'a/#': Not authorized ('topic a')",
        ),
        ({"greets_with": b"HTTP/1.1 400 Bad\r\n"}, "fact", "speaks HTTP, not MQTT"),
    ],
)
async def test_an_end_names_the_request_and_the_reason(
    traits: dict[str, Any], kind: str, text: str
) -> None:
    async with ScriptedBroker() as broker:
        for name, value in traits.items():
            setattr(broker, name, value)
        failed = await failure(broker)
    assert failed.kind == kind
    assert text in str(failed)


@pytest.mark.parametrize(
    ("trait", "step"),
    [
        ("silent_to_version_5", "our CONNECT (MQTT 5)"),
        ("is_silent_to_subscribe", "our subscription to 'a/#'"),
        ("is_silent_to_publish", "our publication on 'a/b'"),
    ],
)
async def test_silence_names_the_request_and_the_wait(trait: str, step: str) -> None:
    async with ScriptedBroker() as broker:
        setattr(broker, trait, True)
        failed = await failure(broker, limit_s=0.5)
    assert (failed.kind, str(failed)) == (
        "silent",
        f"the broker has not answered {step} for 0.5 s",
    )


async def test_refusals_are_answers() -> None:
    async with ScriptedBroker() as broker:
        broker.refuse_with = 0x86
        async with Probe(endpoint(broker), "5", "probe") as probe:
            reason, _ = await probe.connect(PATIENT_S)
        assert reason.code == 0x86
        broker.refuse_with, broker.subscription_code, broker.puback_code = None, 0x87, 0x87
        async with Probe(endpoint(broker), "5", "probe") as probe:
            await probe.connect(PATIENT_S)
            assert [each.code for each in await probe.subscribe(["a/#"], PATIENT_S)] == [0x87]
            assert (await probe.publish("a/b", b"", PATIENT_S)).code == 0x87


async def test_what_the_broker_announced_not_to_take_is_not_sent() -> None:
    async with ScriptedBroker() as broker:
        broker.announce(maximum_qos=0)
        async with Probe(endpoint(broker), "5", "probe") as probe:
            await probe.connect(PATIENT_S)
            with pytest.raises(MqttError, match="QoS 0 at most"):
                await probe.publish("a/b", b"", PATIENT_S)
        assert broker.published == []


async def test_nobody_at_that_port_is_an_error_of_the_system() -> None:
    with pytest.raises(ConnectionRefusedError):
        async with Probe(Endpoint("127.0.0.1", free_port(), "us"), "5", "probe") as probe:
            await probe.connect(PATIENT_S)


async def test_a_requested_session_is_granted_and_ended() -> None:
    async with ScriptedBroker() as broker:
        broker.announce(session_expiry_interval=4)
        async with Probe(endpoint(broker), "5", "probe", session_expiry_s=600) as probe:
            _, announced = await probe.connect(PATIENT_S)
        assert announced.keeps_session_s(600) == 4
        while not broker.said_goodbye:
            await asyncio.sleep(0.01)
        assert broker.goodbyes == [b"\x00\x05\x11\x00\x00\x00\x00"], "session expiry 0"
