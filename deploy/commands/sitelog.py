"""A topic of a site's Kafka, read from its beginning to its end of now."""

from __future__ import annotations

from deploy.settings.settings import SiteSettings
from deploy.stack.tlsconfig import kafka_tls

__all__ = ["fetch_records"]


async def fetch_records(site: SiteSettings, topic: str) -> list[tuple[bytes, bytes | None]]:
    """Return key and value of every record of a topic.

    Raises:
        IngestError: Kafka does not answer, or a TLS file is unusable.
    """
    from ingest.kafka import KafkaEndpoint, KafkaProbe, read_until

    endpoint = KafkaEndpoint(site.kafka, kafka_tls(site, as_operator=True))
    probe = KafkaProbe(endpoint)
    try:
        first = await probe.first_offsets(topic, range(site.partitions))
        end = await probe.end_offsets(topic, range(site.partitions))
    finally:
        await probe.close()
    last = {partition: end[partition] - 1 for partition in end if end[partition] > first[partition]}
    rows: list[tuple[bytes, bytes | None]] = []
    if last:
        async for records in read_until(endpoint, topic, last):
            rows += [(key, value) for _, key, value in records]
    return rows
