"""One gateway process: bridge, scoring, stores, console page, composed from the parts.

```
MQTT broker -> Bridge -> log (SQLite) -> scoring app -> log -> store apps -> results file, InfluxDB
                                             ^ students <- ModelWatch <- registry folder
console page  <- RunningGateway (a view of all of it, from memory)
```

The parts start from the end of the pipeline to its beginning and stop in reverse order. Nothing is
taken from the broker before it can be scored, and everything taken is scored or durable in the log
when the process ends. A part that fails permanently ends the process with exit code 1 and the
reason. Everything confirmed is durable, so the supervisor can restart the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from deploy.processes.bridging import (
    append_ticks,
    broker_text,
    known_versions,
    subscribed_filters,
)
from deploy.processes.drifting import publish_drift
from deploy.processes.exampling import ExampleWatch
from deploy.processes.explaining import PointAppender, alert_lines
from deploy.processes.filemeasures import file_measures
from deploy.processes.formats import OtherFormats
from deploy.processes.gatewayview import RunningGateway
from deploy.processes.lifecycle import Tasks, process_age_s, run_process, until_crashed
from deploy.processes.recordinghold import RecordingHold, recording_group
from deploy.processes.scoresmqtt import MqttSink
from deploy.settings.recordsettings import RecordSettings
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.settings.secretoutput import start_logging
from deploy.settings.settings import GatewaySettings
from ingest.bridge import Bridge
from ingest.clock import now_ms
from ingest.deadletter import sender_of
from ingest.labels import LabelRecord, label_log_record
from ingest.logwriter import LogRecord
from ingest.mqttsettings import endpoint_of
from ingest.settings import IngestSettings
from ingest.topics import ACCOUNTS, LABELS, READINGS
from pipeline.app import ScoringApp, StoreApp, create_scoring_app, create_store_app
from pipeline.console.labelling import Labelling
from pipeline.console.notes import DeviceNotes
from pipeline.console.pages import PageSettings
from pipeline.console.server import create_console
from pipeline.drift.watch import DriftWatch
from pipeline.errors import LogError
from pipeline.explain.alerts import AlertExplainer
from pipeline.explain.explainer import Explainer
from pipeline.explain.logscan import LogFile
from pipeline.explain.scores import find_score
from pipeline.explain.students import ExplainingStudents
from pipeline.log.locallog import LocalLogWriter, SqliteLog, open_log
from pipeline.points.accounts import Accounts, publish_accounts
from pipeline.points.points import Point
from pipeline.scoring.batch import Scored
from pipeline.scoring.examples import ExampleFile, Examples
from pipeline.scoring.mounting import Mountings
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from pipeline.status.view import Measure
from pipeline.stores.resultsfile import ResultsFile
from pipeline.stores.sinks import LineSink, Sink
from pipeline.windows.windowbatch import WindowBatch

if TYPE_CHECKING:
    from deploy.processes.following import Following

__all__ = ["Gateway", "main", "run_gateway"]

log = logging.getLogger(__name__)

_LOG_CACHE_BYTES = 2 * 1024**2  # every reader here is at the tail, and memory is scarce
_LABELS_BYTES = 16 * 1024**2
"""Size of all labels, some 50,000; beyond, those given first are deleted."""
_BROKER_S = 3.0


class Gateway:
    """All parts of one gateway process, built from settings and started together."""

    def __init__(
        self,
        settings: GatewaySettings,
        ingest: IngestSettings,
        pipeline: PipelineSettings,
        rollout: RolloutSettings | None = None,
    ) -> None:
        """Open the files and build the parts; nothing runs before :meth:`start`.

        Raises:
            IngestError: A mapping or a state file of the bridge is unusable.
            LogError: The log is unusable; the message says what to do.
            ResultsCorrupted: The results file is damaged; the message says what to do.
        """
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self._broker = f"{ingest.mqtt_host}:{ingest.mqtt_port}"
        self.formats = OtherFormats(ingest, settings.state_dir)
        running = settings.state_dir / "running.json"
        self.following = _following(rollout, settings, ingest)
        rejected = None if self.following is None else self.following.rejected()
        self.students = Students(settings.registry_path, running, pipeline, rejected)
        self.registry, self.models = self.students.registry, self.students.models
        self.log_file = _open_log(settings, pipeline, ingest.mqtt_prefix)
        pipeline = pipeline.model_copy(update={"partitions": self.log_file.partitions})
        self.pipeline = pipeline
        registry = settings.registry_path
        self.results = ResultsFile(
            pipeline.results_path(settings.state_dir),
            max_age_ms=round(pipeline.results_days * 86_400_000),
            max_bytes=pipeline.results_max_mb * 1_000_000,
        )
        self._writer = LocalLogWriter(self.log_file, pipeline.partitions)
        self.bridge = Bridge(
            ingest,
            self._writer,
            decoders=self.formats.decoders,
            subscribed=subscribed_filters(ingest, settings.state_dir),
            versions=known_versions(ingest, settings.state_dir),
        )
        self._points = PointAppender()
        self._explaining = alert_lines()
        self.alerts = AlertExplainer(
            ExplainingStudents(registry), self._store_point, *self._explaining
        )
        self.students.contests.on_compared = self._store_point
        self.drift = DriftWatch(self.students.models.running.get, settings.own_name, now_ms)
        data_dir = settings.state_dir / "faust"
        mountings = Mountings(settings.state_dir, self.students.plans.get)
        example_file = ExampleFile(settings.state_dir)
        examples = Examples(example_file, self.students.models.running)
        self.scoring = create_scoring_app(
            settings.log_url,
            pipeline,
            self.students.plans.get,
            self.students.models.running.get,
            data_dir=data_dir,
            mqtt_prefix=ingest.mqtt_prefix,
            on_scored=self._on_scored,
            rescue=self.students.contests.rescue,
            turn=mountings.turn,
            anchors=examples.of,
        )
        self._sinks = _sinks(self.results, pipeline, settings, ingest)
        self.stores = [
            create_store_app(
                settings.log_url,
                pipeline,
                sink,
                name,
                data_dir=data_dir,
                mqtt_prefix=ingest.mqtt_prefix,
            )
            for name, sink in self._sinks
        ]
        self.view = RunningGateway(
            self.bridge, self.scoring, self.stores, self.students, self.log_file, now_ms
        )
        self.view.also |= self.formats.parts
        folder = RecordSettings().folder_in(settings.state_dir)
        self.recording = RecordingHold(self.log_file, recording_group(pipeline.app_id), folder)
        self.view.also["recording"] = self.recording.status
        self.examples = ExampleWatch(
            self.log_file,
            settings.log_path,
            example_file,
            examples,
            self.students.models.running,
            pipeline,
            mountings.turn_values,
        )
        self.view.also["examples"] = self.examples.status
        if self.following is not None:
            self.following.follow(self.students)
            self.view.release_of = self.following.release_of
            self.view.also["rollout"] = self.following.status
        self.console = create_console(
            self.view,
            self.results,
            settings.console_host,
            settings.console_port,
            allowed_hosts=settings.console_hosts,
            settings=_page_settings(ingest),
            explainer=Explainer(
                partial(find_score, self.results),
                LogFile(settings.log_path),
                registry,
                pipeline,
                mountings.turn_values,
            ),
            more=self._measures,
            metrics_devices=settings.metrics_devices,
            notes=DeviceNotes(settings.state_dir),
            labelling=Labelling(self._give_label, settings.console_labels, ingest.future_ms),
        )
        self._apps: list[ScoringApp | StoreApp] = [self.scoring, *self.stores]
        self._groups = {part.app.conf.id for part in self._apps}
        if self._groups <= set(self.log_file.groups()):
            self._drop_removed_groups()  # else later: their successors have not come yet
        self._tasks = Tasks()
        self._bridging: list[asyncio.Task[None]] = []

    async def start(self) -> str:
        """Start everything; returns one line of text when readings flow."""
        self._points.start(self._append_account)
        if self.following is not None and self.following.agent is not None:
            self.following.agent.prepare()  # before a student is loaded
        self.models.poll()
        await asyncio.to_thread(self.examples.start)
        await self.console.start()
        await asyncio.gather(*(part.start() for part in self._apps))
        self._drop_removed_groups()
        self._bridging.append(
            self._tasks.spawn(self.bridge.run(), "bridge")
        )  # spawned first, so its reason is reported first
        self.view.is_starting = False
        pending = self.scoring.stage.devices.pending_partitions
        self._tasks.spawn(append_ticks(self.bridge, pending, self.pipeline.tick_ms), "ticks")
        self._tasks.spawn(self.formats.watch(self.bridge), "mappings")
        self._tasks.spawn(self.students.watch(self.settings.model_poll_ms), "models")
        self._tasks.spawn(self.recording.run(), "recording")
        self._tasks.spawn(self.examples.run(), "examples")
        for part in self._apps:
            self._tasks.spawn(until_crashed(part.app), f"app {part.app.conf.id}")
        if self.pipeline.influx_url is not None:
            accounts = Accounts(self.view, self.settings.own_name, "gateway", now_ms())
            publishing = publish_accounts(
                accounts, self._append_account, now_ms, self.settings.account_ms
            )
            self._tasks.spawn(publishing, "account")
        drifting = publish_drift(self.drift, self._store_point, self.settings.account_ms)
        self._tasks.spawn(drifting, "drift")
        if self.following is not None:
            has_influx = self.pipeline.influx_url is not None
            following = self.following.run(self._append_account if has_influx else None)
            self._tasks.spawn(following, "rollout")
        await self.connected(_BROKER_S)
        broker = broker_text(self._broker, self.bridge.health())
        return (
            f"gateway started in {process_age_s():.1f} s: broker {broker}, "
            f"console {self.console.url}, state {self.settings.state_dir}"
        )

    async def connected(self, timeout_s: float) -> bool:
        """Wait for the bridge to connect; returns whether it did within the time."""
        deadline = time.monotonic() + timeout_s
        while not self.bridge.health().connected and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self.bridge.health().connected

    async def wait(self) -> None:
        """Wait until a part of the process ends by itself.

        Raises:
            PartFailed: A part ended; the message names it and the reason.
        """
        await self._tasks.wait()

    async def stop(self) -> str:
        """Stop taking messages, drain the pipeline for a limited time, close the files."""
        try:
            self.bridge.stop()
            if self._bridging:
                await asyncio.wait(self._bridging, timeout=10)
            await self._tasks.cancel()
            if self.following is not None:
                await asyncio.to_thread(self.following.end)
            for part in (*self._apps, self.console):
                try:
                    await asyncio.wait_for(part.stop(), 15)
                except Exception:  # the other parts still have to stop
                    log.exception("%s did not stop cleanly", type(part).__name__)
        finally:
            for line in self._explaining:
                await asyncio.to_thread(line.close)
            await asyncio.to_thread(self.students.close)
            for _, sink in self._sinks:
                await asyncio.to_thread(sink.close)
            self.log_file.close()
            self.formats.close()
        totals = self.scoring.stage.counters
        return f"gateway stopped: {totals.readings:,} readings taken, {totals.scored:,} scored"

    def _measures(self) -> list[Measure]:
        following = [] if self.following is None else self.following.measures()
        files = file_measures(self.log_file, self.results)
        return [*self.alerts.measures(), *files, *following]

    def _on_scored(self, batches: Sequence[WindowBatch], scored: Scored) -> None:
        self.alerts.look(scored)
        self.drift.look(scored)
        self.students.contests.on_scored(batches)

    def _store_point(self, point: Point) -> None:
        """Store a point in the results file, and through the log in InfluxDB if there is one.

        Raises:
            SinkError: It is not in the results file, or not in the log.
        """
        self.results.write([point])
        if self.pipeline.influx_url is not None:
            self._points.append(point)

    async def _give_label(self, record: LabelRecord) -> None:
        await self._writer.append([label_log_record(record, self._writer.partitions)])

    async def _append_account(self, value: bytes) -> None:
        await self._writer.append([LogRecord(ACCOUNTS, 0, None, value, now_ms())])

    def _drop_removed_groups(self) -> None:
        """Drop the groups of removed sinks, because they would keep records for ever."""
        for group in self.log_file.groups():
            if group not in self._groups and group != self.recording.group:
                log.warning(
                    "%s is no longer configured; the records it had not read are released", group
                )
                self.log_file.drop_group(group).result()


def _following(
    rollout: RolloutSettings | None, settings: GatewaySettings, ingest: IngestSettings
) -> Following | None:
    if rollout is None or rollout.url is None:
        return None
    from deploy.processes.following import Following  # memory, for those who follow a centre only

    return Following(rollout, settings, ingest)


def _open_log(settings: GatewaySettings, pipeline: PipelineSettings, mqtt_prefix: str) -> SqliteLog:
    def sender(_topic: str, value: bytes | None) -> str:
        return sender_of(value or b"", mqtt_prefix)

    log_file = open_log(
        settings.log_path,
        partitions=pipeline.partitions if "partitions" in pipeline.model_fields_set else None,
        durability=settings.log_durability,
        max_bytes=settings.log_max_mb * 1_000_000,
        retention_ms=round(settings.log_hours * 3_600_000),
        cache_bytes=_LOG_CACHE_BYTES,
        # A long outage of InfluxDB, or of a broker that takes scores, loses scores before the log
        # is full, so scoring never waits.
        soft_groups=frozenset(
            {
                f"{pipeline.app_id}-store-influx",
                f"{pipeline.app_id}-store-mqtt",
                recording_group(pipeline.app_id),
            }
        ),
        sender_of=sender,  # dead letters and late readings have a share of the log, fair to all
    )
    _check_partitions(log_file, log_file.partitions)
    log_file.create_topic(LABELS, compacted=True, retention_bytes=_LABELS_BYTES)
    return log_file


def _page_settings(ingest: IngestSettings) -> PageSettings:
    return PageSettings(
        mqtt_host=ingest.mqtt_host, mqtt_port=ingest.mqtt_port, topic_prefix=ingest.mqtt_prefix
    )


def _check_partitions(log_file: SqliteLog, wanted: int) -> None:
    """Refuse a number of partitions that differs from the log's, because devices would move."""
    found = log_file.topic_partitions(READINGS)
    if found is not None and found != wanted:
        message = (
            f"the log {log_file.path} has {found} partitions, but KPSTREAM_PIPELINE_PARTITIONS is "
            f"{wanted}: set it to {found}, or start with another state folder"
        )
        log_file.close()
        raise LogError(message)


def _sinks(
    results: ResultsFile,
    pipeline: PipelineSettings,
    settings: GatewaySettings,
    ingest: IngestSettings,
) -> list[tuple[str, Sink | LineSink]]:
    sinks: list[tuple[str, Sink | LineSink]] = [("results", results)]
    if settings.scores_mqtt:
        endpoint = endpoint_of(ingest, f"kpstream-scores-{settings.own_name}")
        sinks.append(("mqtt", MqttSink(endpoint)))
    if pipeline.influx_url is not None:
        from pipeline.stores.influx import InfluxSink, influx_connection  # heavy, and rarely needed

        sink = InfluxSink(influx_connection(pipeline), pipeline.influx_bucket)
        sinks.append(("influx", sink))
    return sinks


async def run_gateway(
    settings: GatewaySettings,
    ingest: IngestSettings,
    pipeline: PipelineSettings,
    announce: Callable[[str], None] = print,
    rollout: RolloutSettings | None = None,
) -> int:
    """Run a gateway until SIGINT or SIGTERM; returns the exit code.

    Args:
        settings: Settings of the gateway.
        ingest: Settings of its bridge.
        pipeline: Settings of its agents and stores.
        announce: Receives one line of text at the start and one at the end.
        rollout: Settings of the centre that it follows; None if it follows none.
    """
    make = partial(Gateway, settings, ingest, pipeline, rollout)
    return await run_process("gateway", make, announce)


def main() -> None:
    """Run a gateway with the settings of the environment."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_logging(logging.WARNING)
    settings = GatewaySettings(), IngestSettings(), PipelineSettings()
    sys.exit(asyncio.run(run_gateway(*settings, rollout=RolloutSettings())))


if __name__ == "__main__":
    main()
