"""A broker for this machine: mosquitto where it is installed, else the embedded amqtt.

Both run as child processes on loopback only, and end with the process that started them, even when
that is killed (mosquitto: on Linux). mosquitto keeps every delivery promise. amqtt is for a first
try: it speaks MQTT 3.1.1, keeps its queues in memory and does not deliver unacknowledged messages
again, so readings on the way are lost when amqtt or the bridge is killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal

from ingest.childprocess import kill_child, stop_child, tied_to_parent
from ingest.errors import IngestError
from ingest.extras import install_command
from ingest.stopping import stop_on_signals

__all__ = [
    "BrokerError",
    "LocalBroker",
    "broker_kind",
    "free_port",
    "mosquitto_config",
    "mosquitto_program",
]

Kind = Literal["mosquitto", "amqtt"]
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_START_S = 20.0
_STOP_S = 5.0


class BrokerError(IngestError):
    """The local broker does not start; the message says why and what to do."""


def broker_kind() -> Kind:
    """Return the broker that `LocalBroker` starts: mosquitto where it is installed."""
    return "mosquitto" if mosquitto_program() else "amqtt"


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


class LocalBroker:
    """A broker as a child process; a context manager.

    Attributes:
        host: Loopback address.
        port: TCP port; 0 before `start` if none was given.
        kind: "mosquitto" or "amqtt".
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        kind: Kind | None = None,
        autosave_s: int = 1,
        listeners: str | None = None,
    ) -> None:
        """Prepare; `start` starts the broker.

        Args:
            folder: Folder of queues, configuration and log; None: a temporary folder.
            port: TCP port; 0: a free one.
            host: Loopback address to listen on.
            kind: Broker; None: mosquitto where it is installed, else amqtt.
            autosave_s: Seconds between mosquitto's writes of its queues to disk. Messages confirmed
                within that time are lost if mosquitto itself is killed.
            listeners: Lines of `mosquitto.conf` instead of the one open listener; one of them must
                be on `host` and `port`. mosquitto only.

        Raises:
            BrokerError: `listeners` with amqtt, or without a port.
        """
        self.kind: Kind = kind or broker_kind()
        self.host = host
        self.port = port
        self._autosave_s = autosave_s
        self._listeners = listeners
        if listeners is not None and (self.kind != "mosquitto" or port == 0):
            msg = "listeners need mosquitto (`sudo apt install mosquitto`) and the port of one"
            raise BrokerError(msg)
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> Path:
        """Folder of mosquitto's queues; one that was given survives `stop` and `kill`."""
        if self._folder is not None:
            return self._folder
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="kpstream-broker-")
        return Path(self._temporary.name)

    @property
    def protocol(self) -> Literal["5", "3.1.1"]:
        """The best MQTT version that the broker speaks."""
        return "5" if self.kind == "mosquitto" else "3.1.1"

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> LocalBroker:
        """Start, and return when the broker accepts connections.

        Call it from a thread that runs as long as the broker should, see `ingest.childprocess`.

        Raises:
            BrokerError: The broker is not installed, the port is taken, or the broker ended.
        """
        if self.port == 0:
            self.port = free_port(self.host)
        elif _listens(self.host, self.port):
            msg = (
                f"port {self.port} on {self.host} is taken, perhaps by another broker: "
                "use that one, stop it, or choose another port"
            )
            raise BrokerError(msg)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = self._mosquitto_command() if self.kind == "mosquitto" else self._amqtt_command()
        with self._log_path.open("wb") as output:
            # Its own session, so that Ctrl-C reaches only us, and we stop the broker in order.
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._await_start()
        except BaseException:  # Ctrl-C too: no caller has the broker yet to stop it
            self.kill()
            raise
        return self

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_S
        while not _listens(self.host, self.port):
            if not self.alive or time.monotonic() > deadline:
                msg = f"{self.kind} did not start on {self.host}:{self.port}: {self._log_end()}"
                raise BrokerError(msg)
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the broker to end (mosquitto then writes its queues); kill it after 5 s."""
        if self._process is not None:
            stop_child(self._process, _STOP_S)
        self.kill()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def kill(self) -> None:
        """End the broker at once (SIGKILL); `start` starts it again on the same port."""
        if self._process is not None:
            kill_child(self._process)
            self._process = None

    def __enter__(self) -> LocalBroker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _log_path(self) -> Path:
        return self.folder / f"{self.kind}.log"

    def _log_end(self) -> str:
        text = self._log_path.read_text(errors="replace").strip()
        return text[-500:] or "its log is empty"

    def _mosquitto_command(self) -> list[str]:
        binary = mosquitto_program()
        if binary is None:
            msg = "mosquitto is not installed: `sudo apt install mosquitto`, or use kind='amqtt'"
            raise BrokerError(msg)
        config = self.folder / "mosquitto.conf"
        listeners = self._listeners or f"listener {self.port} {self.host}\nallow_anonymous true\n"
        config.write_text(mosquitto_config(listeners, self.folder, self._autosave_s))
        return tied_to_parent([binary, "-c", str(config)])

    def _amqtt_command(self) -> list[str]:
        if find_spec("amqtt") is None:
            msg = (
                f"the embedded broker is not installed: `{install_command('demo')}`, or install "
                "mosquitto (`sudo apt install mosquitto`), which is the better one"
            )
            raise BrokerError(msg)
        return [
            sys.executable,
            "-m",
            "ingest.mqtt.broker",
            self.host,
            str(self.port),
            str(os.getpid()),
        ]


def mosquitto_program() -> str | None:
    """Return the path of mosquitto; None: it is not installed."""
    # Debian puts it into sbin, which is not on every user's PATH.
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=os.pathsep.join(_SBIN))


def mosquitto_config(listeners: str, folder: Path, autosave_s: int) -> str:
    """Return the configuration of mosquitto, without limits on queued messages.

    mosquitto's defaults drop messages that it has confirmed to publishers.

    Args:
        listeners: Lines that define listeners and access.
        folder: Folder of the queues.
        autosave_s: Seconds between two writes of the queues.
    """
    # Started by root, it would switch to a user who may not read the folder.
    user = "user root\n" if os.geteuid() == 0 else ""
    return (
        "# Written by kpstream at every start.\n"
        f"{user}"
        "persistence true\n"
        f"persistence_location {folder.resolve()}/\n"
        f"autosave_interval {autosave_s}\n"
        "max_queued_messages 0\n"
        "max_inflight_messages 0\n"
        "max_packet_size 1048576\n"
        "set_tcp_nodelay true\n"
        "log_type error\n"
        "log_type warning\n"
        "log_type notice\n"
        f"{listeners}"
    )


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


async def _serve_amqtt(host: str, port: int, parent: int) -> None:
    """Run the embedded broker until a signal stops it or the parent ends."""
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
        }
    )
    stopped = stop_on_signals()
    await broker.start()
    while not stopped.is_set() and os.getppid() == parent:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stopped.wait(), 1.0)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(_serve_amqtt(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
