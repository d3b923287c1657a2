"""Settings of a gateway that follows a centre; the centre's own are in its settings class."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings
from ingest.tcp import is_loopback
from models.tasks.fields import is_name

__all__ = ["RolloutSettings"]


class RolloutSettings(EnvironmentSettings):
    """The centre that a gateway follows, and its own limits; prefix ``KPSTREAM_ROLLOUT_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_ROLLOUT_")

    url: str | None = Field(
        default=None,
        description=(
            "Repository of the centre: an https address, an http address on this machine, or the "
            "absolute path of a folder, such as a mounted USB stick; unset: the gateway follows no "
            "centre."
        ),
    )
    root_file: Path | None = Field(
        default=None,
        description=(
            "The centre's root.json, which this gateway trusts; required with a url. Keep it "
            "outside the state folder, so that a new state folder trusts the same centre."
        ),
    )
    group: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Group of this gateway, for the releases and policies of the centre.",
    )
    interval_s: int = Field(
        default=900,
        ge=10,
        le=86_400,
        description=(
            "Seconds between two looks at the centre; each is up to a fifth shorter or longer, so "
            "that gateways do not all ask at once. A note over MQTT causes an early look."
        ),
    )
    hold: bool | None = Field(
        default=None,
        description=(
            "`true`: take nothing new; `false`: take releases although a policy of the centre "
            "holds this gateway; unset: the centre decides."
        ),
    )
    pin: dict[str, int] = Field(
        default={},
        description=(
            'Versions that stay (a JSON object such as {"rul-fd001": 3}); they win over the pins '
            "of the centre."
        ),
    )
    window: str = Field(
        default="",
        pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$",
        description=(
            "Maintenance window in UTC as HH:MM-HH:MM, outside which no new student takes over; "
            "unset: that of the centre."
        ),
    )
    report_s: int = Field(
        default=60,
        ge=5,
        le=3600,
        description="Seconds between two reports to the centre; a change is reported at once.",
    )
    report_key_file: Path | None = Field(
        default=None,
        description=(
            "File with the key that signs the reports of this gateway (HMAC-SHA256); unset: the "
            "broker proves the sender."
        ),
    )
    mqtt_host: str | None = Field(
        default=None,
        description=(
            "Host name of the MQTT broker for notes and reports; unset: the broker of the bridge, "
            "with its credentials."
        ),
    )
    mqtt_port: int = Field(
        default=1883, ge=1, le=65535, description="TCP port of the broker at mqtt_host."
    )
    mqtt_username: str | None = Field(
        default=None, description="User name at the broker at mqtt_host, if any."
    )
    mqtt_password: SecretStr | None = Field(
        default=None, description="Password at the broker at mqtt_host."
    )
    mqtt_tls: bool = Field(
        default=False, description="Use TLS with the broker at mqtt_host (usual port 8883)."
    )
    mqtt_ca_file: Path | None = Field(
        default=None, description="PEM file of the authority to trust; default: the system's."
    )
    mqtt_cert_file: Path | None = Field(default=None, description="PEM file of our certificate.")
    mqtt_key_file: Path | None = Field(default=None, description="PEM file of our private key.")

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None or value.startswith("/"):
            return value
        address = urlsplit(value)
        host = address.hostname or ""
        if host and (address.scheme == "https" or (address.scheme == "http" and is_loopback(host))):
            return value
        msg = (
            "use https://HOST/PATH, http:// on this machine only, or the absolute path of a folder"
        )
        raise ValueError(msg)

    @field_validator("pin")
    @classmethod
    def _check_pin(cls, value: dict[str, int]) -> dict[str, int]:
        for name, version in value.items():
            if not is_name(name) or version < 1:
                msg = 'name each student with its version: {"rul-fd001": 3}'
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_parts(self) -> RolloutSettings:
        if self.url is not None and self.root_file is None:
            msg = (
                "KPSTREAM_ROLLOUT_ROOT_FILE is unset: set it to a copy of the centre's root.json, "
                "which came to this gateway by a way that you trust"
            )
            raise ValueError(msg)
        files = (self.mqtt_ca_file, self.mqtt_cert_file, self.mqtt_key_file)
        own = (self.mqtt_username, self.mqtt_password, *files)
        if self.mqtt_host is None and (self.mqtt_tls or any(part is not None for part in own)):
            msg = (
                "KPSTREAM_ROLLOUT_MQTT_HOST is unset, but other KPSTREAM_ROLLOUT_MQTT_ settings "
                "are not: set the host too, or none of them"
            )
            raise ValueError(msg)
        if not self.mqtt_tls and any(files):
            msg = "KPSTREAM_ROLLOUT_MQTT_TLS is false, but its files are set: set it to true"
            raise ValueError(msg)
        return self
