"""``kpstream store``: writes scores and accounts from Kafka to InfluxDB, in a group of its own."""

from __future__ import annotations

import click

from deploy.processes.lifecycle import until_crashed
from deploy.processes.partitionwatch import PartitionWatch
from deploy.processes.siteprocess import Frame, run_command
from deploy.settings.settings import SiteSettings
from ingest.settings import IngestSettings
from pipeline.app import create_store_app
from pipeline.errors import SinkError
from pipeline.settings import PipelineSettings
from pipeline.stage import now_ms

__all__ = ["StoreProcess", "store"]

_GROUP = "influx"


class StoreProcess:
    """A store app on Kafka, and the watch over its partitions."""

    def __init__(
        self, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings
    ) -> None:
        """Prepare; nothing is connected before `start`.

        Raises:
            SinkError: InfluxDB is not in the settings, or has no token.
        """
        from pipeline.stores.influx import InfluxSink, influx_connection

        if pipeline.influx_url is None:
            message = "a store needs InfluxDB: set KPSTREAM_PIPELINE_INFLUX_URL and its token"
            raise SinkError(message)
        self.frame = frame = Frame("store", site, pipeline)
        self.sink = InfluxSink(influx_connection(pipeline), pipeline.influx_bucket)
        self.store = create_store_app(
            site.kafka_url,
            frame.pipeline,
            self.sink,
            _GROUP,
            data_dir=frame.folder / "faust",
            mqtt_prefix=ingest.mqtt_prefix,
            kafka=frame.link,
        )
        self._has_started = False

    async def start(self) -> str:
        """Wait for Kafka, then join the stores; InfluxDB may be away."""
        frame, app, stage = self.frame, self.store.app, self.store.stage
        await frame.start()
        self._has_started = True
        await self.store.start()
        watch = PartitionWatch(
            app,
            frame.probe(),
            now_ms,
            stall_s=frame.site.stall_s,
            is_excused=lambda: stage.is_away,
        )
        frame.view.store, frame.view.watch = self.store, watch
        frame.tasks.spawn(until_crashed(app), "store")
        frame.tasks.spawn(watch.run(), "partitions")
        frame.begin(frame.account_by(app))
        url = frame.pipeline.influx_url
        return f"{frame.name} started: Kafka {frame.site.kafka}, InfluxDB {url}"

    async def wait(self) -> None:
        """Return when a part has ended by itself.

        Raises:
            PartFailed: With the part and its reason.
        """
        await self.frame.tasks.wait()

    async def stop(self) -> str:
        """Finish what is being written, commit, leave the group."""
        if self._has_started:
            await self.frame.stop_app(self.store)
        await self.frame.stop()
        self.sink.close()
        counters = self.store.counters
        return (
            f"{self.frame.name} stopped: {counters.stored:,} points stored, "
            f"{counters.refused:,} refused"
        )


@click.command()
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
def store(verbose: bool) -> None:
    """Write scores from Kafka to InfluxDB until Ctrl-C. Settings: docs/settings.md."""
    run_command("store", verbose, StoreProcess)
