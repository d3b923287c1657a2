"""Settings of the bridge: the MQTT broker, and bounds on what may be unconfirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from ingest.environment import EnvironmentSettings
from ingest.mqtt.packets import MAX_PACKET_BYTES
from ingest.topics import LABELS_PREFIX, MQTT_PREFIX, is_name

__all__ = ["IngestSettings"]


class IngestSettings(EnvironmentSettings):
    """Settings of the bridge, with the environment prefix ``KPSTREAM_INGEST_``."""

    model_config = SettingsConfigDict(env_prefix="KPSTREAM_INGEST_")

    mqtt_host: str = Field(default="127.0.0.1", description="Host name of the MQTT broker.")
    mqtt_port: int = Field(default=1883, ge=1, le=65535, description="TCP port of the MQTT broker.")
    mqtt_protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="MQTT version; auto tries 5 and falls back to 3.1.1."
    )
    mqtt_username: str | None = Field(default=None, description="User name at the broker, if any.")
    mqtt_password: SecretStr | None = Field(default=None, description="Password at the broker.")
    mqtt_tls: bool = Field(default=False, description="Use TLS with the broker (usual port 8883).")
    mqtt_ca_file: Path | None = Field(
        default=None, description="PEM file of the authority to trust; default: the system's."
    )
    mqtt_cert_file: Path | None = Field(default=None, description="PEM file of our certificate.")
    mqtt_key_file: Path | None = Field(default=None, description="PEM file of our private key.")
    mqtt_client_id: str = Field(
        default="kpstream-bridge",
        min_length=1,
        description=(
            "Client id, fixed: the broker keeps unconfirmed messages under this name. "
            "One per bridge, because two bridges with one id disconnect each other."
        ),
    )
    mqtt_sites: tuple[str, ...] = Field(
        default=(),
        description=(
            "Sites (a JSON array) whose devices this bridge takes; unset: all. Several bridges, "
            "each with its own client id and its own sites, share the load and keep the order of "
            "every device."
        ),
    )
    mqtt_shared_group: str | None = Field(
        default=None,
        pattern=r"^[^/#+\x00]+$",
        description=(
            "Group in which several bridges, each with its own client id, share the messages "
            "(MQTT 5 shared subscription); unset: one bridge takes all. Event times then restore "
            "the order per device, within the lateness; a message that a bridge or Kafka delays "
            "for longer is late. See also MQTT_SITES."
        ),
    )
    mqtt_prefix: str = Field(
        default=MQTT_PREFIX,
        pattern=r"^[^/#+\x00][^#+\x00]*[^/#+\x00]$",
        description="First level(s) of the MQTT topics: <prefix>/<site>/<device>/<stream>.",
    )
    labels_prefix: str = Field(
        default=LABELS_PREFIX,
        pattern=r"^([^/#+\x00]([^#+\x00]*[^/#+\x00])?)?$",
        description=(
            "First level(s) of the MQTT topics of labels: <prefix>/<site>/<device>/<stream>; "
            "empty: the bridge takes none."
        ),
    )
    keepalive_s: int = Field(
        default=30,
        ge=5,
        le=3600,
        description="Seconds of silence after which the connection is tested.",
    )
    session_expiry_s: int = Field(
        default=7 * 24 * 3600,
        ge=60,
        le=0xFFFF_FFFF,  # which never ends (MQTT 5, 3.1.2.11.2)
        description="Seconds for which the broker keeps messages for an absent bridge (MQTT 5).",
    )
    receive_maximum: int = Field(
        default=2000,
        ge=10,
        le=65535,
        description="Most unconfirmed messages at a time; the broker waits beyond.",
    )
    max_packet_bytes: int = Field(
        default=MAX_PACKET_BYTES,
        ge=16 * 1024,
        le=64 * 1024 * 1024,
        description=(
            "Largest MQTT packet taken whole. Of a larger message only the head is kept, as a dead "
            "letter; MQTT 5 brokers are told to drop messages of more than 16 times as much."
        ),
    )
    beat_ms: int = Field(
        default=200,
        ge=0,
        le=60_000,
        description=(
            "Milliseconds for which messages wait for one another before they are written to the "
            "log together and acknowledged. A lone message waits for a fifth of it, a burst not at "
            "all; 0: none waits."
        ),
    )
    bundle_messages: int = Field(
        default=500, ge=1, description="Most messages in one record of the log."
    )
    bundle_bytes: int = Field(
        default=512 * 1024,
        ge=1024,
        le=640 * 1024,
        description="Most bytes in one record of the log, up to one message more.",
    )
    dead_letter_bytes: int = Field(
        default=256 * 1024,
        ge=1024,
        le=384 * 1024,
        description="Most raw bytes kept of a refused message; a longer one is cut and marked.",
    )
    future_ms: int = Field(
        default=300_000,
        ge=0,
        description="Milliseconds a message may be ahead of its receive time before it is refused.",
    )
    log_patience_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds that the log may be unavailable before the bridge ends with an error.",
    )
    sparkplug: Path | None = Field(
        default=None,
        description=(
            "TOML file that maps Sparkplug B metrics to streams (docs/sparkplug.md); unset: none."
        ),
    )
    sparkplug_state: Path | None = Field(
        default=None,
        description=("State file of Sparkplug nodes; unset: `sparkplug.db` in the state folder."),
    )

    mappings: Path | None = Field(
        default=None,
        description=(
            "Folder of TOML files, each of which maps the messages of one kind of device to "
            "streams (docs/mapping.md); unset: none."
        ),
    )

    @model_validator(mode="after")
    def _shares_only_what_can_be_shared(self) -> IngestSettings:
        odd = [site for site in self.mqtt_sites if not is_name(site)]
        if odd:
            msg = f"KPSTREAM_INGEST_MQTT_SITES: {odd[0]!r} is not a valid name of a site"
            raise ValueError(msg)
        if self.mqtt_shared_group is not None:
            if self.mqtt_protocol == "3.1.1":
                msg = (
                    "KPSTREAM_INGEST_MQTT_SHARED_GROUP needs MQTT 5, but "
                    "KPSTREAM_INGEST_MQTT_PROTOCOL is 3.1.1: unset one of them"
                )
                raise ValueError(msg)
            if self.sparkplug is not None:
                msg = (
                    "KPSTREAM_INGEST_SPARKPLUG and KPSTREAM_INGEST_MQTT_SHARED_GROUP exclude each "
                    "other, because one bridge must take all Sparkplug messages in order: unset one"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _labels_are_apart_from_readings(self) -> IngestSettings:
        readings, labels = f"{self.mqtt_prefix}/", f"{self.labels_prefix}/"
        if readings.startswith(labels) or labels.startswith(readings):
            msg = (
                f"KPSTREAM_INGEST_LABELS_PREFIX {self.labels_prefix!r} and "
                f"KPSTREAM_INGEST_MQTT_PREFIX {self.mqtt_prefix!r} share topics: change one"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _files_for_tls_mean_tls(self) -> IngestSettings:
        if not self.mqtt_tls and (self.mqtt_ca_file or self.mqtt_cert_file or self.mqtt_key_file):
            msg = (
                "KPSTREAM_INGEST_MQTT_CA_FILE, _CERT_FILE or _KEY_FILE is set without "
                "KPSTREAM_INGEST_MQTT_TLS=true: the connection would not be encrypted"
            )
            raise ValueError(msg)
        return self
