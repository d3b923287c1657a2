"""Settings of the gateway process, and of the processes of a site."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings

__all__ = ["GatewaySettings", "SiteSettings"]


def _default_state_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream"


def _default_site_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream-site"


_METRICS_DEVICES = (
    "Most device streams with series of their own in /metrics; the others share series "
    'with device="other".'
)


class GatewaySettings(EnvironmentSettings):
    """State folder, log and console of a gateway; prefix ``KPSTREAM_GATEWAY_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_GATEWAY_")

    state_dir: Path = Field(
        default_factory=_default_state_dir,
        description="Folder of log, results and registry; one folder per gateway.",
    )
    registry_dir: Path | None = Field(
        default=None, description="Model registry; unset: `registry` in the state folder."
    )
    model_poll_ms: int = Field(
        default=1000, ge=50, description="Milliseconds between two checks of the registry."
    )
    console_host: str = Field(
        default="127.0.0.1",
        description="Address that the console page listens on.",
    )
    console_port: int = Field(
        default=8765, ge=0, le=65535, description="Port of the console page; 0 picks a free one."
    )
    console_hosts: tuple[str, ...] = Field(
        default=(),
        description=(
            "Host names (a JSON array) under which the page may be opened, besides loopback; "
            "required if console_host is not loopback."
        ),
    )
    console_labels: Literal["loopback", "everywhere", "off"] = Field(
        default="loopback",
        description=(
            "Who may give labels on the console page: people at this machine, everybody who "
            "reaches the page, or nobody. The page has no login of its own."
        ),
    )
    metrics_devices: int = Field(default=1000, ge=0, le=20_000, description=_METRICS_DEVICES)
    log_durability: Literal["full", "normal"] = Field(
        default="full",
        description=(
            "`full`: a confirmed reading survives a power failure; `normal`: it survives a killed "
            "process, with fewer syncs."
        ),
    )
    log_max_mb: int = Field(
        default=2048,
        ge=16,
        description="Largest size of the log file in megabytes; a full log holds MQTT back.",
    )
    log_hours: float = Field(
        default=72.0,
        gt=0,
        description="Hours for which records are kept that all groups have read.",
    )
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description=(
            "Name of this gateway in InfluxDB, unique per gateway; unset: the name of the machine."
        ),
    )
    account_ms: int = Field(
        default=10_000,
        ge=500,
        description=(
            "Milliseconds between two accounts of this gateway in InfluxDB, if one is set: its "
            "counters, those of its devices, backlog, models."
        ),
    )

    scores_mqtt: bool = Field(
        default=False,
        description=(
            "Publish scores on `scores/SITE/DEVICE/STREAM` and changes of alarm on `alarms/...` of "
            "the broker that readings come from."
        ),
    )

    @property
    def own_name(self) -> str:
        """The name of the gateway, or that of the machine if none is set."""
        machine = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        return self.name or machine or "gateway"

    @property
    def log_path(self) -> Path:
        """The log file."""
        return self.state_dir / "log.db"

    @property
    def log_url(self) -> str:
        """The log as a Faust broker URL."""
        return f"sqlite://{quote(str(self.log_path.absolute()))}"

    @property
    def registry_path(self) -> Path:
        """The registry folder, or the one in the state folder if none is set."""
        return self.registry_dir or self.state_dir / "registry"


class SiteSettings(EnvironmentSettings):
    """State folder, Kafka and processes of a site; prefix ``KPSTREAM_SITE_``.

    ``kpstream site`` uses all of them; ``kpstream bridge``, ``worker`` and ``store`` each use a
    part.
    """

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_SITE_")

    kafka: str = Field(
        default="127.0.0.1:9092",
        min_length=1,
        description="Bootstrap servers of Kafka as host:port, separated by commas.",
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority of Kafka's certificate; switches TLS on.",
    )
    kafka_cert_file: Path | None = Field(
        default=None, description="PEM file of our certificate, if Kafka requires one."
    )
    kafka_key_file: Path | None = Field(default=None, description="PEM file of our private key.")
    partitions: int = Field(
        default=12,
        ge=1,
        le=256,
        description=(
            "Partitions of every topic, and so the largest useful number of workers; fixed once "
            "the topics exist."
        ),
    )
    state_dir: Path = Field(
        default_factory=_default_site_dir,
        description="Folder of servers, secrets, logs and window state; one folder per site.",
    )
    registry_dir: Path | None = Field(
        default=None, description="Model registry; unset: `registry` in the state folder."
    )
    model_poll_ms: int = Field(
        default=1000, ge=50, description="Milliseconds between two checks of the registry."
    )
    native: tuple[Literal["mosquitto", "kafka", "influxdb"], ...] = Field(
        default=("mosquitto", "kafka", "influxdb"),
        description=(
            "Servers that `kpstream site up` runs on this machine (a JSON array); the addresses of "
            "the others are taken from the settings."
        ),
    )
    bridges: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Number of bridges of `kpstream site up`; they share the messages (MQTT 5).",
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Number of workers of `kpstream site up`."
    )
    stores: int = Field(
        default=1, ge=1, le=16, description="Number of stores of `kpstream site up`."
    )
    status_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description=(
            "Loopback port on which a bridge, worker or store serves /health, /ready and "
            "/metrics; 0: none. `kpstream site up` assigns one to each, see base_port."
        ),
    )
    metrics_devices: int = Field(default=1000, ge=0, le=20_000, description=_METRICS_DEVICES)
    base_port: int = Field(
        default=8700,
        ge=1024,
        le=65400,
        description=(
            "`kpstream site up` assigns status ports from base_port + 1 to bridges, from + 21 to "
            "stores, and from + 41 to workers."
        ),
    )
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description=(
            "Name of this process, such as worker-1, for its folder and in Kafka; `kpstream site "
            "up` numbers the processes. Unset: its kind."
        ),
    )
    certs_dir: Path | None = Field(
        default=None,
        description=(
            "Folder of `kpstream certs make`; with it, the servers of `kpstream site up` accept "
            "only TLS, and its processes use certificates."
        ),
    )
    scores_days: float = Field(
        default=30.0,
        ge=0,
        description="Days for which InfluxDB keeps scores and accounts; 0: for ever.",
    )
    hourly_days: float = Field(
        default=365.0,
        ge=0,
        description="Days for which InfluxDB keeps hourly aggregates; 0: for ever.",
    )
    account_ms: int = Field(
        default=10_000,
        ge=500,
        description=(
            "Milliseconds between two accounts of a bridge, worker or store: its counters, those "
            "of its devices, backlog, models; they reach InfluxDB through Kafka."
        ),
    )
    kafka_heap_mb: int = Field(
        default=256, ge=192, description="Java heap of the native Kafka in megabytes."
    )
    stall_s: float = Field(
        default=60.0,
        ge=5,
        description=(
            "Seconds after which `kpstream site up` restarts a worker with a backlog and no "
            "progress, or a process that does not answer."
        ),
    )

    @property
    def registry_path(self) -> Path:
        """The registry folder, or the one in the state folder if none is set."""
        return self.registry_dir or self.state_dir / "registry"

    @property
    def kafka_url(self) -> str:
        """Kafka as a Faust broker URL."""
        return ";".join(f"kafka://{server.strip()}" for server in self.kafka.split(","))
