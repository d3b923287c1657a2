"""Window state on a local log: a Faust table whose changelog is written once per checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.clock import now_ms

__all__ = ["LogTable"]


class LogTable:
    """A ``pipeline.scoring.stage.StateTable`` in a Faust table.

    Faust allows assignment to a table only while a stream event is current, and would write one
    changelog record per reading, but a checkpoint belongs to no single event. Rows therefore go to
    the table's data and to its changelog directly, the two parts of an assignment. They bypass the
    producer's buffer, because it is made for a hundred records and a checkpoint may have one per
    device.

    Args:
        app: The Faust app.
        partitions: Partitions of the changelog.

    Attributes:
        on_recover: Registers a coroutine function to be called when the table is recovered.
    """

    def __init__(self, app: Any, partitions: int) -> None:
        self._app = app
        self._table = app.Table("windows", partitions=partitions, key_type=bytes, value_type=bytes)
        self.on_recover = self._table.on_recover

    def get(self, key: str) -> bytes | None:
        """The saved row of a device."""
        value = self._table.data.get(key.encode())
        return None if value is None else bytes(value)

    def keys(self) -> list[str]:
        """Names of all saved devices."""
        return [bytes(key).decode() for key in self._table.data]

    async def write(self, rows: Sequence[tuple[int, str, bytes | None]]) -> None:
        """Save rows (partition, key, value), or delete them; returns when that is durable."""
        topic, at_s = self._table.changelog_topic_name, now_ms() / 1000
        sent = []
        for partition, name, value in rows:
            key = name.encode()
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value
            sent.append(await self._app.producer.send(topic, key, value, partition, at_s, None))
        for confirmation in sent:
            await confirmation
