"""The note to the gateways: "look now", a retained MQTT message that nobody trusts.

A gateway that receives it looks early; what it finds there counts only if its signatures verify. A
note that does not arrive costs time, nothing else.
"""

from __future__ import annotations

import asyncio

from deploy.rollout.report import encode_note
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.topics import NOTE_TOPIC

__all__ = ["publish_note"]


async def publish_note(endpoint: Endpoint, made_s: int, patience_s: float = 10.0) -> str | None:
    """Publish the note.

    Args:
        endpoint: The broker.
        made_s: Time of the newest index, so that two notes differ.
        patience_s: Seconds to wait for the connection, and for the broker's answer.

    Returns:
        Why it may not have arrived; None if the broker confirmed it.
    """
    answered = asyncio.Event()
    connection = Connection(
        endpoint,
        on_confirmed=lambda _: answered.set(),
        on_no_subscriber=lambda _: answered.set(),
        on_refused=lambda _: answered.set(),
    )
    connection.start()
    try:
        if not await connection.wait_connected(patience_s):
            return connection.error or connection.waiting or "the broker did not answer"
        connection.publish(NOTE_TOPIC, encode_note(made_s), retain=True)
        await asyncio.wait_for(answered.wait(), patience_s)
    except asyncio.TimeoutError:
        return connection.error or "the broker did not confirm it"
    finally:
        await connection.stop()
    if connection.refused_total:
        return f"the broker does not let {endpoint.client_id} publish on {NOTE_TOPIC}"
    return None
