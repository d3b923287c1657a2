"""The HTTP server of a process: the console of a gateway, or the status of a site's process.

The aiohttp server runs inside the event loop. It has no login, and is read-only (GET) except for
labels, which the page itself may give (`pipeline.console.acting`). It listens on
loopback by default, and answers only to known host names, so that a page of another site cannot
read it through DNS rebinding. A `StatusServer` has `/health`, `/ready` and `/metrics` only.

| path | answer |
|---|---|
| `/`, `/web/...` | the page and its static files, from this package |
| `/api/v1/fleet?search=&task=&state=&sort=&limit=&cursor=` | a page of the fleet, its overview |
| `/api/v1/devices/{site}/{device}/{stream}?span_ms=N&lead=L` | one device, last N ms (or all) |
| `/api/v1/devices/{site}/{device}/{stream}/explanation?at_ms=N` | why a score (absent: newest) |
| `/api/v1/devices/{site}/{device}/{stream}/readings?last=N` | the newest raw readings |
| POST `/api/v1/devices/{site}/{device}/{stream}/labels` | 201: the label is in the log |
| POST `/api/v1/devices/{site}/{device}/{stream}/note` | 200: the note is made, or ended |
| `/api/v1/pipeline` | totals, partitions, latency, throughput, dead letters |
| `/api/v1/models` | running students, lineage, refused versions |
| `/health` | 200 while the process works, else 503 |
| `/ready` | 200 while the gateway is ready, else 503 with `problems` |
| `/metrics` | Prometheus text |

Explanations and raw readings are read from the log in a thread that takes a small share of a core;
more of them at once are refused with status 429.

Answers of the API have an ETag (304 when nothing has changed) and the clock of the server in
`X-Now-Ms`. An error is `{"error": text}` with status 4xx or 503. Times are epoch milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ingest.clock import now_ms as process_now_ms
from ingest.clock import steady_ms as process_steady_ms
from pipeline.console.explaining import Explanations, Reply
from pipeline.console.fleet import Fleet, FleetQuery
from pipeline.console.labelling import Labelling
from pipeline.console.listener import (
    Listener,
    Request,
    Response,
    bytes_answer,
    empty_answer,
    file_answer,
    json_answer,
    peer_of,
    tagged,
    text_answer,
    whole_number,
)
from pipeline.console.metrics import CONTENT_TYPE, MOST_DEVICES, DeviceSeries, exposition
from pipeline.console.notes import DeviceNotes
from pipeline.console.noting import take_note
from pipeline.console.pages import (
    PageSettings,
    device_page,
    encode,
    health_page,
    models_page,
    pipeline_page,
    progress_page,
)
from pipeline.console.queries import PointCounts
from pipeline.errors import SinkError
from pipeline.explain.explainer import Explainer
from pipeline.explain.scores import DeviceStream
from pipeline.status.history import History
from pipeline.status.view import GatewayView, Measure, Snapshot
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["Console", "StatusServer", "create_console"]

_log = logging.getLogger(__name__)

_WEB = Path(__file__).parent / "web"
_SAMPLE_SECONDS = 2.0
_CACHE_MS = 900  # so that several open pages cost as much as one
_SNAPSHOT_MS = 450
_MOST_BUILDING = 16
_BUSY = {"Retry-After": "2"}
_Builder = Callable[[GatewayView], dict[str, Any] | None]


class _TooManyPages(Exception):
    """So many pages wait to be built that one more is refused."""


class StatusServer:
    """`/health`, `/ready` and `/metrics` of one process of a site, on loopback."""

    def __init__(
        self,
        view: GatewayView,
        port: int,
        more: Callable[[], Sequence[Measure]],
        metrics_devices: int = MOST_DEVICES,
    ) -> None:
        """Prepare a server; `start` binds the port.

        Args:
            view: The view of the process.
            port: TCP port; 0 takes a free one.
            more: Measures of this kind of process, beside those of the view.
            metrics_devices: Most device streams with series of their own in `/metrics`.
        """
        self._series = DeviceSeries(metrics_devices)
        self._scraping = asyncio.Lock()
        self._view = view
        self._more = more
        self._listener = Listener("127.0.0.1", port, (), "KPSTREAM_SITE_STATUS")

    @property
    def port(self) -> int:
        """The TCP port; the real one after `start`."""
        return self._listener.port

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConsoleError: The port cannot be bound; the message says what to change.
        """
        await self._listener.start(
            {
                "/health": self._get_health,
                "/ready": self._get_ready,
                "/metrics": self._get_metrics,
            }
        )

    async def stop(self) -> None:
        """Stop serving; idempotent."""
        await self._listener.stop()

    async def _get_health(self, _: Request) -> Response:
        page = health_page(self._view)
        return json_answer({"alive": page["alive"], "parts": page["parts"]}, _status(page["alive"]))

    async def _get_ready(self, _: Request) -> Response:
        page = health_page(self._view) | progress_page(self._view)
        return json_answer(page, _status(page["ready"]))

    async def _get_metrics(self, _: Request) -> Response:
        async with self._scraping:  # one at a time: `DeviceSeries` remembers the last scrape
            view = Snapshot.of(self._view)  # in the event loop: the view changes under threads
            body = await asyncio.to_thread(exposition, view, self._more(), self._series)
        return text_answer(body, CONTENT_TYPE)


def create_console(
    view: GatewayView,
    results: ResultsFile,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    allowed_hosts: Sequence[str] = (),
    settings: PageSettings = PageSettings(),  # noqa: B008 frozen, shared on purpose
    now_ms: Callable[[], int] = process_now_ms,
    steady_ms: Callable[[], int] = process_steady_ms,
    explainer: Explainer | None = None,
    more: Callable[[], Sequence[Measure]] = lambda: (),
    metrics_devices: int = MOST_DEVICES,
    notes: DeviceNotes | None = None,
    labelling: Labelling | None = None,
) -> Console:
    """Make a console; `Console.start` binds the port.

    Args:
        view: The view of the running gateway.
        results: The results file; the caller closes it after `Console.stop`.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        allowed_hosts: Host names (without port) of the page, beside loopback.
        settings: Settings of the pages.
        now_ms: The clock, epoch milliseconds: the time of the pages.
        steady_ms: Monotonic milliseconds: how long a page is kept.
        explainer: Explains scores and reads raw readings; None: neither is available.
        more: Measures for `/metrics` beside those of the view.
        metrics_devices: Most device streams with series of their own in `/metrics`.
        notes: What people have said about devices; None: nothing.
        labelling: Takes labels from the page; None: nobody may give any there.
    """
    return Console(
        view,
        results,
        host,
        port,
        allowed_hosts,
        settings,
        now_ms,
        steady_ms,
        explainer=explainer,
        more=more,
        metrics_devices=metrics_devices,
        notes=notes,
        labelling=labelling,
    )


class Console:
    """The server of the console; call `start` and `stop` once each, in one event loop."""

    def __init__(
        self,
        view: GatewayView,
        results: ResultsFile,
        host: str,
        port: int,
        allowed_hosts: Sequence[str],
        settings: PageSettings,
        now_ms: Callable[[], int],
        steady_ms: Callable[[], int],
        *,
        explainer: Explainer | None,
        more: Callable[[], Sequence[Measure]],
        metrics_devices: int,
        notes: DeviceNotes | None,
        labelling: Labelling | None,
    ) -> None:
        self._view = view
        self._results = results
        self._listener = Listener(host, port, allowed_hosts, "KPSTREAM_GATEWAY_CONSOLE")
        self._settings = replace(
            settings,
            explains=explainer is not None,
            labels="off" if labelling is None else labelling.access,
        )
        self._labelling = labelling
        self._count = PointCounts()  # as `_fleet`
        self._notes = notes  # as `_fleet`
        self._fleet = Fleet(results, self._settings, notes=notes)  # by the thread of `_executor`
        self._now_ms = now_ms
        self._steady_ms = steady_ms
        self._history = History()
        self._cache: dict[str, tuple[int, asyncio.Future[bytes | None]]] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="console")
        self._scraper = ThreadPoolExecutor(1, thread_name_prefix="console-metrics")
        self._series = DeviceSeries(metrics_devices)
        self._building = 0
        self._snapshot_taken: tuple[int, Snapshot] | None = None
        self._explanations = Explanations(explainer, now_ms, steady_ms)
        self._more = more
        self._sampler: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Address for a browser; the port is the real one after `start`."""
        return self._listener.url

    @property
    def port(self) -> int:
        """The TCP port; the real one after `start`."""
        return self._listener.port

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConsoleError: The address cannot be bound; the message says what to change.
        """
        await self._listener.start(
            {
                "/": self._static,
                "/web/{name}": self._static,
                "/web/cards/{name}": self._card,
                "/favicon.ico": self._no_icon,
                "/health": self._get_health,
                "/ready": self._get_ready,
                "/metrics": self._get_metrics,
                "/api/v1/fleet": self._get_fleet,
                "/api/v1/devices/{site}/{device}/{stream}": self._get_device,
                "/api/v1/devices/{site}/{device}/{stream}/explanation": self._get_explanation,
                "/api/v1/devices/{site}/{device}/{stream}/readings": self._get_readings,
                "/api/v1/pipeline": self._get_pipeline,
                "/api/v1/models": self._get_models,
            },
            {
                "/api/v1/devices/{site}/{device}/{stream}/labels": self._post_label,
                "/api/v1/devices/{site}/{device}/{stream}/note": self._post_note,
            },
        )
        self._sampler = asyncio.create_task(self._sample(), name="console-sampler")

    async def stop(self) -> None:
        """Stop serving; open requests have a second to end. Idempotent."""
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.gather(self._sampler, return_exceptions=True)
            self._sampler = None
        await self._listener.stop()
        self._executor.shutdown(wait=True)
        self._scraper.shutdown(wait=True)
        self._explanations.close()

    # answers

    async def _static(self, request: Request) -> Response:
        return file_answer(request, _WEB)

    async def _card(self, request: Request) -> Response:
        return file_answer(request, _WEB / "cards")

    async def _no_icon(self, _: Request) -> Response:
        return empty_answer()

    async def _get_health(self, _: Request) -> Response:
        page = health_page(self._view)
        return json_answer({"alive": page["alive"], "parts": page["parts"]}, _status(page["alive"]))

    async def _get_ready(self, _: Request) -> Response:
        page = health_page(self._view)
        return json_answer(page, _status(page["ready"]))

    async def _get_metrics(self, _: Request) -> Response:
        more = self._more()
        built = await self._built(
            "/metrics", lambda view: exposition(view, more, self._series), self._scraper
        )
        body = built[1]
        return text_answer(body, CONTENT_TYPE)

    async def _get_fleet(self, request: Request) -> Response:
        try:
            query = FleetQuery.parse(request.query)
        except ValueError as exc:
            return json_answer({"error": str(exc)}, 400)
        now_ms = self._now_ms()
        return await self._page(request, lambda view: self._fleet.page(view, query, now_ms))

    async def _get_device(self, request: Request) -> Response:
        device = _device(request)
        span_ms, lead = whole_number(request, "span_ms"), whole_number(request, "lead")

        def page(view: GatewayView) -> dict[str, Any] | None:
            note = None if self._notes is None else self._notes.read().get(device)
            return device_page(view, self._results, self._settings, device, span_ms, lead, note)

        return await self._page(request, page)

    async def _get_explanation(self, request: Request) -> Response:
        at_ms = whole_number(request, "at_ms")
        return _replied(request, await self._explanations.explanation(_device(request), at_ms))

    async def _get_readings(self, request: Request) -> Response:
        last = whole_number(request, "last")
        return _replied(request, await self._explanations.readings(_device(request), last))

    async def _post_label(self, request: Request) -> Response:
        if self._labelling is None:
            return json_answer({"error": "this process takes no labels"}, 403)
        body, now_ms = await request.read(), self._now_ms()
        status, page = await self._labelling.take(
            _device(request), request.headers, peer_of(request), body, now_ms
        )
        if status == 201:
            self._cache.clear()
        return json_answer(page, status)

    async def _post_note(self, request: Request) -> Response:
        if self._notes is None or self._labelling is None:
            return json_answer({"error": "this process takes no notes on devices"}, 403)
        body, now_ms, access = await request.read(), self._now_ms(), self._labelling.access
        who = (_device(request), request.headers, peer_of(request))
        take = partial(take_note, self._notes, access, *who, body, now_ms)
        status, page = await asyncio.get_running_loop().run_in_executor(self._executor, take)
        if status == 200:
            self._cache.clear()
        return json_answer(page, status)

    async def _get_pipeline(self, request: Request) -> Response:
        return await self._page(
            request,
            lambda view: pipeline_page(view, self._results, self._history, self._count),
        )

    async def _get_models(self, request: Request) -> Response:
        return await self._page(request, models_page)

    async def _page(self, request: Request, build: _Builder) -> Response:
        try:
            at_ms, body = await self._built(request.path_qs, lambda view: _encoded(build, view))
        except _TooManyPages:
            busy = {"error": "too many pages are being built; try again in a moment"}
            return bytes_answer(encode(busy), 429, _BUSY)
        except SinkError as exc:
            self._cache.pop(request.path_qs, None)
            return json_answer({"error": str(exc)}, 503)
        if body is None:
            return json_answer({"error": "no such device; see /api/v1/fleet"}, 404)
        response = tagged(request, body, "application/json")
        response.headers["X-Now-Ms"] = str(at_ms)
        return response

    async def _built(
        self,
        key: str,
        build: Callable[[GatewayView], bytes | None],
        executor: ThreadPoolExecutor | None = None,
    ) -> tuple[int, bytes | None]:
        """The time and the page that `build` makes of the view, cached for `_CACHE_MS`.

        The console's own threads build it, because a page of many devices would block the event
        loop, which also scores, for too long. Metrics have a thread of their own: a scrape does not
        wait for pages.

        Raises:
            _TooManyPages: More than `_MOST_BUILDING` pages wait to be built.
        """
        steady = self._steady_ms()
        cached = self._cache.get(key)
        if cached is None or steady - cached[0] >= _CACHE_MS:
            if executor is None and self._building >= _MOST_BUILDING:
                raise _TooManyPages
            if len(self._cache) > 64:
                self._cache.clear()
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(executor or self._executor, build, self._snapshot())
            if executor is None:
                self._building += 1
                future.add_done_callback(self._built_one)
            cached = self._cache[key] = (steady, future)
        return self._now_ms(), await asyncio.shield(cached[1])

    def _built_one(self, _: asyncio.Future[bytes | None]) -> None:
        self._building -= 1

    def _snapshot(self) -> Snapshot:
        """The view, kept for a moment; frozen in the event loop, as it changes under threads."""
        steady, taken = self._steady_ms(), self._snapshot_taken
        if taken is None or steady - taken[0] >= _SNAPSHOT_MS:
            taken = self._snapshot_taken = (steady, Snapshot.of(self._view))
        return taken[1]

    async def _sample(self) -> None:
        while True:
            try:
                self._history.observe(self._view.totals(), self._view.partitions(), self._now_ms())
            except Exception:
                _log.exception("console could not sample the gateway's counters")
            await asyncio.sleep(_SAMPLE_SECONDS)


def _device(request: Request) -> DeviceStream:
    where = request.match_info
    return DeviceStream(where["site"], where["device"], where["stream"])


def _encoded(build: _Builder, view: GatewayView) -> bytes | None:
    page = build(view)
    return None if page is None else encode(page)


def _status(is_fine: bool) -> int:
    return 200 if is_fine else 503


def _replied(request: Request, reply: Reply) -> Response:
    if reply.status == 200:
        response = tagged(request, reply.body, "application/json")
        response.headers["X-Now-Ms"] = str(reply.at_ms)
        return response
    busy = _BUSY if reply.status == 429 else None
    return bytes_answer(reply.body, reply.status, busy)
