"""``kpstream bridge``: takes messages from the MQTT broker and puts them into Kafka.

Several bridges share the messages where KPSTREAM_INGEST_MQTT_SHARED_GROUP is set. The broker keeps
a bridge's share for it while it is away; so one that shall not come back must leave (``--leave``).
"""

from __future__ import annotations

import asyncio
from functools import partial

import click

from deploy.processes.bridging import append_ticks, sparkplug_decoder
from deploy.processes.siteprocess import Frame, run_command
from deploy.settings.settings import SiteSettings
from ingest.bridge import Bridge
from ingest.errors import IngestError
from ingest.kafka import KafkaLogWriter
from ingest.logwriter import LogRecord
from ingest.settings import IngestSettings
from ingest.topics import ACCOUNTS, partition_of
from pipeline.settings import PipelineSettings
from pipeline.stage import now_ms

__all__ = ["BridgeProcess", "bridge"]

_BROKER_S = 3.0


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
        """Prepare; nothing is connected before `start`.

        Args:
            site: of the site.
            ingest: of the bridge.
            pipeline: of the agents.
            leaves: Give up our share of the messages, and end when what is due has been taken.

        Raises:
            IngestError: The Sparkplug mapping or its state file can't be used, or the bridge has
                nobody to leave the messages to.
        """
        if leaves and ingest.mqtt_shared_group is None:
            message = "--leave is for one of several bridges (KPSTREAM_INGEST_MQTT_SHARED_GROUP)"
            raise IngestError(message)
        self.frame = frame = Frame("bridge", site, pipeline)
        self.ingest = ingest
        self.sparkplug = sparkplug_decoder(ingest, frame.folder)
        self.writer = KafkaLogWriter(frame.kafka)
        self.accounts = KafkaLogWriter(frame.kafka)
        self.bridge = Bridge(ingest, self.writer, decoder=self.sparkplug, leaves=leaves)
        self._leaves = leaves
        self._bridging: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Wait for Kafka, then take messages; returns when connected to the broker, or soon."""
        frame = self.frame
        await frame.start()
        for writer in (self.writer, self.accounts):
            await frame.until_available(writer.start)
        frame.view.bridge = self.bridge
        if self.sparkplug is not None:
            frame.view.also["sparkplug"] = self.sparkplug.status
        self._bridging.append(frame.tasks.spawn(self.bridge.run(), "bridge"))
        settings = frame.pipeline
        quiet_ms = 2 * settings.idle_ms + _TICKED_MS
        frame.tasks.spawn(
            append_ticks(
                self.bridge, lambda: self.bridge.quiet_partitions(quiet_ms), settings.tick_ms
            ),
            "ticks",
        )
        frame.begin(self._append_account)
        broker = f"{self.ingest.mqtt_host}:{self.ingest.mqtt_port}"
        if not await self._connected():
            broker += f" does NOT answer yet ({self.bridge.health().error})"
        return f"{frame.name} started: broker {broker}, Kafka {frame.site.kafka}"

    async def wait(self) -> None:
        """Return when it has left; else only with an error.

        Raises:
            PartFailed: With the part that ended by itself and its reason.
        """
        parts = asyncio.ensure_future(self.frame.tasks.wait())
        while self._leaves and not parts.done():
            if self.bridge.is_drained(_LEFT_MS):
                parts.cancel()
                return
            await asyncio.wait({parts}, timeout=0.2)
        await parts

    async def stop(self) -> str:
        """Stop taking messages; what was taken is confirmed and acknowledged, or stays there."""
        self.bridge.stop()
        if self._bridging:
            await asyncio.wait(self._bridging, timeout=_DRAIN_S)
        await self.frame.stop()
        for writer in (self.writer, self.accounts):
            await writer.stop()
        if self.sparkplug is not None:
            self.sparkplug.close()
        counters = self.bridge.counters
        return (
            f"{self.frame.name} stopped: {counters.received_total:,} messages taken, "
            f"{counters.logged_total:,} in Kafka"
        )

    async def _connected(self) -> bool:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _BROKER_S
        while not self.bridge.health().connected and loop.time() < until_s:
            await asyncio.sleep(0.02)
        return self.bridge.health().connected

    async def _append_account(self, value: bytes) -> None:
        partition = partition_of(self.frame.name.encode(), self.accounts.partitions)
        await self.accounts.append([LogRecord(ACCOUNTS, partition, None, value, now_ms())])


_TICKED_MS = 5000
"""How much longer than twice the idle time a partition gets ticks after its last reading."""
_DRAIN_S = 10.0
_LEFT_MS = 5000
"""After so long without a message, the broker has nothing more for a bridge that leaves."""


@click.command()
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
@click.option(
    "--leave",
    is_flag=True,
    help="Give this bridge's share to the others for good: take what is due, then end.",
)
def bridge(verbose: bool, leave: bool) -> None:
    """Take messages from the broker into Kafka until Ctrl-C. Settings: docs/settings.md."""
    run_command("bridge", verbose, partial(BridgeProcess, leaves=leave))
