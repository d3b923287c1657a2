"""Settings of the gateway process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["GatewaySettings"]


def _default_state_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream"


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
