"""The page of a run: for every end, whole, escaped, and without anything from elsewhere."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from models.artifact import read_artifact
from models.dummy import write_dummy
from models.zoo import zoo_path
from training.centre import NOT_RELEASED
from training.datasets.contract import DataSet
from training.datasets.dummy import make_dummy
from training.decision import HELD, NOT_BETTER, REJECTED
from training.reasons import NO_REASON
from training.redistill import redistill
from training.runfolder import INTERRUPTED, UNFINISHED
from training.running import Running
from training.runpage import FAILED, LOOK, PAGE, RunPage

EVIL = "<script>alert('x')</script>&\""
PIXEL = b"\x89PNG made up"


def begin(out: Path | None = None) -> RunPage:
    return RunPage(command="train-redistill --data x", key="x\nx", out=out, began_ms=1_900_000_000)


def line(version: int | None = None, **changes: Any) -> dict[str, Any]:
    rival = {"rmse": 20.0, "gain": [4.0, 1.0, 7.0], "headline_gain": 2.0, "smallest_gain": 0.5}
    return {
        "result": {"rmse": 18.0, "bias": float("nan"), "windows": 116.0},
        "baselines": {"ridge": {"rmse": 17.0}},
        "rivals": {"running (pump v1)": rival},
        "reason": "It is better than every rival.",
        "published_version": version,
        "training_seconds": 3.0,
        "p50_ms": 0.1,
        "p99_ms": 0.2,
    } | changes


def trained(folder: Path, version: int | None = None, **changes: Any) -> RunPage:
    page = begin()
    folder.mkdir(exist_ok=True)
    page.open(folder)
    page.describe_data(make_dummy("rul"))
    page.judge(write_dummy(folder / "pump", name="pump").manifest, line(version, **changes))
    return page


class Checker(HTMLParser):
    """Counts open elements, and collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in ("script", "link", "iframe"):
            self.loads.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        self.loads += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(text: str) -> None:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert [one for one in checker.loads if not one.startswith("data:image/png;base64,")] == []
    assert not re.search(r"url\(|@import|https?:", text)


ENDS = [
    (NOT_BETTER, None, "Not better: nothing was published"),
    (UNFINISHED, None, "Out of time"),
    (HELD, None, "Held: nothing was published"),
    (REJECTED, None, "Equal to a rejected version: nothing was published"),
    (NO_REASON, None, "No reason to train"),
    (INTERRUPTED, None, "Stopped by a person"),
    (FAILED, None, "Failed"),
    (1, None, "Failed unexpectedly"),
    (0, None, "Better, but not published: --publish was not given"),
    (0, 2, "Published pump v2"),
    (NOT_RELEASED, 2, "Published pump v2, but not released by the centre"),
    (FAILED, 2, "Published pump v2, then failed"),
]


@pytest.mark.parametrize(("code", "version", "title"), ENDS)
def test_every_end_has_a_page_with_title_code_and_next_step(
    tmp_path: Path, code: int, version: int | None, title: str
) -> None:
    page = trained(tmp_path / "run", version)
    assert page.finish(code, "why it ended") == f"Report: {tmp_path / 'run' / PAGE}"
    text = (tmp_path / "run" / PAGE).read_text(encoding="utf-8")
    check(text)
    assert f"<h1>{title}</h1>" in text
    assert f"<dt>exit code</dt><dd>{code}</dd>" in text
    assert "<h2>Next step</h2>\n<p>" in text
    assert "why it ended" in text
    assert [path.name for path in (tmp_path / "run").glob(".*")] == []


def test_the_figures_stand_beside_those_of_every_rival(tmp_path: Path) -> None:
    page = trained(tmp_path)
    (tmp_path / "result.png").write_bytes(PIXEL)
    page.fairness = "same engines"
    page.finish(NOT_BETTER)
    text = page.path.read_text(encoding="utf-8")
    check(text)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", text)]
    assert cells[1:] == [
        ["running (pump v1)", "20", "-", "4 [1, 7]", "2 cycles", "0.5 cycles"],
        ["ridge", "17", "-", "does not count", "", ""],
        ["new (pump)", "18", "-", "", "", ""],
    ]
    data = make_dummy("rul")
    engines = len(np.unique(data.train.groups))
    for text_of in (
        "data:image/png;base64,",
        "Fairness: same engines.",
        data.digest,
        "116 windows",
    ):
        assert text_of in text
    assert f"<dt>engines</dt><dd>{engines}</dd>" in text


def test_no_text_becomes_markup(tmp_path: Path) -> None:
    rival = line()["rivals"]["running (pump v1)"]
    page = trained(tmp_path, reason=EVIL, rivals={EVIL: rival}, baselines={EVIL * 2: {}})
    page.command = page.fairness = EVIL
    page.key = f"{EVIL}\n"
    page.reasons = [EVIL]
    data: DataSet = make_dummy("rul")
    page.describe_data(
        DataSet(**{name: getattr(data, name) for name in data.__slots__} | {"title": EVIL})
    )
    page.describe_running(Running(read_artifact(zoo_path("rul-fd001")), EVIL))
    page.finish(FAILED, EVIL)
    text = page.path.read_text(encoding="utf-8")
    check(text)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8


@pytest.mark.parametrize(
    ("if_needed", "reasons", "text"),
    [
        (False, None, "Not looked for: the command has no --if-needed."),
        (True, None, "Not known: the run ended before it could look for one."),
        (True, [], "None: same data, no age, no drift."),
        (True, ["It is old."], "Reason to train: It is old."),
    ],
)
def test_the_page_says_why_it_trained_or_not(
    tmp_path: Path, if_needed: bool, reasons: list[str] | None, text: str
) -> None:
    page = begin(tmp_path)
    page.if_needed, page.reasons = if_needed, reasons
    page.finish(FAILED)
    assert f"<h2>Reason</h2>\n<p>{text}</p>" in page.path.read_text(encoding="utf-8")


def test_a_run_that_is_killed_shows_and_the_next_end_replaces_it(tmp_path: Path) -> None:
    page = begin()
    page.open(tmp_path)
    text = page.path.read_text(encoding="utf-8")
    check(text)
    assert "<h1>Training</h1>" in text
    assert "it was killed: the same command continues" in text
    page.finish(UNFINISHED)
    assert "it was killed" not in page.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_full_disk_leaves_the_page_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    page = trained(tmp_path)
    before = page.path.read_bytes()

    real = getattr(os, call)

    def full(name: object, *rest: object, **more: object) -> object:
        if call == "open" and not str(name).endswith(".tmp"):
            return real(name, *rest, **more)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        told = page.finish(0)
    assert told.startswith("No report: ")
    assert str(tmp_path) in told
    assert "No space left on device" in told
    assert page.path.read_bytes() == before
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_look_never_replaces_the_page_of_a_training(tmp_path: Path) -> None:
    trained(tmp_path).finish(NOT_BETTER)
    before = (tmp_path / PAGE).read_bytes()
    look = begin(tmp_path)
    look.reasons = []
    look.finish(NO_REASON)
    assert (tmp_path / PAGE).read_bytes() == before
    assert "None: same data, no age, no drift." in (tmp_path / LOOK).read_text(encoding="utf-8")


def test_looks_without_a_folder_have_one_page_per_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        begin().finish(NO_REASON)
    other = RunPage("train-redistill --data y", "y\ny", None, 1)
    other.finish(FAILED, "no such file or folder: y")
    found = sorted((tmp_path / ".local/state/kpstream/runs/looks").iterdir())
    assert found == sorted([begin().path, other.path])


def test_an_error_that_nobody_expects_has_a_page_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> int:
        raise RuntimeError(EVIL)

    monkeypatch.setattr("training.redistill.redistill_labelled", crash)
    words = ["--task", "rul", "--data", "dummy", "--seed", "7", "--out", str(tmp_path)]
    done = CliRunner().invoke(redistill, words)
    assert isinstance(done.exception, RuntimeError)
    assert f"Report: {tmp_path / LOOK}" in done.output
    text = (tmp_path / LOOK).read_text(encoding="utf-8")
    check(text)
    assert "<h1>Failed unexpectedly</h1>" in text
    assert "RuntimeError: see the traceback." in text
    assert f"train-redistill --task rul --data dummy --seed 7 --out {tmp_path}" in text
