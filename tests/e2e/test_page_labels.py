"""Labels and notes in a real browser: a span on the chart, a wrong score, a known alarm."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest.errors import LogUnavailable
from ingest.labels import Label, LabelRecord, current_labels, decode_label_record, label_log_record
from ingest.topics import LABELS, Address
from pipeline.console.labelling import Labelling
from pipeline.console.notes import DeviceNotes
from pipeline.console.server import Console, create_console
from pipeline.log.locallog import LocalLogWriter, SqliteLog, open_log
from pipeline.log.reader import peek_log
from pipeline.points.labels import label_point
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.browser import Browser
from tests.fakes.view import FakeView, fill

pytestmark = pytest.mark.needs_chromium

ENGINE = Address("plant-1", "engine-03", "engine")
DRAWN = "document.querySelector('.chart path.line') && document.querySelector('#labels-title')"
LISTED = "[...document.querySelectorAll('ul.labels li b')].map((b) => b.innerText)"


@dataclass
class Site:
    console: Console
    log: SqliteLog
    browser: Browser
    fails: bool = False

    async def open(self, where: Address = ENGINE, scheme: str = "") -> None:
        await self.browser.open(f"{self.console.url}#/device/{'/'.join(where)}", DRAWN)

    def labels(self) -> list[Label]:
        """Labels in the log that hold, in the order of their times."""
        records = [decode_label_record(r.value or b"") for r in peek_log(self.log.path, LABELS)]
        found = [record.label for record in current_labels(records).values()]
        return sorted(
            (label for label in found if not label.revoked), key=lambda label: label.from_ms
        )

    async def button(self, text: str, within: str = "main") -> None:
        """Press the button with a text."""
        await self.browser.run(
            f"[...document.querySelector('{within}').querySelectorAll('button')]"
            f".find((b) => b.innerText.trim() === '{text}').click()"
        )

    async def drag(self, selector: str, start: float, end: float) -> None:
        """Drag over a chart, from one share of its width to another."""
        box = await self.browser.run(
            f"(() => {{ const b = document.querySelector('{selector}'); b.scrollIntoView();"
            "const r = b.getBoundingClientRect(); return [r.left, r.top, r.width, r.height] })()"
        )
        left, top, width, height = box
        for kind, share in (("Pressed", start), ("Moved", (start + end) / 2), ("Released", end)):
            await self.browser.call(
                "Input.dispatchMouseEvent",
                type=f"mouse{kind}",
                x=left + width * share,
                y=top + height / 2,
                button="left",
                buttons=1,
                clickCount=1,
            )


@pytest.fixture
async def site(tmp_path: Path, chromium_program: str) -> AsyncIterator[Site]:
    results = ResultsFile(tmp_path / "results.db")
    fill(results, time.time_ns() // 10**6)
    log = open_log(tmp_path / "log.db", partitions=2)
    log.create_topic(LABELS, 2, compacted=True)
    writer = LocalLogWriter(log, 2)

    async def give(record: LabelRecord) -> None:
        if made.fails:
            message = "it is full"
            raise LogUnavailable(message)
        await writer.append([label_log_record(record, 2)])
        results.write([label_point(record)])  # as the store does a moment later

    view = FakeView.fleet(time.time_ns() // 10**6)
    labelling = Labelling(give, "loopback", 60_000)
    notes = DeviceNotes(tmp_path)
    console = create_console(view, results, port=0, labelling=labelling, notes=notes)
    await console.start()
    async with Browser(chromium_program) as browser:
        made = Site(console, log, browser)
        yield made
        assert browser.complaints == []
    await console.stop()
    results.close()
    log.close()


async def test_a_span_marked_on_the_chart_is_a_label_in_the_log_and_shown_again(
    site: Site, tmp_path: Path
) -> None:
    await site.browser.look(1280, 1100)
    await site.open()
    await site.drag(".chart", 0.4, 0.6)
    await site.browser.wait("document.querySelector('.label-form')")
    await site.browser.run(
        "(() => { const [name, by] = document.querySelectorAll('.label-form input:not([type])');"
        "for (const [input, text] of [[name, 'test run'], [by, 'Ada']]) {"
        "input.value = text; input.dispatchEvent(new Event('input')) } })()"
    )
    await site.button("Save", ".label-form")
    await site.browser.wait(f"{LISTED}.includes('Test run')")
    (label,) = site.labels()
    assert (label.kind, label.label, label.by) == ("span", "test run", "Ada")
    assert 10_000 < label.to_ms - label.from_ms < 600_000
    await site.open()
    await site.browser.wait(f"{LISTED}.includes('Test run')")
    await site.browser.wait("document.querySelector('.chart .label.span')")
    folder = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    await site.drag(".chart", 0.7, 0.8)
    await site.browser.wait("document.querySelector('.label-form')")
    await site.browser.screenshot(folder / "labels.png", whole=True)
    await site.browser.look(390, 844, theme="dark")
    await site.browser.screenshot(folder / "labels-phone.png", whole=True)
    width = await site.browser.run("document.documentElement.scrollWidth")
    assert width <= 390


async def test_a_wrong_score_is_said_and_revoked(site: Site) -> None:
    await site.browser.look(1280, 1100)
    await site.open(Address("lab", "anna", "imu"))
    await site.button("Score wrong")
    await site.browser.wait("document.querySelector('.label-form')")
    await site.button("Save", ".label-form")
    await site.browser.wait(f"{LISTED}.includes('Score wrong')")
    (label,) = site.labels()
    assert (label.kind, label.from_ms == label.to_ms) == ("wrong", True)
    await site.button("Revoke", "ul.labels")
    await site.browser.wait(f"!{LISTED}.includes('Score wrong')")
    assert site.labels() == []
    await site.open(Address("lab", "anna", "imu"))
    assert await site.browser.run(LISTED) == []


async def test_a_label_that_the_log_does_not_take_is_said(site: Site) -> None:
    site.fails = True
    await site.browser.look(1280, 1100)
    await site.open()
    await site.button("Score right")
    await site.browser.wait("document.querySelector('.label-form')")
    await site.button("Save", ".label-form")
    await site.browser.wait("document.querySelector('.label-said.bad')")
    said = await site.browser.run("document.querySelector('.label-said').innerText")
    assert "the log does not take the label: it is full" in said
    assert site.labels() == []
    site.browser.complaints = [each for each in site.browser.complaints if "503" not in each]


async def test_an_alarm_is_acknowledged_on_the_page_and_that_is_ended(
    site: Site, tmp_path: Path
) -> None:
    pills = "[...document.querySelectorAll('.title .pill')].map((p) => p.innerText.trim())"
    critical = Address("plant-1", "engine-02", "engine")
    await site.browser.look(1280, 1100)
    await site.open(critical)
    await site.button("Acknowledge")
    await site.browser.wait(f"{pills}.includes('Acknowledged')")
    folder = Path(os.environ.get("KPSTREAM_SCREENSHOTS", tmp_path))
    await site.browser.screenshot(folder / "device-acknowledged.png")
    assert DeviceNotes(tmp_path).read()[tuple(critical)].kind == "acknowledged"
    await site.button("No longer acknowledged")
    await site.browser.wait(f"!{pills}.includes('Acknowledged')")
    await site.button("Retire")
    await site.browser.wait(f"{pills}.includes('Retired')")
    await site.button("Bring back")
    await site.browser.wait(f"!{pills}.includes('Retired')")
    assert dict(DeviceNotes(tmp_path).read()) == {}
