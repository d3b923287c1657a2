"""MQTT endpoint, subscriptions and stale filters from the settings of the bridge."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.subscriptions import OptionalFilter
from ingest.settings import IngestSettings
from ingest.topics import SHARED_GROUP, former_subscriptions, subscription

__all__ = ["FORMER_SPARKPLUG", "endpoint_of", "stale_filters_of", "subscriptions_of"]

FORMER_SPARKPLUG = (
    "spBv1.0/#",
    *(f"spBv1.0/+/{kind}/+" for kind in ("NBIRTH", "NDATA", "NDEATH")),
    *(f"spBv1.0/+/{kind}/+/+" for kind in ("DBIRTH", "DDATA", "DDEATH")),
)
"""Filters of Sparkplug for all groups, of this version and of earlier ones."""


def endpoint_of(settings: IngestSettings, client_id: str | None = None) -> Endpoint:
    """Return the broker of `settings`.

    Args:
        settings: Host, credentials and TLS files.
        client_id: Client id to use instead of the bridge's own, or None.
    """
    secret = settings.mqtt_password
    is_shared = client_id is None and settings.mqtt_shared_group is not None
    return Endpoint(
        host=settings.mqtt_host,
        port=settings.mqtt_port,
        client_id=client_id or settings.mqtt_client_id,
        protocol="5" if is_shared else settings.mqtt_protocol,  # $share is a plain name in 3.1.1
        keepalive_s=settings.keepalive_s,
        username=settings.mqtt_username,
        password=None if secret is None else secret.get_secret_value(),
        tls=settings.mqtt_tls,
        ca_file=settings.mqtt_ca_file,
        cert_file=settings.mqtt_cert_file,
        key_file=settings.mqtt_key_file,
    )


def subscriptions_of(settings: IngestSettings, more: Sequence[str] = ()) -> list[str]:
    """Return the MQTT filters of the bridge: everything, some sites, or its share of them.

    Args:
        settings: Prefix, sites and group.
        more: Filters of other formats.
    """
    sites = settings.mqtt_sites or (None,)
    filters = [subscription(settings.mqtt_prefix, site) for site in sites]
    if settings.labels_prefix:
        # Access lists of brokers may be older than labels, which must not stop readings.
        filters += [OptionalFilter(subscription(settings.labels_prefix, site)) for site in sites]
    filters += more
    group = settings.mqtt_shared_group
    return filters if group is None else [_shared(group, each) for each in filters]


def _shared(group: str, mqtt_filter: str) -> str:
    return type(mqtt_filter)(f"$share/{group}/{mqtt_filter}")


def stale_filters_of(settings: IngestSettings) -> list[str]:
    """Return the filters that this client id may hold although nothing remembers them.

    The session of an earlier configuration may hold the filter for all messages or that for a
    share, and the session of an earlier version may hold filters with one `+` per level.
    `ingest.subscribed` remembers all others.
    """
    everything = subscription(settings.mqtt_prefix)
    earlier = (
        everything,
        f"$share/{SHARED_GROUP}/{everything}",
        *former_subscriptions(settings.mqtt_prefix),
        *FORMER_SPARKPLUG,
    )
    return [each for each in earlier if each not in subscriptions_of(settings)]
