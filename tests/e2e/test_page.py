"""The console page in a real browser: layout, live updates, and no injected code."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.console.server import Console, create_console
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.browser import Browser
from tests.fakes.duecases import DUE_CASES
from tests.fakes.transformers import add_transformers
from tests.fakes.view import FakeView, fill

pytestmark = pytest.mark.needs_chromium

PAGES = {
    "fleet": ("#/fleet", "document.querySelectorAll('.machine .spark').length === 8"),
    "engine": ("#/device/plant-1/engine-03/engine", "document.querySelector('.chart path.line')"),
    "person": ("#/device/lab/anna/imu", "document.querySelector('.probabilities')"),
    "waiting": ("#/device/plant-1/engine-09/engine", "document.querySelector('.empty')"),
    "pipeline": ("#/pipeline", "document.querySelectorAll('.chart').length === 2"),
    "models": ("#/models", "document.querySelectorAll('.model').length === 2"),
}
FORECAST_CHARTS = "document.querySelectorAll('.channel-card .chart').length === 3"
TEXT = "document.querySelector('main').innerText"


@dataclass
class Site:
    console: Console
    view: FakeView
    results: ResultsFile
    browser: Browser

    async def open(self, hash: str, ready: str) -> None:
        await self.browser.open(self.console.url + hash, ready)


def now_ms() -> int:
    return time.time_ns() // 10**6


@pytest.fixture
async def site(tmp_path: Path, chromium_program: str) -> AsyncIterator[Site]:
    results = ResultsFile(tmp_path / "results.db")
    now = now_ms()
    fill(results, now)
    view = FakeView.fleet(now)
    console = create_console(view, results, port=0)
    await console.start()
    async with Browser(chromium_program) as browser:
        yield Site(console, view, results, browser)
    await console.stop()
    results.close()


async def test_every_page_draws_without_complaint_and_fits_desktop_and_phone(
    site: Site, tmp_path: Path
) -> None:
    shots = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    for width, height, theme in ((1440, 900, "light"), (375, 667, "dark")):
        await site.browser.look(width, height, theme=theme)
        for name, (hash, ready) in PAGES.items():
            await site.open(hash, ready)
            wide = "Math.max(document.documentElement.scrollWidth, innerWidth)"
            assert await site.browser.run(wide) == width, f"{name} is wider than {width}"
            await site.browser.screenshot(shots / f"{name}-{width}-{theme}.png")
    assert site.browser.complaints == []


async def test_the_fleet_page_shows_condition_activity_and_staleness_as_text(site: Site) -> None:
    await site.browser.look(1440, 900)
    await site.open(*PAGES["fleet"])
    text = await site.browser.run(TEXT)
    for word in ("Critical", "Wearing", "Healthy", "Stale, 4 min", "Waiting for a full window"):
        assert word in text
    order = "[...document.querySelectorAll('.machine h3')].map(e => e.innerText).slice(0, 2)"
    assert await site.browser.run(order) == ["engine-02", "engine-03"]
    strip = await site.browser.run("document.querySelector('svg.strip').getAttribute('aria-label')")
    assert strip.startswith("Last 10 min: ")


async def test_a_machine_is_critical_or_doubtful_as_the_alerts_say(
    site: Site, tmp_path: Path
) -> None:
    site.results.write([case.point(now_ms()) for case in DUE_CASES])
    words = "[...card.querySelectorAll('.pill')].map(p => p.innerText)"
    cards = "[...document.querySelectorAll('.machine')]"
    name = "card.querySelector('h3').innerText"
    await site.browser.look(1440, 2400)
    await site.open("#/fleet", "document.querySelector('.more')")
    await site.browser.run(
        "(() => { const i = document.querySelector('.search input'); i.value = 'hall/'; "
        "i.dispatchEvent(new Event('input')); })()"
    )
    await site.browser.wait(f"{cards}.length === {len(DUE_CASES)}")
    found = await site.browser.run(f"{cards}.map(card => [{name}, {words}])")
    shots = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    await site.browser.screenshot(shots / "due.png")
    shown = {device: set(texts) for device, texts in found}
    for case in DUE_CASES:
        is_doubtful = case.quality not in (None, "good")
        assert ("Critical" in shown[case.device]) is (case.is_due is True), case
        assert ("Doubtful" in shown[case.device]) is is_doubtful, case
    critical = [case.device for case in DUE_CASES if case.is_due]
    assert {device for device, _ in found[: len(critical)]} == set(critical)
    await site.open(
        "#/device/hall/lost-and-surely-due/engine", "document.querySelector('.callout.warn')"
    )
    await site.browser.screenshot(shots / "due-device.png")
    pills = "[...document.querySelectorAll('.title .pill')].map(p => p.innerText)"
    assert (await site.browser.run(pills))[:2] == ["Critical", "Doubtful"]


async def test_the_page_follows_the_gateway_and_keeps_the_focus(site: Site) -> None:
    await site.browser.look(1440, 900)
    await site.open(*PAGES["fleet"])
    await site.browser.run("document.querySelector('a.cover').focus()")
    tags = (("site", "plant-1"), ("device", "engine-02"), ("stream", "engine"))
    point = Point("rul", (*tags, ("model", "rul-fd001")), (("rul", 3.0),), now_ms() * 10**6)
    site.results.write([point])
    await site.browser.wait("document.querySelector('.machine .rul b').innerText === '3'")
    assert await site.browser.run("document.activeElement.innerText") == "engine-02"


async def test_keyboard_alone_reaches_a_device_and_reads_its_chart(site: Site) -> None:
    await site.browser.look(1440, 900)
    await site.open(*PAGES["fleet"])
    await site.browser.run("document.querySelector('a.cover').focus()")
    await site.browser.press("Enter")
    await site.browser.wait("document.querySelector('.chart path.line')")
    await site.browser.run("document.querySelector('.chart').focus()")
    await site.browser.press("ArrowLeft")
    await site.browser.wait("document.querySelector('.tip')")
    assert "cycles" in await site.browser.run("document.querySelector('.tip').innerText")
    label = await site.browser.run("document.querySelector('.chart').getAttribute('aria-label')")
    assert "RUL" in label


async def test_theme_follows_the_system_and_the_button(site: Site) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    await site.browser.look(1440, 900, theme="dark")
    await site.open(*PAGES["models"])
    dark = await site.browser.run(paper)
    await site.browser.run("document.getElementById('theme').click()")
    light = await site.browser.run(paper)
    assert light != dark
    await site.open(*PAGES["models"])  # the choice is kept over a reload
    assert await site.browser.run(paper) == light


async def test_hostile_names_and_labels_are_shown_not_run(site: Site) -> None:
    hostile = "<img src=x onerror=document.title=1><script>document.title=1</script>"
    site.view.students[0] = replace(
        site.view.students[0], name=hostile, refused_error=hostile, lineage={hostile: hostile}
    )
    site.view.accounts[0] = replace(site.view.accounts[0], device=hostile)
    tags = (("site", "lab"), ("device", "anna"), ("stream", "imu"), ("model", hostile))
    fields = (("activity", hostile), ("probability", 0.5), (f"p_{hostile}", 0.5))
    site.results.write([Point("activity", tags, fields, now_ms() * 10**6)])
    site.view.connected = False
    await site.browser.look(1440, 900)
    for name in ("fleet", "person", "models"):
        hash, _ = PAGES[name]
        await site.open(hash, f"{TEXT}.toLowerCase().includes('<img src=x')")
        assert (
            await site.browser.run("document.querySelectorAll('main img, main script').length") == 0
        )
        assert "kpstream" in await site.browser.run("document.title")
    assert site.browser.complaints == []


async def test_a_large_fleet_is_paged_searched_and_filtered_by_the_gateway(
    site: Site, tmp_path: Path
) -> None:
    one = site.view.accounts[0]
    site.view.accounts += [
        replace(one, site=f"plant-{i % 7 + 2}", device=f"pump-{i:05d}") for i in range(2000)
    ]
    pager = "document.querySelector('.pager span').innerText"
    click = "[...document.querySelectorAll('button')].find(b => b.innerText === {!r}).click()"
    shots = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    await site.browser.look(1440, 900)
    await site.open("#/fleet", "document.querySelector('.more')")
    await site.browser.screenshot(shots / "fleet-large-1440-light.png", whole=True)
    assert await site.browser.run("document.querySelectorAll('.machine').length") == 12
    assert await site.browser.run("document.querySelectorAll('.people h3').length") == 5
    await site.browser.run(click.format("Show all 2,009"))
    await site.browser.wait("document.querySelector('.pager')")
    await site.browser.wait(f"{pager} === '1 to 60 of 2,009'")
    await site.browser.run(click.format("Next"))
    await site.browser.wait(f"{pager} === '61 to 120 of 2,009'")
    await site.browser.run(click.format("Previous"))
    await site.browser.wait(f"{pager} === '1 to 60 of 2,009'")
    await site.browser.run(click.format("By site"))
    await site.browser.wait("document.querySelectorAll('h3.site').length > 0")
    await site.browser.run(click.format("Urgent first"))
    await site.browser.run(click.format("All tasks"))
    await site.browser.wait("document.querySelector('.more')")
    find = (
        "(() => { const i = document.querySelector('.search input'); i.value = 'PUMP-0123'; "
        "i.dispatchEvent(new Event('input')); })()"
    )
    await site.browser.run(find)
    await site.browser.wait("document.querySelectorAll('.machine').length === 10")
    await site.browser.look(375, 667, theme="dark")
    await site.open("#/fleet", "document.querySelector('.more')")
    assert await site.browser.run("Math.max(document.documentElement.scrollWidth, 375)") == 375
    await site.browser.screenshot(shots / "fleet-large-375-dark.png")
    await site.browser.run(click.format("Waiting"))
    await site.browser.wait("document.querySelector('.pager')")
    await site.browser.wait(f"{pager} === '1 to 60 of 2,001'")
    assert site.browser.complaints == []


async def test_a_lost_connection_is_announced_and_its_end_too(site: Site) -> None:
    await site.browser.look(1440, 900)
    await site.open(*PAGES["fleet"])
    port = site.console.port
    await site.console.stop()
    await site.browser.wait("!document.getElementById('banner').hidden")
    assert "No connection" in await site.browser.run("document.getElementById('banner').innerText")
    site.console = create_console(site.view, site.results, port=port)
    await site.console.start()
    await site.browser.wait("document.getElementById('banner').hidden")
    await asyncio.sleep(0)
    await site.console.stop()


async def test_an_empty_gateway_says_what_to_do(tmp_path: Path, chromium_program: str) -> None:
    results = ResultsFile(tmp_path / "r.db")
    console = create_console(FakeView(now_ms()), results, port=0)
    await console.start()
    async with Browser(chromium_program) as browser:
        await browser.look(390, 844)
        await browser.open(console.url, "document.querySelector('.empty')")
        assert "mosquitto_pub -h 127.0.0.1 -p 1883" in await browser.run(TEXT)
        assert await browser.run("document.documentElement.scrollWidth") == 390
        assert browser.complaints == []
    await console.stop()
    results.close()


async def test_a_forecast_shows_its_fan_and_its_alarm_on_every_screen(
    site: Site, tmp_path: Path
) -> None:
    add_transformers(site.view, site.results, now_ms())
    shots = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    for width, height, theme in ((1280, 900, "light"), (390, 844, "dark")):
        await site.browser.look(width, height, theme=theme)
        await site.open("#/fleet", "document.querySelectorAll('.fan').length === 3")
        first = "document.querySelector('.forecast-machine').innerText"
        for word in ("transformer-02", "Alarm", "OT", "degC", "0.9991"):
            assert word in await site.browser.run(first)
        await site.browser.screenshot(shots / f"forecast-fleet-{width}-{theme}.png", whole=True)
        await site.open("#/device/grid/transformer-02/power", FORECAST_CHARTS)
        wide = "Math.max(document.documentElement.scrollWidth, innerWidth)"
        assert await site.browser.run(wide) == width
        await site.browser.screenshot(shots / f"forecast-{width}-{theme}.png", whole=True)
    assert site.browser.complaints == []


async def test_the_lead_of_a_forecast_is_chosen_and_read_by_the_keyboard(site: Site) -> None:
    add_transformers(site.view, site.results, now_ms())
    await site.browser.look(1280, 900)
    await site.open("#/device/grid/transformer-02/power", FORECAST_CHARTS)
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(e => e.innerText)"
    assert await site.browser.run(pressed) == ["Newest", "1 h"]
    await site.browser.run(
        "[...document.querySelectorAll('.lead button')].find(e => e.innerText === '24 h').click()"
    )
    await site.browser.wait(f"{pressed}.includes('24 h')")
    label = "document.querySelector('.channel-card .chart').getAttribute('aria-label')"
    await site.browser.wait(f"{label}.includes('made 24 h before')")
    await site.browser.run("document.querySelector('.channel-card .chart').focus()")
    await site.browser.press("ArrowLeft")  # the last time of the fan has no reading yet
    await site.browser.wait("document.querySelector('.tip')")
    tip = await site.browser.run("document.querySelector('.tip').innerText")
    assert "Forecast" in tip
    assert "p10 to p90" in tip
    assert "Reading" not in tip
