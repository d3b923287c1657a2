"""A server as a child process on this machine: the methods that all servers of a site share.

The supervisor, the fault tests and the fixtures treat all servers alike. A restart on the same
folder keeps the stored data, also after `kill`. The children end with the process that started
them, even if that is killed (`ingest.childprocess`).
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from ingest.childprocess import kill_child, pause_child, stop_child, tied_to_parent
from ingest.mqtt.broker import free_port

__all__ = ["Server", "ServerError", "ServerProcess", "open_connection"]

_S = TypeVar("_S", bound="ServerProcess")


class ServerError(Exception):
    """A server is not installed, did not start or refused; the message says what to do."""


class Server(Protocol):
    """The interface of every server of a site."""

    name: str
    port: int
    folder: Path

    @property
    def log_path(self) -> Path:
        """File of its output; the one of the previous run ends in `.1`."""

    @property
    def alive(self) -> bool:
        """Whether the process exists; a paused one does."""

    def start(self) -> Any:
        """Start, and return once it serves; the content of its folder is kept."""

    def stop(self) -> None:
        """Ask the process to end, and wait for it."""

    def kill(self) -> None:
        """Kill the process (SIGKILL), like a crash."""

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, and nothing answers."""

    def resume(self) -> None:
        """Resume a paused process (SIGCONT)."""


class ServerProcess:
    """A server as a child process; servers differ in `prepare`, `command` and `healthy`.

    Attributes:
        folder: Data, settings and log.
        host: Loopback address it listens on.
        port: Port for clients.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    start_s = 60.0
    stop_s = 30.0

    def __init__(self, folder: Path, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self.folder = folder.absolute()
        self.host = host
        self.port = port or free_port(host)
        self._process: subprocess.Popen[bytes] | None = None

    # Defined by each server.

    def prepare(self) -> None:
        """Write the files it needs at its start; safe to repeat.

        Raises:
            ServerError: The server is not installed.
        """
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command line that runs it in the foreground."""
        raise NotImplementedError

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether it answers a request of its own protocol in time."""
        raise NotImplementedError

    # The same for all servers.

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """File of its output; the one of the previous run ends in `.1`."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Process id; None while it does not run."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def start(self: _S) -> _S:
        """Start, and return once it serves; does nothing if it runs already.

        The server ends with the thread that calls this, see `ingest.childprocess`.

        Raises:
            ServerError: The server is not installed, its port is taken, or it did not start.
        """
        if self.alive:
            return self
        if _listens(self.host, self.port):
            msg = f"{self.name}: port {self.port} on {self.host} is taken; choose another port"
            raise ServerError(msg)
        self.prepare()
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("wb") as output:
            # In its own session, Ctrl-C in the terminal reaches only us, and we stop it in order.
            self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                tied_to_parent(self.command()),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await_health()
        except BaseException:  # Ctrl-C too: the caller cannot stop the server yet
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask the process to end and wait for it; kill it after 30 s."""
        if self._process is not None:
            stop_child(self._process, self.stop_s, self.stop_signal)
        self.kill()

    def kill(self) -> None:
        """Kill the process (SIGKILL), like a crash."""
        if self._process is not None:
            kill_child(self._process)
            self._process = None

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open, and nothing answers."""
        if self._process is not None and self.alive:
            pause_child(self._process)

    def resume(self) -> None:
        """Resume a paused process (SIGCONT)."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGCONT)

    def last_output(self) -> str:
        """Return the end of its output."""
        with suppress(OSError):
            if text := self.log_path.read_text(errors="replace").strip():
                return text[-1500:]
        return "(no output)"

    def __enter__(self: _S) -> _S:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _await_health(self) -> None:
        deadline = time.monotonic() + self.start_s
        while not self.healthy():
            if not self.alive:
                msg = f"{self.name} ended while starting on {self.address}: {self.last_output()}"
                raise ServerError(msg)
            if time.monotonic() > deadline:
                msg = (
                    f"{self.name} does not serve on {self.address} after {self.start_s:.0f} s: "
                    f"{self.last_output()}"
                )
                raise ServerError(msg)
            time.sleep(0.05)


def open_connection(
    host: str, port: int, timeout_s: float, certs: Path | None = None
) -> socket.socket:
    """Open a TCP or TLS connection on which every wait is bounded.

    Args:
        host: Host to connect to.
        port: Port to connect to.
        timeout_s: Limit for connecting, and for each wait on the connection.
        certs: Folder of `kpstream certs make`; the connection then uses TLS as `operator`.

    Raises:
        OSError: Nothing answers, or its certificate is not trusted.
    """
    stream = socket.create_connection((host, port), timeout_s)
    if certs is None:
        return stream
    try:
        context = ssl.create_default_context(cafile=certs / "ca.pem")
        context.load_cert_chain(certs / "services/operator.pem", certs / "services/operator.key")
        return context.wrap_socket(stream, server_hostname=host)
    except BaseException:
        stream.close()
        raise


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False
