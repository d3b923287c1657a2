"""Where an MQTT broker is, who we are to it, and how we speak TLS with it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Endpoint", "tls_context"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and who we are to it.

    Attributes:
        host: Host name or address.
        port: TCP port.
        client_id: Who we are; fixed for a session that shall survive us.
        protocol: MQTT version; "auto" tries 5 and falls back to 3.1.1 when refused.
        keepalive_s: Seconds of silence after which the line is tested.
        username: If the broker wants one.
        password: If the broker wants one.
        tls: Speak TLS.
        ca_file: PEM file of the authority to trust; None for the system's.
        cert_file: PEM file of our certificate, for brokers that ask for it.
        key_file: PEM file of its private key.
    """

    host: str
    port: int
    client_id: str
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: int = 30
    username: str | None = None
    password: str | None = None
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Fresh for every connect, so that renewed certificates are taken."""
    context = ssl.create_default_context(cafile=endpoint.ca_file)
    if endpoint.cert_file is not None:
        context.load_cert_chain(endpoint.cert_file, endpoint.key_file)
    return context
