"""``kpstream store``: writes scores and accounts from Kafka to InfluxDB.

Stores have a consumer group of their own, so that a slow InfluxDB does not slow down scoring.
"""

from __future__ import annotations

import click

from deploy.processes.lifecycle import until_crashed
from deploy.processes.partitionwatch import PartitionWatch
from deploy.processes.runtime import ProcessRuntime, run_command
from deploy.settings.settings import SiteSettings
from ingest.clock import now_ms
from ingest.settings import IngestSettings
from pipeline.app import create_store_app
from pipeline.errors import SinkError
from pipeline.settings import PipelineSettings

__all__ = ["StoreProcess", "store"]

_GROUP = "influx"


class StoreProcess:
    """A store app on Kafka, and the watch over its partitions."""

    def __init__(
        self, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings
    ) -> None:
        """Prepare; nothing is connected before :meth:`start`.

        Raises:
            SinkError: The settings name no InfluxDB, or no token for it.
        """
        from pipeline.stores.influx import InfluxSink, influx_connection

        if pipeline.influx_url is None:
            message = "a store needs InfluxDB: set KPSTREAM_PIPELINE_INFLUX_URL and _TOKEN"
            raise SinkError(message)
        self.runtime = runtime = ProcessRuntime("store", site, pipeline)
        self.sink = InfluxSink(influx_connection(pipeline), pipeline.influx_bucket)
        self.store = create_store_app(
            site.kafka_url,
            runtime.pipeline,
            self.sink,
            _GROUP,
            data_dir=runtime.folder / "faust",
            mqtt_prefix=ingest.mqtt_prefix,
            kafka=runtime.link,
        )
        self._has_started = False

    async def start(self) -> str:
        """Wait for Kafka, then join the group of stores; InfluxDB may be unavailable."""
        runtime, app, stage = self.runtime, self.store.app, self.store.stage
        await runtime.start()
        self._has_started = True
        await self.store.start()
        watch = PartitionWatch(
            app,
            runtime.probe(),
            now_ms,
            stall_s=runtime.site.stall_s,
            is_excused=lambda: stage.is_away,
        )
        runtime.view.store, runtime.view.watch = self.store, watch
        runtime.tasks.spawn(until_crashed(app), "store")
        runtime.tasks.spawn(watch.run(), "partitions")
        runtime.mark_started(runtime.account_writer(app))
        url = runtime.pipeline.influx_url
        return f"{runtime.name} started: Kafka {runtime.site.kafka}, InfluxDB {url}"

    async def wait(self) -> None:
        """Wait until a part of the process ends by itself.

        Raises:
            PartFailed: A part ended; the message names it and the reason.
        """
        await self.runtime.tasks.wait()

    async def stop(self) -> str:
        """Finish the current write, commit and leave the group; returns a summary."""
        if self._has_started:
            await self.runtime.stop_app(self.store)
        await self.runtime.stop()
        self.sink.close()
        counters = self.store.counters
        return (
            f"{self.runtime.name} stopped: {counters.stored:,} points stored, "
            f"{counters.refused:,} refused"
        )


@click.command()
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
def store(verbose: bool) -> None:
    """Write scores from Kafka to InfluxDB until Ctrl-C. Settings: docs/settings.md."""
    run_command("store", verbose, StoreProcess)
