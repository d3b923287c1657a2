"""Checks of TLS: usable files, validity, private keys, and unencrypted connections.

The expiry of a certificate is reported if the package `cryptography` is installed (extra `site`).
Everything else needs only the packages of a gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from deploy.doctor.findings import Finding
from ingest.clock import utc_now
from ingest.extras import install_command
from ingest.settings import IngestSettings
from ingest.tcp import is_loopback
from ingest.tls import TlsError, TlsFiles, client_context
from pipeline.settings import PipelineSettings

__all__ = ["check_certificates", "check_clear_text"]

_SOON = timedelta(days=30)


def check_certificates(
    ingest: IngestSettings, pipeline: PipelineSettings, now: datetime | None = None
) -> list[Finding]:
    """Check that the TLS files are usable and for how long, and that keys are private."""
    now = now or utc_now()
    found: list[Finding] = []
    if ingest.mqtt_tls:
        files = (ingest.mqtt_ca_file, ingest.mqtt_cert_file, ingest.mqtt_key_file)
        found += _files(TlsFiles(*files, settings="KPSTREAM_INGEST_MQTT_"), now)
    if (pipeline.influx_url or "").startswith("https:"):
        found += _files(
            TlsFiles(pipeline.influx_ca_file, settings="KPSTREAM_PIPELINE_INFLUX_"), now
        )
    return found


def check_clear_text(ingest: IngestSettings, pipeline: PipelineSettings) -> list[Finding]:
    """Report which data leaves this machine unencrypted, according to the settings."""
    found = []
    host = ingest.mqtt_host
    if not ingest.mqtt_tls and not is_loopback(host):
        what = "readings" if ingest.mqtt_password is None else "readings and the password"
        text = f"{what} cross the network to the broker {host} unencrypted"
        advice = "set KPSTREAM_INGEST_MQTT_TLS=true and use the broker's TLS port"
        found.append(Finding("tls", "warn", text, advice))
    url = urlsplit(pipeline.influx_url or "")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        text = f"scores and the token cross the network to InfluxDB at {url.hostname} unencrypted"
        advice = "enable https (docs/security.md), and correct KPSTREAM_PIPELINE_INFLUX_URL"
        found.append(Finding("tls", "warn", text, advice))
    return found


def _files(files: TlsFiles, now: datetime) -> Iterator[Finding]:
    try:
        client_context(files)
    except TlsError as exc:
        yield Finding(
            "tls", "fail", str(exc), "docs/security.md explains how to make and install them"
        )
        return
    key = files.key_file or files.cert_file
    if key is not None and key.stat().st_mode & 0o077:
        text = f"other users of this machine can read {files.settings}KEY_FILE {key}"
        yield Finding("tls", "warn", text, f"chmod 600 {key}")
    for setting, path in (("CA_FILE", files.ca_file), ("CERT_FILE", files.cert_file)):
        if path is not None:
            yield _validity(f"{files.settings}{setting} {path}", path, now)


def _validity(what: str, path: Path, now: datetime) -> Finding:
    try:
        from deploy.stack.certs import CertError, expires
    except ModuleNotFoundError:
        text = f"{what} is usable; cannot tell when it expires without the package cryptography"
        return Finding("tls", "unknown", text, install_command("site"))
    try:
        end = expires(path)
    except CertError as exc:
        return Finding("tls", "fail", str(exc))
    text = f"{what} is valid until {end:%Y-%m-%d}"
    if end <= now:
        return Finding("tls", "fail", f"{what} expired on {end:%Y-%m-%d}", "renew it")
    if end - now < _SOON:
        return Finding(
            "tls", "warn", text, "renew it before that date, and restart the programs that use it"
        )
    return Finding("tls", "ok", text)
