"""One MQTT broker as a child process: what the starters of the matrix share."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
    pkcs12,
)

from deploy.stack.process import ServerProcess
from deploy.stack.servers import servers_dir
from tests.fakes.ports import free_port

__all__ = ["PASSWORD", "STORE_PASSWORD", "USERS", "Broker", "brokers_dir", "connect_packet"]

PASSWORD = "right"
STORE_PASSWORD = "changeit"
"""Password of `keys.p12` and `trust.p12` in the folder of the certificates, for Java."""
USERS = ("kpstream", "noread", "nowrite")
"""All rights; may not subscribe below `sensors/`; may not publish below `sensors/`."""


def brokers_dir() -> Path:
    """Return the folder of the brokers that `tests.brokers.install` fetches."""
    return servers_dir() / "brokers"


def connect_packet(user: str = USERS[0], password: str = PASSWORD) -> bytes:
    """Return a CONNECT packet of MQTT 3.1.1: clean session, no keepalive.

    >>> connect_packet("u", "p")[:12]
    b'\\x10\\x18\\x00\\x04MQTT\\x04\\xc2\\x00\\x00'
    """
    fields = b"".join(
        len(text).to_bytes(2, "big") + text.encode() for text in ("matrix", user, password)
    )
    body = b"\x00\x04MQTT\x04\xc2\x00\x00" + fields
    return bytes((0x10, len(body))) + body


class Broker(ServerProcess):
    """A broker with the three users of the matrix; a restart on the same folder keeps its data.

    Attributes:
        title: Name and version for the page.
        protocols: The MQTT versions that the gateway may name in its settings, best first.
        has_rights: Whether access to topics can be refused.
        has_tls: Whether the starter opens `tls_port`, where a client certificate is demanded.
        shares: Whether the bridges of a site can share a subscription (MQTT 5).
        settings: What differs from the broker's defaults, for the page.
        saves_s: Seconds after which a new session is on disk.
        caps_sessions: Whether its starter can limit how long sessions are kept (`session_s`).
        session_s: Longest time that the broker keeps a session, seconds; None: its default.
    """

    title = "?"
    protocols: tuple[str, ...] = ("5", "3.1.1")
    has_rights = True
    has_tls = False
    shares = False
    settings = ""
    saves_s = 0.0
    caps_sessions = False
    session_s: int | None = None
    start_s = 300.0
    stop_s = 20.0

    def __init__(self, folder: Path, **ports: int) -> None:
        super().__init__(folder, **ports)  # type: ignore[arg-type]
        self.tls_port = free_port()

    @property
    def certs(self) -> Path:
        """Folder of authority and certificates, made by `kpstream certs make` in `prepare`."""
        return self.folder / "certs"

    @classmethod
    def missing(cls) -> str | None:
        """Return why the broker cannot run here, or None."""
        raise NotImplementedError

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether the broker accepts a client of MQTT 3.1.1."""
        with (
            suppress(OSError),
            socket.create_connection((self.host, self.port), timeout_s) as stream,
        ):
            stream.sendall(connect_packet())
            answer = stream.recv(4)
            stream.sendall(b"\xe0\x00")
            return answer == b"\x20\x02\x00\x00"
        return False

    def prepare(self) -> None:
        """Write the files it needs at its start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.has_tls and not self.certs.exists():
            make = ["certs", "make", "--out", str(self.certs), "--host", "127.0.0.1"]
            command = [sys.executable, "-m", "deploy.cli", *make]
            subprocess.run(command, check=True, capture_output=True)
            _write_stores(self.certs)


def _write_stores(certs: Path) -> None:
    """Write the broker's certificate and the authority as PKCS#12, which Java reads."""
    secret = BestAvailableEncryption(STORE_PASSWORD.encode())
    authority = x509.load_pem_x509_certificate((certs / "ca.pem").read_bytes())
    chain = x509.load_pem_x509_certificates((certs / "servers/mosquitto.pem").read_bytes())
    key = load_pem_private_key((certs / "servers/mosquitto.key").read_bytes(), None)
    keys = pkcs12.serialize_key_and_certificates(
        b"broker",
        key,  # type: ignore[arg-type]
        chain[0],
        [*chain[1:], authority],
        secret,
    )
    (certs / "keys.p12").write_bytes(keys)
    trusted = pkcs12.PKCS12Certificate(authority, b"ca")
    (certs / "trust.p12").write_bytes(pkcs12.serialize_java_truststore([trusted], secret))
