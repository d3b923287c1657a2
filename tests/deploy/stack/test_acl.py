"""A real mosquitto with our ACL and listeners: permissions and identities of clients."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from deploy.doctor.brokercheck import BrokerCheck, broker_check
from deploy.doctor.brokerchecks import broker_findings
from deploy.stack.acl import (
    DEVICES_ACL,
    GATEWAYS_ACL,
    SERVICES_ACL,
    devices_acl,
    gateways_acl,
    mosquitto_tls_config,
    services_acl,
)
from deploy.stack.certs import Plan, make_certificates
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.settings import IngestSettings
from ingest.tls import client_context
from ingest.topics import NOTE_TOPIC, REPORTS_FILTER, report_topic
from tests.fakes.certs import issue
from tests.fakes.log import until
from tests.fakes.ports import free_port

NOW = datetime.now(timezone.utc)
ME, OTHER, NODE = "plant-7/press-1", "plant-7/press-2", "plant-7/edge-1"
SERVICES = ("bridge", "operator", "store", "centre", "gw-1", "gw-2", "gw-3")
MINE, THEIRS = f"sensors/{ME}/engine", f"sensors/{OTHER}/engine"


class SecuredBroker:
    """The broker with its certificates, and endpoints for its clients."""

    def __init__(self, folder: Path) -> None:
        self.certs = folder / "certs"
        self.folder = folder
        plan = Plan(services=SERVICES, devices=(ME, OTHER, NODE))
        make_certificates(self.certs, plan, now=NOW)
        (folder / DEVICES_ACL).write_text(devices_acl(nodes=[NODE]))
        (folder / SERVICES_ACL).write_text(services_acl())
        (folder / GATEWAYS_ACL).write_text(gateways_acl(denied=["gw-3"]))
        self.devices_port, self.services_port = free_port(), free_port()
        self.gateways_port = free_port()
        listeners = mosquitto_tls_config(
            self.certs,
            folder,
            devices_port=self.devices_port,
            services_port=self.services_port,
            gateways_host="127.0.0.1",
            gateways_port=self.gateways_port,
        )
        self.broker = LocalBroker(folder / "mq", port=self.services_port, listeners=listeners)

    def device(self, name: str, client_id: str = "mine", **changes: object) -> Endpoint:
        return self.with_cert(self.certs / f"devices/{name}.pem", client_id, **changes)

    def service(self, name: str, client_id: str = "", **changes: object) -> Endpoint:
        cert = self.certs / f"services/{name}.pem"
        changes = {"port": self.services_port, **changes}
        return self.with_cert(cert, client_id or f"test-{name}", **changes)

    def gateway(self, name: str, client_id: str = "mine") -> Endpoint:
        return self.service(name, client_id, port=self.gateways_port)

    def with_cert(self, cert: Path, client_id: str = "mine", **changes: object) -> Endpoint:
        endpoint = Endpoint(
            *("127.0.0.1", self.devices_port, client_id, "5"),
            tls=True,
            ca_file=self.certs / "ca.pem",
            cert_file=cert,
            key_file=cert.with_suffix(".key"),
        )
        return replace(endpoint, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, mosquitto_program: str
) -> Iterator[SecuredBroker]:
    secured = SecuredBroker(tmp_path_factory.mktemp("line"))
    with secured.broker:
        yield secured


class Reader:
    """A subscriber, as an async context manager; received messages are in `got`."""

    def __init__(
        self, endpoint: Endpoint, mqtt_filter: str = "sensors/#", *, stays: bool = False
    ) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._connect = partial(
            Connection,
            endpoint,
            subscribe=mqtt_filter,
            session_expiry_s=600 if stays else 0,
            on_message=self._take,
        )

    def _take(self, packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
        self.got.append((topic, payload))
        if qos:
            self.connection.ack(packet_id)

    async def __aenter__(self) -> Reader:
        self.connection = self._connect()
        self.connection.start()
        await until(lambda: self.connection.subscribed)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.connection.stop()


async def publish(endpoint: Endpoint, *topics: str, payload: bytes = b"1") -> int:
    """Publish on each topic and return the number of refusals."""
    async with Publisher(endpoint) as publisher:
        await asyncio.wait_for(publisher.connection.connected.wait(), 120)
        for topic in topics:
            await publisher.publish(topic, payload)
        await asyncio.wait_for(publisher.flush(), 120)
        assert publisher.confirmed_total + publisher.refused_total == len(topics)
        return publisher.refused_total


async def why_not(endpoint: Endpoint, advice: str = "") -> str:
    """The client's error while the broker refuses it, once it holds the advice."""
    connection = Connection(endpoint)
    connection.start()
    await until(lambda: connection.error is not None and advice in connection.error)
    assert connection.connects_total == 0
    await connection.stop()
    return str(connection.error)


async def test_a_device_publishes_as_itself_only(secured: SecuredBroker) -> None:
    async with Reader(secured.service("bridge")) as bridge:
        assert await publish(secured.device(ME), MINE, f"sensors/{ME}/imu") == 0
        foreign = [THEIRS, "sensors/plant-8/press-1/engine", f"sensors/{ME}/a/b", "sensors/x/y/z"]
        foreign += ["other/topic", f"spBv1.0/{ME}", "$SYS/broker/uptime", "sensors//x/y"]
        assert await publish(secured.device(ME), *foreign) == len(foreign)
        assert await publish(secured.device(OTHER), THEIRS) == 0
        await until(lambda: len(bridge.got) == 3)
        assert [topic for topic, _ in bridge.got] == [MINE, f"sensors/{ME}/imu", THEIRS]


async def test_the_certificate_identifies_a_device_not_its_client_id(
    secured: SecuredBroker,
) -> None:
    async with Reader(secured.service("bridge")) as bridge:
        for name in (OTHER, "bridge", "operator"):
            liar = secured.device(ME, client_id=name, username=name, password="x")
            assert await publish(liar, THEIRS) == 1
        assert await publish(secured.device(ME), MINE) == 0
        await until(lambda: bridge.got)
        assert [topic for topic, _ in bridge.got] == [MINE]


async def test_an_old_client_gets_no_error_but_its_message_is_discarded(
    secured: SecuredBroker,
) -> None:
    old = secured.device(ME, protocol="3.1.1")
    async with Reader(secured.service("bridge")) as bridge:
        assert await publish(old, THEIRS, MINE) == 0
        await until(lambda: bridge.got)
        assert [topic for topic, _ in bridge.got] == [MINE]


async def test_a_device_cannot_take_over_a_session(secured: SecuredBroker) -> None:
    bridge = Reader(secured.service("bridge", "kpstream-bridge"), stays=True)
    async with bridge:
        pass  # it has a session now, and is disconnected
    assert await publish(secured.device(OTHER), THEIRS, payload=b"kept") == 0
    thief = Reader(secured.device(ME, client_id="kpstream-bridge"), "#")
    async with thief:
        assert await publish(secured.device(OTHER, client_id="kpstream-bridge"), THEIRS) == 0
        async with bridge:
            await until(lambda: len(bridge.got) == 2)
            assert bridge.connection.session_present
            assert bridge.connection.connects_total == 1, "nobody threw it out"
        assert thief.got == []


async def test_a_device_reads_nothing(secured: SecuredBroker) -> None:
    spies = [Reader(secured.device(OTHER), each) for each in ("#", "sensors/#", "$SYS/#", THEIRS)]
    async with Reader(secured.service("bridge")) as bridge:
        for spy in spies:
            async with spy:  # one after the other: a device has one connection
                assert await publish(secured.device(ME), MINE) == 0
        await until(lambda: len(bridge.got) == len(spies))
    assert [spy.got for spy in spies] == [[]] * len(spies)


@pytest.mark.parametrize(
    "name",
    ["+/+", "plant-7/+", "#", "plant-7", "plant-7/press-1/engine", "bridge", "operator", "/"],
)
async def test_odd_names_signed_by_the_devices_authority_get_no_access(
    secured: SecuredBroker, tmp_path: Path, name: str
) -> None:
    cert = issue(secured.certs / "devices-ca.pem", tmp_path / "odd.pem", name)
    odd = secured.with_cert(cert)
    spy = Reader(odd)
    async with Reader(secured.service("bridge")) as bridge, spy:
        assert await publish(secured.device(ME), MINE) == 0
        await until(lambda: bridge.got)
    assert spy.got == []
    assert await publish(odd, MINE, THEIRS) == 2


async def die(endpoint: Endpoint, topic: str) -> None:
    """Connect with a last will for the topic, then drop the connection."""
    dying = Connection(endpoint, will=lambda: (topic, b"will"))
    dying.start()
    with suppress(AssertionError):  # a broker may refuse such a connection altogether
        await until(dying.connected.is_set, 2)
    if dying.connected.is_set():
        dying._line._client.socket()._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        await until(lambda: not dying.connected.is_set())
    await dying.stop()


async def test_a_last_will_does_not_bypass_the_access_list(secured: SecuredBroker) -> None:
    async with Reader(secured.service("bridge")) as bridge:
        await die(secured.device(ME), THEIRS)
        await die(secured.device(ME), MINE)
        await until(lambda: bridge.got)
        assert bridge.got == [(MINE, b"will")]
        async with Publisher(secured.service("operator")) as operator:
            await asyncio.wait_for(operator.connection.connected.wait(), 120)
            operator.connection.publish(MINE, b"", retain=True)  # the will was retained
            await until(lambda: len(bridge.got) == 2)


async def test_a_topic_alias_does_not_bypass_the_access_list(secured: SecuredBroker) -> None:
    device = secured.device(ME)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="x", protocol=paho.MQTTv5)
    client.tls_set_context(client_context(device.tls_files))
    reasons: list[int] = []
    client.on_publish = lambda _c, _u, _mid, reason, _props: reasons.append(reason.value)
    alias = Properties(PacketTypes.PUBLISH)
    alias.TopicAlias = 1
    async with Reader(secured.service("bridge")) as bridge:
        client.connect(device.host, device.port)
        client.loop_start()
        try:
            for number, topic in enumerate((MINE, "", THEIRS, "")):
                client.publish(topic, str(number), qos=1, properties=alias)
            await until(lambda: len(reasons) >= 3)
        finally:
            client.loop_stop()
            client.disconnect()
        assert await publish(secured.device(ME), MINE, payload=b"end") == 0
        await until(lambda: (MINE, b"end") in bridge.got)
        assert {topic for topic, _ in bridge.got} == {MINE}
        assert 0x87 in reasons


async def test_the_bridge_reads_and_does_not_write_readings(secured: SecuredBroker) -> None:
    async with Reader(secured.service("bridge")) as bridge:
        assert await publish(secured.service("bridge", "another"), MINE) == 1
        assert await publish(secured.service("operator"), MINE, THEIRS) == 0
        await until(lambda: len(bridge.got) == 2)


async def test_operators_give_labels_and_devices_do_not(secured: SecuredBroker) -> None:
    topic = f"labels/{ME}/imu"
    async with Reader(secured.service("bridge"), "labels/#") as bridge:
        assert await publish(secured.device(ME), topic) == 1
        assert await publish(secured.service("bridge", "another"), topic) == 1
        assert await publish(secured.service("operator"), topic) == 0
        await until(lambda: bridge.got)
        assert [found for found, _ in bridge.got] == [topic]


async def test_bridges_share_a_subscription(secured: SecuredBroker) -> None:
    shared = "$share/kpstream/sensors/#"
    async with (
        Reader(secured.service("bridge", "bridge-1"), shared) as one,
        Reader(secured.service("bridge", "bridge-2"), shared) as two,
    ):
        assert await publish(secured.device(ME), *[MINE] * 20) == 0
        await until(lambda: len(one.got) + len(two.got) == 20)
        assert one.got
        assert two.got


async def test_an_unnamed_service_can_neither_read_nor_publish(secured: SecuredBroker) -> None:
    async with Reader(secured.service("store"), "#") as store:
        assert await publish(secured.service("store", "writer"), MINE, "sensors/store/x") == 2
        assert await publish(secured.device(ME), MINE) == 0
        async with Reader(secured.service("bridge")) as bridge:
            assert await publish(secured.device(ME), MINE) == 0
            await until(lambda: bridge.got)
        assert store.got == []


async def test_a_sparkplug_node_publishes_as_itself_only_and_receives_its_commands(
    secured: SecuredBroker,
) -> None:
    group, node = NODE.split("/")
    own = [f"spBv1.0/{group}/{kind}/{node}" for kind in ("NBIRTH", "NDATA", "NDEATH")]
    own += [f"spBv1.0/{group}/{kind}/{node}/saw" for kind in ("DBIRTH", "DDATA", "DDEATH")]
    foreign = [f"spBv1.0/{group}/NDATA/other", f"spBv1.0/other/NDATA/{node}"]
    foreign += [f"spBv1.0/{group}/NCMD/{node}", "spBv1.0/STATE/kpstream"]
    async with Reader(secured.service("bridge"), "spBv1.0/#") as bridge:
        assert await publish(secured.device(NODE), *own) == 0
        assert await publish(secured.device(NODE), *foreign) == len(foreign)
        assert await publish(secured.device(ME), *own) == len(own), "no node, no such topic"
        await until(lambda: len(bridge.got) == len(own))
        commands = [f"spBv1.0/{group}/NCMD/{node}", f"spBv1.0/{group}/NCMD/other"]
        async with Reader(secured.device(NODE), f"spBv1.0/{group}/NCMD/#") as edge:
            assert await publish(secured.service("bridge", "b2"), *reversed(commands)) == 0
            await until(lambda: edge.got)
            assert [topic for topic, _ in edge.got] == commands[:1]


async def test_a_gateway_writes_its_own_report_and_reads_the_note(secured: SecuredBroker) -> None:
    own, note = report_topic("gw-1"), NOTE_TOPIC
    foreign = [
        report_topic("gw-2"),
        "gateways/gw-1/x",
        "gateways/gw-1",
        note,
        MINE,
        "sensors/gw-1/x",
    ]
    everything = "gateways/#"
    async with Reader(secured.service("centre"), REPORTS_FILTER) as centre:
        assert await publish(secured.gateway("gw-1"), own) == 0
        assert await publish(secured.gateway("gw-1"), *foreign) == len(foreign)
        assert await publish(secured.device(ME), own, note) == 2
        assert await publish(secured.service("bridge", "x"), own, note) == 2
        assert await publish(secured.gateway("gw-3"), report_topic("gw-3")) == 1, "stolen"
        async with Reader(secured.gateway("gw-2"), everything) as other:
            assert await publish(secured.gateway("gw-1"), own, payload=b"2") == 0
            await until(lambda: len(centre.got) == 2)
            assert await publish(secured.service("centre", "writer"), note) == 0
            await until(lambda: other.got)
            assert other.got == [(note, b"1")]
        centre_may_not = [own, MINE, "gateways/x"]
        assert await publish(secured.service("centre", "writer"), *centre_may_not) == 3
    assert centre.got == [(own, b"1"), (own, b"2")]


async def test_a_gateway_cannot_take_over_the_session_of_another_client(
    secured: SecuredBroker,
) -> None:
    async with Reader(secured.service("bridge", "kpstream-bridge")) as bridge:
        thief = secured.gateway("gw-1", client_id="kpstream-bridge")
        async with Reader(thief, "#") as spy:
            assert await publish(secured.device(ME), MINE) == 0
            await until(lambda: bridge.got)
            assert spy.got == []
        assert bridge.connection.connects_total == 1


async def test_a_stolen_device_is_shut_out_while_it_is_connected(
    tmp_path: Path, mosquitto_program: str
) -> None:
    secured = SecuredBroker(tmp_path)
    with secured.broker:
        async with (
            Reader(secured.service("bridge")) as bridge,
            Publisher(secured.device(ME)) as thief,
        ):
            await thief.publish(MINE, b"before")
            await asyncio.wait_for(thief.flush(), 120)
            (tmp_path / DEVICES_ACL).write_text(devices_acl(nodes=[NODE, ME], denied=[ME]))
            assert secured.broker.pid is not None
            os.kill(secured.broker.pid, signal.SIGHUP)
            while thief.refused_total == 0:
                await thief.publish(MINE, b"after")
                await asyncio.wait_for(thief.flush(), 120)
            assert await publish(secured.device(ME), MINE) == 1
            assert await publish(secured.device(OTHER), THEIRS) == 0
            await until(lambda: (THEIRS, b"1") in bridge.got)
            assert len(bridge.got) == thief.confirmed_total + 1


async def test_messages_queued_for_an_absent_bridge_survive_a_kill_of_the_broker(
    tmp_path: Path, mosquitto_program: str
) -> None:
    secured = SecuredBroker(tmp_path)
    with secured.broker:
        async with Reader(secured.service("bridge"), stays=True):
            pass
        await publish(secured.device(ME), MINE, payload=b"kept")
        kept = secured.broker.folder / "mosquitto.db"
        await until(lambda: kept.exists() and b"kept" in kept.read_bytes())
        secured.broker.kill()
        secured.broker.start()
        async with Reader(secured.service("bridge"), stays=True) as bridge:
            await until(lambda: bridge.got)
            assert bridge.got == [(MINE, b"kept")]


async def test_a_refused_client_gets_advice(secured: SecuredBroker, tmp_path: Path) -> None:
    own, ca = "KPSTREAM_INGEST_MQTT_CERT_FILE", "KPSTREAM_INGEST_MQTT_CA_FILE"
    elsewhere = tmp_path / "elsewhere"
    make_certificates(elsewhere, Plan(devices=(ME,)), now=NOW)
    stranger = elsewhere / f"devices/{ME}.pem"
    expired = issue(
        secured.certs / "devices-ca.pem", tmp_path / "old.pem", ME, ends_in=timedelta(hours=-1)
    )
    no_cert = secured.device(ME, cert_file=None, key_file=None)
    cases = {
        "another authority": (secured.device(ME, ca_file=elsewhere / "ca.pem"), f"set {ca}"),
        "another client authority": (
            secured.with_cert(stranger),
            "not signed by an authority that",
        ),
        "expired": (secured.with_cert(expired), f"({own}): it has expired; renew it"),
        "no certificate": (no_cert, f"requires a client certificate: set {own}"),
        "a device among services": (
            secured.device(ME, port=secured.services_port),
            f"({own}): it is not",
        ),
        "a service among devices": (
            secured.service("bridge", port=secured.devices_port),
            f"({own})",
        ),
        "no TLS": (
            secured.device(ME, tls=False),
            "KPSTREAM_INGEST_MQTT_TLS",
        ),
        "no file": (secured.device(ME, key_file=tmp_path / "no.key"), "no.key: no such file"),
    }
    for what, (endpoint, advice) in cases.items():
        await why_not(endpoint, advice)
        found = [each async for each in broker_findings(_check(endpoint))]
        failed = [each for each in found if each.state == "fail"]
        assert any(advice in f"{each.text}; {each.advice}" for each in failed), what


async def test_tls_at_a_plain_port_is_reported(secured: SecuredBroker, tmp_path: Path) -> None:
    with LocalBroker(tmp_path, kind="mosquitto") as plain:
        said = await why_not(secured.device(ME, port=plain.port))
    assert f"127.0.0.1:{plain.port} ended the TLS handshake" in said
    assert "turn TLS off (KPSTREAM_INGEST_MQTT_*)" in said


@pytest.mark.parametrize("name", ["bridge", "operator"])
async def test_the_doctor_goes_the_whole_way_with_the_certificate_of_a_service(
    secured: SecuredBroker, name: str
) -> None:
    found = [each async for each in broker_findings(_check(secured.service(name)))]
    states = {each.text.partition(":")[0]: each.state for each in found if each.name == "broker"}
    assert states == dict.fromkeys(("TCP", "TLS", "CONNECT", "SUBSCRIBE", "PUBLISH"), "ok")
    queue = next(each for each in found if each.name == "queue")
    assert "the broker (mosquitto version" in queue.text


def _check(endpoint: Endpoint) -> BrokerCheck:
    return replace(broker_check(IngestSettings()), endpoint=endpoint, prefixes=())


@pytest.mark.parametrize("name", ["a\nuser b", "%u", "+", "", " x"])
def test_names_with_a_special_meaning_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not allowed in an ACL file"):
        services_acl(bridges=[name])


@pytest.mark.parametrize("name", ["edge", "a/b/c", "/b", "a/"])
def test_a_node_has_a_group(name: str) -> None:
    with pytest.raises(ValueError, match="is not GROUP/NODE"):
        devices_acl(nodes=[name])
