"""Parts shared by systemd units and compose file: their first line, and mosquitto's settings."""

from __future__ import annotations

from pathlib import Path

from ingest.mqtt.broker import mosquitto_config

__all__ = ["GENERATED", "mosquitto_settings"]

GENERATED = "# Written by `kpstream site units`; change deploy/stack/units.py instead.\n"


def mosquitto_settings(listener: str) -> str:
    """Return the configuration of mosquitto, in addition to that of its package or image.

    The package sets the places of queues and log; setting them twice is an error.
    """
    text = mosquitto_config(f"{listener}\nallow_anonymous true\n", Path("/"), 1)
    in_package = ("#", "user ", "persistence ", "persistence_location ", "log_type ")
    lines = [line for line in text.splitlines() if not line.startswith(in_package)]
    return "\n".join(lines) + "\n"
