"""Address of an MQTT broker, and our identity there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ingest.tls import TlsFiles

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a broker, and our identity there.

    Attributes:
        host: Host name or address.
        port: TCP port.
        client_id: Our client id; fixed, so that a persistent session survives the process.
        protocol: MQTT version; "auto" tries 5 and falls back to 3.1.1 when refused.
        keepalive_s: Seconds of silence after which the connection is tested.
        username: User name, if the broker requires one.
        password: Password, if the broker requires one; never part of `repr`.
        tls: Whether to use TLS.
        ca_file: PEM file of the authority to trust; None: the system's authorities.
        cert_file: PEM file of our certificate, for brokers that require one.
        key_file: PEM file of its private key.
    """

    host: str
    port: int
    client_id: str
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: int = 30
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def tls_files(self) -> TlsFiles:
        """Files for TLS with this broker."""
        return TlsFiles(self.ca_file, self.cert_file, self.key_file, "KPSTREAM_INGEST_MQTT_")
