"""Kafka and InfluxDB as child processes on loopback, with the settings a site uses.

One set of verbs for every server, so that the supervisor, the fault tests and the fixtures treat
them alike. Starting again on the same folder keeps what was stored, also after `kill`. The children
end with the process that started them, however that ends (`ingest.child`).
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

from ingest.broker import free_port
from ingest.child import dying_with_us

__all__ = [
    "INFLUX_VERSION",
    "KAFKA_VERSION",
    "FoundServers",
    "InfluxServer",
    "KafkaServer",
    "Server",
    "ServerError",
    "find_servers",
    "servers_dir",
]

KAFKA_VERSION = "4.4.0"
INFLUX_VERSION = "2.7.12"

_S = TypeVar("_S", bound="_ServerProcess")


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


# ------------------------------------------------------------------------------ where they are


@dataclass(frozen=True, slots=True)
class FoundServers:
    """What of the servers is on this machine; None is not.

    Attributes:
        folder: where it was looked for.
        kafka_libs: folder of Kafka's jars.
        java: the Java to run them with.
        influxd: the program.
    """

    folder: Path
    kafka_libs: Path | None
    java: str | None
    influxd: Path | None


def servers_dir() -> Path:
    """The folder of installed servers: `KPSTREAM_SERVERS_DIR`, else `~/.cache/kpstream/servers`."""
    named = os.environ.get("KPSTREAM_SERVERS_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "kpstream" / "servers"


def find_servers(folder: Path | None = None) -> FoundServers:
    """Look for the servers in the folder, by version; Java on PATH or below `JAVA_HOME`."""
    folder = folder or servers_dir()
    libs = folder / f"kafka-{KAFKA_VERSION}" / "libs"
    influxd = folder / f"influxd-{INFLUX_VERSION}" / "influxd"
    home = os.environ.get("JAVA_HOME")
    return FoundServers(
        folder=folder,
        kafka_libs=libs if (libs / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file() else None,
        java=(shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java"),
        influxd=influxd if os.access(influxd, os.X_OK) and influxd.is_file() else None,
    )


# ---------------------------------------------------------------------------- one child process


class _ServerProcess:
    """A server as a child process; what differs is `prepare`, `command` and `healthy`."""

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

        Call it from a thread that lives as long as the server shall: see `ingest.child`.

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
                dying_with_us(self.command()),
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
        if self._process is not None and self.alive:
            self._process.send_signal(self.stop_signal)
            self._process.send_signal(signal.SIGCONT)  # a paused one would never hear it
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_s)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
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


# ---------------------------------------------------------------------------------------- Kafka


class KafkaServer(_ServerProcess):
    """One Kafka node, broker and controller in one (KRaft).

    What it has confirmed (`acks=all`) survives its own end, also by SIGKILL. A loss of power may
    cost the last moments: Kafka leaves syncing to the system and counts on replicas instead.
    """

    name = "kafka"

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        controller_port: int = 0,
        host: str = "127.0.0.1",
        heap_mb: int = 256,
        properties: Mapping[str, str] | None = None,
        servers: FoundServers | None = None,
    ) -> None:
        """Prepare; `start` starts.

        Args:
            folder: Data, settings and log; made when it is not there.
            port: Where clients connect; 0 picks a free one.
            controller_port: For Kafka itself; 0 picks a free one.
            host: Loopback address to listen on.
            heap_mb: Java heap, megabytes.
            properties: More lines for `server.properties`, or other values for ours.
            servers: Where Kafka is; None: `find_servers()`.
        """
        super().__init__(folder, port=port, host=host)
        self.controller_port = controller_port or free_port(host)
        self._heap_mb = heap_mb
        self._properties = dict(properties or {})
        self._servers = servers or find_servers()

    def settings(self) -> dict[str, str]:
        """The content of `server.properties`."""
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{self.host}:{self.controller_port}",
            "listeners": (
                f"PLAINTEXT://{self.address},CONTROLLER://{self.host}:{self.controller_port}"
            ),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._data),
            **KAFKA_SETTINGS,
            **self._properties,
        }

    def prepare(self) -> None:
        """Write `server.properties`, and format the data folder when it is new.

        Raises:
            ServerError: Kafka or Java is not installed, or the folder can't be formatted.
        """
        self.command()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._data.exists():
            self._format()
        self._write(self.settings())

    def _format(self) -> None:
        """Make the data folder: under another name first, so that there is never half of one."""
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        self._write({**self.settings(), "log.dirs": str(new)})
        cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()
        done = subprocess.run(  # noqa: S603 (our own command line)
            # "=", since the id may begin with "-".
            self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout)[-800:]
            msg = f"kafka: the folder {self.folder} can't be formatted: {said}"
            raise ServerError(msg)
        new.rename(self._data)

    def _write(self, settings: Mapping[str, str]) -> None:
        lines = [f"{key}={value}\n" for key, value in settings.items()]
        self._config.write_text("# Written by kpstream at every start.\n" + "".join(lines))

    def command(self) -> list[str]:
        """Java with Kafka's jars.

        Raises:
            ServerError: Kafka or Java is not installed.
        """
        return self._java("kafka.Kafka")

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether it answers an ApiVersions request within the time; a paused one does not."""
        request = struct.pack(">hhih", 18, 0, 1, -1)  # key, version, correlation, no client id
        with (
            suppress(OSError),
            socket.create_connection((self.host, self.port), timeout_s) as line,
        ):
            line.sendall(struct.pack(">i", len(request)) + request)
            return len(line.recv(4)) > 0
        return False

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _config(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main: str, *args: str) -> list[str]:
        libs, java = self._servers.kafka_libs, self._servers.java
        if libs is None:
            msg = f"Kafka is not in {self._servers.folder}: run `kpstream site install`"
            raise ServerError(msg)
        if java is None:
            msg = "Kafka needs Java 17 or later: `sudo apt install default-jre-headless`"
            raise ServerError(msg)
        return [
            *(java, f"-Xmx{self._heap_mb}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Djava.awt.headless=true"),
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
            *("-cp", f"{libs}/*", main, *args),
            str(self._config),
        ]


KAFKA_SETTINGS: Mapping[str, str] = {
    # A misspelt topic is an error, not a new topic with one partition.
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A group that is away for less than this finds its place again.
    "offsets.retention.minutes": str(30 * 24 * 60),
    # Sized for 256 MB of heap: the cleaner's default buffer alone is 128 MB.
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.segment.bytes": "16777216",
    "log.index.size.max.bytes": "1048576",
    # After SIGKILL the node waits until its former self has timed out: seconds without a log.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
}
"""What every Kafka node of a site has, beside names, ports and folders."""


# ------------------------------------------------------------------------------------- InfluxDB


class InfluxServer(_ServerProcess):
    """InfluxDB 2 without web page; every write it has confirmed survives SIGKILL.

    Attributes:
        org: Organisation made by `setup`.
        bucket: Bucket made by `setup`.
        token: What may read and write everything, of `setup`.
    """

    name = "influxdb"
    # The program catches SIGINT only; SIGTERM ends it on the spot.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        servers: FoundServers | None = None,
    ) -> None:
        """Prepare; `start` starts.

        Args:
            folder: Data and log; made when it is not there.
            port: Where clients connect; 0 picks a free one.
            host: Loopback address to listen on.
            servers: Where the program is; None: `find_servers()`.
        """
        super().__init__(folder, port=port, host=host)
        self._servers = servers or find_servers()
        self.org = ""
        self.bucket = ""
        self.token = ""

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{self.address}"

    def prepare(self) -> None:
        """Make the folder, for its owner only: it holds the tokens.

        Raises:
            ServerError: The program is not installed.
        """
        self.command()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """The program and its settings.

        Raises:
            ServerError: The program is not installed.
        """
        if self._servers.influxd is None:
            msg = f"influxd is not in {self._servers.folder}: run `kpstream site install`"
            raise ServerError(msg)
        return [
            *(str(self._servers.influxd), "--http-bind-address", self.address),
            *("--bolt-path", str(self.folder / "influxd.bolt")),
            *("--sqlite-path", str(self.folder / "influxd.sqlite")),
            *("--engine-path", str(self.folder / "engine")),
            *("--reporting-disabled", "--log-level=warn"),
        ]

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether `/health` says `pass` within the time; a paused one does not answer."""
        try:
            return bool(self.call("GET", "/health", timeout_s=timeout_s).get("status") == "pass")
        except ServerError:
            return False

    def setup(
        self,
        org: str,
        bucket: str,
        token: str | None = None,
        *,
        retention_s: int = 0,
        username: str = "kpstream",
        password: str | None = None,
    ) -> str:
        """Make organisation, bucket and token where nothing was set up yet; safe to repeat.

        Args:
            org: Name of the organisation.
            bucket: Name of the first bucket.
            token: What clients authenticate with; None: a random one.
            retention_s: Seconds that the bucket keeps points; 0 for ever.
            username: Of the first user.
            password: Of the first user; None: a random one nobody knows (the token rules).

        Returns:
            The token; it is also the attribute.

        Raises:
            ServerError: It refused, or was set up before with another token or organisation.
        """
        token = token or secrets.token_urlsafe(32)
        if self.call("GET", "/api/v2/setup")["allowed"]:
            wishes = {
                "username": username,
                "password": password or secrets.token_urlsafe(24),
                "org": org,
                "bucket": bucket,
                "token": token,
                "retentionPeriodSeconds": retention_s,
            }
            self.call("POST", "/api/v2/setup", wishes)
        else:
            found = self.call("GET", f"/api/v2/orgs?org={org}", token=token)
            if not found.get("orgs"):
                msg = f"InfluxDB in {self.folder} was set up before, without organisation {org!r}"
                raise ServerError(msg)
        self.org, self.bucket, self.token = org, bucket, token
        return token

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
    ) -> dict[str, Any]:
        """One request to the HTTP API, JSON both ways; an empty answer is `{}`.

        Raises:
            ServerError: It refused, or nobody answered within the time.
        """
        headers = {"Content-Type": "application/json"}
        if token or self.token:
            headers["Authorization"] = f"Token {token or self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 (our own address)
            self.url + path, data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
                page: dict[str, Any] = json.loads(answer.read() or b"{}")
                return page
        except urllib.error.HTTPError as exc:
            with exc:
                said = exc.read().decode(errors="replace")[:500]
            msg = f"InfluxDB refused {method} {path}: {exc.code} {said}"
            raise ServerError(msg) from exc
        except (OSError, ValueError) as exc:
            msg = f"InfluxDB at {self.url} does not answer {method} {path}: {exc}"
            raise ServerError(msg) from exc


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False
