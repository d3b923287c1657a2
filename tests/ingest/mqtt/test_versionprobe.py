"""Whether a broker answers MQTT 5, asked on a connection of its own."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.versionprobe import answers_version_5
from tests.fakes.mqttbroker import ScriptedBroker
from tests.fakes.ports import free_port


@pytest.mark.parametrize(
    ("traits", "answers"),
    [
        ({}, True),
        ({"refuse_with": 0x86}, True),
        ({"refuse_version_5": True}, False),
        ({"greets_with": b"\x20\x02\x00\x01"}, False),
        ({"hangs_up_on": 5}, False),
        ({"greets_with": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, False),
        ({"silent_to_version_5": True}, None),
    ],
)
async def test_the_answer_of_a_broker(traits: dict[str, Any], answers: bool | None) -> None:
    async with ScriptedBroker() as broker:
        for name, value in traits.items():
            setattr(broker, name, value)
        endpoint = Endpoint("127.0.0.1", broker.port, "us", username="u" * 200, password="p")
        limit_s = 0.5 if answers is None else 30
        assert await answers_version_5(endpoint, timeout_s=limit_s) is answers


async def test_a_port_without_a_broker_gives_no_answer() -> None:
    assert await answers_version_5(Endpoint("127.0.0.1", free_port(), "us")) is None
