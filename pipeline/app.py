"""The Faust apps: one that windows and scores, one per sink that stores.

They are separate apps (consumer groups), so that a slow or absent store never holds the scoring:
scores go to the log first. The same lines run on ``sqlite://`` (gateway) and ``kafka://`` (site).

On Kafka several workers share the partitions, and they move between them. A partition is let go
after a checkpoint, and taken with the state that its last owner left (`pipeline.log.changelog`);
meanwhile nothing is applied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust

from ingest.errors import LogUnavailable
from ingest.topics import (
    ACCOUNTS,
    DEAD_LETTERS,
    LATE,
    MAX_RECORD_BYTES,
    READINGS,
    SCORES,
    device_key,
    partition_of,
)
from pipeline.errors import PipelineError
from pipeline.log.changelog import Changelog, ChangelogRow
from pipeline.scoring.batch import Scored
from pipeline.scoring.stage import ScoringStage, StateTable, now_ms
from pipeline.settings import PipelineSettings
from pipeline.stores.sinks import LineSink, Sink
from pipeline.stores.stage import StoreCounters, StoreStage, prepare_lines, prepare_points
from pipeline.windows.devices import ClosedWindow, Devices, StreamPlan

if TYPE_CHECKING:
    import ssl

__all__ = [
    "KafkaLink",
    "ScoringApp",
    "StoreApp",
    "StoreCounters",
    "create_scoring_app",
    "create_store_app",
]

log = logging.getLogger(__name__)

_SLOW_SINK_S = 5.0
_STATE_RETRY_S = 1.0
_REBALANCE_S = 60.0  # for which the group waits for a member that is busy
_REQUEST_S = 40.0
# A store that waits for its sink takes no records; after this long Kafka's client would leave the
# group, and not come back. The scores are in Kafka for a week. (Kafka counts it in 32 bits of ms.)
_MAX_POLL_S = 20 * 86_400.0
_PRODUCE_S = 600.0  # Kafka may be away for so long before a worker gives up and is restarted


@dataclass(frozen=True, slots=True)
class KafkaLink:
    """What apps on ``kafka://`` need besides the URL (`ingest.kafka` has it).

    Attributes:
        read: ``read(topic, last)``, see `pipeline.log.changelog.ReadUntil`; needed for scoring.
        ssl_context: to speak TLS with; None: without.
    """

    read: Callable[[str, Mapping[int, int]], AsyncIterator[list[ChangelogRow]]]
    ssl_context: ssl.SSLContext | None = None


@dataclass(slots=True)
class ScoringApp:
    """A Faust app whose agent feeds a :class:`ScoringStage`."""

    app: Any
    stage: ScoringStage
    changelog: Changelog | None = None
    """Where window state is kept on Kafka; None on a local log."""

    async def start(self) -> None:
        """Start the app; the agent works once window state is recovered."""
        await self.app.start()

    async def stop(self) -> None:
        """Checkpoint what was applied, commit, stop."""
        await self.app.stop()
        self.stage.close()


@dataclass(slots=True)
class StoreApp:
    """A Faust app that writes scores to one sink, by way of a :class:`StoreStage`."""

    app: Any
    name: str
    stage: StoreStage
    _give_up_at: float = float("inf")

    @property
    def counters(self) -> StoreCounters:
        """What it has done since it started."""
        return self.stage.counters

    async def start(self) -> None:
        """Start the app."""
        self.app.may_not_end = self._may_not_end
        await self.app.start()
        self.app.consumer.may_not_end = self._may_not_end

    async def stop(self) -> None:
        """Finish what was taken and commit; wait for a slow sink 5 s at most, for no absent one.

        What it has not confirmed stays in the log, unacked, and comes again after a restart.
        """
        self._give_up_at = time.monotonic() + _SLOW_SINK_S
        await self.app.stop()
        self.stage.close()

    def _may_not_end(self) -> bool:
        return self.stage.is_away or time.monotonic() > self._give_up_at


def create_scoring_app(
    log_url: str,
    settings: PipelineSettings,
    plans: Callable[[str], StreamPlan | None],
    score: Callable[[Sequence[ClosedWindow]], Scored],
    *,
    data_dir: Path,
    mqtt_prefix: str = "sensors",
    kafka: KafkaLink | None = None,
) -> ScoringApp:
    """Build the app that windows readings and scores closed windows.

    Args:
        log_url: ``sqlite:///path/to/log.db`` or ``kafka://host:port``.
        settings: of the agents.
        plans: finds how a stream is windowed; asked for each batch, so it may change.
        score: scores closed windows; called in one thread of its own.
        data_dir: folder for Faust's own files.
        mqtt_prefix: first levels of the MQTT topics, for the addresses of dead letters.
        kafka: needed where the log is Kafka.
    """
    app = _app(log_url, settings, "score", data_dir, kafka)
    topics = {name: _topic(app, settings, name) for name in (READINGS, SCORES, LATE, DEAD_LETTERS)}
    follow = _follower(app)
    table: StateTable
    changelog = None
    if _is_kafka(log_url):
        if kafka is None:
            message = (
                "scoring on kafka:// needs the way to its changelog: give create_scoring_app one"
            )
            raise PipelineError(message)
        table = changelog = _changelog(app, kafka)
    else:
        table = _FaustTable(app, settings.partitions)
    stage = ScoringStage(
        Devices(plans, table.get),
        score,
        _appender(app),
        table,
        app.crash,
        checkpoint_ms=settings.checkpoint_ms,
        batch_readings=settings.batch_readings,
        mqtt_prefix=mqtt_prefix,
    )

    @app.agent(topics[READINGS], name="score")  # type: ignore[untyped-decorator]
    async def score_readings(stream: Any) -> None:
        working = app.add_future(stage.run())
        try:
            async for event in stream.noack().events():
                await follow(event.message)
                await stage.offer(event)
        finally:
            if app.should_stop:
                working.cancel()

    def partition_of_device(site: str, device: str) -> int:
        return partition_of(device_key(site, device), settings.partitions)

    async def reopen_devices() -> None:
        try:
            stage.devices.restore(table.keys(), partition_of_device)
        except Exception as exc:  # Faust would only note it and go on with half of the devices
            log.exception("window state can't be restored")
            await app.crash(exc)

    @app.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
    async def forget_devices(_app: Any, revoked: Any, **_kwargs: Any) -> None:
        """Another worker goes on with them; by now a checkpoint has saved and acked everything."""
        if changelog is not None:
            stage.hold()
        gone = {tp.partition for tp in revoked if tp.topic == READINGS}
        stage.devices.forget_partitions(gone)

    if isinstance(table, _FaustTable):
        table.on_recover(reopen_devices)
    if changelog is not None:
        _share_partitions(app, stage, changelog, reopen_devices)
    return ScoringApp(app, stage, changelog)


def _share_partitions(
    app: Any,
    stage: ScoringStage,
    changelog: Changelog,
    reopen_devices: Callable[[], Awaitable[None]],
) -> None:
    """Let go of partitions quickly, and take them with their state."""
    stage.hold()
    app.on_rebalance_begin = stage.hurry

    @app.on_partitions_assigned.connect  # type: ignore[untyped-decorator]
    async def take_partitions(_app: Any, assigned: Any, **_kwargs: Any) -> None:
        generation = app.consumer_generation_id
        mine = {tp.partition for tp in assigned if tp.topic == READINGS}
        while not app.should_stop:
            try:
                await changelog.open(mine, generation)
                break
            except LogUnavailable as exc:
                log.warning("window state can't be read yet: %s", exc)
                await asyncio.sleep(_STATE_RETRY_S)
        await reopen_devices()
        changelog.release()
        stage.release()


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

    A batch is acked only after the sink has confirmed it. A sink that is away is tried again for
    as long as it takes; the scores wait in the log. A sink that takes lines also gets what the
    processes say of themselves (topic ``accounts``).

    Args:
        log_url: as for :func:`create_scoring_app`.
        settings: of the agents.
        sink: written in a thread of its own.
        name: of the sink, part of the consumer group.
        data_dir: folder for Faust's own files.
        mqtt_prefix: first levels of the MQTT topics, for the addresses of dead letters.
        kafka: as for :func:`create_scoring_app`.
    """
    app = _app(log_url, settings, f"store-{name}", data_dir, kafka)
    takes_lines = isinstance(sink, LineSink)
    topics = _topic(app, settings, *((SCORES, ACCOUNTS) if takes_lines else (SCORES,)))
    _topic(app, settings, DEAD_LETTERS)
    follow = _follower(app)
    stage = StoreStage(
        name,
        prepare_lines(sink) if isinstance(sink, LineSink) else prepare_points(sink),
        _appender(app),
        app.crash,
        batch_points=settings.store_batch,
        linger_ms=settings.store_linger_ms,
        mqtt_prefix=mqtt_prefix,
    )

    @app.agent(topics, name=f"store-{name}")  # type: ignore[untyped-decorator]
    async def store_scores(stream: Any) -> None:
        working = app.add_future(stage.run())
        try:
            async for event in stream.noack().events():
                await follow(event.message)
                await stage.offer(event)
        finally:
            if app.should_stop:
                working.cancel()

    return StoreApp(app, name, stage)


class _FaustTable:
    """Window state in a changelogged Faust table, written per checkpoint.

    Faust allows assignment to a table only while a stream event is current, and would write one
    changelog record per reading; a checkpoint belongs to no single event. So rows go to the store
    and to the changelog, the two parts that assignment is made of, past the producer's buffer:
    that is made for a hundred records, a checkpoint may have one per device.
    """

    def __init__(self, app: Any, partitions: int) -> None:
        self._app = app
        self._table = app.Table("windows", partitions=partitions, key_type=bytes, value_type=bytes)
        self.on_recover = self._table.on_recover

    def get(self, key: str) -> bytes | None:
        value = self._table.data.get(key.encode())
        return None if value is None else bytes(value)

    def keys(self) -> list[str]:
        return [bytes(key).decode() for key in self._table.data]

    async def write(self, rows: Sequence[tuple[int, str, bytes]]) -> None:
        topic, at_s = self._table.changelog_topic_name, now_ms() / 1000
        sent = []
        for partition, name, value in rows:
            key = name.encode()
            self._table.data[key] = value
            sent.append(await self._app.producer.send(topic, key, value, partition, at_s, None))
        for confirmation in sent:
            await confirmation


def _appender(app: Any) -> Callable[[str, int, bytes], Awaitable[Awaitable[object]]]:
    async def append(topic: str, partition: int, value: bytes) -> Awaitable[object]:
        future: Awaitable[object] = await app.producer.send(
            topic, None, value, partition, now_ms() / 1000, None
        )
        return future

    return append


def _topic(app: Any, settings: PipelineSettings, *names: str) -> Any:
    return app.topic(
        *names, partitions=settings.partitions, key_serializer="raw", value_serializer="raw"
    )


def _changelog(app: Any, kafka: KafkaLink) -> Changelog:
    """The rows of window state in Kafka, sent by the app's own producer."""
    topic = f"{app.conf.id}-windows-changelog"

    async def send(partition: int, key: bytes, value: bytes | None) -> Awaitable[int]:
        sent = await app.producer.send(topic, key, value, partition, now_ms() / 1000, None)
        return _offset(sent)

    return Changelog(send, partial(kafka.read, topic))


async def _offset(sent: Awaitable[Any]) -> int:
    return int((await sent).offset)


def _follower(app: Any) -> Callable[[Any], Awaitable[None]]:
    """What an agent tells of each record before it uses it."""
    if not _is_kafka(str(app.conf.broker[0])):
        return _pass
    from pipeline.log.kafkatransport import follow

    return partial(follow, app)


async def _pass(_message: Any) -> None:
    """The local log has its own ways (`pipeline.log.sqlitetransport`)."""


def _is_kafka(log_url: str) -> bool:
    return log_url.startswith("kafka://")


def _app(
    log_url: str,
    settings: PipelineSettings,
    role: str,
    data_dir: Path,
    kafka: KafkaLink | None = None,
) -> Any:
    scheme = log_url.partition("://")[0]
    if scheme not in {"sqlite", "kafka"}:
        message = f"log URL {log_url!r}: use sqlite:///path/to/log.db or kafka://host:port"
        raise PipelineError(message)
    kind, options = faust.App, {}
    if _is_kafka(log_url):
        from pipeline.log.kafkatransport import KafkaApp

        kind, options = KafkaApp, _kafka_options(settings, kafka)
    return kind(
        f"{settings.app_id}-{role}",
        broker=log_url,
        datadir=str(_made(data_dir / role)),
        store="memory://",
        autodiscover=False,
        origin=None,
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        stream_wait_empty=True,  # off, Faust would ack unfinished work at every stop
        stream_buffer_maxsize=64,  # records are bundles of many messages
        broker_commit_interval=1.0,
        producer_acks=-1,
        producer_linger=0.005,
        producer_max_batch_size=131_072,
        worker_redirect_stdouts=False,
        **options,
    )


def _kafka_options(settings: PipelineSettings, kafka: KafkaLink | None) -> dict[str, Any]:
    """Of the group, in seconds: a worker that died is missed after `broker_session_timeout`."""
    options: dict[str, Any] = {
        "topic_allow_declare": False,  # `ingest.kafka.create_topics` makes them, with settings
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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
