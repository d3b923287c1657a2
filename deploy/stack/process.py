"""A server as a child process on this machine: the verbs that all servers of a site share.

The supervisor, the fault tests and the fixtures treat them alike. Starting again on the same folder
keeps what was stored, also after `kill`. The children end with the process that started them,
however that ends (`ingest.childprocess`).
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

from ingest.childprocess import kill_child, stop_child, tied_to_parent
from ingest.mqtt.broker import free_port

__all__ = ["Server", "ServerError", "ServerProcess", "open_line"]

_S = TypeVar("_S", bound="ServerProcess")


class ServerError(Exception):
    """A server is not installed, did not start, or refused; the message says what to do."""


class Server(Protocol):
    """What every server of a site can do."""

    name: str
    port: int
    folder: Path

    @property
    def log_path(self) -> Path:
        """What it prints; that of the run before has `.1` appended."""

    @property
    def alive(self) -> bool:
        """Whether the process is there; a paused one is."""

    def start(self) -> Any:
        """Start, and return once it serves; what its folder holds is kept."""

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""


class ServerProcess:
    """A server as a child process; what differs is `prepare`, `command` and `healthy`.

    Attributes:
        folder: Its data, settings and log.
        host: Loopback address it listens on.
        port: Where clients connect.
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

    # What a server defines.

    def prepare(self) -> None:
        """Write what it reads at its start; safe to repeat.

        Raises:
            ServerError: It is not installed.
        """
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command line that runs it in the foreground."""
        raise NotImplementedError

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether it answers a request of its own protocol within the time."""
        raise NotImplementedError

    # What all have.

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def log_path(self) -> Path:
        """What it prints; that of the run before has `.1` appended."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self.alive else None

    @property
    def alive(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    def start(self: _S) -> _S:
        """Start, and return once it serves; a running one is left alone.

        Call it from a thread that lives as long as the server shall: see `ingest.childprocess`.

        Raises:
            ServerError: It is not installed, the port is taken, or it did not come up.
        """
        if self.alive:
            return self
        if _listens(self.host, self.port):
            msg = f"{self.name}: port {self.port} on {self.host} is taken; choose another one"
            raise ServerError(msg)
        self.prepare()
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("wb") as output:
            # Its own session: Ctrl-C in the terminal reaches us, and we stop it in our order.
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
        except BaseException:  # Ctrl-C too: nobody has the server yet who could stop it
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask it to end, and wait until it has; after 30 s, kill it."""
        if self._process is not None:
            stop_child(self._process, self.stop_s, self.stop_signal)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        if self._process is not None:
            kill_child(self._process)
            self._process = None

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on (SIGCONT)."""
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGCONT)

    def last_words(self) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            if text := self.log_path.read_text(errors="replace").strip():
                return text[-1500:]
        return "it said nothing"

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
                msg = f"{self.name} ended at its start on {self.address}: {self.last_words()}"
                raise ServerError(msg)
            if time.monotonic() > deadline:
                msg = (
                    f"{self.name} does not serve on {self.address} after {self.start_s:.0f} s: "
                    f"{self.last_words()}"
                )
                raise ServerError(msg)
            time.sleep(0.05)


def open_line(host: str, port: int, timeout_s: float, certs: Path | None = None) -> socket.socket:
    """A connection on which every wait is bounded by the time.

    Args:
        host: Where to.
        port: Where to.
        timeout_s: For the connection, and each wait on it.
        certs: Folder of `kpstream certs make`: speak TLS, as the service `operator`.

    Raises:
        OSError: Nobody is there, or it is somebody else.
    """
    line = socket.create_connection((host, port), timeout_s)
    if certs is None:
        return line
    try:
        context = ssl.create_default_context(cafile=certs / "ca.pem")
        context.load_cert_chain(certs / "services/operator.pem", certs / "services/operator.key")
        return context.wrap_socket(line, server_hostname=host)
    except BaseException:
        line.close()
        raise


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False
