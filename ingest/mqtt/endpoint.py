"""Where an MQTT broker is, and who we are to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ingest.tls import TlsFiles

__all__ = ["Endpoint"]


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
        password: If the broker wants one; shown in no text made of this.
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
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def tls_files(self) -> TlsFiles:
        """What TLS with it needs."""
        return TlsFiles(self.ca_file, self.cert_file, self.key_file, "KPSTREAM_INGEST_MQTT_")
