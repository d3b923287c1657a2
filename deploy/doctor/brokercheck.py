"""What to check a broker for, from the settings of the bridge."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.probe import Probe
from ingest.mqtt.versions import Version
from ingest.mqttsettings import endpoint_of, subscriptions_of
from ingest.patience import Patience
from ingest.settings import IngestSettings
from ingest.sparkplug.names import SparkplugMapping, state_topic
from ingest.topics import probe_address

__all__ = ["BrokerCheck", "broker_check"]


@dataclass(frozen=True, slots=True)
class BrokerCheck:
    """What to check a broker for.

    Attributes:
        endpoint: The broker as the bridge sees it: credentials, version, and a client id that is
            not the bridge's.
        filters: Filters of the bridge.
        probe_topic: Topic to publish on; one of the filters takes it.
        session_expiry_s: Seconds for which the bridge asks to keep its session.
        known: Version that this broker has accepted before; None: none.
        retained_topic: Topic on which the bridge keeps a retained message (Sparkplug's host); None:
            there is none.
        prefixes: First levels of the topics that the gateway reads. Messages on other topics are
            counted for `watch_s`; without prefixes, nothing is watched.
        patience: Limits of the steps that the broker answers.
        back_s: Seconds that a message has to come back.
        watch_s: Seconds to watch.
    """

    endpoint: Endpoint
    filters: Sequence[str]
    probe_topic: str
    session_expiry_s: int
    known: Version | None = None
    retained_topic: str | None = None
    prefixes: Sequence[str] = ()
    patience: Patience = field(default_factory=Patience)
    back_s: float = 5.0
    watch_s: float = 1.0

    @property
    def where(self) -> str:
        """Address of the broker."""
        return f"{self.endpoint.host}:{self.endpoint.port}"

    def probe(self, version: Version, purpose: str, **options: Any) -> Probe:
        """Return a probe whose client id is unique on this machine."""
        return Probe(self.endpoint, version, f"{purpose}-{os.getpid()}", **options)


def broker_check(
    ingest: IngestSettings,
    known: Version | None = None,
    sparkplug: SparkplugMapping | None = None,
    mapped: Sequence[str] = (),
) -> BrokerCheck:
    """Return the check that the bridge of these settings needs.

    Args:
        ingest: Settings of the bridge.
        known: Version that the broker has accepted from the gateway before; None: none.
        sparkplug: Mapping of Sparkplug, if it is used.
        mapped: Filters of mapped devices.
    """
    site = next(iter(ingest.mqtt_sites), None)
    filters, retained_topic = subscriptions_of(ingest, mapped), None
    prefixes = [ingest.mqtt_prefix, *filter(None, [ingest.labels_prefix])]
    if sparkplug is not None:
        filters, prefixes = [*filters, *sparkplug.filters()], [*prefixes, "spBv1.0"]
        if sparkplug.host_id is not None:
            retained_topic = state_topic(sparkplug.host_id)
    return BrokerCheck(
        # The bridge's own client id would end the connection of a running gateway.
        replace(endpoint_of(ingest), client_id="kpstream-doctor"),
        filters=filters,
        probe_topic=probe_address(site).mqtt_topic(ingest.mqtt_prefix),
        session_expiry_s=ingest.session_expiry_s,
        known=known,
        retained_topic=retained_topic,
        prefixes=prefixes,
    )
