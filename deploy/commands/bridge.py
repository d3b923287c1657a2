"""``kpstream bridge``: takes messages from the MQTT broker and appends them to Kafka.

With KPSTREAM_INGEST_MQTT_SHARED_GROUP, several bridges share the messages. While a bridge is
disconnected, the broker keeps its share for it. A bridge that will not return must therefore leave
(``--leave``).
"""

from __future__ import annotations

import asyncio
from functools import partial

import click

from deploy.processes.bridging import (
    append_ticks,
    broker_text,
    known_versions,
    subscribed_filters,
)
from deploy.processes.formats import OtherFormats
from deploy.processes.runtime import ProcessRuntime, run_command
from deploy.settings.settings import SiteSettings
from ingest.bridge import Bridge
from ingest.clock import now_ms
from ingest.errors import IngestError
from ingest.kafka import KafkaLogWriter
from ingest.logwriter import LogRecord
from ingest.settings import IngestSettings
from ingest.topics import ACCOUNTS, partition_of
from pipeline.settings import PipelineSettings

__all__ = ["BridgeProcess", "bridge"]

_BROKER_S = 3.0
_DRAIN_S = 10.0
_EXTRA_TICKS_MS = 5000
"""A partition gets ticks for twice the idle time after its last reading, and this much longer."""
_LEFT_MS = 5000
"""After this long without a message, the broker has nothing left for a leaving bridge."""


class BridgeProcess:
    """The bridge, its log in Kafka, and its ticks."""

    def __init__(
        self,
        site: SiteSettings,
        ingest: IngestSettings,
        pipeline: PipelineSettings,
        *,
        leaves: bool = False,
    ) -> None:
        """Prepare; nothing is connected before :meth:`start`.

        Args:
            site: Settings of the site.
            ingest: Settings of the bridge.
            pipeline: Settings of the agents.
            leaves: Whether to give up this bridge's share, and end once its messages are taken.

        Raises:
            IngestError: A mapping or a state file of the bridge is unusable, or the bridge is to
                leave without a shared group.
        """
        if leaves and ingest.mqtt_shared_group is None:
            message = (
                "--leave needs other bridges to take over: set KPSTREAM_INGEST_MQTT_SHARED_GROUP"
            )
            raise IngestError(message)
        self.runtime = runtime = ProcessRuntime("bridge", site, pipeline)
        self.ingest = ingest
        self.formats = OtherFormats(ingest, runtime.folder)
        self.writer = KafkaLogWriter(runtime.kafka)
        self.accounts = KafkaLogWriter(runtime.kafka)
        self.bridge = Bridge(
            ingest,
            self.writer,
            decoders=self.formats.decoders,
            subscribed=subscribed_filters(ingest, runtime.folder),
            versions=known_versions(ingest, runtime.folder),
            leaves=leaves,
        )
        self._leaves = leaves
        self._bridging: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Wait for Kafka, then take messages; waits at most three seconds for the broker."""
        runtime = self.runtime
        await runtime.start()
        for writer in (self.writer, self.accounts):
            await runtime.until_available(writer.start)
        runtime.view.bridge = self.bridge
        runtime.view.also |= self.formats.parts
        self._bridging.append(runtime.tasks.spawn(self.bridge.run(), "bridge"))
        runtime.tasks.spawn(self.formats.watch(self.bridge), "mappings")
        settings = runtime.pipeline
        quiet_ms = 2 * settings.idle_ms + _EXTRA_TICKS_MS
        runtime.tasks.spawn(
            append_ticks(
                self.bridge, lambda: self.bridge.quiet_partitions(quiet_ms), settings.tick_ms
            ),
            "ticks",
        )
        runtime.mark_started(self._append_account)
        await self._wait_connected()
        where = f"{self.ingest.mqtt_host}:{self.ingest.mqtt_port}"
        broker = broker_text(where, self.bridge.health())
        return f"{runtime.name} started: broker {broker}, Kafka {runtime.site.kafka}"

    async def wait(self) -> None:
        """Wait until a leaving bridge has left; any other bridge ends only with an error.

        Raises:
            PartFailed: A part ended; the message names it and the reason.
        """
        parts = asyncio.ensure_future(self.runtime.tasks.wait())
        while self._leaves and not parts.done():
            if self.bridge.is_drained(_LEFT_MS):
                parts.cancel()
                return
            await asyncio.wait({parts}, timeout=0.2)
        await parts

    async def stop(self) -> str:
        """Stop taking messages; unacknowledged ones stay in the broker. Returns a summary."""
        self.bridge.stop()
        if self._bridging:
            await asyncio.wait(self._bridging, timeout=_DRAIN_S)
        await self.runtime.stop()
        for writer in (self.writer, self.accounts):
            await writer.stop()
        self.formats.close()
        counters = self.bridge.counters
        return (
            f"{self.runtime.name} stopped: {counters.received_total:,} messages taken, "
            f"{counters.logged_total:,} in Kafka"
        )

    async def _wait_connected(self) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _BROKER_S
        while not self.bridge.health().connected and loop.time() < until_s:
            await asyncio.sleep(0.02)

    async def _append_account(self, value: bytes) -> None:
        partition = partition_of(self.runtime.name.encode(), self.accounts.partitions)
        await self.accounts.append([LogRecord(ACCOUNTS, partition, None, value, now_ms())])


@click.command()
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
@click.option(
    "--leave",
    is_flag=True,
    help="Take the messages that are due, give up this bridge's share, and exit.",
)
def bridge(verbose: bool, leave: bool) -> None:
    """Move messages from the MQTT broker to Kafka until Ctrl-C. Settings: docs/settings.md."""
    run_command("bridge", verbose, partial(BridgeProcess, leaves=leave))
