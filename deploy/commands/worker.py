"""``kpstream worker``: windows the readings in Kafka and scores them; run as many as it takes.

Workers share the partitions of the log, hence the devices. One that joins or leaves, or dies, moves
partitions between them with their window state, and changes no window.
"""

from __future__ import annotations

import asyncio

import click

from deploy.processes.lifecycle import until_crashed
from deploy.processes.partitionwatch import PartitionWatch
from deploy.processes.siteprocess import Frame, run_command
from deploy.settings.settings import SiteSettings
from ingest.settings import IngestSettings
from pipeline.app import create_scoring_app
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from pipeline.stage import now_ms

__all__ = ["WorkerProcess", "worker"]


class WorkerProcess:
    """A scoring app on Kafka, its students, and the watch over its partitions."""

    def __init__(
        self, site: SiteSettings, ingest: IngestSettings, pipeline: PipelineSettings
    ) -> None:
        """Prepare; nothing is connected before `start`."""
        self.frame = frame = Frame("worker", site, pipeline)
        memory = frame.folder / "running.json"
        self.students = Students(site.registry_path, memory, frame.pipeline)
        self.scoring = create_scoring_app(
            site.kafka_url,
            frame.pipeline,
            self.students.plan,
            self.students.score,
            data_dir=frame.folder / "faust",
            mqtt_prefix=ingest.mqtt_prefix,
            kafka=frame.link,
        )
        self._has_started = False

    async def start(self) -> str:
        """Wait for Kafka, then join the workers; partitions come when the group is rebalanced."""
        frame, app = self.frame, self.scoring.app
        await frame.start()
        await asyncio.to_thread(self.students.models.poll)
        self._has_started = True
        await self.scoring.start()
        watch = PartitionWatch(app, frame.probe(), now_ms, stall_s=frame.site.stall_s)
        view = frame.view
        view.scoring, view.students, view.watch = self.scoring, self.students, watch
        frame.tasks.spawn(until_crashed(app), "scoring")
        frame.tasks.spawn(watch.run(), "partitions")
        frame.tasks.spawn(self.students.watch(frame.site.model_poll_ms), "models")
        frame.begin(frame.account_by(app))
        return f"{frame.name} started: Kafka {frame.site.kafka}, group {app.conf.id}"

    async def wait(self) -> None:
        """Return when a part has ended by itself.

        Raises:
            PartFailed: With the part and its reason.
        """
        await self.frame.tasks.wait()

    async def stop(self) -> str:
        """Checkpoint, commit, leave the group."""
        if self._has_started:
            await self.frame.stop_app(self.scoring)
        await self.frame.stop()
        line = self.scoring.stage.counters
        return (
            f"{self.frame.name} stopped: {line.readings:,} readings taken, {line.scored:,} scored"
        )


@click.command()
@click.option("--verbose", is_flag=True, help="Log what happens, not only what goes wrong.")
def worker(verbose: bool) -> None:
    """Window and score the readings in Kafka until Ctrl-C. Settings: docs/settings.md."""
    run_command("worker", verbose, WorkerProcess)
