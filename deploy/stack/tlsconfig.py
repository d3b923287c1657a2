"""TLS settings of Kafka, InfluxDB and our processes; `acl` has those of mosquitto."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploy.settings.settings import SiteSettings
from ingest.tls import TlsError, TlsFiles

__all__ = ["influx_tls_args", "kafka_tls", "kafka_tls_properties", "service_settings"]


def kafka_tls(site: SiteSettings, *, as_operator: bool = False) -> TlsFiles | None:
    """Return the TLS files for a connection to the site's Kafka; None for no TLS.

    Args:
        site: Settings of the site, with the files of the process.
        as_operator: Use the operator's files of `certs_dir` if that is set.

    Raises:
        TlsError: A certificate is set, but no setting switches TLS on.
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
            f"{prefix}CERT_FILE or _KEY_FILE is set, but {prefix}CA_FILE is not: set it too, "
            "otherwise the connection to Kafka would not be encrypted"
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
    """Return properties that make a Kafka node accept only TLS clients with our certificates.

    The named services have full access, and no other client has any. The controller's port requires
    the same, so that no other program on the machine can use it.

    Args:
        certs: Folder of `kpstream certs make`, or one with the same layout.
        port: Port for clients.
        controller_port: Port for Kafka itself.
        host: Address to listen on and to advertise; the certificate must contain it.
        services: Common names of the clients.
    """
    where = certs.absolute()
    super_users = [f"User:CN={name}" for name in ("kafka", *services)]
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
        "super.users": ";".join(super_users),
    }


def influx_tls_args(certs: Path) -> list[str]:
    """Return arguments that make influxd serve https only; clients authenticate by token."""
    servers = certs.absolute() / "servers"
    return [
        *("--tls-cert", str(servers / "influxdb.pem")),
        *("--tls-key", str(servers / "influxdb.key")),
        *("--tls-min-version", "1.2", "--tls-strict-ciphers"),
    ]


def service_settings(certs: Path, service: str) -> dict[str, str]:
    """Return the TLS settings of a service (`bridge`, `worker`, `store`, ...) as variables."""
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
