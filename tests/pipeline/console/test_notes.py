"""Notes on devices: what they do to the page, when they end, a file that is damaged or shared."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.console.acting import Access
from pipeline.console.fleet import Fleet, FleetQuery
from pipeline.console.notes import FILE_NAME, DeviceNotes, Note
from pipeline.console.noting import take_note
from pipeline.console.pages import PageSettings
from pipeline.errors import NotesError
from pipeline.points.points import Point
from pipeline.stores.resultsfile import ResultsFile
from tests.fakes.view import FakeView, fill

NOW_MS = 1_800_000_000_000
DEVICE = ("plant-1", "engine-02", "engine")
SEEN = Note("acknowledged", NOW_MS, "ada", "bearing ordered")
GONE = Note("retired", NOW_MS, "ada")


@pytest.fixture
def notes(tmp_path: Path) -> DeviceNotes:
    return DeviceNotes(tmp_path)


@pytest.mark.parametrize(
    ("note", "rank", "heard_ms", "is_stale", "kept"),
    [
        (SEEN, 0, NOW_MS, False, replace(SEEN, rank=0)),
        (SEEN, 1, NOW_MS, False, replace(SEEN, rank=1)),
        (replace(SEEN, rank=1), 1, NOW_MS, False, replace(SEEN, rank=1)),
        (replace(SEEN, rank=0), 1, NOW_MS, False, replace(SEEN, rank=0)),
        (replace(SEEN, rank=1), 0, NOW_MS, False, None),  # worse than what was acknowledged
        (SEEN, 3, NOW_MS, False, None),  # it needs no attention
        (SEEN, 3, NOW_MS, True, replace(SEEN, rank=3)),  # its silence does
        (replace(SEEN, rank=3), 3, NOW_MS, False, None),  # it speaks again
        (GONE, 0, NOW_MS, True, GONE),
        (GONE, 3, None, True, GONE),
        (GONE, 3, NOW_MS + 1, False, None),  # it sends again
    ],
)
def test_a_note_ends_by_itself(
    tmp_path: Path,
    notes: DeviceNotes,
    note: Note,
    rank: int,
    heard_ms: int | None,
    is_stale: bool,
    kept: Note | None,
) -> None:
    notes.put(DEVICE, note)
    assert notes.follow(DEVICE, note, rank, heard_ms, is_stale=is_stale) == kept
    assert DeviceNotes(tmp_path).read() == ({} if kept is None else {DEVICE: kept})


def test_a_note_that_was_changed_meanwhile_is_left_alone(notes: DeviceNotes) -> None:
    notes.put(DEVICE, SEEN)
    notes.put(DEVICE, GONE)
    assert notes.follow(DEVICE, SEEN, 3, NOW_MS, is_stale=False) is None
    assert notes.read() == {DEVICE: GONE}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"devices": 3}',
        b'{"devices": {"a/b": {}}}',
        b"\xff" * 9,
        b'{"devices": {"a/b/c": {"kind": "gone", "at_ms": 1, "by": "x"}}}',
    ],
)
def test_a_damaged_file_is_said_and_changes_nothing(
    tmp_path: Path, notes: DeviceNotes, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert dict(notes.read()) == {}
    notes.read()
    assert caplog.text.count("move the file away") == 1
    with pytest.raises(NotesError, match="move the file away"):
        notes.put(DEVICE, SEEN)
    assert (tmp_path / FILE_NAME).read_bytes() == content


def _put_many(folder: Path, writer: int) -> None:
    for number in range(20):
        DeviceNotes(folder).put(("a", f"d{writer}-{number}", "s"), SEEN)


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_put_many, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(DeviceNotes(tmp_path).read()) == 60


@pytest.fixture
def results(tmp_path: Path) -> Iterator[ResultsFile]:
    results = ResultsFile(tmp_path / "results.db", now_ms=lambda: NOW_MS)
    fill(results, NOW_MS, minutes=2)
    yield results
    results.close()


def test_the_fleet_page_follows_the_notes(results: ResultsFile, notes: DeviceNotes) -> None:
    view = FakeView.fleet(NOW_MS)
    fleet = Fleet(results, PageSettings(), clock=lambda: 0.0, notes=notes)

    def names(**query: str) -> list[str]:
        page = fleet.page(view, FleetQuery.parse({"task": "rul", **query}), NOW_MS)
        return [entry["device"] for entry in page["devices"]]

    before = names()
    assert before[0] == "engine-02"
    notes.put(DEVICE, SEEN)
    assert names()[0] == before[1]
    page = fleet.page(view, FleetQuery(), NOW_MS)
    figures = page["overview"]["tasks"]["rul"]
    assert names().index("engine-02") == figures["critical"] + figures["warning"] - 1
    assert (page["overview"]["acknowledged"], page["overview"]["retired"]) == (1, 0)
    marked = next(d for d in page["devices"] if d["device"] == "engine-02")
    assert marked["note"]["text"] == "bearing ordered"

    count = page["overview"]["devices"]
    notes.put(DEVICE, replace(GONE, at_ms=NOW_MS + 60_000))
    assert "engine-02" not in names()
    assert names(state="retired") == ["engine-02"]
    overview = fleet.page(view, FleetQuery(), NOW_MS)["overview"]
    assert (overview["devices"], overview["retired"]) == (count - 1, 1)
    assert overview["tasks"]["rul"]["lowest"][3] != "engine-02"

    view.accounts = [
        replace(a, last_recv_ms=NOW_MS + 60_001) if a.device == "engine-02" else a
        for a in view.accounts
    ]
    assert names()[0] == "engine-02"
    assert notes.read() == {}


def test_an_acknowledged_machine_that_recovers_is_not_quiet_the_next_time(
    results: ResultsFile, notes: DeviceNotes
) -> None:
    view = FakeView.fleet(NOW_MS)
    fleet = Fleet(results, PageSettings(), clock=lambda: 0.0, notes=notes)
    tags = (("site", "plant-1"), ("device", "engine-02"), ("stream", "engine"), ("model", "m"))
    notes.put(DEVICE, SEEN)
    fleet.page(view, FleetQuery(), NOW_MS)
    for step, rul in enumerate((100.0, 3.0), start=1):
        fields = (("rul", rul), ("rul_low", rul - 1), ("rul_high", rul + 1), ("version", 1))
        results.write([Point("rul", tags, fields, (NOW_MS + step * 1000) * 1_000_000)])
        page = fleet.page(view, FleetQuery.parse({"task": "rul"}), NOW_MS)
    assert page["devices"][0]["device"] == "engine-02"
    assert page["devices"][0]["note"] is None


OWN = {
    "Host": "localhost:8765",
    "Origin": "http://localhost:8765",
    "Content-Type": "application/json",
}


def test_a_note_is_made_and_ended_on_the_page(notes: DeviceNotes) -> None:
    body = b'{"kind": "acknowledged", "by": "ada", "text": "bearing ordered"}'
    assert take_note(notes, "loopback", DEVICE, OWN, "127.0.0.1", body, NOW_MS)[0] == 200
    assert dict(notes.read()) == {DEVICE: SEEN}
    assert take_note(notes, "loopback", DEVICE, OWN, "127.0.0.1", b'{"kind": null}', 1)[0] == 200
    assert dict(notes.read()) == {}


@pytest.mark.parametrize(
    ("access", "headers", "peer", "body", "status"),
    [
        ("off", {}, "127.0.0.1", b'{"kind": null}', 403),
        ("loopback", {}, "192.168.1.9", b'{"kind": null}', 403),
        ("loopback", {"Origin": "http://example.com"}, "127.0.0.1", b'{"kind": null}', 403),
        ("loopback", {"Content-Type": "text/plain"}, "127.0.0.1", b'{"kind": null}', 403),
        ("loopback", {}, "127.0.0.1", b'{"kind": "gone"}', 400),
        ("loopback", {}, "127.0.0.1", b'{"kind": null, "rank": 1}', 400),
        ("loopback", {}, "127.0.0.1", b"{", 400),
        ("loopback", {}, "127.0.0.1", b'{"kind": "retired", "text": "%s"}' % (b"x" * 201), 400),
        ("everywhere", {}, "192.168.1.9", b'{"kind": null}', 200),
    ],
)
def test_who_may_make_a_note_on_the_page_and_how(
    notes: DeviceNotes, access: Access, headers: dict[str, str], peer: str, body: bytes, status: int
) -> None:
    notes.put(DEVICE, SEEN)
    found, page = take_note(notes, access, DEVICE, OWN | headers, peer, body, NOW_MS)
    assert found == status
    assert (dict(notes.read()) == {DEVICE: SEEN}) == (status != 200)
    assert ("error" in page) == (status != 200)


def test_notes_that_cannot_be_kept_are_said(tmp_path: Path, notes: DeviceNotes) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"{")
    body = b'{"kind": "retired"}'
    status, page = take_note(notes, "loopback", DEVICE, OWN, "127.0.0.1", body, NOW_MS)
    assert (status, "move the file away" in page["error"]) == (503, True)
