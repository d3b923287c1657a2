"""Listen to a broker for some seconds, as a client of its own that only subscribes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ingest.clock import now_ms
from ingest.errors import MqttError
from ingest.mapping.recorded import RecordedMessage
from ingest.stopping import stop_on_signals, until_stopped

if TYPE_CHECKING:
    from ingest.mqtt.endpoint import Endpoint

__all__ = ["MOST_MESSAGES", "heard"]

MOST_MESSAGES = 100_000
"""Messages after which listening ends early; they are kept in memory."""
_MOST_BYTES = 200_000_000
_CHECK_S = 0.2


def heard(
    endpoint: Endpoint,
    filters: Sequence[str],
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> list[RecordedMessage]:
    """Return the messages that the broker delivers to `filters` within some seconds.

    The client has a clean session and a client id of its own, so nothing is left at the broker and
    no bridge loses a message to it. It never publishes. A signal ends it early.

    Args:
        endpoint: The broker.
        filters: MQTT filters to subscribe to.
        seconds: Seconds to listen once the broker has confirmed the subscriptions.
        say: Called with lines for the user.

    Raises:
        click.ClickException: The broker cannot be reached, or refuses a filter.
    """
    return asyncio.run(_listen(endpoint, filters, seconds, say))


async def _listen(
    endpoint: Endpoint, filters: Sequence[str], seconds: float, say: Callable[[str], None]
) -> list[RecordedMessage]:
    from ingest.mqtt.connection import Connection
    from ingest.mqtt.packets import Oversized

    messages: list[RecordedMessage] = []
    size_bytes, too_large = 0, 0

    def note(packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
        nonlocal size_bytes
        del flags
        if qos:
            connection.ack(packet_id)
        if len(messages) < MOST_MESSAGES and size_bytes < _MOST_BYTES:
            messages.append(RecordedMessage(topic, payload, now_ms()))
            size_bytes += len(payload)

    def note_oversized(message: Oversized) -> None:
        nonlocal too_large
        too_large += 1
        if message.qos:
            connection.ack(message.packet_id)

    connection = Connection(
        endpoint, on_message=note, on_oversized=note_oversized, subscribe=tuple(filters)
    )

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + seconds
        while loop.time() < until_s and len(messages) < MOST_MESSAGES:
            await asyncio.sleep(min(_CHECK_S, max(0.0, until_s - loop.time())))

    where = f"{endpoint.host}:{endpoint.port}"
    stop = stop_on_signals()
    connection.start()
    try:
        if not await connection.wait_connected():
            reason = connection.error or connection.waiting or "it does not answer"
            msg = f"not connected to {where}: {reason}; to choose another broker, use --mqtt"
            raise click.ClickException(msg)
        until_s = asyncio.get_running_loop().time() + 10
        while not connection.subscribed:
            await asyncio.sleep(0.02)
            if connection.error or asyncio.get_running_loop().time() > until_s:
                reason = connection.error or "it does not answer"
                msg = f"{where} does not grant {', '.join(filters)}: {reason}"
                raise click.ClickException(msg)
        say(f"listening to {', '.join(filters)} at {where} for {seconds:g} s")
        await until_stopped(listen(), stop)
    except MqttError as exc:
        raise click.ClickException(str(exc)) from exc
    finally:
        await connection.stop()
    if too_large:
        say(f"{too_large} messages were too large for kpstream and are left out")
    if len(messages) >= MOST_MESSAGES or size_bytes >= _MOST_BYTES:
        say(f"ended early, after {len(messages)} messages")
    return messages
