"""mosquitto with the verbs of the other servers; it needs the package `mosquitto` of the system."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from deploy.stack.acl import (
    DEVICES_ACL,
    SERVICES_ACL,
    devices_acl,
    mosquitto_tls_config,
    services_acl,
)
from deploy.stack.process import ServerError, ServerProcess, open_line
from ingest.mqtt.broker import mosquitto_config, mosquitto_program
from ingest.topics import MQTT_PREFIX

__all__ = ["MosquittoServer"]

_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"  # 3.1.1, clean, no keepalive, no name
_PING, _PONG = b"\xc0\x00", b"\xd0\x00"


class MosquittoServer(ServerProcess):
    """A broker that keeps its queues on disk.

    It writes them every second and at its end: SIGKILL may cost what it confirmed within the last
    second and had not handed on yet.
    """

    name = "mosquitto"
    start_s = 20.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        autosave_s: int = 1,
        certs: Path | None = None,
        devices_port: int = 0,
        prefix: str = MQTT_PREFIX,
        nodes: Sequence[str] = (),
    ) -> None:
        """Prepare; `start` starts.

        Args:
            folder: Queues, settings and log; made when it is not there.
            port: Where clients connect; 0 picks a free one. With `certs`: where our services do.
            host: Loopback address to listen on.
            autosave_s: Seconds between two writes of the queues.
            certs: Folder of `kpstream certs make`: TLS, and a device can publish only as itself.
            devices_port: With `certs`: where devices connect; 0 takes the one before `port`.
            prefix: With `certs`: first levels of the MQTT topics that devices may publish to.
            nodes: With `certs`: devices that may speak Sparkplug too, `group/node`.
        """
        super().__init__(folder, port=port, host=host)
        self._autosave_s = autosave_s
        self._certs = certs
        self.devices_port = devices_port or self.port - 1
        self._prefix = prefix
        self._nodes = tuple(nodes)
        self._line: socket.socket | None = None
        self._looking = threading.Lock()

    def prepare(self) -> None:
        """Write `mosquitto.conf`, with TLS the access list too.

        Raises:
            ServerError: mosquitto is not installed.
        """
        self.command()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = mosquitto_config(self._listeners(), self.folder, self._autosave_s)
        self._config.write_text(config)

    def command(self) -> list[str]:
        """The program and its settings.

        Raises:
            ServerError: mosquitto is not installed.
        """
        program = mosquitto_program()
        if program is None:
            msg = "mosquitto is not installed: `sudo apt install mosquitto`"
            raise ServerError(msg)
        return [program, "-c", str(self._config)]

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether it answers a ping within the time; a paused one does not.

        The connection for the ping stays open: one for each look would fill mosquitto's log.
        """
        with self._looking:
            with suppress(OSError):
                if self._line is None:
                    self._line = open_line(self.host, self.port, timeout_s, self._certs)
                    if self._said(_CONNECT, timeout_s)[:2] != b"\x20\x02":
                        self._hang_up()
                        return False
                if self._said(_PING, timeout_s) == _PONG:
                    return True
            self._hang_up()
            return False

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        with self._looking:
            self._hang_up()
        super().kill()

    def _said(self, packet: bytes, timeout_s: float) -> bytes:
        assert self._line is not None  # noqa: S101 - see healthy
        self._line.settimeout(timeout_s)
        self._line.sendall(packet)
        return self._line.recv(16)

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _listeners(self) -> str:
        if self._certs is None:
            return f"listener {self.port} {self.host}\nallow_anonymous true\n"
        lists = {
            DEVICES_ACL: devices_acl(prefix=self._prefix, nodes=self._nodes),
            SERVICES_ACL: services_acl(prefix=self._prefix),
        }
        for name, text in lists.items():
            (self.folder / name).touch(0o600)  # mosquitto warns of one that others can read
            (self.folder / name).write_text(text)
        return mosquitto_tls_config(
            self._certs,
            self.folder,
            devices_host=self.host,
            devices_port=self.devices_port,
            services_host=self.host,
            services_port=self.port,
        )

    @property
    def _config(self) -> Path:
        return self.folder / "mosquitto.conf"
