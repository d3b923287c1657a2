"""The runtime of a site's processes: settings, Kafka, status port, account, command.

A bridge, worker or store first serves its status, then waits for Kafka as long as necessary, then
works. Its folder is `KPSTREAM_SITE_NAME` in the site's state folder.
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
from deploy.processes.logfilter import RateLimitedLogFilter
from deploy.processes.processview import ProcessView
from deploy.settings.secretoutput import start_logging
from deploy.settings.settings import SiteSettings
from deploy.stack.tlsconfig import kafka_tls
from deploy.stack.topics import site_topics
from ingest.clock import now_ms
from ingest.errors import LogUnavailable
from ingest.kafka import KafkaEndpoint, KafkaProbe, create_topics, read_until
from ingest.secrettext import error_text
from ingest.settings import IngestSettings
from ingest.topics import ACCOUNTS, partition_of
from pipeline.app import KafkaLink, ScoringApp, StoreApp
from pipeline.console.server import StatusServer
from pipeline.points.accounts import Accounts, AppendAccount, publish_accounts
from pipeline.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = ["MakeProcess", "ProcessRuntime", "kafka_endpoint", "run_command"]

log = logging.getLogger(__name__)

_RETRY_S = (0.5, 5.0)
_STOP_S = 25.0


MakeProcess = Callable[[SiteSettings, IngestSettings, PipelineSettings], Process]
"""Builds a process from its settings."""


class ProcessRuntime:
    """The parts that every process of a site has.

    Attributes:
        kind: `bridge`, `worker` or `store`.
        name: Name of the process.
        folder: Folder of the process, accessible to its owner only.
        site: Settings of the site.
        pipeline: Settings of the agents, with the site's number of partitions.
        kafka: Address of Kafka.
        view: State of the process, for its status page and its account.
        tasks: Tasks that run until the process stops.
    """

    def __init__(self, kind: str, site: SiteSettings, pipeline: PipelineSettings) -> None:
        """Create the folder and prepare the parts; nothing is connected before :meth:`start`.

        Raises:
            TlsError: A certificate is set, but no setting switches TLS on.
        """
        self.kind = kind
        self.name = site.name or kind
        self.folder = site.state_dir / self.name
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.site = site
        self.pipeline = pipeline.model_copy(update={"partitions": site.partitions})
        self.kafka = kafka_endpoint(site, self.name)
        self.view = ProcessView()
        self.tasks = Tasks()
        self._started_ms = now_ms()
        self._status: StatusServer | None = None
        if site.status_port:
            self._status = StatusServer(
                self.view, site.status_port, self.view.measures, site.metrics_devices
            )

    @property
    def link(self) -> KafkaLink:
        """The connection to Kafka for Faust apps."""
        return KafkaLink(partial(read_until, self.kafka), self.kafka.ssl_context())

    def probe(self) -> KafkaProbe:
        """Return a client that asks Kafka for offsets, independent of the app."""
        return KafkaProbe(self.kafka)

    async def start(self) -> None:
        """Serve the status, then wait until Kafka answers and has the topics.

        Raises:
            ConsoleError: The status port is taken.
            TopicMismatch: A topic has another number of partitions.
            TlsError: A TLS file is unusable.
        """
        if self._status is not None:
            await self._status.start()
        topics = site_topics(self.site.partitions, self.pipeline.app_id)
        self.view.waiting_for = f"Kafka at {self.site.kafka}"
        await self.until_available(lambda: create_topics(self.kafka, topics))

    async def until_available(self, attempt: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Retry an operation until Kafka is available; `view.waiting_for` gives the reason."""
        wait_s, most_s = _RETRY_S
        while True:
            try:
                await attempt()
                return
            except LogUnavailable as exc:
                if wait_s == _RETRY_S[0]:
                    log.warning("waiting for Kafka: %s", exc)
                self.view.waiting_for = f"Kafka: {exc}"
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, most_s)

    def account_writer(self, app: Any) -> AppendAccount:
        """Return a function that appends accounts to the log with the producer of an app."""
        partition = partition_of(self.name.encode(), self.pipeline.partitions)

        async def append(value: bytes) -> None:
            at_s = now_ms() / 1000
            try:
                await (await app.producer.send(ACCOUNTS, None, value, partition, at_s, None))
            except Exception as exc:  # whatever Kafka's client raises
                message = f"Kafka did not accept the account: {error_text(exc, named=True)}"
                raise LogUnavailable(message) from exc

        return append

    async def stop_app(self, part: ScoringApp | StoreApp) -> None:
        """Let an app checkpoint, commit and leave its group; bounded in time."""
        try:
            await asyncio.wait_for(part.stop(), _STOP_S)
        except Exception:  # the other parts still have to stop
            log.exception("%s did not stop cleanly", part.app.conf.id)

    def mark_started(self, append: AppendAccount) -> None:
        """Report that the work has begun, and publish accounts from now on."""
        self.view.waiting_for = None
        accounts = Accounts(self.view, self.name, self.kind, self._started_ms)
        publishing = publish_accounts(accounts, append, now_ms, self.site.account_ms)
        self.tasks.spawn(publishing, "account")

    async def stop(self) -> None:
        """End the tasks and the status page; call it after the parts have stopped."""
        await self.tasks.cancel()
        if self._status is not None:
            await self._status.stop()


def kafka_endpoint(site: SiteSettings, client_id: str) -> KafkaEndpoint:
    """Return the address of Kafka from the settings.

    Raises:
        TlsError: A certificate is set, but no setting switches TLS on.
    """
    return KafkaEndpoint(site.kafka, kafka_tls(site), f"kpstream-{client_id}")


def run_command(kind: str, verbose: bool, make: MakeProcess) -> None:
    """Run a process with the settings of the environment, and exit with its exit code.

    Args:
        kind: `bridge`, `worker` or `store`.
        verbose: Log routine events too.
        make: Builds the process.

    Raises:
        click.ClickException: The process cannot start; the message says what to do.
    """
    from deploy.settings.errors import exit_on_invalid_settings
    from ingest.errors import IngestError
    from models.errors import ModelError
    from pipeline.errors import PipelineError

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    start_logging(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        for handler in logging.getLogger().handlers:
            handler.addFilter(RateLimitedLogFilter("aiokafka"))
    with exit_on_invalid_settings():
        settings = SiteSettings(), IngestSettings(), PipelineSettings()

    async def run() -> int:
        return await run_process(kind, partial(make, *settings), partial(print, flush=True))

    try:
        code = asyncio.run(run())
    except (PipelineError, ModelError, IngestError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(code)
