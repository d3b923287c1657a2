"""Settings of the centre, which signs students and releases them to the gateways."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from deploy.settings.ownbroker import OwnBroker

__all__ = ["CentreSettings"]


def _default_dir() -> Path:
    return Path.home() / ".local" / "state" / "kpstream-centre"


class CentreSettings(OwnBroker):
    """Folder, passphrase, lifetimes and broker of a centre; prefix ``KPSTREAM_CENTRE_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_CENTRE_")

    dir: Path = Field(
        default_factory=_default_dir,
        description=(
            "Folder of the centre, with its keys, its repository of static files and its inventory."
        ),
    )
    passphrase_file: Path | None = Field(
        default=None,
        description=(
            "File whose first line is the passphrase of the keys (mode 0600); unset: see "
            "passphrase_command."
        ),
    )
    passphrase_command: str | None = Field(
        default=None,
        description=(
            "Command whose first line of output is the passphrase of the keys, such as "
            "`pass show kpstream/centre`; it runs without a shell. Unset: the commands ask for it."
        ),
    )
    registry_dir: Path | None = Field(
        default=None,
        description=(
            "Model registry from which `kpstream centre release NAME VERSION` takes a student "
            "that is not published yet; unset: that of the gateway on this machine."
        ),
    )
    root_days: int = Field(
        default=730,
        ge=1,
        le=3650,
        description=(
            "Days after which the root expires; the root keys renew it "
            "(`kpstream centre rotate root --same-keys`)."
        ),
    )
    targets_days: int = Field(
        default=90, ge=1, le=3650, description="Days after which the list of targets expires."
    )
    snapshot_days: int = Field(
        default=30, ge=1, le=3650, description="Days after which the snapshot expires."
    )
    timestamp_days: int = Field(
        default=7,
        ge=1,
        le=3650,
        description=(
            "Days after which the timestamp expires, unless `kpstream centre refresh` renews it: "
            "how long an attacker can show gateways an old state before they notice."
        ),
    )
    signed_reports: bool = Field(
        default=False,
        description=(
            "Refuse the reports of gateways that are not enrolled (`kpstream centre enrol`). "
            "Reports of enrolled ones must be signed in any case; set it where the broker does not "
            "prove who a gateway is."
        ),
    )
    silent_s: int = Field(
        default=3600,
        ge=60,
        le=31_536_000,
        description=(
            "Seconds without a new report after which a gateway is silent: a release goes on "
            "without it, and names it."
        ),
    )
    mqtt_host: str | None = Field(
        default=None,
        description=(
            "Host name of the MQTT broker for notes to the gateways and their reports; unset: "
            "gateways look by their interval only."
        ),
    )

    @model_validator(mode="after")
    def _check_passphrase(self) -> CentreSettings:
        if self.passphrase_file is not None and self.passphrase_command is not None:
            msg = (
                "KPSTREAM_CENTRE_PASSPHRASE_FILE and KPSTREAM_CENTRE_PASSPHRASE_COMMAND are both "
                "set: keep one of them"
            )
            raise ValueError(msg)
        return self
