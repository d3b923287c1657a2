"""Kafka and InfluxDB as child processes on loopback, with the settings that a site uses.

`deploy.stack.process` defines the methods of every server; `deploy.stack.mosquitto` has mosquitto.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.stack.influxapi import InfluxApi
from deploy.stack.influxwal import cut_torn_entries
from deploy.stack.process import ServerError, ServerProcess, open_connection
from deploy.stack.tlsconfig import influx_tls_args, kafka_tls_properties
from ingest.mqtt.broker import free_port

__all__ = [
    "INFLUX_SETTINGS",
    "INFLUX_VERSION",
    "JAVA_OPTIONS",
    "KAFKA_SETTINGS",
    "KAFKA_VERSION",
    "FoundServers",
    "InfluxServer",
    "KafkaServer",
    "find_servers",
    "servers_dir",
]

KAFKA_VERSION = "4.4.0"
INFLUX_VERSION = "2.7.12"

JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError")
"""Java options besides the heap size. Out of memory, Java exits and is restarted."""

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
    # A group that returns sooner than this resumes at its committed offsets.
    "offsets.retention.minutes": str(30 * 24 * 60),
    # Sized for 256 MB of heap: the cleaner's default buffer alone is 128 MB.
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.segment.bytes": "16777216",
    "log.index.size.max.bytes": "1048576",
    # After SIGKILL the node waits until its old session has timed out, seconds without a log.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
}
"""Settings of every Kafka node of a site, besides names, ports and folders."""

INFLUX_SETTINGS: Mapping[str, str] = {"reporting-disabled": "true", "log-level": "warn"}
"""Settings of every InfluxDB of a site, besides address and folders."""

# -------------------------------------------------------------------------- installed servers


@dataclass(frozen=True, slots=True)
class FoundServers:
    """The installed servers; None for one that is not installed.

    Attributes:
        folder: Folder that was searched.
        kafka_libs: Folder of Kafka's jars.
        java: Java program to run them with.
        influxd: InfluxDB program.
    """

    folder: Path
    kafka_libs: Path | None
    java: str | None
    influxd: Path | None


def servers_dir() -> Path:
    """Return `KPSTREAM_SERVERS_DIR`, or `~/.cache/kpstream/servers` if it is not set."""
    named = os.environ.get("KPSTREAM_SERVERS_DIR")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "kpstream" / "servers"


def find_servers(folder: Path | None = None) -> FoundServers:
    """Find servers of the pinned versions in a folder, and Java on PATH or below `JAVA_HOME`."""
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


# ---------------------------------------------------------------------------------------- Kafka


class KafkaServer(ServerProcess):
    """One Kafka node, broker and controller in one (KRaft).

    Confirmed records (`acks=all`) survive the end of the process, even by SIGKILL. A power failure
    may lose the most recent ones, because Kafka leaves syncing to the system and relies on
    replicas.
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
        certs: Path | None = None,
        properties: Mapping[str, str] | None = None,
        servers: FoundServers | None = None,
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            folder: Data, settings and log; created if missing.
            port: Port for clients; 0 picks a free one.
            controller_port: Port for Kafka itself; 0 picks a free one.
            host: Loopback address to listen on.
            heap_mb: Java heap, megabytes.
            certs: Folder of `kpstream certs make`; Kafka then accepts only TLS and our services.
            properties: Lines to add to `server.properties`, or to override.
            servers: The installed servers; None for `find_servers()`.
        """
        super().__init__(folder, port=port, host=host)
        self.controller_port = controller_port or free_port(host)
        self._heap_mb = heap_mb
        self._certs = certs
        self._properties: dict[str, str] = {}
        if certs is not None:
            self._properties = kafka_tls_properties(
                certs, host=host, port=self.port, controller_port=self.controller_port
            )
        self._properties.update(properties or {})
        self._servers = servers or find_servers()

    def settings(self) -> dict[str, str]:
        """Return the content of `server.properties`."""
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
        """Write `server.properties`, and format a new data folder.

        Raises:
            ServerError: Kafka or Java is not installed, or formatting failed.
        """
        self.command()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._data.exists():
            self._format()
        self._write(self.settings())

    def _format(self) -> None:
        """Format the data folder under another name first, so that it is never incomplete."""
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
            output = (done.stderr or done.stdout)[-800:]
            msg = f"kafka: cannot format the folder {self.folder}: {output}"
            raise ServerError(msg)
        new.rename(self._data)

    def _write(self, settings: Mapping[str, str]) -> None:
        lines = [f"{key}={value}\n" for key, value in settings.items()]
        self._config.write_text("# Written by kpstream at every start.\n" + "".join(lines))

    def command(self) -> list[str]:
        """Return the command line of Java with Kafka's jars.

        Raises:
            ServerError: Kafka or Java is not installed.
        """
        return self._java("kafka.Kafka")

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether Kafka answers an ApiVersions request in time; a paused process does not."""
        request = struct.pack(">hhih", 18, 0, 1, -1)  # key, version, correlation, no client id
        with (
            suppress(OSError),
            open_connection(self.host, self.port, timeout_s, self._certs) as stream,
        ):
            stream.sendall(struct.pack(">i", len(request)) + request)
            return len(stream.recv(4)) > 0
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
            msg = f"Kafka is not installed in {self._servers.folder}: run `kpstream site install`"
            raise ServerError(msg)
        if java is None:
            msg = "Kafka needs Java 17 or later: `sudo apt install default-jre-headless`"
            raise ServerError(msg)
        return [
            *(java, f"-Xmx{self._heap_mb}m", *JAVA_OPTIONS),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Djava.awt.headless=true"),
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS",
            *("-cp", f"{libs}/*", main, *args),
            str(self._config),
        ]


# ------------------------------------------------------------------------------------- InfluxDB


class InfluxServer(ServerProcess):
    """InfluxDB 2 without its web page; every confirmed write survives SIGKILL (`influxwal`).

    Attributes:
        api: Client of its HTTP API.
        org: Organisation created by `setup`.
        bucket: Bucket created by `setup`.
        token: Token of `setup`, with full access.
    """

    name = "influxdb"
    # influxd handles SIGINT only; SIGTERM ends it at once.
    stop_signal = signal.SIGINT

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        certs: Path | None = None,
        servers: FoundServers | None = None,
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            folder: Data and log; created if missing.
            port: Port for clients; 0 picks a free one.
            host: Loopback address to listen on.
            certs: Folder of `kpstream certs make`; InfluxDB then accepts https only.
            servers: The installed servers; None for `find_servers()`.
        """
        super().__init__(folder, port=port, host=host)
        self._servers = servers or find_servers()
        self._certs = certs
        scheme, ca_file = ("http", None) if certs is None else ("https", certs / "ca.pem")
        self.api = InfluxApi(f"{scheme}://{self.address}", ca_file)
        self.org = ""
        self.bucket = ""
        self.token = ""

    @property
    def url(self) -> str:
        """URL for clients."""
        return self.api.url

    def prepare(self) -> None:
        """Create the folder for its owner only, because it holds the tokens; mend it after a kill.

        Raises:
            ServerError: The program is not installed, or its write-ahead log cannot be read.
        """
        self.command()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            cut_torn_entries(self.folder / "engine")
        except OSError as exc:
            msg = f"the write-ahead log of InfluxDB cannot be read: {exc}"
            raise ServerError(msg) from exc

    def command(self) -> list[str]:
        """Return the command line with the settings.

        Raises:
            ServerError: The program is not installed.
        """
        if self._servers.influxd is None:
            msg = f"influxd is not installed in {self._servers.folder}: run `kpstream site install`"
            raise ServerError(msg)
        return [
            *(str(self._servers.influxd), "--http-bind-address", self.address),
            *("--bolt-path", str(self.folder / "influxd.bolt")),
            *("--sqlite-path", str(self.folder / "influxd.sqlite")),
            *("--engine-path", str(self.folder / "engine")),
            *(f"--{name}={value}" for name, value in INFLUX_SETTINGS.items()),
            *(influx_tls_args(self._certs) if self._certs is not None else ()),
        ]

    def healthy(self, timeout_s: float = 1.0) -> bool:
        """Whether `/health` reports `pass` in time; a paused process does not answer."""
        return self.api.is_healthy(timeout_s)

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
        """Create organisation, bucket and token on a new InfluxDB; safe to repeat.

        See `InfluxApi.setup`. Without a token, a random one is used.

        Returns:
            The token, which is also the attribute.

        Raises:
            ServerError: InfluxDB refused, or was set up with another token or organisation.
        """
        token = token or secrets.token_urlsafe(32)
        self.api.setup(
            org, bucket, token, retention_s=retention_s, username=username, password=password
        )
        self.org, self.bucket, self.token = org, bucket, token
        return token

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one request with the token of `setup`; see `InfluxApi.call`.

        Raises:
            ServerError: InfluxDB refused, or did not answer within 10 s.
        """
        return self.api.call(method, path, body, token=self.token)
