"""Parts shared by systemd units and compose files: first line, hardening, mosquitto's settings."""

from __future__ import annotations

from pathlib import Path

from ingest.mqtt.broker import mosquitto_config

__all__ = ["GENERATED", "HARDENED", "RESTARTED", "anonymous_listener", "mosquitto_settings"]

GENERATED = "# Written by `kpstream site units`; change deploy/stack/units.py instead.\n"

HARDENED = """\
# Restrict the service to what it needs of the system.
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
CapabilityBoundingSet=
UMask=0077
"""

RESTARTED = """\
Restart=always
RestartSec=1
RestartSteps=5
RestartMaxDelaySec=30
"""
"""With growing pauses if systemd supports them (254 or later), and without a limit."""


def anonymous_listener(host: str, port: int = 1883) -> str:
    """Return a listener of mosquitto that takes every client."""
    return f"listener {port} {host}\nallow_anonymous true\n"


def mosquitto_settings(listeners: str) -> str:
    """Return the configuration of mosquitto, in addition to that of its package or image.

    The package sets the places of queues and log; setting them twice is an error.

    Args:
        listeners: Lines that define listeners and access.
    """
    text = mosquitto_config(listeners, Path("/"), 1)
    in_package = ("#", "user ", "persistence ", "persistence_location ", "log_type ")
    lines = [line for line in text.splitlines() if not line.startswith(in_package)]
    return "\n".join(lines) + "\n"
