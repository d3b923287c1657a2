"""Parts that the bridges of gateway and site share: ticks, Sparkplug, former subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.bridge import Bridge
from ingest.bridgehealth import BridgeHealth
from ingest.knownversions import KnownVersions
from ingest.settings import IngestSettings
from ingest.subscribed import SubscribedFilters

if TYPE_CHECKING:
    from ingest.sparkplug.decoder import Sparkplug

__all__ = [
    "append_ticks",
    "broker_text",
    "known_versions",
    "sparkplug_decoder",
    "subscribed_filters",
]

_SUBSCRIBED = "subscriptions.json"
_VERSIONS = "mqtt-versions.json"


async def append_ticks(
    bridge: Bridge, partitions: Callable[[], Sequence[int]], tick_ms: int
) -> None:
    """Put ticks into the log until cancelled, so that windows of idle devices close.

    Where messages come, their loads carry the ticks. Without messages, each tick is an append.

    Args:
        bridge: Puts each tick after every message received so far.
        partitions: Returns the partitions that need a tick now.
        tick_ms: Most milliseconds between two ticks.

    Raises:
        LogUnavailable: The bridge has ended.
    """
    bridge.add_ticks(partitions, tick_ms)
    while True:
        await asyncio.sleep(tick_ms / 1000)
        await bridge.append_due_ticks()


def sparkplug_decoder(ingest: IngestSettings, state_dir: Path) -> Sparkplug | None:
    """Return the Sparkplug B decoder; None if the settings do not name a mapping.

    Raises:
        IngestError: The mapping or the state file is unusable.
    """
    if ingest.sparkplug is None:
        return None
    from ingest.sparkplug.decoder import sparkplug_of  # protobuf, which few gateways need

    return sparkplug_of(ingest, state_dir)


def subscribed_filters(ingest: IngestSettings, state_dir: Path) -> SubscribedFilters:
    """Return the memory of the filters that the bridge of this state folder has subscribed to."""
    path = state_dir / _SUBSCRIBED
    return SubscribedFilters(path, ingest.mqtt_host, ingest.mqtt_port, ingest.mqtt_client_id)


def known_versions(ingest: IngestSettings, state_dir: Path) -> KnownVersions:
    """Return the memory of the MQTT version that the broker has accepted."""
    return KnownVersions(state_dir / _VERSIONS, ingest.mqtt_host, ingest.mqtt_port)


def broker_text(where: str, health: BridgeHealth) -> str:
    """Return the broker for the line that a process prints after its start.

    Args:
        where: `host:port` of the broker.
        health: State of the bridge.
    """
    if health.connected:
        return where
    return f"{where}, not ready yet ({health.error or 'not connected'})"
