"""The button "Why?" and the raw readings of the device page in a real browser."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.seen import Seen
from pipeline.console.server import Console, create_console
from pipeline.points.points import explanation_point
from tests.fakes.browser import Browser
from tests.fakes.scores import records_of
from tests.fakes.view import FakeView
from tests.pipeline.explain.plant import T0, Plant, line, tick

pytestmark = pytest.mark.needs_chromium

SEEN = Seen(low=(-9.0, -9.0, 8.0), middle=(0.0, 0.0, 8.5), high=(9.0, 9.0, 9.0))
DEVICE = "#/device/plant/press-1/engine"
DRAWN = "document.querySelectorAll('.channels .chart path.line').length === 3"
ANSWERED = "document.querySelectorAll('.why-channels li[data-key]').length === 3"


@dataclass
class Site:
    plant: Plant
    console: Console
    browser: Browser

    async def open(self) -> None:
        await self.browser.open(self.console.url + DEVICE, DRAWN)

    async def click(self, selector: str) -> None:
        await self.browser.run(f"document.querySelector('{selector}').click()")

    async def text(self, selector: str) -> str:
        return str(await self.browser.run(f"document.querySelector('{selector}').innerText"))


@pytest.fixture
async def site(tmp_path: Path, chromium_program: str) -> AsyncIterator[Site]:
    plant = Plant.make(tmp_path, SEEN)
    for number in range(40):
        plant.send(line([number]))
    plant.send(tick(90))
    plant.store()
    console = create_console(FakeView(T0), plant.results, port=0, explainer=plant.explainer())
    await console.start()
    async with Browser(chromium_program) as browser:
        yield Site(plant, console, browser)
    await console.stop()
    plant.close()


async def test_the_button_shows_channels_and_spans_and_the_answer_closes(
    site: Site, tmp_path: Path
) -> None:
    shots = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    for width, height, theme in ((1280, 900, "light"), (390, 844, "dark")):
        await site.browser.look(width, height, theme=theme)
        await site.open()
        assert await site.browser.run("document.querySelector('.why')") is None
        await site.click("button.action")
        await site.browser.wait(ANSWERED)
        wide = "Math.max(document.documentElement.scrollWidth, innerWidth)"
        assert await site.browser.run(wide) == width
        await site.browser.screenshot(shots / f"why-{width}-{theme}.png", whole=True)
    text = await site.text(".why")
    assert "the remaining useful life by" in text
    assert "compared with usual readings" in text
    assert "outside 8 \u2013 9" in text
    cells = "document.querySelectorAll('.why-strip rect').length"
    assert await site.browser.run(cells) == 3 * 4
    label = "document.querySelector('.why-strip').getAttribute('aria-label')"
    assert "mattered most from" in await site.browser.run(label)
    await site.click(".why button")
    await site.browser.wait("document.querySelector('.why') === null")
    assert site.browser.complaints == []


async def test_raw_readings_stand_below_the_scores_with_the_range_of_training(site: Site) -> None:
    await site.browser.look(1280, 900)
    await site.open()
    assert await site.browser.run("document.querySelectorAll('.channels .zone').length") == 3
    heads = "[...document.querySelectorAll('.channel-head')].map(e => e.innerText)"
    t24, _, nf = await site.browser.run(heads)
    assert t24.startswith("T24")
    assert "training" not in t24
    assert "below training" in nf
    below = (
        "document.querySelector('.chart').getBoundingClientRect().bottom"
        " < document.querySelector('.channels').getBoundingClientRect().top"
    )
    assert await site.browser.run(below)


async def test_an_alert_level_score_is_explained_without_asking(site: Site) -> None:
    record = records_of(site.plant.scored[-1][1]) or records_of(site.plant.scored[-2][1])
    site.plant.results.write(
        [
            explanation_point(
                record[-1],
                channel="T30",
                span_ms=(T0, T0 + 100),
                importance=-7.0,
                text="T30 lowers the remaining useful life by 7 cycles.",
                version=1,
            )
        ]
    )
    await site.browser.look(1280, 900)
    await site.open()
    note = await site.text("[data-key=alert-note]")
    assert "T30 lowers the remaining useful life by 7 cycles." in note
    await site.click("[data-key=alert-note] button")
    await site.browser.wait(ANSWERED)


async def test_a_score_that_cannot_be_explained_says_why(site: Site) -> None:
    await site.browser.look(1280, 900)
    await site.open()
    site.plant.log.close()
    (site.plant.folder / "log.db").unlink()
    await site.click("button.action")
    await site.browser.wait("document.querySelector('[data-key=why-card]')")
    text = await site.text("[data-key=why-card]")
    assert "This score cannot be explained" in text
    assert "there is no log at" in text


async def test_without_a_log_there_is_neither_button_nor_chart(
    tmp_path: Path, chromium_program: str
) -> None:
    plant = Plant.make(tmp_path)
    for number in range(8):
        plant.send(line([number]))
    plant.store()
    console = create_console(FakeView(T0), plant.results, port=0)
    await console.start()
    async with Browser(chromium_program) as browser:
        await browser.open(console.url + DEVICE, "document.querySelector('.chart path.line')")
        assert await browser.run("document.querySelector('button.action, .channels')") is None
        assert browser.complaints == []
    await console.stop()
    plant.close()
