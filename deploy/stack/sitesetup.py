"""The set-up of a site: topics in Kafka; buckets, tasks and tokens in InfluxDB. Safe to repeat.

Tokens are random and are kept in the state folder, readable by its owner only. No password has a
default.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from deploy.stack.influxapi import InfluxApi
from deploy.stack.process import ServerError
from deploy.stack.site import Site
from deploy.stack.tlsconfig import kafka_tls
from deploy.stack.topics import site_topics
from deploy.supervisor.program import Step
from ingest.secrettext import checked_secret
from ingest.statefile import read_regular, replace_file

if TYPE_CHECKING:
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
    "setup_steps",
]

OPERATOR_TOKEN_FILE = Path("secrets", "influx-operator.token")
STORE_TOKEN_FILE = Path("secrets", "influx-store.token")
GRAFANA_TOKEN_FILE = Path("secrets", "influx-grafana.token")
STORE_ENV_FILE = Path("secrets", "store.env")
"""Files in the state folder, readable by its owner only: full access, write access, read access."""

log = logging.getLogger(__name__)


_SETUP_RANK = 1


def setup_steps(site: Site, *, may_shorten: bool = False, influx_only: bool = False) -> list[Step]:
    """Return the steps of the set-up: topics in Kafka, then buckets, tasks and tokens in InfluxDB.

    Args:
        site: The site.
        may_shorten: Whether a bucket may get a shorter retention; InfluxDB then deletes old points.
        influx_only: Leave Kafka out, for a gateway with an InfluxDB.
    """
    topics = Step("topics", _SETUP_RANK, partial(make_topics, site))
    buckets = Step("buckets", _SETUP_RANK, partial(make_buckets, site, may_shorten=may_shorten))
    return [buckets] if influx_only else [topics, buckets]


def make_topics(site: Site) -> str:
    """Create missing topics and correct the settings of the others; returns a summary.

    Raises:
        LogUnavailable: Kafka does not answer or refused; another attempt may succeed.
        TopicMismatch: A topic has another number of partitions.
        TlsError: A file for TLS can't be used.
    """
    from ingest.kafka import KafkaEndpoint, create_topics

    topics = site_topics(site.site.partitions, site.pipeline.app_id)
    endpoint = KafkaEndpoint(
        site.site.kafka, kafka_tls(site.site, as_operator=True), "kpstream-site"
    )
    done = asyncio.run(create_topics(endpoint, topics))
    for line in done:
        log.info("Kafka: %s", line)
    return f"{len(topics)} topics of {site.site.partitions} partitions, {len(done)} changed"


def make_buckets(site: Site, *, may_shorten: bool = False) -> str:
    """Set InfluxDB up if it is new, then apply the layout and write the token files.

    Args:
        site: The site.
        may_shorten: Whether a bucket may get a shorter retention; InfluxDB then deletes old points.

    Returns:
        A summary.

    Raises:
        ServerError: InfluxDB does not answer, or was set up before with another token.
        SinkError: InfluxDB refused, or a setting is wrong.
    """
    from pipeline.stores.influxlayout import GRAFANA_TOKEN, STORE_TOKEN
    from pipeline.stores.influxsetup import ensure_layout

    layout = influx_layout(site)
    first = layout.buckets[0]
    InfluxApi(site.influx_url, _influx_ca_file(site)).setup(
        site.pipeline.influx_org, first.name, _operator_token(site), retention_s=first.retention_s
    )
    with influx_operator(site) as client:
        ensured = ensure_layout(client, layout, may_shorten=may_shorten)
    for change in ensured.changes:
        log.info("InfluxDB: %s", change)
    folder = site.site.state_dir
    store, grafana = (
        ensured.tokens[name].get_secret_value() for name in (STORE_TOKEN, GRAFANA_TOKEN)
    )
    _write_secret(folder / STORE_TOKEN_FILE, store)
    _write_secret(folder / GRAFANA_TOKEN_FILE, grafana)
    _write_secret(folder / STORE_ENV_FILE, f"KPSTREAM_PIPELINE_INFLUX_TOKEN={store}\n")
    refused = [str(change) for change in ensured.changes if change.action == "refused"]
    done = sum(change.action not in {"kept", "refused"} for change in ensured.changes)
    counts = (
        f"{len(layout.buckets)} buckets, {len(layout.tasks)} tasks, "
        f"{len(layout.tokens)} tokens, {done} changed"
    )
    return "; ".join([counts, *refused])


def influx_layout(site: Site) -> Layout:
    """Return the buckets, tasks and tokens of the site."""
    from pipeline.stores.influxlayout import site_layout

    bucket = site.pipeline.influx_bucket
    return site_layout(
        scores_bucket=bucket,
        hourly_bucket=f"{bucket}-hourly",
        scores_days=site.site.scores_days,
        hourly_days=site.site.hourly_days,
    )


def influx_operator(site: Site) -> InfluxClient:
    """Return a client with full access to InfluxDB.

    Raises:
        ServerError: The site has no operator token because InfluxDB was never set up.
    """
    from pipeline.stores.influxclient import InfluxClient, InfluxConnection

    path = site.site.state_dir / OPERATOR_TOKEN_FILE
    if site.pipeline.influx_token is None and not path.exists():
        msg = (
            f"{path} does not exist: run `kpstream site setup`, or set "
            "KPSTREAM_PIPELINE_INFLUX_TOKEN"
        )
        raise ServerError(msg)
    token = SecretStr(_operator_token(site))
    org, ca_file = site.pipeline.influx_org, _influx_ca_file(site)
    return InfluxClient(InfluxConnection(site.influx_url, token, org, ca_file=ca_file))


def _influx_ca_file(site: Site) -> Path | None:
    certs = site.site.certs_dir
    return site.pipeline.influx_ca_file if certs is None else certs / "ca.pem"


def _operator_token(site: Site) -> str:
    """Return the token with full access: that of the settings, or a random one made once."""
    if site.pipeline.influx_token is not None:
        return site.pipeline.influx_token.get_secret_value()
    path = site.site.state_dir / OPERATOR_TOKEN_FILE
    if not path.exists():
        _write_secret(path, secrets.token_urlsafe(32))
    return checked_secret(read_regular(path).decode(errors="replace")).get_secret_value()


def _write_secret(path: Path, text: str) -> None:
    """Replace the file; it is readable by its owner only, from its creation on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(path, text.encode())
