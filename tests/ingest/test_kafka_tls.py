"""A real Kafka with TLS only: it accepts our services, and refuses devices and other clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from deploy.stack.certs import Plan, make_certificates
from deploy.stack.servers import KafkaServer
from deploy.stack.topics import site_topics
from ingest.errors import IngestError
from ingest.kafka import KafkaEndpoint, KafkaLogWriter, KafkaProbe, create_topics
from ingest.logwriter import LogRecord
from ingest.tls import TlsFiles
from ingest.topics import READINGS
from tests.fakes.certs import issue
from tests.fakes.ports import free_port

pytestmark = pytest.mark.needs_kafka_server
NOW = datetime.now(timezone.utc)


@dataclass
class Site:
    certs: Path
    kafka: KafkaServer

    def endpoint(self, cert: Path | None, **changes: object) -> KafkaEndpoint:
        key = None if cert is None else cert.with_suffix(".key")
        files = TlsFiles(self.certs / "ca.pem", cert, key, "KPSTREAM_SITE_KAFKA_")
        return KafkaEndpoint(self.kafka.address, replace(files, **changes))  # type: ignore[arg-type]

    def service(self, name: str) -> KafkaEndpoint:
        return self.endpoint(self.certs / f"services/{name}.pem")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    plan = Plan(devices=("plant-7/press-1",), services=("bridge", "worker", "operator", "guest"))
    make_certificates(folder / "certs", plan, now=NOW)
    with KafkaServer(folder / "kafka", certs=folder / "certs") as kafka:
        yield Site(folder / "certs", kafka)


async def why_not(endpoint: KafkaEndpoint) -> str:
    with pytest.raises(IngestError) as caught:
        async with KafkaLogWriter(endpoint, request_timeout_ms=5_000):
            pass
    return str(caught.value)


async def test_services_make_topics_write_and_ask(site: Site) -> None:
    await create_topics(site.service("operator"), site_topics(3))
    async with KafkaLogWriter(site.service("bridge")) as writer:
        assert writer.partitions == 3
        await writer.append([LogRecord(READINGS, 1, b"key", b"value", 1_700_000_000_000)])
    probe = KafkaProbe(site.service("worker"))
    assert (await probe.end_offsets(READINGS, [0, 1]))[1] >= 1
    await probe.close()


async def test_a_refused_client_gets_advice(site: Site, tmp_path: Path) -> None:
    await create_topics(site.service("operator"), site_topics(3))
    elsewhere = tmp_path / "elsewhere"
    make_certificates(elsewhere, Plan(), now=NOW)
    bridge = site.certs / "services/bridge.pem"
    expired = issue(
        site.certs / "ca.pem", tmp_path / "e.pem", "bridge", ends_in=timedelta(hours=-1)
    )
    own, ca = "KPSTREAM_SITE_KAFKA_CERT_FILE", "KPSTREAM_SITE_KAFKA_CA_FILE"
    cases = {
        "device": (
            site.endpoint(site.certs / "devices/plant-7/press-1.pem"),
            f"({own}): it is not",
        ),
        "stranger": (site.endpoint(elsewhere / "services/bridge.pem"), f"({own})"),
        "expired": (site.endpoint(expired), f"({own})"),
        "no certificate": (site.endpoint(None), f"requires a client certificate: set {own}"),
        "another authority": (site.endpoint(bridge, ca_file=elsewhere / "ca.pem"), f"set {ca}"),
        "no TLS": (KafkaEndpoint(site.kafka.address), f"speaks TLS: set {ca}"),
    }
    for what, (endpoint, advice) in cases.items():
        assert advice in await why_not(endpoint), what


async def test_a_service_that_is_not_named_may_do_nothing(site: Site) -> None:
    await create_topics(site.service("operator"), site_topics(3))
    said = await why_not(site.service("guest"))
    assert "Authorization" in said or "has no topic" in said


async def test_the_controllers_port_is_closed_to_devices_too(site: Site) -> None:
    port = site.kafka.controller_port
    device = site.endpoint(site.certs / "devices/plant-7/press-1.pem")
    said = await why_not(replace(device, servers=f"127.0.0.1:{port}"))
    assert "refuses our certificate" in said


async def test_tls_at_a_plain_kafka_is_reported(site: Site, real_kafka: KafkaServer) -> None:
    said = await why_not(replace(site.service("bridge"), servers=real_kafka.address))
    assert real_kafka.address in said
    assert "does not speak TLS" in said


async def test_an_absent_server_is_not_a_fault_of_tls(site: Site) -> None:
    said = await why_not(replace(site.service("bridge"), servers=f"127.0.0.1:{free_port()}"))
    assert "TLS" not in said


async def test_files_are_checked_before_anything_connects(site: Site) -> None:
    bridge = site.certs / "services/bridge.pem"
    said = await why_not(site.endpoint(bridge, ca_file=site.certs / "no.pem"))
    assert said == f"KPSTREAM_SITE_KAFKA_CA_FILE {site.certs}/no.pem: no such file"
