"""A site: its settings, and the addresses and servers derived from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from deploy.settings.settings import SiteSettings
from deploy.stack.acl import SERVICES_PORT
from deploy.stack.mappedrights import mapped_rights
from deploy.stack.mosquitto import MosquittoServer
from deploy.stack.process import ServerProcess
from deploy.stack.servers import FoundServers, InfluxServer, KafkaServer, find_servers
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

__all__ = ["Site"]

_FIRST_PORTS = (("store", 21), ("worker", 41), ("bridge", 1))
"""Kind of process -> offset of its first status port from `base_port`, in start order."""


@dataclass(frozen=True)
class Site:
    """The settings of a site, and the addresses and servers derived from them.

    Attributes:
        site: Settings of the site.
        ingest: Settings of its bridges, with the address of the broker.
        pipeline: Settings of its workers and stores, with the address of InfluxDB.
        servers: The installed servers.
    """

    site: SiteSettings
    ingest: IngestSettings
    pipeline: PipelineSettings
    servers: FoundServers

    @classmethod
    def of(cls, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings) -> Site:
        """Combine settings with the servers that are installed on this machine."""
        return cls(site, ingest, pipeline, find_servers())

    @property
    def mqtt_port(self) -> int:
        """Port of the broker for bridges; with certificates a separate one unless it was set."""
        if self.site.certs_dir is not None and "mqtt_port" not in self.ingest.model_fields_set:
            return SERVICES_PORT
        return self.ingest.mqtt_port

    @property
    def influx_url(self) -> str:
        """URL of InfluxDB."""
        scheme = "http" if self.site.certs_dir is None else "https"
        return self.pipeline.influx_url or f"{scheme}://127.0.0.1:8086"

    def process_ports(self) -> Iterator[tuple[str, int]]:
        """Yield name and status port of each of our processes, in start order."""
        counts = {"store": self.site.stores, "worker": self.site.workers}
        counts["bridge"] = self.site.bridges
        for kind, first in _FIRST_PORTS:
            for number in range(counts[kind]):
                yield f"{kind}-{number + 1}", self.site.base_port + first + number

    def native_servers(self) -> list[ServerProcess]:
        """Return the servers that run on this machine, not started."""
        makers = {
            "mosquitto": self._mosquitto,
            "kafka": self._kafka,
            "influxdb": self._influxdb,
        }
        return [make() for name, make in makers.items() if name in self.site.native]

    def _mosquitto(self) -> ServerProcess:
        return MosquittoServer(
            self.site.state_dir / "mosquitto",
            host=self.ingest.mqtt_host,
            port=self.mqtt_port,
            certs=self.site.certs_dir,
            prefix=self.ingest.mqtt_prefix,
            nodes=self._sparkplug_nodes(),
            mapped=mapped_rights(self.ingest.mappings, self.site.certs_dir),
        )

    def _kafka(self) -> ServerProcess:
        host, port = _split(self.site.kafka, 9092)
        return KafkaServer(
            self.site.state_dir / "kafka",
            host=host,
            port=port,
            controller_port=port + 1,
            heap_mb=self.site.kafka_heap_mb,
            certs=self.site.certs_dir,
            servers=self.servers,
        )

    def _influxdb(self) -> ServerProcess:
        host, port = _split(urlsplit(self.influx_url).netloc, 8086)
        return InfluxServer(
            self.site.state_dir / "influxdb",
            host=host,
            port=port,
            certs=self.site.certs_dir,
            servers=self.servers,
        )

    def _sparkplug_nodes(self) -> list[str]:
        """Return the nodes that may publish Sparkplug: each device that has a certificate."""
        certs = self.site.certs_dir
        if certs is None or self.ingest.sparkplug is None:
            return []
        folder = certs / "devices"
        return sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.pem"))


def _split(address: str, default_port: int) -> tuple[str, int]:
    """Return host and port of the first address in a comma-separated list.

    >>> _split("127.0.0.1:9092,b:9092", 1), _split("localhost", 8086)
    (('127.0.0.1', 9092), ('localhost', 8086))
    """
    first = address.partition(",")[0].strip()
    host, colon, port = first.rpartition(":")
    if not colon or not port.isdigit():
        return first, default_port
    return host.strip("[]"), int(port)
