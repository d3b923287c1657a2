"""Two bridges of a site that share one subscription, over mutual TLS where the broker has it."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from ingest.topics import READINGS
from tests.brokers.broker import PASSWORD, USERS, Broker
from tests.e2e.site_plant import SitePlant

__all__ = ["SharedBridges", "tls_env"]

_DEVICE = re.compile(rb"share-\d+")


def tls_env(broker: Broker, service: str = "operator") -> dict[str, str]:
    """Return the settings that reach `tls_port` of a broker with a certificate of a service."""
    return {
        "KPSTREAM_INGEST_MQTT_PORT": str(broker.tls_port),
        "KPSTREAM_INGEST_MQTT_TLS": "true",
        "KPSTREAM_INGEST_MQTT_CA_FILE": str(broker.certs / "ca.pem"),
        "KPSTREAM_INGEST_MQTT_CERT_FILE": str(broker.certs / f"services/{service}.pem"),
        "KPSTREAM_INGEST_MQTT_KEY_FILE": str(broker.certs / f"services/{service}.key"),
    }


class SharedBridges(SitePlant):
    """A Kafka and two bridges at a broker of the matrix; no workers, no stores, no InfluxDB."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        env = {
            "KPSTREAM_INGEST_MQTT_PORT": str(broker.port),
            "KPSTREAM_INGEST_MQTT_USERNAME": USERS[0],
            "KPSTREAM_INGEST_MQTT_PASSWORD": PASSWORD,
            "KPSTREAM_PIPELINE_INFLUX_TOKEN": "none",
        }
        if broker.has_tls:
            env |= tls_env(broker, "bridge")
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, bridges=2, workers=0, stores=0, partitions=2)
        self.env = env
        self.kafka.start_s = 300.0

    def __enter__(self) -> SharedBridges:
        with ExitStack() as stack:
            stack.enter_context(self.kafka)
            stack.callback(self._end)
            for process in self.processes.values():
                process.start()
            self.wait_ready(300.0)
            self._stack = stack.pop_all()
        return self

    def devices(self) -> set[str]:
        """Names of the devices whose readings are in Kafka."""
        return asyncio.run(self._devices())

    async def _devices(self) -> set[str]:
        consumer = AIOKafkaConsumer(
            READINGS, bootstrap_servers=self.kafka.address, auto_offset_reset="earliest"
        )
        await consumer.start()
        found: set[str] = set()
        try:
            while records := await consumer.getmany(timeout_ms=1500):
                for batch in records.values():
                    for record in batch:
                        found |= {name.decode() for name in _DEVICE.findall(record.value or b"")}
        finally:
            await consumer.stop()
        return found
