"""Settings of `kpstream record`, and of the gateway beside it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings

__all__ = ["RecordSettings"]


class RecordSettings(EnvironmentSettings):
    """The folder of recordings and its bounds; prefix ``KPSTREAM_RECORD_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_RECORD_")

    folder: Path | None = Field(
        default=None,
        description="Folder of the recordings; unset: `recordings` in the state folder.",
    )
    max_mb: int = Field(
        default=4096,
        ge=1,
        description="Largest size of the recorded readings in megabytes; the oldest day goes.",
    )
    flush_s: float = Field(
        default=600.0,
        gt=0,
        le=3600,
        description=(
            "Seconds for which readings wait for their file; they stay in the log meanwhile, so "
            "nothing is lost."
        ),
    )
    buffer_mb: int = Field(
        default=8,
        ge=1,
        le=4096,
        description="Megabytes of readings in memory after which they are written earlier.",
    )

    def folder_in(self, state_dir: Path) -> Path:
        """Return the folder, or the one in a state folder if none is set."""
        return self.folder or state_dir / "recordings"
