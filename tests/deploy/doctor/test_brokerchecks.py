"""The steps of the doctor at a broker, with every answer that a broker can give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.doctor.brokercheck import broker_check
from deploy.doctor.brokerchecks import broker_findings, check_broker
from deploy.doctor.findings import Finding
from deploy.stack.certs import Plan, make_certificates
from ingest.clock import utc_now
from ingest.mqtt.reasons import Ending, end_text
from ingest.patience import Patience
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping, StreamMapping
from tests.fakes import tlsserver
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port

PATIENT = Patience(first_s=30, most_s=30)
QUICK = Patience(first_s=0.5, most_s=30)
DROPPED = "$SYS/broker/publish/messages/dropped"
TOPIC = "sensors/kpstream/kpstream-doctor/probe"


@asynccontextmanager
async def healthy(**traits: Any) -> AsyncIterator[ScriptedBroker]:
    """A broker on which every step succeeds, but for what the traits change."""
    async with ScriptedBroker() as broker:
        broker.confirms = broker.echoes = True
        broker.retained = {"$SYS/broker/version": b"mosquitto 2", DROPPED: b"0"}
        for name, value in traits.items():
            setattr(broker, name, value)
        yield broker


async def ask(
    broker: ScriptedBroker, *, known: Any = None, changes: Any = None, **settings: Any
) -> list[Finding]:
    """All findings about a broker; it has half a minute for each answer."""
    check = broker_check(IngestSettings(mqtt_port=broker.port, **settings), known)
    check = replace(check, **({"patience": PATIENT, "watch_s": 0.1} | (changes or {})))
    return [finding async for finding in broker_findings(check)]


def steps(findings: list[Finding]) -> dict[str, str]:
    """State of each step, the worst where it has several findings."""
    order = ["ok", "unknown", "warn", "fail"]
    found: dict[str, str] = {}
    for each in findings:
        name = each.text.partition(":")[0] if each.name == "broker" else each.name
        found[name] = max(found.get(name, "ok"), each.state, key=order.index)
    return found


def said(findings: list[Finding], state: str) -> str:
    return "\n".join(f"{each.text} -> {each.advice}" for each in findings if each.state == state)


GOOD = {"TCP": "ok", "CONNECT": "ok", "SUBSCRIBE": "ok", "PUBLISH": "ok", "queue": "ok"}


# -- a broker that works --------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
async def test_every_step_of_a_broker_that_works_is_ok(protocol: str) -> None:
    async with healthy() as broker:
        found = await ask(broker, mqtt_protocol=protocol)
        assert steps(found) == GOOD
        limits = "3.1.1, which announces no limits," if protocol == "3.1.1" else "5"
        assert f"accepted with MQTT {limits} in" in said(found, "ok")
        assert "the broker (mosquitto 2) has dropped no message" in said(found, "ok")
        assert [each.topic for each in broker.published] == [TOPIC]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_nothing_is_left_behind_and_no_gateway_is_disturbed(protocol: str) -> None:
    async with healthy() as broker:
        await ask(broker, mqtt_protocol=protocol)
        assert all(b"kpstream-bridge" not in each for each in broker.connects)
        assert all(b"kpstream-doctor-" in each for each in broker.connects)
        with_session = [each for each in broker.connects if not each[7] & 0x02]
        assert len(with_session) == (protocol == "5"), "only to see what CONNACK grants"
        assert len(broker.subscriptions) == len(broker.connects) - 1
        while broker.said_goodbye < len(broker.connects):
            await asyncio.sleep(0.01)
        ended = b"\x00\x05\x11\x00\x00\x00\x00"
        assert set(broker.goodbyes) == ({ended} if protocol == "5" else {b""})


async def test_what_connack_announced_is_a_table() -> None:
    async with healthy() as broker:
        broker.announce(receive_maximum=10, maximum_packet_size=5000, server_keep_alive=20)
        found = await ask(broker)
    rows = next(each.rows for each in found if each.rows)
    assert {row.name: row.value for row in rows} == {
        "Session Expiry": "7 days",
        "Receive Maximum": "10",
        "Maximum Packet Size": "5,000 B",
        "Server Keep Alive": "20 s",
    }
    assert rows[-1].meaning == "we ping after 20 s of silence"


async def test_a_broker_of_mqtt_5_only_passes() -> None:
    async with healthy(hangs_up_on=4) as broker:
        assert steps(await ask(broker)) == GOOD


async def test_a_user_who_may_only_read_the_sensors_passes() -> None:
    """As on RabbitMQ, which ends the connection at every request without the right."""
    forbidden = ("$SYS/broker/version", "#")
    async with healthy(hangs_up_on=5, forbidden=forbidden, closes_at="publish") as broker:
        found = await ask(broker, changes={"prefixes": ("sensors",)})
    assert steps(found) == GOOD | {"PUBLISH": "unknown", "queue": "unknown", "topics": "unknown"}
    assert "closed the connection when we subscribed to '$SYS/broker/version'" in said(
        found, "unknown"
    )
    assert "closed the connection when we subscribed to '#'" in said(found, "unknown")


# -- the version ----------------------------------------------------------------------------------


async def test_a_broker_that_ignores_version_5_is_waited_for_and_then_asked_with_3_1_1() -> None:
    async with healthy(silent_to_version_5=True) as broker:
        found = await ask(broker, changes={"patience": QUICK})
    assert steps(found) == GOOD
    assert "accepted with MQTT 3.1.1" in said(found, "ok")
    assert "(the broker has not answered our CONNECT (MQTT 5) for 0.5 s)" in said(found, "ok")


@pytest.mark.parametrize("known", [None, "3.1.1"])
async def test_a_slow_login_is_waited_for(known: Any) -> None:
    async with healthy(connack_delay_s=1.0) as broker:
        found = await ask(broker, known=known, changes={"patience": QUICK})
        assert steps(found) == GOOD
        assert f"accepted with MQTT {known or '5'}" in said(found, "ok")


@pytest.mark.parametrize(
    ("traits", "known", "text"),
    [
        ({"refuse_version_5": True}, None, "accepted with MQTT 3.1.1"),
        ({"refuse_version_5": True}, None, "(the broker does not speak MQTT 5)"),
        ({"hangs_up_on": 5}, None, "before the broker answered our CONNECT (MQTT 5)"),
        ({}, "3.1.1", "accepted with MQTT 3.1.1"),
        ({"hangs_up_on": 4}, "3.1.1", "accepted with MQTT 5 in"),
    ],
)
async def test_the_version_is_found_as_the_gateway_would(
    traits: dict[str, Any], known: Any, text: str
) -> None:
    async with healthy(**traits) as broker:
        found = await ask(broker, known=known)
    assert steps(found) == GOOD
    assert text in said(found, "ok")


@pytest.mark.parametrize(
    ("traits", "protocol", "text"),
    [
        (
            {"refuse_version_5": True},
            "5",
            "the settings allow no other: set KPSTREAM_INGEST_MQTT_P",
        ),
        ({"hangs_up_on": 4}, "3.1.1", "-> if it does not speak MQTT 3.1.1: set KPSTREAM_INGEST"),
        ({"hang_up": True}, "auto", "CONNECT (MQTT 5), and no reason was given, and the connect"),
        ({"greets_with": b"\x20\x02\x00\x01"}, "auto", "refuses both MQTT 5 and MQTT 3.1.1"),
        ({"greets_with": b"HTTP/1.1 400 Bad Request\r\n"}, "auto", "speaks HTTP, not MQTT"),
        ({"refuse_with": 0x86}, "auto", "Bad user name or password -> check KPSTREAM_INGEST_MQTT"),
        ({"refuse_with": 0x8A}, "auto", "the broker refuses us: Banned"),
    ],
)
async def test_what_connect_fails_with_is_said_and_nothing_else(
    traits: dict[str, Any], protocol: str, text: str
) -> None:
    async with healthy(**traits) as broker:
        found = await ask(broker, mqtt_protocol=protocol)
    later = {"SUBSCRIBE": "unknown", "PUBLISH": "unknown", "queue": "unknown"}
    assert steps(found) == {"TCP": "ok", "CONNECT": "fail"} | later
    assert text in said(found, "fail")
    assert "TLS" not in said(found, "fail")
    assert "SUBSCRIBE: not tried, because CONNECT failed" in said(found, "unknown")


async def test_silence_is_no_refusal_and_names_no_cause() -> None:
    async with healthy(holds_connack=True) as broker:
        changes = {"patience": Patience(first_s=0.3, most_s=0.6)}
        found = await ask(broker, changes=changes)
    assert said(found, "fail") == (
        "CONNECT: the broker has not answered our CONNECT (MQTT 5) for 0.6 s, and "
        "the broker has not answered our CONNECT (MQTT 3.1.1) for 0.3 s -> "
    )


async def test_a_refused_client_id_of_the_probe_says_nothing_about_the_gateway() -> None:
    async with healthy(refuse_with=0x85) as broker:
        found = await ask(broker)
    assert steps(found)["CONNECT"] == "unknown"
    assert "'kpstream-doctor-connect-" in said(found, "unknown")


# -- TCP and TLS ----------------------------------------------------------------------------------


async def test_nobody_at_that_port_is_a_failure_of_tcp() -> None:
    check = broker_check(IngestSettings(mqtt_port=free_port(), mqtt_tls=True))
    found = await asyncio.to_thread(lambda: list(check_broker(check)))
    assert [each.state for each in found] == ["fail", *["unknown"] * 5]
    assert "connection refused -> check that the broker runs there" in said(found, "fail")
    assert "TLS: not tried, because TCP failed" in said(found, "unknown")


async def test_a_port_that_speaks_tls_is_named_if_we_do_not(tmp_path: Path) -> None:
    make_certificates(tmp_path, Plan(), now=utc_now())
    with tlsserver.server(tlsserver.speaking(tmp_path)) as port:
        check = replace(broker_check(IngestSettings(mqtt_port=port)), patience=PATIENT)
        found = await asyncio.to_thread(lambda: list(check_broker(check)))
    assert f"127.0.0.1:{port} speaks TLS: set KPSTREAM_INGEST_MQTT_TLS=true" in said(found, "fail")


async def test_a_port_without_tls_fails_at_tls(tmp_path: Path) -> None:
    async with healthy() as broker:
        found = await ask(broker, mqtt_tls=True)
        missing = await ask(broker, mqtt_tls=True, mqtt_ca_file=tmp_path / "no.pem")
    for each in (found, missing):
        assert steps(each)["TCP"] == "ok"
        assert steps(each)["TLS"] == "fail"
        assert "CONNECT: not tried, because TLS failed" in said(each, "unknown")
    assert "ended the TLS handshake" in said(found, "fail")
    assert "no.pem: no such file" in said(missing, "fail")


# -- what is announced and granted ----------------------------------------------------------------


async def test_qos_0_is_a_failure_in_suback_and_in_connack() -> None:
    async with healthy(subscription_code=0) as broker:
        granted = await ask(broker)
    async with healthy() as broker:
        broker.announce(maximum_qos=0)
        announced = await ask(broker)
    assert steps(granted) == GOOD | {"SUBSCRIBE": "fail"}
    assert "granted 'sensors/#' with QoS 0 instead of 1" in said(granted, "fail")
    assert steps(announced) == GOOD | {"CONNECT": "fail", "PUBLISH": "unknown"}
    assert "grants QoS 0 at most" in said(announced, "fail")
    assert "PUBLISH: not tried: cannot publish on" in said(announced, "unknown")


@pytest.mark.parametrize(
    ("announced", "state", "text"),
    [
        ({"session_expiry_interval": 4}, "fail", "keeps our session for 4 s, asked for 7 days"),
        ({"session_expiry_interval": 3600}, "warn", "keeps our session for 1 hour, asked for 7"),
        ({"assigned_client_identifier": "x"}, "fail", "the broker calls us 'x' instead of"),
    ],
)
async def test_a_promise_that_the_broker_does_not_keep_is_a_finding_of_connect(
    announced: dict[str, Any], state: str, text: str
) -> None:
    async with healthy() as broker:
        broker.announce(**announced)
        found = await ask(broker)
    assert steps(found) == GOOD | {"CONNECT": state}
    assert text in said(found, state)


@pytest.mark.parametrize(
    ("traits", "text"),
    [
        ({"subscription_code": 0x87}, "refuses the subscription 'sensors/#': Not authorized"),
        ({"subscription_code": 0x80}, "gives no reason -> check the broker's access list"),
        (
            {"closes_at": "subscribe"},
            end_text(Ending("closed"), filters=["sensors/#", "labels/#"]),
        ),
        (
            {"closes_at": "subscribe", "goodbye_with": 0xA2},
            "when we subscribed to 'sensors/#', 'labels/#': Wildcard subscription not supported",
        ),
    ],
)
async def test_a_refused_subscription_names_the_filter(traits: dict[str, Any], text: str) -> None:
    async with healthy(**traits) as broker:
        found = await ask(broker)
        assert not broker.published
    assert steps(found)["SUBSCRIBE"] == "fail"
    assert text.replace("; ", " -> ") in said(found, "fail")
    assert "PUBLISH: not tried, because SUBSCRIBE failed" in said(found, "unknown")


async def test_filters_that_cannot_work_are_not_requested() -> None:
    async with healthy() as broker:
        broker.announce(wildcard_subscription_available=0)
        found = await ask(broker)
        assert broker.subscriptions == []
    assert steps(found)["SUBSCRIBE"] == "fail"
    assert "no wildcard subscriptions (CONNACK), so 'sensors/#'" in said(found, "fail")


async def test_a_shared_subscription_takes_nothing_from_the_bridges() -> None:
    async with healthy() as broker:
        found = await ask(broker, mqtt_shared_group="bridges", mqtt_sites=("plant",))
        requests = b"".join(broker.subscriptions)
        assert [each.topic for each in broker.published] == ["sensors/plant/kpstream-doctor/probe"]
    assert steps(found) == GOOD
    assert b"$share/kpstream-doctor-way-" in requests
    assert b"$share/bridges/" not in requests


async def test_a_sparkplug_host_needs_retained_messages() -> None:
    stream = StreamMapping(name="s", metrics={"a": "A"})
    for host_id, differs in (("plant", {"CONNECT": "fail"}), (None, {})):
        mapping = SparkplugMapping(host_id=host_id, stream=[stream])
        async with healthy() as broker:
            broker.announce(retain_available=0)
            check = broker_check(IngestSettings(mqtt_port=broker.port), None, mapping)
            check = replace(check, patience=PATIENT, watch_s=0.1)
            found = [each async for each in broker_findings(check)]
        assert steps(found) == GOOD | differs
        assert "'spBv1.0/#' granted with QoS 1" in said(found, "ok")
    assert "Sparkplug's host_id cannot work" in "".join(
        row.meaning for each in found for row in each.rows
    )


# -- a message and back ---------------------------------------------------------------------------


async def test_a_refused_publication_names_the_right_that_is_missing() -> None:
    async with healthy(puback_code=0x87, echoes=False) as broker:
        found = await ask(broker)
    assert steps(found) == GOOD | {"PUBLISH": "unknown"}
    assert f"refuses a message on {TOPIC!r}: Not authorized" in said(found, "unknown")
    assert "-> this user lacks the right to publish there" in said(found, "unknown")
    async with healthy(puback_code=0x97, echoes=False) as broker:
        found = await ask(broker)
    assert "Quota exceeded" in said(found, "unknown")
    assert "right" not in said(found, "unknown")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_an_end_at_the_publication_is_tried_again_before_it_is_told(protocol: str) -> None:
    async with healthy(closes_at="publish", echoes=False) as broker:
        found = await ask(broker, mqtt_protocol=protocol)
        assert [each.topic for each in broker.published] == [TOPIC, TOPIC]
    assert steps(found) == GOOD | {"PUBLISH": "unknown"}
    text, _, advice = end_text(Ending("closed"), topic=TOPIC, is_repeated=True).partition("; ")
    assert text in said(found, "unknown")
    assert advice in said(found, "unknown")


@pytest.mark.parametrize(("protocol", "state"), [("5", "fail"), ("3.1.1", "unknown")])
async def test_a_message_that_does_not_come_back_is_told(protocol: str, state: str) -> None:
    async with healthy(echoes=False) as broker:
        found = await ask(broker, mqtt_protocol=protocol, changes={"back_s": 0.3})
    assert steps(found) == GOOD | {"PUBLISH": state}
    assert "has not delivered it to us within 0.3 s" in said(found, state)
    assert "rights of this user to read 'sensors/#'" in said(found, state)


async def test_messages_of_others_prove_that_messages_come() -> None:
    retained = {"sensors/#": b"a message that comes through the filter"}
    for traits, state in (({}, "warn"), ({"puback_code": 0x87}, "ok")):
        async with healthy(echoes=False, **traits) as broker:
            broker.retained |= retained
            found = await ask(broker, changes={"back_s": 0.3})
        assert steps(found) == GOOD | {"PUBLISH": state}
        assert "messages of others" in said(found, state)


async def test_a_broker_that_never_confirms_is_a_failure() -> None:
    async with healthy(is_silent_to_publish=True) as broker:
        found = await ask(broker, changes={"patience": Patience(first_s=30, most_s=1)})
    assert steps(found) == GOOD | {"PUBLISH": "fail"}
    assert f"has not answered our publication on {TOPIC!r} for 1 s" in said(found, "fail")


# -- questions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retained", "state", "text"),
    [
        ({DROPPED: b"17"}, "warn", "the broker has dropped 17 messages"),
        ({}, "unknown", "cannot tell how many messages the broker has dropped: it publishes no"),
        ({DROPPED: b"many"}, "unknown", "cannot tell how many messages"),
        (
            {"$SYS/broker/version": b"mosquitto version 2.0.11"},
            "unknown",
            "the broker (mosquitto version 2.0.11) has dropped: it keeps the number on",
        ),
    ],
)
async def test_dropped_messages_are_told_or_unknown(
    retained: dict[str, bytes], state: str, text: str
) -> None:
    async with healthy(retained=retained) as broker:
        found = await ask(broker)
    assert steps(found) == GOOD | {"queue": state}
    assert text in said(found, state)
    assert "max_queued_messages 0" in said(found, state)


@pytest.mark.parametrize(
    ("forbidden", "text"),
    [(("#",), "closed the connection when we subscribed to '#'"), ((), None)],
)
async def test_topics_that_may_not_be_watched_are_unknown(
    forbidden: tuple[str, ...], text: str | None
) -> None:
    async with healthy(forbidden=forbidden) as broker:
        found = await ask(broker)
    assert steps(found) == GOOD | ({} if text is None else {"topics": "unknown"})
    assert text is None or text in said(found, "unknown")
