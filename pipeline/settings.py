"""Settings of the agents: names, defaults, units and help."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings

__all__ = ["PipelineSettings"]


class PipelineSettings(EnvironmentSettings):
    """Settings of the scoring and store agents; environment prefix ``KPSTREAM_PIPELINE_``.

    The needs of a student (channels, window length, hop) are never settings, because they come from
    the manifest of its artifact.
    """

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_PIPELINE_")

    app_id: str = Field(
        default="kpstream",
        description="Prefix of the consumer groups (<app_id>-score, <app_id>-store-...).",
    )
    partitions: int = Field(
        default=1,
        ge=1,
        le=256,
        description=(
            "Partitions of every topic of a gateway's log; a log that exists keeps its number. One "
            "process reads them all, and each costs a record per beat."
        ),
    )
    lateness_ms: int = Field(
        default=200,
        ge=0,
        description="Milliseconds of event time by which a reading may arrive out of order.",
    )
    idle_ms: int = Field(
        default=500,
        ge=1,
        description=(
            "Milliseconds of silence after which a device's watermark stops waiting for "
            "out-of-order readings."
        ),
    )
    future_ms: int = Field(
        default=300_000,
        ge=0,
        description="Milliseconds by which a reading may be ahead of its receive time.",
    )
    unresampled: tuple[str, ...] = Field(
        default=(),
        description=(
            "Streams (a JSON array) whose readings go into windows as they come, although their "
            "student was trained at one rate (docs/rate.md); unset: none."
        ),
    )
    tick_ms: int = Field(
        default=250,
        ge=10,
        description="Milliseconds between the ticks that close the windows of idle devices.",
    )
    checkpoint_ms: int = Field(
        default=2000,
        ge=50,
        description="Milliseconds between two checkpoints of window state and committed offsets.",
    )
    max_devices: int = Field(
        default=50_000,
        ge=2,
        description=(
            "Most streams of devices with window state in one worker, about 6 kB each; see "
            "docs/limits.md for who has to go beyond."
        ),
    )
    device_days: float = Field(
        default=30.0,
        gt=0,
        description="Days of silence after which the window state of a device is deleted.",
    )
    session_ms: int = Field(
        default=10_000,
        ge=1000,
        le=60_000,
        description=(
            "Milliseconds after which the partitions of a silent worker or store move to others "
            "(Kafka only, whose minimum is 6000)."
        ),
    )
    batch_readings: int = Field(
        default=4096,
        ge=1,
        description="Readings after which a micro-batch is scored even if more are waiting.",
    )
    store_batch: int = Field(
        default=5000,
        ge=1,
        le=50_000,
        description="Points written in one request when a store has a backlog.",
    )
    store_linger_ms: int = Field(
        default=50,
        ge=0,
        le=10_000,
        description=(
            "Longest time that a store waits for more points before it writes, milliseconds; it "
            "waits for a fifth of this when nothing comes meanwhile."
        ),
    )
    influx_url: str | None = Field(
        default=None,
        description="InfluxDB 2 URL, e.g. http://127.0.0.1:8086; unset: local results file only.",
    )
    influx_token: SecretStr | None = Field(
        default=None, description="InfluxDB API token with write access to the bucket."
    )
    influx_org: str = Field(default="kpstream", description="InfluxDB organisation.")
    influx_bucket: str = Field(default="kpstream", description="InfluxDB bucket of the points.")
    influx_ca_file: Path | None = Field(
        default=None,
        description=(
            "PEM file of the authorities to trust when influx_url is https; unset: those of the "
            "system."
        ),
    )
    influx_verify: bool = Field(
        default=True,
        description=(
            "Check InfluxDB's certificate; false accepts any, for trials on one machine only."
        ),
    )
    results_days: float = Field(
        default=30.0, gt=0, description="Days that points stay in the local results file."
    )
    results_max_mb: int = Field(
        default=512, ge=1, description="Largest size of the local results file in megabytes."
    )

    def results_path(self, state_dir: Path) -> Path:
        """Path of the local results file in the gateway's state directory."""
        return state_dir / "results.db"
