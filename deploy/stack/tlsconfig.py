"""TLS for Kafka and InfluxDB, in their own words (for mosquitto: `acl`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.settings.settings import SiteSettings
from ingest.tls import TlsError, TlsFiles

__all__ = ["influx_tls_args", "kafka_tls", "kafka_tls_properties", "service_settings"]


def kafka_tls(site: SiteSettings, *, as_operator: bool = False) -> TlsFiles | None:
    """With what a site's Kafka is spoken to; None: in the clear.

    Args:
        site: settings; a process has its files in them.
        as_operator: with the operator's files of `certs_dir`, where that is set.

    Raises:
        TlsError: There is a certificate, and nothing that switches TLS on.
    """
    prefix = "KPSTREAM_SITE_KAFKA_"
    if as_operator and site.certs_dir is not None:
        own = site.certs_dir / "services"
        return TlsFiles(
            site.certs_dir / "ca.pem", own / "operator.pem", own / "operator.key", prefix
        )
    if site.kafka_ca_file is not None:
        return TlsFiles(site.kafka_ca_file, site.kafka_cert_file, site.kafka_key_file, prefix)
    if site.kafka_cert_file or site.kafka_key_file:
        message = (
            f"{prefix}CERT_FILE or _KEY_FILE is set, {prefix}CA_FILE is not: set it too, or Kafka "
            "would be spoken to in the clear"
        )
        raise TlsError(message)
    return None


def kafka_tls_properties(
    certs: Path,
    *,
    port: int,
    controller_port: int,
    host: str = "127.0.0.1",
    services: Sequence[str] = ("bridge", "worker", "store", "operator"),
) -> dict[str, str]:
    """What makes a Kafka node speak TLS only, with clients that have a certificate of ours.

    Nobody but the named services may do anything; those may do everything. The controller's port
    asks for the same, so that no other program of the machine can give it orders.

    Args:
        certs: Folder of `kpstream certs make`, or one laid out like it.
        port: Where clients connect.
        controller_port: For Kafka itself.
        host: Address to listen on, and to be found under: the certificate must hold it.
        services: Common names of the clients.
    """
    where = certs.absolute()
    may = [f"User:CN={name}" for name in ("kafka", *services)]
    return {
        "listeners": f"SSL://{host}:{port},CONTROLLER://{host}:{controller_port}",
        "listener.security.protocol.map": "SSL:SSL,CONTROLLER:SSL",
        "inter.broker.listener.name": "SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": f"{where}/servers/kafka-keystore.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": f"{where}/ca.pem",
        "ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": ";".join(may),
    }


def influx_tls_args(certs: Path) -> list[str]:
    """Arguments with which influxd serves https only; clients show a token, no certificate."""
    servers = certs.absolute() / "servers"
    return [
        *("--tls-cert", str(servers / "influxdb.pem")),
        *("--tls-key", str(servers / "influxdb.key")),
        *("--tls-min-version", "1.2", "--tls-strict-ciphers"),
    ]


def service_settings(certs: Path, service: str) -> dict[str, str]:
    """The environment of a service of ours (`bridge`, `worker`, `store`, ...): its TLS settings."""
    where = certs.absolute()
    files = {
        "CA_FILE": f"{where}/ca.pem",
        "CERT_FILE": f"{where}/services/{service}.pem",
        "KEY_FILE": f"{where}/services/{service}.key",
    }
    return {
        "KPSTREAM_INGEST_MQTT_TLS": "true",
        **{f"KPSTREAM_INGEST_MQTT_{name}": path for name, path in files.items()},
        **{f"KPSTREAM_SITE_KAFKA_{name}": path for name, path in files.items()},
        "KPSTREAM_PIPELINE_INFLUX_CA_FILE": files["CA_FILE"],
    }
