"""The set-up of a site: topics in Kafka; buckets, tasks and tokens in InfluxDB. Safe to repeat.

Tokens are random and lie in the state folder, for its owner only; no password has a default.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from deploy.stack.influxapi import InfluxApi
from deploy.stack.process import ServerError
from deploy.stack.tlsconfig import kafka_tls
from deploy.stack.topics import site_topics

if TYPE_CHECKING:
    from deploy.stack.site import Site
    from pipeline.stores.influxclient import InfluxClient
    from pipeline.stores.influxlayout import Layout

__all__ = [
    "GRAFANA_TOKEN_FILE",
    "OPERATOR_TOKEN_FILE",
    "STORE_ENV_FILE",
    "STORE_TOKEN_FILE",
    "influx_layout",
    "influx_operator",
    "make_buckets",
    "make_topics",
]

OPERATOR_TOKEN_FILE = Path("secrets", "influx-operator.token")
STORE_TOKEN_FILE = Path("secrets", "influx-store.token")
GRAFANA_TOKEN_FILE = Path("secrets", "influx-grafana.token")
STORE_ENV_FILE = Path("secrets", "store.env")
"""Files in the state folder, for its owner only: who may do everything, who writes, who reads."""

log = logging.getLogger(__name__)


def make_topics(here: Site) -> str:
    """Create the topics that are missing, settle the settings of the others; tells what was done.

    Raises:
        LogUnavailable: Kafka is not there, or refused; worth another try.
        TopicMismatch: A topic has another number of partitions.
        TlsError: A file for TLS can't be used.
    """
    from ingest.kafka import KafkaEndpoint, create_topics

    topics = site_topics(here.site.partitions, here.pipeline.app_id)
    endpoint = KafkaEndpoint(
        here.site.kafka, kafka_tls(here.site, as_operator=True), "kpstream-site"
    )
    done = asyncio.run(create_topics(endpoint, topics))
    for line in done:
        log.info("Kafka: %s", line)
    return f"{len(topics)} topics of {here.site.partitions} partitions, {len(done)} changed"


def make_buckets(here: Site, *, may_shorten: bool = False) -> str:
    """Set InfluxDB up where nobody did, then bring it to the layout; writes the token files.

    Args:
        here: The site.
        may_shorten: A bucket may get a shorter retention, by which InfluxDB deletes old points.

    Raises:
        ServerError: It is not there, or was set up before with another token.
        SinkError: It refused, or a setting is wrong.
    """
    from pipeline.stores.influxlayout import GRAFANA_TOKEN, STORE_TOKEN
    from pipeline.stores.influxsetup import ensure_layout

    layout = influx_layout(here)
    first = layout.buckets[0]
    InfluxApi(here.influx_url, _influx_ca_file(here)).setup(
        here.pipeline.influx_org, first.name, _operator_token(here), retention_s=first.retention_s
    )
    with influx_operator(here) as client:
        ensured = ensure_layout(client, layout, may_shorten=may_shorten)
    for change in ensured.changes:
        log.info("InfluxDB: %s", change)
    folder = here.site.state_dir
    store, grafana = (
        ensured.tokens[name].get_secret_value() for name in (STORE_TOKEN, GRAFANA_TOKEN)
    )
    _write_secret(folder / STORE_TOKEN_FILE, store)
    _write_secret(folder / GRAFANA_TOKEN_FILE, grafana)
    _write_secret(folder / STORE_ENV_FILE, f"KPSTREAM_PIPELINE_INFLUX_TOKEN={store}\n")
    refused = [str(change) for change in ensured.changes if change.deed == "refused"]
    done = sum(change.deed not in {"kept", "refused"} for change in ensured.changes)
    counts = (
        f"{len(layout.buckets)} buckets, {len(layout.tasks)} tasks, "
        f"{len(layout.tokens)} tokens, {done} changed"
    )
    return "; ".join([counts, *refused])


def influx_layout(here: Site) -> Layout:
    """The buckets, tasks and tokens of this site."""
    from pipeline.stores.influxlayout import site_layout

    bucket = here.pipeline.influx_bucket
    return site_layout(
        scores_bucket=bucket,
        hourly_bucket=f"{bucket}-hourly",
        scores_days=here.site.scores_days,
        hourly_days=here.site.hourly_days,
    )


def influx_operator(here: Site) -> InfluxClient:
    """A client that may do everything in InfluxDB.

    Raises:
        ServerError: It was never set up.
    """
    from pipeline.stores.influxclient import InfluxClient, InfluxConnection

    path = here.site.state_dir / OPERATOR_TOKEN_FILE
    if here.pipeline.influx_token is None and not path.exists():
        msg = f"no {path}: `kpstream site setup` makes it, or set KPSTREAM_PIPELINE_INFLUX_TOKEN"
        raise ServerError(msg)
    token = SecretStr(_operator_token(here))
    org, ca_file = here.pipeline.influx_org, _influx_ca_file(here)
    return InfluxClient(InfluxConnection(here.influx_url, token, org, ca_file=ca_file))


def _influx_ca_file(here: Site) -> Path | None:
    certs = here.site.certs_dir
    return here.pipeline.influx_ca_file if certs is None else certs / "ca.pem"


def _operator_token(here: Site) -> str:
    """What may do everything in InfluxDB: the one of the settings, or one of our own making."""
    if here.pipeline.influx_token is not None:
        return here.pipeline.influx_token.get_secret_value()
    path = here.site.state_dir / OPERATOR_TOKEN_FILE
    if not path.exists():
        _write_secret(path, secrets.token_urlsafe(32))
    return path.read_text()


def _write_secret(path: Path, text: str) -> None:
    """Write it whole, readable by the owner only from the first moment on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(0o600, exist_ok=False)
    new.write_text(text)
    new.replace(path)
