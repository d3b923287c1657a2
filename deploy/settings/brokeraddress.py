"""The option ``--mqtt HOST:PORT`` of the commands, as settings and as an endpoint."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from deploy.settings.errors import exit_on_invalid_settings

if TYPE_CHECKING:
    from ingest.mqtt.endpoint import Endpoint

__all__ = ["broker_settings", "device_endpoint", "split_address"]


def split_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT``; the port may be left out.

    >>> split_address("127.0.0.1:1884"), split_address("broker"), split_address("[::1]:1884")
    (('127.0.0.1', 1884), ('broker', 1883), ('::1', 1884))

    Raises:
        click.BadParameter: The address has another form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "1883"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        message = f"{address!r} is not HOST:PORT; write an IPv6 address as [::1]:1883"
        raise click.BadParameter(message)
    if not host.strip() or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        message = f"{address!r} is not HOST:PORT"
        raise click.BadParameter(message)
    return host, int(port)


def broker_settings(mqtt: str | None) -> dict[str, str | int]:
    """Return the fields of `IngestSettings` that ``--mqtt`` overrides; empty without it."""
    if mqtt is None:
        return {}
    host, port = split_address(mqtt)
    return {"mqtt_host": host, "mqtt_port": port}


def device_endpoint(mqtt: str | None, role: str) -> Endpoint:
    """Return the broker of the settings (``KPSTREAM_INGEST_*``), or the one named by ``--mqtt``.

    The client id differs from the bridge's, because a broker disconnects the older of two clients
    with the same id.

    Args:
        mqtt: Value of ``--mqtt``.
        role: Part of the client id.

    Raises:
        click.ClickException: A setting is invalid.
    """
    from ingest.mqttsettings import endpoint_of
    from ingest.settings import IngestSettings

    with exit_on_invalid_settings():
        settings = IngestSettings(**broker_settings(mqtt))  # type: ignore[arg-type]
    return endpoint_of(settings, client_id=f"kpstream-{role}-{os.getpid()}")
