"""Settings of the dashboards: Grafana, its data source, limits of boards and alerts."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from dashboards.site import DataSource, SiteDashboards, site_dashboards
from dashboards.visuals.limits import Limits
from ingest.environment import EnvironmentSettings
from pipeline.stores.influxlayout import HOURLY_BUCKET

__all__ = ["GrafanaSettings"]

_UID = r"^[a-zA-Z0-9_-]{1,40}$"


class GrafanaSettings(EnvironmentSettings):
    """Grafana, its data source, and the limits of boards and alerts; ``KPSTREAM_GRAFANA_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_GRAFANA_")

    url: str = Field(
        default="http://127.0.0.1:3000",
        pattern=r"^https?://",
        description="Address of Grafana, with its path if it has one.",
    )
    token: SecretStr | None = Field(
        default=None,
        description=(
            "Token of a Grafana service account with the role Editor (Admin to create the data "
            "source too)."
        ),
    )
    ca_file: str | None = Field(
        default=None,
        description="File of certificates to trust for https instead of those of the system.",
    )
    timeout_s: float = Field(
        default=10.0, gt=0, description="Maximum seconds to wait for an answer of Grafana."
    )
    org_id: int = Field(default=1, ge=1, description="Grafana organisation of boards and alerts.")
    folder: str = Field(
        default="kpstream", pattern=_UID, description="Uid of the folder of boards and alerts."
    )
    folder_title: str = Field(default="kpstream", min_length=1, description="Title of that folder.")
    source: str = Field(
        default="kpstream-influxdb", pattern=_UID, description="Uid of the data source."
    )
    source_name: str = Field(
        default="kpstream", min_length=1, description="Name of the data source in Grafana's list."
    )
    influx_url: str = Field(
        default="http://127.0.0.1:8086",
        pattern=r"^https?://",
        description="Address of InfluxDB as Grafana's server reaches it.",
    )
    influx_token: SecretStr | None = Field(
        default=None,
        description=(
            "InfluxDB token that may read both buckets. If set, push creates the data source; if "
            "not, a data source with that uid must exist."
        ),
    )
    influx_org: str = Field(default="kpstream", description="InfluxDB organisation to read.")
    influx_bucket: str = Field(
        default="kpstream", description="InfluxDB bucket of scores, accounts and rollouts."
    )
    influx_hourly_bucket: str = Field(
        default=HOURLY_BUCKET, description="InfluxDB bucket of the hours made of these."
    )
    rul_cycles: float = Field(
        default=Limits().rul_cycles,
        gt=0,
        description="Cycles: a machine is due when the lower end of its interval is below this.",
    )
    silent_s: int = Field(
        default=Limits().silent_s,
        ge=10,
        description="Seconds without a reading after which a device is silent.",
    )
    process_s: int = Field(
        default=Limits().process_s,
        ge=10,
        description="Seconds without an account after which a process is down.",
    )
    backlog_per_minute: float = Field(
        default=Limits().backlog_per_minute,
        gt=0,
        description="Records a minute by which the backlog of a group may grow over ten minutes.",
    )
    still_s: int = Field(
        default=Limits().still_s,
        ge=10,
        description="Seconds for which a partition with a backlog may make no progress.",
    )
    dead_letters: int = Field(
        default=Limits().dead_letters,
        ge=0,
        description="Dead letters of one reason in ten minutes that do not cause an alert yet.",
    )

    anomaly_windows: int = Field(
        default=Limits().anomaly_windows,
        ge=1,
        description="Windows with an alarm in a row after which an anomaly lasts.",
    )
    anomaly_clear_score: float = Field(
        default=Limits().anomaly_clear_score,
        gt=0,
        le=1,
        description=(
            "Anomaly score below which a window counts towards the end of an anomaly that lasts; "
            "below the alarm levels of the students."
        ),
    )
    anomaly_clear_windows: int = Field(
        default=Limits().anomaly_clear_windows,
        ge=1,
        description="Such windows in a row after which an anomaly that lasts has ended.",
    )
    coverage: float = Field(
        default=Limits().coverage,
        gt=0,
        lt=0.8,
        description=(
            "Share of readings between p10 and p90 over a day below which the forecasts of a "
            "device break their promise of 80 %."
        ),
    )
    coverage_hours: int = Field(
        default=Limits().coverage_hours,
        ge=1,
        le=22,
        description="Hours with forecasts within the day that a device must have for that.",
    )

    def limits(self) -> Limits:
        """The limits of boards and alerts."""
        return Limits(
            rul_cycles=self.rul_cycles,
            silent_s=self.silent_s,
            process_s=self.process_s,
            backlog_per_minute=self.backlog_per_minute,
            still_s=self.still_s,
            dead_letters=self.dead_letters,
            anomaly_windows=self.anomaly_windows,
            anomaly_clear_score=self.anomaly_clear_score,
            anomaly_clear_windows=self.anomaly_clear_windows,
            coverage=self.coverage,
            coverage_hours=self.coverage_hours,
        )

    def site_dashboards(self) -> SiteDashboards:
        """The boards and alerts of the site with these settings."""
        return site_dashboards(
            self.limits(),
            source=DataSource(
                uid=self.source,
                name=self.source_name,
                url=self.influx_url,
                org=self.influx_org,
                bucket=self.influx_bucket,
            ),
            hourly_bucket=self.influx_hourly_bucket,
            folder_uid=self.folder,
            folder_title=self.folder_title,
            org_id=self.org_id,
        )
