"""A small gateway: everything that follows a centre, and a steady stream of windows to score."""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.processes.following import Following
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.settings.settings import GatewaySettings
from ingest.clock import now_ms
from ingest.settings import IngestSettings
from pipeline.scoring.batch import score_and_report
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from tests.fakes.scores import batches_of, records_of
from tests.rollout.feed import SHAPES, Feed
from tests.rollout.ledger import Ledger

__all__ = ["LEDGER", "LOG", "GatewayConfig", "run_gateway"]

LEDGER, LOG = "ledger.jsonl", "log.txt"


@dataclass(frozen=True)
class GatewayConfig:
    """One small gateway.

    Attributes:
        name: Its name.
        folder: Its state folder, with a registry in it.
        url: The repository, through the gateway's own line.
        root: The pinned root.
        mqtt_port: The broker, through the gateway's own line.
        seed: Seed of its windows.
        batch: Windows of each stream in a batch.
        every_s: Seconds between two batches.
        interval_s: Seconds between two looks at the centre.
    """

    name: str
    folder: str
    url: str
    root: str
    mqtt_port: int
    seed: int
    batch: int = 10
    every_s: float = 0.5
    interval_s: int = 60


def run_gateway(config: GatewayConfig) -> None:
    """Run until SIGTERM."""
    logging.basicConfig(
        filename=Path(config.folder) / LOG,
        level=logging.INFO,
        format="%(asctime)s %(name)s %(message)s",
        force=True,
    )
    asyncio.run(_SmallGateway(config).run())


class _SmallGateway:
    def __init__(self, config: GatewayConfig) -> None:
        state = Path(config.folder)
        self.config, self.state = config, state
        settings = GatewaySettings(state_dir=state, name=config.name, model_poll_ms=500)
        rollout = RolloutSettings(
            url=config.url,
            root_file=Path(config.root),
            interval_s=config.interval_s,
            report_s=5,
            mqtt_host="127.0.0.1",
            mqtt_port=config.mqtt_port,
        )
        self.ledger = Ledger(state / LEDGER)
        self.feeds = [Feed(name, config.seed, self.ledger.next[name]) for name in SHAPES]
        # From here on in the order of `deploy.processes.gateway`.
        self.following = Following(rollout, settings, IngestSettings())
        self.students = Students(
            settings.registry_path,
            state / "running.json",
            PipelineSettings(),
            self.following.rejected(),
        )
        self.following.follow(self.students)
        assert self.following.agent is not None
        self.following.agent.prepare()
        self._note_failures()
        self.new_scored = 0
        self.line = ThreadPoolExecutor(1, "score")

    def _note_failures(self) -> None:
        """Note when a challenger failed: from then on the clock of the fall back runs."""
        contests = self.students.contests
        wake = contests.on_failed

        def note(name: str, reason: str) -> None:
            self.ledger.note("failed", now_ms(), student=name, reason=reason)
            wake(name, reason)

        contests.on_failed = note

    async def run(self) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        await loop.run_in_executor(None, self.students.models.poll)
        self.ledger.note("started", now_ms())
        tasks = [
            loop.create_task(self.students.watch(500)),
            loop.create_task(self.following.run(None)),
            loop.create_task(self._feed()),
        ]
        stop = loop.create_task(stopping.wait())
        done, _ = await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that ended by itself ends the gateway
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.following.end()
        self.line.shutdown()
        self.students.close()

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            for feed in self.feeds:
                await loop.run_in_executor(self.line, self._score, feed)
            due_s = max(due_s + self.config.every_s, loop.time())
            await asyncio.sleep(due_s - loop.time())

    def _score(self, feed: Feed) -> None:
        """Score the next batch as the scoring stage does."""
        models, contests = self.students.models, self.students.contests
        closed = feed.take(self.config.batch, trapped=self._traps(feed.stream))
        ms = now_ms()
        scored = score_and_report(
            models.running.get,
            lambda batches, _: contests.on_scored(batches),
            batches_of(closed),
            scored_ms=ms,
            rescue=contests.rescue,
        )
        versions = [record["version"] for record in records_of(scored)]
        if feed.stream == "engine":
            self.new_scored += sum(version > 1 for version in versions)
        self.ledger.write(ms, feed.stream, scored)

    def _traps(self, stream: str) -> int:
        """Traps of the next batch: as the file `trap` beside the registry says."""
        text = ""
        if stream == "engine":
            with suppress(FileNotFoundError):
                text = (self.state.parent / "trap").read_text()
        if text == "always":
            return 1
        return int(text.isdecimal() and self.new_scored >= int(text))
