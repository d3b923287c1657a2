"""One gateway process: bridge, scoring, stores, console page, composed from the parts.

```
MQTT broker -> Bridge -> log (SQLite) -> scoring app -> log -> store apps -> results file, InfluxDB
                                             ^ students <- ModelWatch <- registry folder
console page  <- RunningGateway (a view of all of it, from memory)
```

The parts start from the end of the line to its beginning and stop the other way round, so that
nothing is taken from the broker before it can be scored, and everything taken is scored or safely
in the log when the process ends. A part that fails for good ends the process with exit code 1 and
its reason: nothing was confirmed that is not durable, and the supervisor restarts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from deploy.settings import GatewaySettings
from deploy.view import RunningGateway
from ingest.bridge import Bridge, LogRecord
from ingest.errors import LogUnavailable
from ingest.messages import Tick
from ingest.settings import IngestSettings
from ingest.topics import READINGS
from models.artifact import read_artifact
from models.errors import ModelError
from models.manifest import Manifest
from models.registry import Registry
from models.zoo import STARTERS, zoo_path
from pipeline.agents import now_ms
from pipeline.app import ScoringApp, StoreApp, create_scoring_app, create_store_app
from pipeline.console import Console, create_console
from pipeline.devices import ClosedWindow, StreamPlan
from pipeline.errors import LogError
from pipeline.locallog import SqliteLog, open_log
from pipeline.pages import PageSettings
from pipeline.results import ResultsFile
from pipeline.rollover import ModelWatch
from pipeline.scoring import Scored, score_windows
from pipeline.settings import PipelineSettings
from pipeline.sinks import Sink
from pipeline.windows import WindowSpec

if TYPE_CHECKING:
    from ingest.sparkplug import Sparkplug

__all__ = ["Gateway", "GatewayFailed", "LocalLogWriter", "main", "run_gateway", "stream_plan"]

log = logging.getLogger(__name__)


class GatewayFailed(Exception):
    """A part of the gateway gave up; the message names it and says what to do."""


class LocalLogWriter:
    """The gateway's own log as the bridge sees it."""

    def __init__(self, log_file: SqliteLog, partitions: int) -> None:
        self.partitions = partitions
        self._log = log_file

    async def append(self, records: Sequence[LogRecord]) -> None:
        """Append; returns when all records are durable.

        Raises:
            LogUnavailable: The log is full or its disk fails; try again.
        """
        try:
            await asyncio.wrap_future(self._log.append(records))
        except LogError as exc:
            raise LogUnavailable(str(exc)) from exc


class Gateway:
    """All parts of one gateway process, built from settings and started together."""

    def __init__(
        self, settings: GatewaySettings, ingest: IngestSettings, pipeline: PipelineSettings
    ) -> None:
        """Open the files and build the parts; nothing runs before :meth:`start`.

        Raises:
            IngestError: The Sparkplug mapping or its state file can't be used.
            LogError: The log can't be used; the message says what to do.
            ResultsCorrupted: The same for the results file.
        """
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self.pipeline = pipeline
        self.sparkplug = _sparkplug(ingest, settings)
        self.registry = Registry(settings.registry_path)
        _seed_starters(self.registry)
        self.log_file = open_log(
            settings.log_path,
            partitions=pipeline.partitions,
            durability=settings.log_durability,
            max_bytes=settings.log_max_mb * 1_000_000,
            retention_ms=round(settings.log_hours * 3_600_000),
            cache_bytes=_LOG_CACHE_BYTES,
            # Away for long, it lets go of scores before the log is full: scoring never waits.
            soft_groups=frozenset({f"{pipeline.app_id}-store-influx"}),
        )
        _check_partitions(self.log_file, pipeline.partitions)
        self.results = ResultsFile(
            pipeline.results_path(settings.state_dir),
            max_age_ms=round(pipeline.results_days * 86_400_000),
            max_bytes=pipeline.results_max_mb * 1_000_000,
        )
        running = settings.state_dir / "running.json"
        self.models = ModelWatch(self.registry, now_ms, memory=running)
        writer = LocalLogWriter(self.log_file, pipeline.partitions)
        self.bridge = Bridge(ingest, writer, decoder=self.sparkplug)
        data_dir = settings.state_dir / "faust"
        self.scoring = create_scoring_app(
            settings.log_url,
            pipeline,
            self._plan,
            self._score,
            data_dir=data_dir,
            mqtt_prefix=ingest.mqtt_prefix,
        )
        self.stores = [
            create_store_app(settings.log_url, pipeline, sink, name, data_dir=data_dir)
            for name, sink in _sinks(self.results, pipeline)
        ]
        self.view = RunningGateway(
            self.bridge, self.scoring, self.stores, self.models, self.log_file, now_ms
        )
        if self.sparkplug is not None:
            self.view.also["sparkplug"] = self.sparkplug.status
        self.console: Console = create_console(
            self.view,
            self.results,
            settings.console_host,
            settings.console_port,
            allowed_hosts=settings.console_hosts,
            settings=PageSettings(
                mqtt_host=ingest.mqtt_host,
                mqtt_port=ingest.mqtt_port,
                topic_prefix=ingest.mqtt_prefix,
            ),
        )
        self._apps: list[ScoringApp | StoreApp] = [self.scoring, *self.stores]
        self._drop_removed_groups()
        self._plans: dict[str, StreamPlan] = {}
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Start everything; returns when readings flow."""
        self.models.poll()
        await self.console.start()
        await asyncio.gather(*(part.start() for part in self._apps))
        self._spawn(self.bridge.run(), "bridge")
        self._spawn(self._tick(), "ticks")
        self._spawn(self._watch_models(), "models")
        for part in self._apps:
            self._spawn(_until_crashed(part), f"app {part.app.conf.id}")

    async def connected(self, timeout_s: float) -> bool:
        """Whether the bridge is connected, given so much time."""
        deadline = time.monotonic() + timeout_s
        while not self.bridge.health().connected and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self.bridge.health().connected

    async def wait(self) -> None:
        """Return when a part has ended by itself.

        Raises:
            GatewayFailed: With the part and its reason.
        """
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._tasks if task in done]:  # the bridge's reason first
            reason = task.exception() if not task.cancelled() else None
            message = f"{task.get_name()} ended: {reason or 'without a reason'}"
            raise GatewayFailed(message) from reason

    async def stop(self) -> None:
        """Stop taking messages, let the line run dry (bounded), checkpoint, stop."""
        try:
            self.bridge.stop()
            bridge = [t for t in self._tasks if t.get_name() == "bridge"]
            await _settled(bridge, timeout_s=10)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for part in (*self._apps, self.console):
                try:
                    await asyncio.wait_for(part.stop(), 15)
                except Exception:  # the others still have to stop
                    log.exception("%s did not stop cleanly", type(part).__name__)
        finally:
            self.results.close()
            self.log_file.close()
            if self.sparkplug is not None:
                self.sparkplug.close()

    def _drop_removed_groups(self) -> None:
        """A sink that is configured no more must not hold the log until it is full."""
        configured = {part.app.conf.id for part in self._apps}
        for group in self.log_file.groups():
            if group not in configured:
                log.warning("%s is configured no more: what it had not read is let go", group)
                self.log_file.drop_group(group).result()

    # -- seams ------------------------------------------------------------------------------

    def _plan(self, stream: str) -> StreamPlan | None:
        student = self.models.student_of(stream)
        if student is None:
            return None
        plan = self._plans.get(student.digest)
        if plan is None:
            plan = self._plans[student.digest] = stream_plan(student.manifest, self.pipeline)
        return plan

    def _score(self, closed: Sequence[ClosedWindow]) -> Scored:
        return score_windows(closed, self.models.student_of, now_ms())

    async def _tick(self) -> None:
        """Put processing time into the log for partitions with readings that wait for it."""
        while True:
            await asyncio.sleep(self.pipeline.tick_ms / 1000)
            partitions = self.scoring.stage.devices.pending_partitions()
            since = self.bridge.connected_since_ms
            if partitions and since is not None:
                await self.bridge.append_tick(partitions, Tick(now_ms(), since))

    async def _watch_models(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.settings.model_poll_ms / 1000)
            await loop.run_in_executor(None, self.models.poll)

    def _spawn(self, coroutine: Any, name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(coroutine, name=name))


def stream_plan(manifest: Manifest, settings: PipelineSettings) -> StreamPlan:
    """How a stream is windowed: shape from the manifest, tolerance of disorder from settings."""
    window = manifest.window
    return StreamPlan(
        manifest.name,
        manifest.channel_names,
        WindowSpec(
            length=window.length,
            hop=window.hop,
            min_readings=window.min_readings,
            gap_ms=window.gap_ms,
            lateness_ms=settings.lateness_ms,
            idle_ms=settings.idle_ms,
            future_ms=settings.future_ms,
        ),
    )


def _sparkplug(ingest: IngestSettings, settings: GatewaySettings) -> Sparkplug | None:
    if ingest.sparkplug is None:
        return None
    from ingest.sparkplug import sparkplug_of  # protobuf, which few gateways need

    return sparkplug_of(ingest, settings.state_dir)


def _seed_starters(registry: Registry) -> None:
    """Publish a starter student unless something in the registry scores its stream already."""
    scored = set()
    for name in registry.names():
        with contextlib.suppress(ModelError):  # a damaged one is reported when it is to run
            pointer = registry.read_stable(name)
            if pointer is not None:
                scored.add(registry.read(name, pointer.version).manifest.stream)
    for name in STARTERS:
        if read_artifact(zoo_path(name)).manifest.stream not in scored:
            registry.seed(zoo_path(name))


def _check_partitions(log_file: SqliteLog, wanted: int) -> None:
    """Refuse another number of partitions than the log was made with: devices would move."""
    found = log_file.topic_partitions(READINGS)
    if found is not None and found != wanted:
        message = (
            f"the log {log_file.path} has {found} partitions, KPSTREAM_PIPELINE_PARTITIONS is "
            f"{wanted}: set it back, or start with another state folder"
        )
        log_file.close()
        raise LogError(message)


def _sinks(results: ResultsFile, pipeline: PipelineSettings) -> list[tuple[str, Sink]]:
    sinks: list[tuple[str, Sink]] = [("results", results)]
    if pipeline.influx_url is not None:
        from pipeline.influx import InfluxSink, influx_connection  # heavy, and rarely needed

        sink = InfluxSink(influx_connection(pipeline), pipeline.influx_bucket)
        sinks.append(("influx", sink))
    return sinks


async def _until_crashed(part: ScoringApp | StoreApp) -> None:
    while not part.app.crashed:
        await asyncio.sleep(0.2)
    raise part.app.crash_reason or GatewayFailed("the app crashed")


async def _settled(tasks: Sequence[asyncio.Task[Any]], timeout_s: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=timeout_s)


async def run_gateway(
    settings: GatewaySettings,
    ingest: IngestSettings,
    pipeline: PipelineSettings,
    announce: Callable[[str], None] = print,
) -> int:
    """Run a gateway until SIGINT or SIGTERM; returns the exit code."""
    started = time.perf_counter()
    _use_one_arena()
    gateway = Gateway(settings, ingest, pipeline)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():  # asked twice: at once. Nothing unacknowledged is lost by it.
            os._exit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    code = 0
    try:
        await gateway.start()
        _put_start_up_aside()
        broker = f"{ingest.mqtt_host}:{ingest.mqtt_port}"
        if not await gateway.connected(_BROKER_S):
            broker += f" does NOT answer yet ({gateway.bridge.health().error})"
        announce(
            f"gateway started in {time.perf_counter() - started:.1f} s: broker {broker}, "
            f"console {gateway.console.url}, state {settings.state_dir}"
        )
        waiting = loop.create_task(gateway.wait())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            code = 1
            print(f"kpstream gateway: {waiting.exception()}", file=sys.stderr)
        for task in (waiting, stopping):
            task.cancel()
    finally:
        _exit_within(_STOP_S, code)
        await gateway.stop()
        totals = gateway.scoring.stage.counters
        announce(f"gateway stopped: {totals.readings:,} readings taken, {totals.scored:,} scored")
    return code


def _exit_within(seconds: float, code: int) -> None:
    """End the process if stopping hangs: a supervisor must be able to start it again."""

    def give_up() -> None:
        log.error("stopping took more than %.0f s: ending at once, a restart goes on", seconds)
        os._exit(code or 1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _use_one_arena() -> None:
    """Let all threads allocate from one heap: glibc's heap per thread costs a gateway megabytes."""
    with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to do
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _put_start_up_aside() -> None:
    """What start-up made stays: don't scan it at every collection, and give its scraps back."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


_M_ARENA_MAX = -8  # malloc.h
_LOG_CACHE_BYTES = 2 * 1024**2  # every reader here is at the tail, and memory is small
_BROKER_S = 3.0
_STOP_S = 40.0


def main() -> None:
    """Run a gateway with the settings of the environment."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    sys.exit(asyncio.run(run_gateway(GatewaySettings(), IngestSettings(), PipelineSettings())))


if __name__ == "__main__":
    main()
