"""``kpstream worker``: cuts the readings in Kafka into windows and scores them.

Workers share the partitions of the log, and thereby the devices. When a worker joins, leaves or
dies, partitions move between workers together with their window state; no window changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import click

from deploy.processes.drifting import publish_drift
from deploy.processes.explaining import WorkerAlerts
from deploy.processes.lifecycle import until_crashed
from deploy.processes.partitionwatch import PartitionWatch
from deploy.processes.runtime import ProcessRuntime, run_command
from deploy.processes.siteexamples import ExampleRow, SiteExamples
from deploy.settings.settings import SiteSettings
from ingest.clock import now_ms
from ingest.errors import LogUnavailable
from ingest.kafkareader import KafkaBackReader, KafkaForwardReader
from ingest.secrettext import error_text
from ingest.settings import IngestSettings
from ingest.topics import EXAMPLES, READINGS
from pipeline.app import create_scoring_app
from pipeline.drift.watch import DriftWatch
from pipeline.log.kafkatransport import offsets_in_use
from pipeline.scoring.batch import Scored
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["WorkerProcess", "worker"]


class WorkerProcess:
    """A scoring app on Kafka, its students, and the watch over its partitions."""

    def __init__(
        self, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings
    ) -> None:
        """Prepare; nothing is connected before :meth:`start`."""
        self.runtime = runtime = ProcessRuntime("worker", site, pipeline)
        remembered = runtime.folder / "running.json"
        self.students = Students(site.registry_path, remembered, runtime.pipeline)
        self.alerts = WorkerAlerts(site.registry_path)
        self.drift = DriftWatch(self.students.models.running.get, runtime.name, now_ms)
        self.examples = SiteExamples(
            runtime.folder,
            self.students.models.running,
            runtime.pipeline,
            partial(KafkaForwardReader, runtime.kafka),
            partial(KafkaBackReader, runtime.kafka, site.partitions),
        )
        self.scoring = create_scoring_app(
            site.kafka_url,
            runtime.pipeline,
            self.students.plans.get,
            self.students.models.running.get,
            data_dir=runtime.folder / "faust",
            mqtt_prefix=ingest.mqtt_prefix,
            kafka=runtime.link,
            on_scored=self._on_scored,
            anchors=self.examples.anchors.of,
        )
        runtime.view.also["examples"] = self.examples.status
        self._has_started = False

    async def start(self) -> str:
        """Wait for Kafka, then join the group of workers; its rebalance assigns the partitions."""
        runtime, app = self.runtime, self.scoring.app
        await runtime.start()
        await asyncio.to_thread(self.students.models.poll)
        await asyncio.to_thread(self.examples.start)
        self._has_started = True
        await self.scoring.start()
        watch = PartitionWatch(app, runtime.probe(), now_ms, stall_s=runtime.site.stall_s)
        view = runtime.view
        view.scoring, view.students, view.watch = self.scoring, self.students, watch
        view.alerts = self.alerts.explainer
        runtime.tasks.spawn(until_crashed(app), "scoring")
        runtime.tasks.spawn(watch.run(), "partitions")
        runtime.tasks.spawn(self.students.watch(runtime.site.model_poll_ms), "models")
        runtime.tasks.spawn(self.examples.run(self._owned, self._append_example), "examples")
        append = runtime.account_writer(app)
        self.alerts.start(append)
        drifting = publish_drift(self.drift, self.alerts.store, runtime.site.account_ms)
        runtime.tasks.spawn(drifting, "drift")
        runtime.mark_started(append)
        return f"{runtime.name} started: Kafka {runtime.site.kafka}, group {app.conf.id}"

    def _on_scored(self, _batches: Sequence[WindowBatch], scored: Scored) -> None:
        self.alerts.explainer.look(scored)
        self.drift.look(scored)

    def _owned(self) -> set[int]:
        """The partitions of this worker; none while they move."""
        app = self.scoring.app
        if app.rebalancing or not app.has_joined:
            return set()
        return {partition for topic, partition in offsets_in_use(app) if topic == READINGS}

    async def _append_example(self, row: ExampleRow) -> None:
        app, at_s = self.scoring.app, now_ms() / 1000
        try:
            await (await app.producer.send(EXAMPLES, row.key, row.value, row.partition, at_s, None))
        except Exception as exc:  # whatever Kafka's client raises
            msg = f"Kafka did not accept the example: {error_text(exc, named=True)}"
            raise LogUnavailable(msg) from exc

    async def wait(self) -> None:
        """Wait until a part of the process ends by itself.

        Raises:
            PartFailed: A part ended; the message names it and the reason.
        """
        await self.runtime.tasks.wait()

    async def stop(self) -> str:
        """Checkpoint, commit and leave the group; returns a summary."""
        await self.alerts.stop()
        if self._has_started:
            await self.runtime.stop_app(self.scoring)
        await self.runtime.stop()
        await asyncio.to_thread(self.examples.close)
        counters = self.scoring.stage.counters
        return (
            f"{self.runtime.name} stopped: {counters.readings:,} readings taken, "
            f"{counters.scored:,} scored"
        )


@click.command()
@click.option("--verbose", is_flag=True, help="Log routine events too, not only problems.")
def worker(verbose: bool) -> None:
    """Window and score the readings in Kafka until Ctrl-C. Settings: docs/settings.md."""
    run_command("worker", verbose, WorkerProcess)
