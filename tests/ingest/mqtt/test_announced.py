"""What a broker announces arrives whole, and absent properties mean what the standard says."""

from __future__ import annotations

import pytest

from ingest.mqtt.announced import MOST_IN_FLIGHT, Announced, read_announced
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from tests.fakes.log import until
from tests.fakes.mqttbroker import ScriptedBroker


def test_an_empty_connack_has_the_values_of_the_standard() -> None:
    found = read_announced("5", False, {})
    assert found == Announced("5")
    assert found.receive_maximum == MOST_IN_FLIGHT
    assert found.maximum_qos == 2
    assert found.retain_available and found.wildcard_available and found.shared_available
    assert found.maximum_packet_bytes is None
    assert found.keeps_session_s(600) == 600


async def test_every_property_of_connack_and_every_code_of_suback_is_kept() -> None:
    async with ScriptedBroker(session_present=True) as broker:
        broker.announce(
            session_expiry_interval=4,
            receive_maximum=10,
            maximum_qos=1,
            retain_available=0,
            maximum_packet_size=1000,
            assigned_client_identifier="other",
            topic_alias_maximum=5,
            reason_string="welcome",
            wildcard_subscription_available=1,
            subscription_identifier_available=0,
            shared_subscription_available=0,
            server_keep_alive=7,
            response_information="x",
            server_reference="y",
        )
        broker.suback_codes = [1, 2]
        line = Connection(Endpoint("127.0.0.1", broker.port, "us"), subscribe=["a/#", "b"])
        line.start()
        await until(lambda: line.announced is not None and bool(line.announced.granted))
        assert line.announced == Announced(
            version="5",
            session_present=True,
            session_expiry_s=4,
            receive_maximum=10,
            maximum_qos=1,
            retain_available=False,
            maximum_packet_bytes=1000,
            assigned_client_id="other",
            topic_alias_maximum=5,
            wildcard_available=True,
            subscription_ids_available=False,
            shared_available=False,
            keep_alive_s=7,
            granted=(("a/#", 1), ("b", 2)),
        )
        assert line.announced.as_dict()["granted"] == {"a/#": 1, "b": 2}
        await line.stop()


@pytest.mark.parametrize("name", ["receive_maximum", "maximum_packet_size"])
async def test_a_connack_that_the_standard_forbids_is_named_as_that(name: str) -> None:
    async with ScriptedBroker() as broker:
        broker.announce(**{name: 0})
        line = Connection(Endpoint("127.0.0.1", broker.port, "us", protocol="5"))
        line.start()
        await until(lambda: "what MQTT forbids" in str(line.error))
        assert not line.connected.is_set()
        broker.announce()
        await until(line.connected.is_set)
        assert line.error is None
        await line.stop()
