"""The note to the gateways, at a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy.rollout.note import publish_note
from deploy.rollout.report import encode_note
from ingest.mqtt.broker import LocalBroker, free_port
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.topics import NOTE_TOPIC

pytestmark = pytest.mark.needs_mosquitto


def endpoint(port: int, client_id: str = "centre") -> Endpoint:
    return Endpoint(host="127.0.0.1", port=port, client_id=client_id)


async def read_note(port: int) -> bytes:
    """The note that a gateway gets that connects later."""
    notes: asyncio.Queue[bytes] = asyncio.Queue()
    connection = Connection(
        endpoint(port, "gateway"),
        on_message=lambda _epoch, _id, _topic, payload, *_: notes.put_nowait(payload),
        subscribe=NOTE_TOPIC,
    )
    connection.start()
    try:
        return await asyncio.wait_for(notes.get(), 120)
    finally:
        await connection.stop()


async def test_a_gateway_that_connects_later_gets_the_newest_note(tmp_path: Path) -> None:
    port = free_port()
    with LocalBroker(tmp_path / "mq", port=port):
        for made_s in (1_700_000_000, 1_700_000_001):
            assert await publish_note(endpoint(port), made_s) is None
        assert await read_note(port) == encode_note(1_700_000_001)


async def test_a_broker_that_is_away_is_a_reason_and_no_error() -> None:
    reason = await publish_note(endpoint(free_port()), 1, patience_s=0.2)
    assert reason
    assert "refused" in reason
