"""Reasons why a site cannot start: missing servers, taken ports, certificates, tokens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

from deploy.stack.site import Site
from ingest.clock import utc_now
from ingest.extras import install_command
from ingest.mqtt.broker import mosquitto_program
from ingest.tcp import is_loopback

__all__ = ["site_problems"]

_ADDRESS_SETTINGS = {
    "mosquitto": "KPSTREAM_INGEST_MQTT_PORT",
    "kafka": "KPSTREAM_SITE_KAFKA",
    "influxdb": "KPSTREAM_PIPELINE_INFLUX_URL",
}


def site_problems(site: Site) -> list[str]:
    """Return every reason why the site cannot start, one line each; starts and changes nothing."""
    return [
        *_missing_servers(site),
        *_port_problems(site),
        *_certificate_problems(site),
        *_token_problems(site),
    ]


def _missing_servers(site: Site) -> Iterator[str]:
    native, servers = site.site.native, site.servers
    if "mosquitto" in native and mosquitto_program() is None:
        yield "mosquitto is not installed: sudo apt install mosquitto"
    if "kafka" in native and servers.java is None:
        yield "Java is not installed: sudo apt install default-jre-headless"
    missing = []
    if "kafka" in native and servers.kafka_libs is None:
        missing.append("Kafka")
    if "influxdb" in native and servers.influxd is None:
        missing.append("InfluxDB")
    if missing:
        names = " and ".join(missing)
        yield f"{names} not found in {servers.folder}: run kpstream site install"


def _port_problems(site: Site) -> Iterator[str]:
    for server in site.native_servers():
        yield from _address_problems(server.name, server.host, server.port)
    for name, port in site.process_ports():
        yield from _address_problems(name, "127.0.0.1", port, "KPSTREAM_SITE_BASE_PORT")


def _address_problems(name: str, host: str, port: int, setting: str = "") -> list[str]:
    """Return why a process cannot listen on an address.

    Args:
        name: Server or process.
        host: Address it would listen on.
        port: Port it would listen on.
        setting: Setting that moves the port; empty for a server, which has its own.
    """
    where = setting or _ADDRESS_SETTINGS[name]
    if not is_loopback(host):
        return [
            f"{name} on {host}: kpstream runs servers on loopback only; remove {name} from "
            f"KPSTREAM_SITE_NATIVE to use the server on that host, or correct {where}"
        ]
    with suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        advice = f"stop it, or set {where}"
        if not setting:
            advice += f", or remove {name} from KPSTREAM_SITE_NATIVE to use the running one"
        return [f"{name}: port {port} on {host} is taken by another program: {advice}"]
    return []


def _certificate_problems(site: Site) -> Iterator[str]:
    certs = site.site.certs_dir
    if certs is None:
        return
    try:
        from deploy.stack.certs import CertError, read_certificates

        known = read_certificates(certs)
    except ModuleNotFoundError:
        yield f"the package cryptography is missing: {install_command('site')}"
        return
    except CertError as exc:
        yield str(exc)
        return
    now = utc_now()
    expired = [one.name for one in known if one.role != "device" and one.not_after <= now]
    if expired:
        names = ", ".join(expired)
        advice = f"run kpstream certs make --out {certs} --renew"
        yield f"certificates of {names} have expired: {advice}"
    if "influxdb" in site.site.native and site.influx_url.startswith("http:"):
        yield (
            "with KPSTREAM_SITE_CERTS_DIR, InfluxDB accepts https only: "
            "KPSTREAM_PIPELINE_INFLUX_URL must begin with https://"
        )


def _token_problems(site: Site) -> Iterator[str]:
    if "influxdb" not in site.site.native and site.pipeline.influx_token is None:
        yield (
            "InfluxDB runs elsewhere, so its token is needed: set "
            "KPSTREAM_PIPELINE_INFLUX_URL and KPSTREAM_PIPELINE_INFLUX_TOKEN"
        )
