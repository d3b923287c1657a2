"""Explanations and raw readings over HTTP: answers, errors, and a bound on what they cost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from models.seen import Seen
from pipeline.console.server import Console, create_console
from pipeline.explain.explainer import Explainer
from tests.fakes.view import FakeView
from tests.pipeline.explain.plant import CHANNELS, STEP, T0, Plant, line, tick

SEEN = Seen(low=(-5.0, -6.0, -7.0), middle=(0.0, 0.0, 0.0), high=(5.0, 6.0, 7.0))
DEVICE = "api/v1/devices/plant/press-1/engine"


@dataclass
class Site:
    """A console over the files of a plant, with a clock that stands still."""

    plant: Plant
    console: Console
    session: aiohttp.ClientSession
    now_ms: int = T0

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.console.url + path) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    plant = Plant.make(tmp_path, SEEN)
    for number in range(8):
        plant.send(line([number]))
    plant.send(tick(50))
    plant.store()
    async with aiohttp.ClientSession() as session:
        made: Site
        console = create_console(
            FakeView(T0),
            plant.results,
            port=0,
            explainer=plant.explainer(),
            now_ms=lambda: made.now_ms,
            steady_ms=lambda: made.now_ms,
        )
        made = Site(plant, console, session)
        await console.start()
        yield made
        await console.stop()
    plant.close()


async def test_the_newest_score_and_an_older_one_are_explained(site: Site) -> None:
    status, page = await site.get(f"{DEVICE}/explanation")
    assert (status, page["end_ms"]) == (200, T0 + STEP * 7 + 1)
    assert page["is_same_score"]
    why = page["explanation"]
    assert why["baseline"] == "middle"
    assert {channel["name"] for channel in why["channels"]} == set(CHANNELS)
    seen = {channel["name"]: channel["seen"] for channel in why["channels"]}
    assert seen["T30"] == {"low": -6.0, "middle": 0.0, "high": 6.0}
    status, page = await site.get(f"{DEVICE}/explanation?at_ms={T0 + STEP * 4}")
    assert (status, page["end_ms"]) == (200, T0 + STEP * 4 + 1)


async def test_raw_readings_are_the_newest_ones(site: Site) -> None:
    status, page = await site.get(f"{DEVICE}/readings?last=3")
    assert status == 200
    assert [row[0] for row in page["readings"]] == [T0 + STEP * number for number in (5, 6, 7)]
    assert page["channels"][0] == {
        "name": "T24",
        "unit": "R",
        "seen": {"low": -5.0, "middle": 0.0, "high": 5.0},
    }


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("api/v1/devices/plant/nobody/engine/explanation", 404, "no score of plant/nobody/engine"),
        (f"{DEVICE}/explanation?at_ms=17", 404, "the first one after is of"),
        (f"{DEVICE}/explanation?at_ms=x", 400, "at_ms must be a positive whole number, not 'x'"),
        (f"{DEVICE}/readings?last=-1", 400, "last must be a positive whole number, not '-1'"),
        (
            f"{DEVICE}/readings?last={'0' * 19}{'1' * 40}",
            400,
            "last must be a positive whole number",
        ),
    ],
)
async def test_what_cannot_be_answered_says_why(
    site: Site, path: str, status: int, said: str
) -> None:
    found, page = await site.get(path)
    assert found == status
    assert said in page["error"]


async def test_a_window_that_has_left_the_log_is_gone(site: Site) -> None:
    site.plant.log.close()
    (site.plant.folder / "log.db").unlink()
    status, page = await site.get(f"{DEVICE}/explanation")
    assert status == 410
    assert "there is no log" in page["error"]


class Counting(Explainer):
    """Counts readings, and lets none end before the gate is open."""

    def __init__(self, plant: Plant) -> None:
        self.gate = threading.Event()
        self.asked: list[int] = []

    def readings(self, where: object, last: int, max_bytes: int) -> dict[str, Any]:
        self.asked.append(last)
        self.gate.wait(30)
        return {"channels": [], "readings": [[last]]}


async def test_many_who_ask_at_once_cost_one_answer_and_too_many_are_sent_away(
    tmp_path: Path,
) -> None:
    plant = Plant.make(tmp_path)
    explainer = Counting(plant)
    clock = [T0]
    console = create_console(
        FakeView(T0),
        plant.results,
        port=0,
        explainer=explainer,
        now_ms=lambda: clock[0],
        steady_ms=lambda: clock[0],
    )
    await console.start()
    async with aiohttp.ClientSession() as session:

        async def ask(last: int) -> tuple[int, str | None]:
            async with session.get(f"{console.url}{DEVICE}/readings?last={last}") as answer:
                return answer.status, answer.headers.get("Retry-After")

        same = [asyncio.create_task(ask(7)) for _ in range(5)]
        others = [asyncio.create_task(ask(20 + number)) for number in range(12)]
        done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        assert next(task.result() for task in done) == (429, "2")
        explainer.gate.set()
        assert [await task for task in same] == [(200, None)] * 5
        statuses = [(await task)[0] for task in others]
        assert statuses.count(200) == 5  # one of six places was taken by the five who asked first
        assert len(explainer.asked) == 6
        assert await ask(7) == (200, None)
        assert explainer.asked.count(7) == 1
    await console.stop()
    plant.close()


async def test_without_a_log_the_page_says_so(tmp_path: Path) -> None:
    plant = Plant.make(tmp_path)
    console = create_console(FakeView(T0), plant.results, port=0)
    await console.start()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{console.url}{DEVICE}/readings") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"] == "this process has no log to read from"
        async with session.get(f"{console.url}api/v1/fleet") as answer:
            assert (await answer.json())["settings"]["explains"] is False
    await console.stop()
    plant.close()
