"""Checks of TLS: files that fit and last, keys that are private, nothing in the clear off loopback.

See `deploy.doctor.findings`. When a certificate ends is told where the package `cryptography` is
there (extra `site`); everything else needs no more than the gateway has.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from deploy.doctor.findings import Finding
from ingest.settings import IngestSettings
from ingest.tls import TlsError, TlsFiles, client_context
from pipeline.settings import PipelineSettings

__all__ = ["check_certificates", "check_clear_text", "is_loopback"]

_SOON = timedelta(days=30)


def check_certificates(
    ingest: IngestSettings, pipeline: PipelineSettings, now: datetime | None = None
) -> list[Finding]:
    """Whether the files for TLS can be used, for how long, and whether keys are private."""
    now = now or datetime.now(timezone.utc)
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
    """What leaves this machine unencrypted, by the settings."""
    found = []
    host = ingest.mqtt_host
    if not ingest.mqtt_tls and not is_loopback(host):
        what = "readings" if ingest.mqtt_password is None else "readings and the password"
        text = f"{what} cross the network to the broker {host} in the clear"
        advice = "set KPSTREAM_INGEST_MQTT_TLS=true and connect to its port for TLS"
        found.append(Finding("tls", "warn", text, advice))
    url = urlsplit(pipeline.influx_url or "")
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        text = f"scores and the token cross the network to InfluxDB at {url.hostname} in the clear"
        advice = "let it speak https (docs/security.md), and correct KPSTREAM_PIPELINE_INFLUX_URL"
        found.append(Finding("tls", "warn", text, advice))
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as far as its name tells.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "10.0.0.1", "broker")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _files(files: TlsFiles, now: datetime) -> Iterator[Finding]:
    try:
        client_context(files)
    except TlsError as exc:
        yield Finding("tls", "fail", str(exc), "docs/security.md says how to make and place them")
        return
    key = files.key_file or files.cert_file
    if key is not None and key.stat().st_mode & 0o077:
        text = f"{files.settings}KEY_FILE {key} can be read by other users of this machine"
        yield Finding("tls", "warn", text, f"chmod 600 {key}")
    for setting, path in (("CA_FILE", files.ca_file), ("CERT_FILE", files.cert_file)):
        if path is not None:
            yield _lasts(f"{files.settings}{setting} {path}", path, now)


def _lasts(what: str, path: Path, now: datetime) -> Finding:
    try:
        from deploy.stack.certs import CertError, expires
    except ModuleNotFoundError:
        return Finding("tls", "ok", f"{what} can be used; when it ends, kpstream[site] could tell")
    try:
        end = expires(path)
    except CertError as exc:
        return Finding("tls", "fail", str(exc))
    text = f"{what} is good until {end:%Y-%m-%d}"
    if end <= now:
        return Finding("tls", "fail", f"{what} has expired on {end:%Y-%m-%d}", "renew it")
    if end - now < _SOON:
        return Finding("tls", "warn", text, "renew it before that, and restart what uses it")
    return Finding("tls", "ok", text)
