"""The log of a site, as a recorder reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint
from ingest.kafkareader import KafkaForwardReader
from pipeline.errors import RecordingUnavailable
from pipeline.recording.source import TOPICS, Ends, Place, Record

__all__ = ["KafkaRecords"]


class KafkaRecords:
    """The log of a site as a `pipeline.recording.source.Source`; connects when it is used."""

    def __init__(self, endpoint: KafkaEndpoint, partitions: int) -> None:
        """Prepare.

        Args:
            endpoint: Address of Kafka.
            partitions: Partitions of each topic.
        """
        self._endpoint = endpoint
        self._partitions = partitions
        self._reader: KafkaForwardReader | None = None

    def ends(self) -> Ends:
        """See `Source.ends`."""
        with self._connected() as reader:
            offsets = {
                Place(topic, partition): found
                for topic in TOPICS
                for partition, found in reader.bounds(topic, self._partitions).items()
            }
            return Ends(reader.cluster, offsets)

    def read(self, place: Place, offset: int, end: int) -> Iterator[Record]:
        """See `Source.read`."""
        with self._connected() as reader:
            for at, value in reader.read(place.topic, place.partition, offset, end):
                yield Record(at, value or b"")

    def close(self) -> None:
        """Disconnect; idempotent."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    @contextmanager
    def _connected(self) -> Iterator[KafkaForwardReader]:
        """Connect if need be; after an error, the next call connects again."""
        try:
            if self._reader is None:
                self._reader = KafkaForwardReader(self._endpoint)
            yield self._reader
        except LogUnavailable as exc:
            self.close()
            raise RecordingUnavailable(str(exc)) from exc
