"""Settings of an MQTT broker of one's own, for a process whose settings have other brokers too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr, model_validator

from ingest.environment import EnvironmentSettings

if TYPE_CHECKING:
    from ingest.mqtt.endpoint import Endpoint

__all__ = ["OwnBroker"]


class OwnBroker(EnvironmentSettings):
    """An MQTT broker; `mqtt_host` unset means that there is none of one's own."""

    mqtt_host: str | None = Field(default=None, description="Host name of the MQTT broker.")
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

    @model_validator(mode="after")
    def _check_broker(self) -> OwnBroker:
        prefix = self.model_config.get("env_prefix", "")
        files = (self.mqtt_ca_file, self.mqtt_cert_file, self.mqtt_key_file)
        own = (self.mqtt_username, self.mqtt_password, *files)
        if self.mqtt_host is None and (self.mqtt_tls or any(part is not None for part in own)):
            msg = (
                f"{prefix}MQTT_HOST is unset, but other {prefix}MQTT_ settings are not: set the "
                "host too, or none of them"
            )
            raise ValueError(msg)
        if not self.mqtt_tls and any(files):
            msg = f"{prefix}MQTT_TLS is false, but its files are set: set it to true"
            raise ValueError(msg)
        return self

    def own_endpoint(self, client_id: str) -> Endpoint | None:
        """The broker with our identity there; None if there is none of one's own."""
        from ingest.mqtt.endpoint import Endpoint

        if self.mqtt_host is None:
            return None
        secret = self.mqtt_password
        return Endpoint(
            host=self.mqtt_host,
            port=self.mqtt_port,
            client_id=client_id,
            username=self.mqtt_username,
            password=None if secret is None else secret.get_secret_value(),
            tls=self.mqtt_tls,
            ca_file=self.mqtt_ca_file,
            cert_file=self.mqtt_cert_file,
            key_file=self.mqtt_key_file,
        )
