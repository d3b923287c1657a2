"""Who may give labels on the page, what becomes of them, and which of them the page shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingest.errors import LogUnavailable
from ingest.labels import Label, LabelRecord, encode_label
from pipeline.console.acting import Access, refusal
from pipeline.console.labelling import Labelling, given_labels
from pipeline.console.server import Console, create_console
from pipeline.points.labels import label_point
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.recordings import T0_MS, label
from tests.fakes.view import FakeView

OWN = {
    "Host": "127.0.0.1:8765",
    "Origin": "http://127.0.0.1:8765",
    "Content-Type": "application/json",
}
DEVICE = ("plant-7", "engine-1", "engine")
PATH = "api/v1/devices/plant-7/engine-1/engine/labels"
GIVEN = Label("a", "failed", T0_MS, T0_MS)


def test_the_own_page_on_this_machine_may_act() -> None:
    assert refusal(OWN, "127.0.0.1", "loopback") is None
    assert refusal({**OWN, "Sec-Fetch-Site": "same-origin"}, "::1", "loopback") is None
    localhost = {"Host": "LOCALHOST:1", "Origin": "http://localhost:1"}
    assert refusal({**OWN, **localhost}, "::ffff:127.0.0.1", "loopback") is None
    six = {"Host": "[::1]:1", "Origin": "http://[::1]:1"}
    assert refusal({**OWN, **six}, "::1", "loopback") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Origin": ""}, "no Origin"),
        ({"Origin": "null"}, "comes from the page null"),
        ({"Origin": "http://example.com"}, "comes from the page http://example.com"),
        ({"Origin": "http://127.0.0.1:9999"}, "not from this console"),
        ({"Origin": "http://127.0.0.1:8765.example.com"}, "not from this console"),
        ({"Origin": "http://example.com@127.0.0.1:8765"}, "not from this console"),
        ({"Origin": "file://127.0.0.1:8765"}, "not from this console"),
        ({"Sec-Fetch-Site": "cross-site"}, "of another site"),
        ({"Sec-Fetch-Site": "same-site"}, "of another site"),
        ({"Content-Type": "text/plain"}, "has to be application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "has to be application/json"),
        ({"Content-Type": "application/jsonx"}, "has to be application/json"),
        ({"Content-Type": ""}, "has to be application/json"),
    ],
)
@pytest.mark.parametrize("access", ["loopback", "everywhere"])
def test_another_page_or_a_form_may_not_act(
    changes: dict[str, str], said: str, access: Access
) -> None:
    assert said in str(refusal({**OWN, **changes}, "127.0.0.1", access))


@pytest.mark.parametrize(
    ("changes", "peer"),
    [
        ({}, "192.168.1.2"),
        ({}, ""),
        ({"Host": "gateway:8765", "Origin": "http://gateway:8765"}, "127.0.0.1"),
        ({"X-Forwarded-For": "192.168.1.2"}, "127.0.0.1"),
        ({"Forwarded": "for=192.168.1.2"}, "127.0.0.1"),
        ({"Via": "1.1 proxy"}, "127.0.0.1"),
    ],
)
def test_other_machines_may_act_only_where_the_setting_says_so(
    changes: dict[str, str], peer: str
) -> None:
    assert "on the machine of the gateway only" in str(
        refusal({**OWN, **changes}, peer, "loopback")
    )
    assert refusal({**OWN, **changes}, peer, "everywhere") is None
    assert "is off" in str(refusal(OWN, "127.0.0.1", "off"))


class Log:
    """Takes labels, or does not."""

    def __init__(self) -> None:
        self.records: list[LabelRecord] = []
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()

    async def give(self, record: LabelRecord) -> None:
        await self.open.wait()
        if self.fails:
            message = "it is full"
            raise LogUnavailable(message)
        self.records.append(record)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Console, Log, ResultsFile]]:
    log, results = Log(), ResultsFile(tmp_path / "results.db")
    labelling = Labelling(log.give, "loopback", 60_000)
    console = create_console(
        FakeView(T0_MS), results, port=0, now_ms=lambda: T0_MS + 1000, labelling=labelling
    )
    await console.start()
    yield console, log, results
    await console.stop()
    results.close()


async def post(console: Console, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    own = {"Origin": console.url.rstrip("/"), "Content-Type": "application/json", **headers}
    async with (
        aiohttp.ClientSession() as session,
        session.post(console.url + PATH, data=body, headers=own) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_label_is_in_the_log_when_the_answer_comes(
    served: tuple[Console, Log, ResultsFile],
) -> None:
    console, log, _ = served
    log.open.clear()
    asking = asyncio.ensure_future(post(console, encode_label(GIVEN)))
    await asyncio.sleep(0.1)
    assert not asking.done()
    log.open.set()
    assert await asking == (201, {"id": "a"})
    (record,) = log.records
    assert (tuple(record.address), record.recv_ms, record.label) == (DEVICE, T0_MS + 1000, GIVEN)


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{", {}, 400, "begins with"),
        (b"", {}, 400, "no body"),
        (encode_label(Label("a", "failed", T0_MS + 10**6, T0_MS + 10**6)), {}, 400, "ahead of"),
        (b"x" * 10_000, {}, 400, "at most 4096"),
        (b"x" * 100_000, {}, 413, "Too Large"),
        (encode_label(GIVEN), {"Origin": "http://example.com"}, 403, "not from this console"),
        (encode_label(GIVEN), {"Content-Type": "text/plain"}, 403, "application/json"),
        (encode_label(GIVEN), {"Host": "example.com"}, 403, "is not allowed"),
    ],
)
async def test_what_is_not_taken_is_said(
    served: tuple[Console, Log, ResultsFile],
    body: bytes,
    headers: dict[str, str],
    status: int,
    said: str,
) -> None:
    console, log, _ = served
    found, page = await post(console, body, **headers)
    assert (found, log.records) == (status, [])
    assert said in page["error"]


async def test_a_log_that_is_full_is_said_and_many_that_wait_are_refused(
    served: tuple[Console, Log, ResultsFile],
) -> None:
    console, log, _ = served
    log.fails = True
    status, page = await post(console, encode_label(GIVEN))
    assert (status, "it is full; try again later" in page["error"]) == (503, True)
    log.fails = False
    log.open.clear()
    asking = [asyncio.ensure_future(post(console, encode_label(GIVEN))) for _ in range(20)]
    done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    log.open.set()
    statuses = sorted([(await each)[0] for each in asking])
    assert statuses == [201] * 8 + [429] * 12
    assert done


async def test_without_a_log_nobody_may_give_labels(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.db")
    console = create_console(FakeView(T0_MS), results, port=0)
    await console.start()
    assert (await post(console, encode_label(GIVEN)))[0] == 403
    await console.stop()
    results.close()


def test_the_page_shows_labels_that_hold(tmp_path: Path) -> None:
    results = ResultsFile(tmp_path / "results.db")
    assert given_labels(results, DEVICE) == []
    for record in (
        label("engine-1", "old", "failed", T0_MS),
        label("engine-1", "a", "span", T0_MS + 10, T0_MS + 20, label="test", recv_ms=1),
        label("engine-1", "a", "span", T0_MS + 15, T0_MS + 20, label="moved", recv_ms=2),
        label("engine-1", "b", "wrong", T0_MS + 5),
        label("engine-1", "b", "wrong", T0_MS + 5, revoked=True),
        label("engine-2", "c", "failed", T0_MS),
    ):
        results.write([label_point(record)])
    found = given_labels(results, DEVICE)
    assert [(each["id"], each["label"], each["from_ms"]) for each in found] == [
        ("a", "moved", T0_MS + 15),
        ("old", "", T0_MS),
    ]
    assert found[0]["kind"] == "span"
    results.close()
