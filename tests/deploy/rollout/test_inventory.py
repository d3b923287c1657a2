"""The inventory of a centre: news only, bounds, signed reports, damage of one file."""

from __future__ import annotations

import os
import stat

import pytest

import deploy.rollout.inventory as inventory_module
from deploy.rollout.inventory import Inventory, known_gateways
from deploy.rollout.report import (
    GatewayReport,
    ReportRefused,
    StudentReport,
    encode_report,
    read_report_key,
)
from ingest.topics import report_topic

START_S = 1_700_000_000


class _Clock:
    now_s = START_S

    def __call__(self) -> int:
        return self.now_s


@pytest.fixture
def clock():
    return _Clock()


@pytest.fixture
def inventory(tmp_path, clock):
    return Inventory(tmp_path, clock)


def _report(name: str = "gw-1", sent_s: int = START_S, **changes: object) -> GatewayReport:
    return GatewayReport.model_validate({"gateway": name, "sent_s": sent_s} | changes)


def _take(inventory: Inventory, report: GatewayReport, key: bytes | None = None):
    return inventory.take(report_topic(report.gateway), encode_report(report, key))


def test_the_newest_report_survives_a_restart(inventory, tmp_path, clock):
    student = StudentReport(name="rul-fd001", phase="shadow", release=3, candidate=2)
    report = _report(group="north", students=[student.model_dump()])
    assert _take(inventory, report) == report
    clock.now_s += 50
    again = Inventory(tmp_path, clock)
    assert again.known() == inventory.known()
    (known,) = again.known()
    assert (known.report, known.seen_s, known.group) == (report, START_S, "north")
    assert known.student("rul-fd001") == student
    assert known.student("activity") is None
    assert known_gateways(tmp_path) == [("gw-1", "north")]


def test_a_report_that_the_broker_delivers_again_is_no_sign_of_life(inventory, clock):
    _take(inventory, _report())
    clock.now_s += 5000
    assert _take(inventory, _report()) is None
    assert inventory.known()[0].seen_s == START_S
    assert _take(inventory, _report(sent_s=START_S + 5000)) is not None
    assert inventory.known()[0].seen_s == START_S + 5000


def test_the_time_of_a_report_is_on_disk_at_the_latest_after_half_a_minute(
    inventory, tmp_path, clock
):
    for second in range(1, 100):
        clock.now_s = START_S + second
        _take(inventory, _report(sent_s=clock.now_s))
        (saved,) = Inventory(tmp_path, clock).known()
        assert clock.now_s - saved.seen_s < 30
    changed = _report(sent_s=clock.now_s, fetch="expired")
    _take(inventory, changed)
    assert Inventory(tmp_path, clock).known()[0].report == changed


def test_an_older_report_again_is_refused(inventory, clock):
    clock.now_s += 100
    _take(inventory, _report(sent_s=START_S + 90))
    with pytest.raises(ReportRefused, match="before the newest one"):
        _take(inventory, _report(sent_s=START_S + 80))
    (known,) = inventory.known()
    assert "clock went back" in known.refused
    _take(inventory, _report(sent_s=START_S + 91))
    assert inventory.known()[0].refused == ""


def test_a_gateway_whose_clock_was_ahead_comes_back_to_the_present(inventory, clock):
    _take(inventory, _report(sent_s=4_100_000_000))
    assert _take(inventory, _report(sent_s=START_S + 1)) is not None


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("gateways/gw-1/state", b"{}"),
        ("gateways/a/b/report", b"{}"),
        ("gateways/../report", b"{}"),
        ("gateways/gw-1/report", b"{"),
        ("gateways/gw-2/report", encode_report(_report())),
        ("gateways/gw-1/report", b"x" * 70_000),
        ("gateways/gw 1/report", b"{}"),
    ],
)
def test_what_is_no_report_of_its_topic_is_refused(inventory, tmp_path, topic, payload):
    with pytest.raises(ReportRefused):
        inventory.take(topic, payload)
    assert inventory.known() == []
    assert list(tmp_path.iterdir()) == []


def test_a_deleted_report_changes_nothing(inventory):
    _take(inventory, _report())
    assert inventory.take("gateways/gw-1/report", b"") is None
    assert len(inventory.known()) == 1


def test_an_enrolled_gateway_must_sign(inventory, tmp_path, clock):
    text = inventory.enrol("gw-1")
    assert inventory.enrol("gw-1") == text, "again is the same"
    path = tmp_path / "gw-1.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_report_key(path)
    assert key.hex() == text
    assert [(each.gateway, each.report) for each in inventory.known()] == [("gw-1", None)]
    with pytest.raises(ReportRefused, match="not signed with the key"):
        _take(inventory, _report())
    with pytest.raises(ReportRefused, match="not signed with the key"):
        _take(inventory, _report(), b"another key" * 3)
    assert _take(inventory, _report(), key) is not None
    assert inventory.enrol("gw-1", replace=True) != text
    with pytest.raises(ReportRefused, match="not signed with the key"):
        _take(inventory, _report(sent_s=START_S + 1), key)


def test_a_centre_may_take_signed_reports_only(tmp_path, clock):
    strict = Inventory(tmp_path, clock, only_signed=True)
    with pytest.raises(ReportRefused, match="kpstream centre enrol gw-1"):
        _take(strict, _report())
    assert _take(strict, _report(), bytes.fromhex(strict.enrol("gw-1"))) is not None


def test_a_damaged_key_refuses_the_report_and_is_not_shown(inventory, tmp_path):
    inventory.enrol("gw-1")
    (tmp_path / "gw-1.key").write_text("deadbeef\n")
    with pytest.raises(ReportRefused, match="64 hexadecimal digits") as caught:
        _take(inventory, _report())
    assert "deadbeef" not in str(caught.value)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":1}', b"\x00" * 50])
def test_damage_of_one_file_harms_its_gateway_only(inventory, tmp_path, clock, damage, caplog):
    for name in ("gw-1", "gw-2"):
        _take(inventory, _report(name))
    (tmp_path / "gw-1.json").write_bytes(damage)
    again = Inventory(tmp_path, clock)
    assert [each.gateway for each in again.known()] == ["gw-2"]
    assert "gw-1.json" in caplog.text
    _take(again, _report())
    assert len(Inventory(tmp_path, clock).known()) == 2


def test_a_record_under_the_name_of_another_gateway_is_refused(inventory, tmp_path, clock):
    _take(inventory, _report())
    (tmp_path / "gw-1.json").rename(tmp_path / "gw-9.json")
    assert Inventory(tmp_path, clock).known() == []


def test_a_retired_gateway_stays_out_until_it_is_restored(inventory, tmp_path, clock):
    running = Inventory(tmp_path, clock)
    for each in (inventory, running):
        _take(each, _report())
    assert inventory.retire("gw-1")
    assert running.known() == inventory.known() == [], "also in a process that runs"
    with pytest.raises(ReportRefused, match="kpstream centre restore gw-1"):
        _take(running, _report(sent_s=START_S + 1))
    assert known_gateways(tmp_path) == []
    assert inventory.restore("gw-1")
    assert not inventory.restore("gw-1")
    assert _take(running, _report(sent_s=START_S + 2)) is not None
    assert not inventory.retire("gw-unknown")


def test_the_number_of_gateways_is_bounded(tmp_path, clock, monkeypatch, caplog):
    monkeypatch.setattr(inventory_module, "MAX_GATEWAYS", 3)
    inventory = Inventory(tmp_path, clock)
    for number in range(20):
        name = f"gw-{number}"
        if number < 3:
            _take(inventory, _report(name))
        else:
            with pytest.raises(ReportRefused, match="retire some"):
                _take(inventory, _report(name))
    assert len(inventory.known()) == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert len(caplog.records) == 3, "the log is bounded as well"
    key = bytes.fromhex(inventory.enrol("gw-19"))
    assert _take(inventory, _report("gw-19"), key) is not None, "an enrolled one has its place"


def test_a_full_disk_keeps_the_report_in_memory(inventory, tmp_path, caplog):
    tmp_path.joinpath("gw-1.json.new").mkdir()
    tmp_path.joinpath("gw-1.json.new", "file").touch()
    assert _take(inventory, _report()) is not None
    assert len(inventory.known()) == 1
    assert "in memory only" in caplog.text


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "a b", "..\n"])
def test_an_invalid_name_is_refused(inventory, name):
    with pytest.raises(ValueError, match="is no name of a gateway"):
        inventory.enrol(name)


def test_a_file_that_is_no_key_of_a_gateway_harms_nobody(inventory):
    inventory.enrol("gw-1")
    (inventory.folder / "gw-1 (copy).key").write_bytes(b"")
    (inventory.folder / ".key").write_bytes(b"")
    assert [each.gateway for each in inventory.known()] == ["gw-1"]


def test_only_news_wait_for_the_disk(inventory, clock, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    _take(inventory, _report(sent_s=clock()))
    assert len(synced) == 1
    for _ in range(5):
        clock.now_s += 60
        _take(inventory, _report(sent_s=clock()))
    assert len(synced) == 1
    _take(inventory, _report(sent_s=clock() + 1, group="north"))
    assert len(synced) == 2
