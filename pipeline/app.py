"""The Faust apps: one that windows and scores, one per sink that stores.

They are separate apps (consumer groups), so that a slow or unavailable store never delays scoring;
scores go to the log first. The same code runs on ``sqlite://`` (gateway) and ``kafka://`` (site).

On Kafka several workers share the partitions, which move between them. A worker gives up a
partition after a checkpoint, and takes one over with the state of its last owner
(`pipeline.log.changelog`); no record is applied in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from ingest.clock import now_ms, steady_ms
from ingest.errors import LogUnavailable
from ingest.secrettext import error_text
from ingest.topics import (
    ACCOUNTS,
    DEAD_LETTERS,
    LABELS,
    LATE,
    MAX_RECORD_BYTES,
    READINGS,
    SCORES,
    device_key,
    partition_of,
)
from pipeline.errors import PipelineError
from pipeline.log.changelog import Changelog, ChangelogRow
from pipeline.log.monitor import QuietMonitor
from pipeline.log.statetable import LogTable
from pipeline.scoring.anchoring import AnchorsOf
from pipeline.scoring.batch import OnScored, Rescue, Scorer, score_and_report
from pipeline.scoring.quality import QualityChecks
from pipeline.scoring.stage import ScoringStage, TurnWindows
from pipeline.settings import PipelineSettings
from pipeline.stage import agent_of, appender
from pipeline.status.progress import Recovery
from pipeline.stores.prepared import prepare_lines, prepare_points
from pipeline.stores.sinks import LineSink, Sink
from pipeline.stores.stage import StoreCounters, StoreStage
from pipeline.windows.devices import Devices, Plans, device_limits

if TYPE_CHECKING:
    import ssl

__all__ = [
    "KafkaLink",
    "ScoringApp",
    "StoreApp",
    "create_scoring_app",
    "create_store_app",
]

log = logging.getLogger(__name__)

_SLOW_SINK_S = 5.0
"""Time for which a stop waits for a sink that is writing."""
_START_S = 5.0
"""Time for which a stop waits for a start in progress."""
_STATE_RETRY_S = 1.0
_GATHER_MS = 150
"""A worker's rhythm while little comes. A score leaves after the lateness of its window anyway."""
_REBALANCE_S = 60.0
"""Time for which the group waits for a busy member."""
_REQUEST_S = 40.0
_MAX_POLL_S = 20 * 86_400.0
"""Time without a record taken after which Kafka's client leaves the group permanently.

A store takes none while it waits for its sink, and the scores stay in Kafka for a week. Kafka
counts the limit in 32 bits of milliseconds.
"""
_PRODUCE_S = 600.0
"""Longest outage of Kafka before a worker stops and is restarted."""


@dataclass(frozen=True, slots=True)
class KafkaLink:
    """Requirements of apps on ``kafka://`` besides the URL; `ingest.kafka` provides them.

    Attributes:
        read: ``read(topic, last)``, see `pipeline.log.changelog.ReadUntil`; needed for scoring.
        ssl_context: TLS context; None: no TLS.
    """

    read: Callable[[str, Mapping[int, int]], AsyncIterator[list[ChangelogRow]]]
    ssl_context: ssl.SSLContext | None = None


@dataclass(slots=True)
class ScoringApp:
    """A Faust app whose agent feeds a :class:`ScoringStage`.

    Attributes:
        changelog: The window state on Kafka; None on a local log.
        table: The window state on a local log; None on Kafka.
        recovery: How far the window state is read.
    """

    app: Any
    stage: ScoringStage
    changelog: Changelog | None = None
    table: LogTable | None = None
    recovery: Recovery = field(default_factory=Recovery)
    _starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the app; the agent works once window state is recovered."""
        self._starting = asyncio.get_running_loop().create_task(self.app.start())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Take a last checkpoint, commit, stop; an unfinished start is finished first."""
        await _finish(self._starting)
        await self.app.stop()
        self.stage.close()
        if self.table is not None:
            await self.table.close()


@dataclass(slots=True)
class StoreApp:
    """A Faust app whose agent feeds a :class:`StoreStage` with one sink."""

    app: Any
    name: str
    stage: StoreStage
    _give_up_at: float = float("inf")
    _starting: asyncio.Task[None] | None = None

    @property
    def counters(self) -> StoreCounters:
        """Counters of the stage since its start."""
        return self.stage.counters

    async def start(self) -> None:
        """Start the app."""
        self.app.may_not_end = self._may_not_end
        self._starting = asyncio.get_running_loop().create_task(self.app.start())
        await asyncio.shield(self._starting)
        self.app.consumer.may_not_end = self._may_not_end

    async def stop(self) -> None:
        """Finish the batch in progress and commit; an unfinished start is finished first.

        Waits at most 5 s for a slow sink and not at all for an unavailable one. Records that it has
        not confirmed stay in the log, unacknowledged, and are read again after a restart.
        """
        await _finish(self._starting)
        self._give_up_at = time.monotonic() + _SLOW_SINK_S
        await self.app.stop()
        self.stage.close()

    def _may_not_end(self) -> bool:
        return self.stage.is_away or time.monotonic() > self._give_up_at


async def _finish(starting: asyncio.Task[None] | None) -> None:
    """Let the start of a Faust app end, because half-started services do not stop cleanly."""
    if starting is None:
        return
    await asyncio.wait({starting}, timeout=_START_S)
    starting.cancel()  # no effect on one that has ended
    await asyncio.wait({starting}, timeout=_START_S)
    if starting.done() and not starting.cancelled() and (error := starting.exception()) is not None:
        log.info("the start that was interrupted failed: %s", error_text(error, named=True))


def create_scoring_app(
    log_url: str,
    settings: PipelineSettings,
    plans: Plans,
    student_of: Callable[[str], Scorer | None],
    *,
    data_dir: Path,
    mqtt_prefix: str = "sensors",
    kafka: KafkaLink | None = None,
    on_scored: OnScored | None = None,
    rescue: Rescue | None = None,
    turn: TurnWindows | None = None,
    anchors: AnchorsOf | None = None,
) -> ScoringApp:
    """Build the app that windows readings and scores closed windows.

    Args:
        log_url: ``sqlite:///path/to/log.db`` or ``kafka://host:port``.
        settings: Settings of the agents.
        plans: Finds how a stream is windowed; called for each batch, so the answer may change.
        student_of: Finds the student of a stream; called in the one scoring thread.
        data_dir: Folder for Faust's own files.
        mqtt_prefix: First levels of the MQTT topics, for the addresses of dead letters.
        kafka: Required where the log is Kafka.
        on_scored: Called in the scoring thread with each batch; it must return at once and never
            raise.
        rescue: Finds a student in place of one that fails; called in the scoring thread.
        turn: Turns the windows of devices that are mounted otherwise.
        anchors: Finds the anchors from examples of a student; called in the scoring thread.

    Raises:
        PipelineError: The URL names no log, or `kafka` is missing.
    """
    app = _create_app(log_url, settings, "score", data_dir, kafka)
    topics = {name: _topic(app, settings, name) for name in (READINGS, SCORES, LATE, DEAD_LETTERS)}
    table: LogTable | Changelog
    if _is_kafka(log_url):
        table = _create_changelog(app, kafka)
    else:
        table = _create_table(app, settings.partitions)
    stage = ScoringStage(
        Devices(plans, table.get, device_limits(settings.max_devices, settings.device_days)),
        partial(
            score_and_report,
            student_of,
            on_scored,
            rescue=rescue,
            checks=QualityChecks(),
            anchors=anchors,
        ),
        appender(app),
        table,
        app.crash,
        checkpoint_ms=settings.checkpoint_ms,
        batch_readings=settings.batch_readings,
        mqtt_prefix=mqtt_prefix,
        turn=turn,
    )
    _add_agent(app, "score", topics[READINGS], agent_of(app, stage, (READINGS,)))

    recovery = Recovery()
    restore = partial(_restore_devices, app, stage, recovery, settings.partitions)
    if isinstance(table, LogTable):
        _forget_revoked(app, stage, holds=False)
        _take_partitions(app, stage, table, restore)
        return ScoringApp(app, stage, table=table, recovery=recovery)
    _forget_revoked(app, stage, holds=True)
    _share_partitions(app, stage, table, restore)
    return ScoringApp(app, stage, table, recovery=recovery)


def create_store_app(
    log_url: str,
    settings: PipelineSettings,
    sink: Sink | LineSink,
    name: str,
    *,
    data_dir: Path,
    mqtt_prefix: str = "sensors",
    kafka: KafkaLink | None = None,
) -> StoreApp:
    """Build the app that stores scores in ``sink``, under its own consumer group.

    A batch is acked only after the sink has confirmed it. An unavailable sink is retried without
    limit, while the scores wait in the log. A sink that takes lines also gets the accounts of the
    processes (topic ``accounts``).

    Args:
        log_url: As for :func:`create_scoring_app`.
        settings: Settings of the agents.
        sink: Written to in a thread of its own.
        name: Name of the sink, part of the consumer group.
        data_dir: Folder for Faust's own files.
        mqtt_prefix: First levels of the MQTT topics, for the addresses of dead letters.
        kafka: As for :func:`create_scoring_app`.
    """
    app = _create_app(log_url, settings, f"store-{name}", data_dir, kafka)
    takes_lines = isinstance(sink, LineSink)
    accounts = (ACCOUNTS,) if takes_lines else ()
    topics = _topic(app, settings, SCORES, LABELS, *accounts)
    _topic(app, settings, DEAD_LETTERS)
    stage = StoreStage(
        name,
        prepare_lines(sink) if isinstance(sink, LineSink) else prepare_points(sink),
        appender(app),
        app.crash,
        batch_points=settings.store_batch,
        linger_ms=settings.store_linger_ms,
        mqtt_prefix=mqtt_prefix,
    )
    agent = agent_of(app, stage, (SCORES, LABELS, *accounts))
    _add_agent(app, f"store-{name}", topics, agent)
    return StoreApp(app, name, stage)


# -- window state and moving partitions -----------------------------------------------------


async def _restore_devices(
    app: Any,
    stage: ScoringStage,
    recovery: Recovery,
    partitions: int,
    parts: AsyncIterator[list[str]],
) -> None:
    """Open all saved devices, so that idle ones get ticks; crash the app if that fails."""

    def partition_of_device(site: str, device: str) -> int:
        return partition_of(device_key(site, device), partitions)

    recovery.begin(steady_ms())
    try:
        async for names in parts:
            stage.devices.restore_some(names, partition_of_device)
            if recovery.note(len(stage.devices), steady_ms()):
                log.warning("%s", recovery.problem)
            await asyncio.sleep(0)  # the console tells how far it is
        stage.devices.end_restore()
    except Exception as exc:  # Faust would only log it and continue with some of the devices
        log.exception("cannot restore the window state")
        await app.crash(exc)
    recovery.end(steady_ms())
    log.info("%d devices have their windows after %.1f s", recovery.devices, recovery.seconds)


def _take_partitions(
    app: Any,
    stage: ScoringStage,
    table: LogTable,
    restore: Callable[[AsyncIterator[list[str]]], Awaitable[None]],
) -> None:
    """Read the window state on a local log before the first record."""
    stage.hold()

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def take_partitions(_app: Any, assigned: Any, **_kwargs: Any) -> None:
        await restore(table.read({tp.partition for tp in assigned if tp.topic == READINGS}))
        stage.release()


def _forget_revoked(app: Any, stage: ScoringStage, *, holds: bool) -> None:
    """Drop devices of revoked partitions; a checkpoint has saved and acked them.

    Args:
        app: The Faust app.
        stage: The stage of the app.
        holds: Whether the stage holds until the state of its new partitions is loaded.
    """

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget_devices(_app: Any, revoked: Any, **_kwargs: Any) -> None:
        if holds:
            stage.hold()
        stage.devices.forget_partitions({tp.partition for tp in revoked if tp.topic == READINGS})


def _share_partitions(
    app: Any,
    stage: ScoringStage,
    changelog: Changelog,
    restore: Callable[[AsyncIterator[list[str]]], Awaitable[None]],
) -> None:
    """Give up partitions quickly, and take them over with their state."""
    stage.hold()
    app.gather_ms = _GATHER_MS
    app.on_rebalance_begin = stage.hurry

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def take_partitions(_app: Any, assigned: Any, **_kwargs: Any) -> None:
        generation = app.consumer_generation_id
        partitions = {tp.partition for tp in assigned if tp.topic == READINGS}
        while not app.should_stop:
            try:
                await changelog.open(partitions, generation)
                break
            except LogUnavailable as exc:
                log.warning("cannot read the window state yet: %s", exc)
                await asyncio.sleep(_STATE_RETRY_S)
        await restore(changelog.parts())
        changelog.release()
        stage.release()


def _create_table(app: Any, partitions: int) -> LogTable:
    """The rows of window state in the local log of an app."""
    topic = f"{app.conf.id}-windows-changelog"
    return LogTable(topic, partitions, lambda: app.transport.open(), lambda: app.should_stop)


def _create_changelog(app: Any, kafka: KafkaLink | None) -> Changelog:
    """The rows of window state in Kafka, sent by the app's own producer."""
    if kafka is None:
        message = "scoring on kafka:// reads its changelog: pass kafka= to create_scoring_app"
        raise PipelineError(message)
    topic = f"{app.conf.id}-windows-changelog"

    async def send(partition: int, key: bytes, value: bytes | None) -> Awaitable[int]:
        sent = await app.producer.send(topic, key, value, partition, now_ms() / 1000, None)
        return _offset(sent)

    return Changelog(send, partial(kafka.read, topic))


async def _offset(sent: Awaitable[Any]) -> int:
    return int((await sent).offset)


# -- the Faust app --------------------------------------------------------------------------


def _create_app(
    log_url: str, settings: PipelineSettings, role: str, data_dir: Path, kafka: KafkaLink | None
) -> Any:
    scheme = log_url.partition("://")[0]
    if scheme not in {"sqlite", "kafka"}:
        message = f"log URL {log_url!r}: use sqlite:///path/to/log.db or kafka://host:port"
        raise PipelineError(message)
    app_type: type[faust.App]
    options: dict[str, Any] = {}
    if _is_kafka(log_url):
        from pipeline.log.kafkatransport import KafkaApp

        app_type, options = KafkaApp, _kafka_options(settings, kafka)
    else:
        from pipeline.log.sqlitetransport import LocalApp

        app_type = LocalApp
    folder = data_dir / role
    folder.mkdir(parents=True, exist_ok=True)
    return app_type(
        f"{settings.app_id}-{role}",
        broker=log_url,
        datadir=str(folder),
        store="memory://",
        autodiscover=False,
        origin=None,
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        TableManager="pipeline.log.tablemanager:PromptTableManager",
        stream_wait_empty=True,  # if off, Faust acks unfinished work at every stop
        stream_buffer_maxsize=64,  # a record holds many messages
        broker_commit_interval=1.0,
        producer_acks=-1,
        producer_linger=0.005,
        producer_max_batch_size=131_072,
        worker_redirect_stdouts=False,
        Monitor=QuietMonitor,
        **options,
    )


def _kafka_options(settings: PipelineSettings, kafka: KafkaLink | None) -> dict[str, Any]:
    """Group settings, in seconds; a dead worker is noticed after `broker_session_timeout`."""
    options: dict[str, Any] = {
        "topic_allow_declare": False,  # `ingest.kafka.create_topics` creates them with settings
        "broker_session_timeout": settings.session_ms / 1000,
        "broker_heartbeat_interval": settings.session_ms / 10_000,
        "broker_rebalance_timeout": _REBALANCE_S,
        "broker_max_poll_interval": _MAX_POLL_S,
        "broker_request_timeout": max(_REQUEST_S, settings.session_ms / 1000),
        "producer_request_timeout": _PRODUCE_S,
        "producer_max_request_size": MAX_RECORD_BYTES,
    }
    if kafka is not None and kafka.ssl_context is not None:
        options["broker_credentials"] = faust.SSLCredentials(kafka.ssl_context)
    return options


def _topic(app: Any, settings: PipelineSettings, *names: str) -> Any:
    return app.topic(
        *names, partitions=settings.partitions, key_serializer="raw", value_serializer="raw"
    )


def _add_agent(app: Any, name: str, topics: Any, body: Any) -> None:
    """Add an agent as ``app.agent`` does, without its look for the file of the body.

    Faust wants the file for autodiscovery. To find it, it resolves the path of each module that is
    loaded, which takes longer than all else that is done for an app.
    """
    agent = app.conf.Agent(body, name=name, app=app, channel=topics)
    app.agents[agent.name] = agent


def _is_kafka(log_url: str) -> bool:
    return log_url.startswith("kafka://")
