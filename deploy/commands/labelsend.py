"""Labels on their way to a bridge: published with QoS 1, and confirmed or not."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ingest.errors import MqttError
from ingest.labels import Label, encode_label
from ingest.patience import Patience
from ingest.settings import IngestSettings
from ingest.stopping import EXIT_CODE, stop_on_signals, until_stopped
from ingest.topics import Address

if TYPE_CHECKING:
    from ingest.mqtt.publisher import Publisher

__all__ = ["send_labels"]

_TAKER_S = 5.0
"""Seconds for which a label waits for a bridge that takes it."""
_IN_FLIGHT = 50


async def send_labels(
    settings: IngestSettings, labels: Sequence[tuple[Address, Label]]
) -> tuple[int, str | None]:
    """Publish labels with QoS 1, and wait for every PUBACK.

    Returns:
        How many the broker has confirmed, and why not all; None: it has all.

    Raises:
        SystemExit: A signal asked to stop.
    """
    from ingest.mqtt.publisher import Publisher
    from ingest.mqttsettings import endpoint_of

    endpoint = endpoint_of(settings, client_id=f"kpstream-label-{secrets.token_hex(4)}")
    where = f"{endpoint.host}:{endpoint.port}"
    topics = [address.mqtt_topic(settings.labels_prefix) for address, _ in labels]

    async def publish_all(publisher: Publisher) -> None:
        for topic, (_, label) in zip(topics, labels, strict=True):
            await publisher.publish(topic, encode_label(label))
        await publisher.flush()

    async def send(publisher: Publisher) -> None:
        if not await publisher.connection.wait_connected():
            msg = f"not connected to {where}: {publisher.waiting}; to choose another, use --mqtt"
            raise MqttError(msg)
        sending = asyncio.ensure_future(publish_all(publisher))
        loop = asyncio.get_running_loop()
        since_s: float | None = None
        taken = 0
        try:
            while not sending.done():
                await asyncio.wait({sending}, timeout=0.1)
                if publisher.confirmed_total > taken:
                    taken, since_s = publisher.confirmed_total, None
                elif publisher.no_subscriber_total:
                    since_s = since_s or loop.time()
                    if loop.time() - since_s > _TAKER_S:
                        raise MqttError(_no_taker(where, topics[0]))
            sending.result()
        finally:
            sending.cancel()

    stop = stop_on_signals()
    publisher = Publisher(
        endpoint,
        in_flight=_IN_FLIGHT,
        require_subscriber=True,
        gives_up_s=Patience().most_s,
        on_wait=click.echo,
    )
    async with publisher:
        try:
            if not await until_stopped(send(publisher), stop):
                confirmed = publisher.confirmed_total
                click.echo(f"stopped: {confirmed} of {len(labels)} labels are confirmed", err=True)
                raise SystemExit(EXIT_CODE)
        except MqttError as exc:
            return publisher.confirmed_total, str(exc)
        if publisher.refused_total:
            why = f"the broker {where} does not let us publish on {topics[0]}"
            return publisher.confirmed_total, f"{why}: change its access list"
    return publisher.confirmed_total, None


def _no_taker(where: str, topic: str) -> str:
    return (
        f"nobody takes the label: the broker {where} has no subscriber for {topic}. Is a gateway "
        "or a bridge connected to it, with this KPSTREAM_INGEST_LABELS_PREFIX?"
    )
