"""What a bridge, worker and store of a site share: settings, Kafka, status port, account, command.

A process first serves its status, then waits for Kafka for as long as it takes, then works. Its
folder is `KPSTREAM_SITE_NAME` in the site's state folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from deploy.processes.lifecycle import Process, Tasks, run_process
from deploy.processes.logfilter import Seldom
from deploy.processes.processview import ProcessView
from deploy.settings.settings import SiteSettings
from deploy.stack.tlsconfig import kafka_tls
from deploy.stack.topics import site_topics
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint, KafkaProbe, create_topics, read_until
from ingest.settings import IngestSettings
from ingest.topics import ACCOUNTS, partition_of
from pipeline.app import KafkaLink, ScoringApp, StoreApp
from pipeline.console.server import StatusServer
from pipeline.points.accounts import Accounts, AppendAccount, tell
from pipeline.settings import PipelineSettings
from pipeline.stage import now_ms

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = ["Frame", "MakeProcess", "kafka_endpoint", "run_command"]

log = logging.getLogger(__name__)

_RETRY_S = (0.5, 5.0)
_STOP_S = 25.0


class Frame:
    """What holds the parts of one process together.

    Attributes:
        name: of the process.
        folder: its own, made for the owner only.
        kafka: where Kafka is.
        pipeline: settings of the agents, with the site's number of partitions.
        view: what the process tells.
        tasks: what shall run until it stops.
    """

    def __init__(self, kind: str, site: SiteSettings, pipeline: PipelineSettings) -> None:
        self.kind = kind
        self.name = site.name or kind
        self.folder = site.state_dir / self.name
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.site = site
        self.pipeline = pipeline.model_copy(update={"partitions": site.partitions})
        self.kafka = kafka_endpoint(site, self.name)
        self.view = ProcessView(now_ms)
        self.tasks = Tasks()
        self._started_ms = now_ms()
        self._status: StatusServer | None = None
        if site.status_port:
            self._status = StatusServer(self.view, site.status_port, self.view.measures)

    @property
    def link(self) -> KafkaLink:
        """Kafka for apps."""
        return KafkaLink(partial(read_until, self.kafka), self.kafka.ssl_context())

    def probe(self) -> KafkaProbe:
        """Something that asks Kafka beside the app."""
        return KafkaProbe(self.kafka)

    async def start(self) -> None:
        """Serve the status, then wait until Kafka has the topics.

        Raises:
            ConsoleError: The status port cannot be bound.
            TopicMismatch: Topics have another number of partitions.
            TlsError: A file for TLS cannot be used.
        """
        if self._status is not None:
            await self._status.start()
        topics = site_topics(self.site.partitions, self.pipeline.app_id)
        self.view.waiting_for = f"Kafka at {self.site.kafka}"
        await self.until_available(lambda: create_topics(self.kafka, topics))

    async def until_available(self, attempt: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Try until Kafka is there; `view` says what is waited for."""
        wait_s, most_s = _RETRY_S
        while True:
            try:
                await attempt()
                return
            except LogUnavailable as exc:
                if wait_s == _RETRY_S[0]:
                    log.warning("waiting: %s", exc)
                self.view.waiting_for = f"Kafka: {exc}"
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, most_s)

    def account_by(self, app: Any) -> AppendAccount:
        """Appends accounts with the producer of an app."""
        partition = partition_of(self.name.encode(), self.pipeline.partitions)

        async def append(value: bytes) -> None:
            at_s = now_ms() / 1000
            try:
                await (await app.producer.send(ACCOUNTS, None, value, partition, at_s, None))
            except Exception as exc:  # of Kafka's client, which is nobody's business here
                message = f"Kafka has not taken the account: {exc!r}"
                raise LogUnavailable(message) from exc

        return append

    async def stop_app(self, part: ScoringApp | StoreApp) -> None:
        """Let an app checkpoint, commit and leave its group, within bounds."""
        try:
            await asyncio.wait_for(part.stop(), _STOP_S)
        except Exception:  # the rest still has to stop
            log.exception("%s did not stop cleanly", part.app.conf.id)

    def begin(self, append: AppendAccount) -> None:
        """The work has begun: say so, and tell the account from now on."""
        self.view.waiting_for = None
        accounts = Accounts(self.view, self.name, self.kind, self._started_ms)
        self.tasks.spawn(tell(accounts, append, now_ms, self.site.account_ms), "account")

    async def stop(self) -> None:
        """End the tasks and the status page; after the parts of the process."""
        await self.tasks.cancel()
        if self._status is not None:
            await self._status.stop()


def kafka_endpoint(site: SiteSettings, client_id: str) -> KafkaEndpoint:
    """Kafka as the settings say.

    Raises:
        TlsError: There is a certificate, and nothing that switches TLS on.
    """
    return KafkaEndpoint(site.kafka, kafka_tls(site), f"kpstream-{client_id}")


MakeProcess = Callable[[SiteSettings, IngestSettings, PipelineSettings], Process]


def run_command(kind: str, verbose: bool, make: MakeProcess) -> None:
    """Run a process with the settings of the environment; ends this one with its exit code.

    Raises:
        click.ClickException: It can't start; says what to do.
    """
    from deploy.settings.errors import SETTINGS_ADVICE, BadSettings, settings_problems
    from ingest.errors import IngestError
    from models.errors import ModelError
    from pipeline.errors import PipelineError

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if not verbose:
        for handler in logging.getLogger().handlers:
            handler.addFilter(Seldom("aiokafka"))
    try:
        settings = SiteSettings(), IngestSettings(), PipelineSettings()
    except BadSettings as exc:
        wrong = "\n  ".join(settings_problems(exc))
        message = f"settings that cannot be ({SETTINGS_ADVICE}):\n  {wrong}"
        raise click.ClickException(message) from exc

    async def run() -> int:
        return await run_process(kind, make(*settings), partial(print, flush=True))

    try:
        code = asyncio.run(run())
    except (PipelineError, ModelError, IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(code)
