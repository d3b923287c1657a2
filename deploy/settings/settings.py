"""Settings of the gateway process, and of the processes of a site."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["GatewaySettings", "SiteSettings"]


def _default_state_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream"


def _default_site_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream-site"


class GatewaySettings(BaseSettings):
    """Where a gateway keeps its state and what it serves; prefix ``KPSTREAM_GATEWAY_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_GATEWAY_", frozen=True, extra="forbid")

    state_dir: Path = Field(
        default_factory=_default_state_dir,
        description="Folder of log, results and registry; one gateway per folder.",
    )
    registry_dir: Path | None = Field(
        default=None, description="Model registry; unset: `registry` in the state folder."
    )
    model_poll_ms: int = Field(
        default=1000, ge=50, description="Milliseconds between two looks at the registry."
    )
    console_host: str = Field(
        default="127.0.0.1",
        description="Address the console page listens on; loopback unless told otherwise.",
    )
    console_port: int = Field(
        default=8765, ge=0, le=65535, description="Port of the console page; 0 takes a free one."
    )
    console_hosts: tuple[str, ...] = Field(
        default=(),
        description=(
            "Host names (a JSON array) under which the page may be opened, beside loopback; needed "
            "when console_host is not loopback."
        ),
    )
    log_durability: Literal["full", "normal"] = Field(
        default="full",
        description=(
            "`full`: a confirmed reading survives loss of power; `normal`: it survives a killed "
            "process, and costs fewer syncs."
        ),
    )
    log_max_mb: int = Field(
        default=2048, ge=16, description="Megabytes of the log file; at the cap MQTT is held back."
    )
    log_hours: float = Field(
        default=72.0, gt=0, description="Hours that records which all groups have read are kept."
    )
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description=(
            "What this gateway is called in InfluxDB, another one for each gateway; unset: the "
            "name of the machine."
        ),
    )
    account_ms: int = Field(
        default=10_000,
        ge=500,
        description=(
            "Milliseconds between two accounts of this gateway in InfluxDB, where one is set: its "
            "counters, those of its devices, lag, models."
        ),
    )

    @property
    def own_name(self) -> str:
        """The name in force."""
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
        """The registry folder in force."""
        return self.registry_dir or self.state_dir / "registry"


class SiteSettings(BaseSettings):
    """Where a site keeps its state, its Kafka and its processes; prefix ``KPSTREAM_SITE_``.

    ``kpstream site`` starts everything from them; ``kpstream bridge``, ``worker`` and ``store``
    each read the part that concerns them.
    """

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_SITE_", frozen=True, extra="forbid")

    kafka: str = Field(
        default="127.0.0.1:9092",
        min_length=1,
        description="Kafka's bootstrap servers: host:port, several separated by commas.",
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority Kafka's certificate is from; set: TLS is spoken.",
    )
    kafka_cert_file: Path | None = Field(
        default=None, description="PEM file of our certificate, where Kafka asks for one."
    )
    kafka_key_file: Path | None = Field(default=None, description="PEM file of our private key.")
    partitions: int = Field(
        default=12,
        ge=1,
        le=256,
        description=(
            "Partitions of every topic, hence the most workers that share the load; fixed once "
            "the topics exist."
        ),
    )
    state_dir: Path = Field(
        default_factory=_default_site_dir,
        description="Folder of servers, secrets, logs and window state; one site per folder.",
    )
    registry_dir: Path | None = Field(
        default=None, description="Model registry; unset: `registry` in the state folder."
    )
    model_poll_ms: int = Field(
        default=1000, ge=50, description="Milliseconds between two looks at the registry."
    )
    native: tuple[Literal["mosquitto", "kafka", "influxdb"], ...] = Field(
        default=("mosquitto", "kafka", "influxdb"),
        description=(
            "Servers that `kpstream site up` runs on this machine (a JSON array); the others are "
            "reached where the settings say."
        ),
    )
    bridges: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Bridges that `kpstream site up` runs; they share the messages (MQTT 5).",
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Workers that `kpstream site up` runs."
    )
    stores: int = Field(default=1, ge=1, le=16, description="Stores that `kpstream site up` runs.")
    status_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description=(
            "Loopback port on which a bridge, worker or store serves /health, /ready and "
            "/metrics; 0: not at all. `kpstream site up` gives each its own, see base_port."
        ),
    )
    base_port: int = Field(
        default=8700,
        ge=1024,
        le=65400,
        description=(
            "`kpstream site up` gives bridges the status ports from here + 1 on, stores from "
            "here + 21 on, workers from here + 41 on."
        ),
    )
    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description=(
            "What this process is called among its like (worker-1), for its folder and in Kafka; "
            "`kpstream site up` numbers them. Unset: by its kind."
        ),
    )
    certs_dir: Path | None = Field(
        default=None,
        description=(
            "Folder of `kpstream certs make`; set: the servers that `kpstream site up` runs speak "
            "TLS only, and its processes have certificates."
        ),
    )
    scores_days: float = Field(
        default=30.0,
        ge=0,
        description="Days that InfluxDB keeps scores and accounts as written; 0: for ever.",
    )
    hourly_days: float = Field(
        default=365.0, ge=0, description="Days that InfluxDB keeps the hours; 0: for ever."
    )
    account_ms: int = Field(
        default=10_000,
        ge=500,
        description=(
            "Milliseconds between two accounts of a bridge, worker or store: its counters, those "
            "of its devices, lag, models; they reach InfluxDB by way of Kafka."
        ),
    )
    kafka_heap_mb: int = Field(
        default=256, ge=192, description="Megabytes of Java heap of the Kafka on this machine."
    )
    stall_s: float = Field(
        default=60.0,
        ge=5,
        description=(
            "Seconds for which a worker may have lag and make no progress, or a process not answer "
            "at all, before `kpstream site up` restarts it."
        ),
    )

    @property
    def registry_path(self) -> Path:
        """The registry folder in force."""
        return self.registry_dir or self.state_dir / "registry"

    @property
    def kafka_url(self) -> str:
        """Kafka as a Faust broker URL."""
        return ";".join(f"kafka://{server.strip()}" for server in self.kafka.split(","))
