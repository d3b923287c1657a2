"""mosquitto as a child process; it needs the system package `mosquitto`."""

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
from deploy.stack.mappedrights import Rights
from deploy.stack.process import ServerError, ServerProcess, open_connection
from ingest.mqtt.broker import mosquitto_config, mosquitto_program
from ingest.topics import MQTT_PREFIX

__all__ = ["MosquittoServer"]

_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00"  # 3.1.1, clean, no keepalive, no id
_PING, _PONG = b"\xc0\x00", b"\xd0\x00"


class MosquittoServer(ServerProcess):
    """A broker that keeps its queues on disk.

    It writes them every second and when it stops. SIGKILL may lose messages that it confirmed
    within the last second and had not delivered yet.
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
        mapped: Rights | None = None,
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            folder: Queues, settings and log; created if missing.
            port: Port for clients, with `certs` for our services; 0 picks a free one.
            host: Loopback address to listen on.
            autosave_s: Seconds between two writes of the queues.
            certs: Folder of `kpstream certs make`; mosquitto then accepts only TLS, and a device
                can publish only as itself.
            devices_port: Port for devices, with `certs`; 0 for the one before `port`.
            prefix: First levels of the MQTT topics that devices may publish to, with `certs`.
            nodes: Devices that may also publish Sparkplug, as `group/node`, with `certs`.
            mapped: Rights of mapped devices and their bridge, with `certs`.
        """
        super().__init__(folder, port=port, host=host)
        self._autosave_s = autosave_s
        self._certs = certs
        self.devices_port = devices_port or self.port - 1
        self._prefix = prefix
        self._nodes = tuple(nodes)
        self._mapped = mapped or Rights()
        self._connection: socket.socket | None = None
        self._checking = threading.Lock()

    def prepare(self) -> None:
        """Write `mosquitto.conf`, and the access lists if TLS is used.

        Raises:
            ServerError: mosquitto is not installed.
        """
        self.command()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = mosquitto_config(self._listeners(), self.folder, self._autosave_s)
        self._config.write_text(config)

    def command(self) -> list[str]:
        """Return the command line with the settings.

        Raises:
            ServerError: mosquitto is not installed.
        """
        program = mosquitto_program()
        if program is None:
            msg = "mosquitto is not installed: run `sudo apt install mosquitto`"
            raise ServerError(msg)
        return [program, "-c", str(self._config)]

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether mosquitto answers a ping in time; a paused process does not.

        The connection stays open, because a new one per check would fill mosquitto's log.
        """
        with self._checking:
            with suppress(OSError):
                if self._connection is None:
                    self._connection = open_connection(self.host, self.port, timeout_s, self._certs)
                    if self._exchange(_CONNECT, timeout_s)[:2] != b"\x20\x02":
                        self._disconnect()
                        return False
                if self._exchange(_PING, timeout_s) == _PONG:
                    return True
            self._disconnect()
            return False

    def kill(self) -> None:
        """Kill the process (SIGKILL), like a crash."""
        with self._checking:
            self._disconnect()
        super().kill()

    def _exchange(self, packet: bytes, timeout_s: float) -> bytes:
        assert self._connection is not None  # noqa: S101 - see healthy
        self._connection.settimeout(timeout_s)
        self._connection.sendall(packet)
        return self._connection.recv(16)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listeners(self) -> str:
        if self._certs is None:
            return f"listener {self.port} {self.host}\nallow_anonymous true\n"
        lists = {
            DEVICES_ACL: devices_acl(
                prefix=self._prefix, nodes=self._nodes, mapped=self._mapped.devices
            ),
            SERVICES_ACL: services_acl(prefix=self._prefix, mapped=self._mapped.filters),
        }
        for name, text in lists.items():
            (self.folder / name).touch(0o600)  # mosquitto warns if other users can read it
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
