"""Settings of a gateway that follows a centre; the centre's own are in its settings class."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from deploy.settings.ownbroker import OwnBroker
from deploy.settings.repositoryurl import repository_url
from models.tasks.fields import is_name

__all__ = ["RolloutSettings"]


class RolloutSettings(OwnBroker):
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
    ca_file: Path | None = Field(
        default=None,
        description=(
            "PEM file of the authority that signed the certificate of an https repository; unset: "
            "the system's."
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

    update_dir: Path = Field(
        default=Path("/var/lib/kpstream-update"),
        description=(
            "Folder of the updater of the gateway's own software (`kpstream gateway-update`); only "
            "root may write it."
        ),
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None:
            repository_url(value)
        return value

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
        return self
