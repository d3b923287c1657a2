"""Accounts of a process: every field is in the table, and only changes are reported again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from ingest.errors import LogUnavailable
from pipeline.points.accounts import Accounts, encode_points, publish_accounts
from pipeline.points.measurements import GATEWAY, ROLES, measurements
from pipeline.points.points import Point
from pipeline.status.counters import DeviceAccount, LatencySummary, Totals
from pipeline.status.health import HealthReport
from pipeline.status.progress import PartitionProgress
from pipeline.status.view import ModelStatus

NOW_MS = 1_700_000_000_000
KINDS = {int: "int", float: "float", str: "text"}


MODEL = ModelStatus("rul-fd001", "rul", "engine", 3, since_ms=NOW_MS - 1)
REPORT = HealthReport(
    True,
    False,
    ("bridge is\nnot connected", "log is full"),
    {
        "bridge": {"connected": False, "sessions_lost": 2, "session_lost_ms": NOW_MS},
        "log": {"stored_bytes": 3, "max_bytes": 4},
        "archive": {"evicted": 5, "evicted_by": [["dead-letters", "s/e1", 5]]},
    },
)


@dataclass
class View:
    devices: list[DeviceAccount] = field(
        default_factory=lambda: [
            DeviceAccount("s", f"e{i}", "engine", received=10, windowed=9, late=1, last_recv_ms=7)
            for i in range(3)
        ]
    )
    model: ModelStatus = MODEL
    report: HealthReport = REPORT

    def account(self) -> list[DeviceAccount]:
        return self.devices

    def totals(self) -> Totals:
        seen = LatencySummary(5, 1.5, 2.5, 3.0)
        return Totals(received=30, stored=7, dead_letters={"late": 2}, sensor_to_stored=seen)

    def partitions(self) -> list[PartitionProgress]:
        return [
            PartitionProgress("store", "scores", 0, 10, 7, 7, NOW_MS - 500, 500),
            PartitionProgress("store", "scores", 1, 10, 10, None, NOW_MS - 500),
        ]

    def models(self) -> list[ModelStatus]:
        return [self.model]

    def health(self) -> HealthReport:
        return self.report


def by_measurement(points: list[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.measurement, []).append(point)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_reported_field_is_in_the_table_of_measurements(role: str) -> None:
    view = View()
    accounts = Accounts(view, "p-1", role, NOW_MS)
    accounts.points(NOW_MS)
    view.model = replace(view.model, version=4, refused_version=5, refused_error="bad")
    reported = by_measurement(accounts.points(NOW_MS))
    assert set(reported) == {"gateway", "device", "lag", "dead_letters", "model", "rollout"}
    table = {measurement.name: measurement for measurement in measurements()}
    for name, points in reported.items():
        for point in points:
            fields = dict(point.fields)
            assert [tag for tag, _ in point.tags] == list(table[name].tags)
            for field_name, value in fields.items():
                assert table[name].field(field_name).kind == KINDS[type(value)], field_name
            assert {f.name for f in table[name].fields if f.always} <= set(fields)


def test_a_gateway_reports_everything_and_a_store_its_own_part() -> None:
    whole = dict(Accounts(View(), "g", "gateway", 5).points(NOW_MS)[0].fields)
    assert whole["problems"] == "bridge is not connected; log is full"
    assert (whole["alive"], whole["ready"], whole["connected"]) == (1, 0, 0)
    assert whole["log_fill"] == 0.75
    assert whole["evicted"] == 5
    assert whole["sensor_to_stored_p99_ms"] == 2.5
    assert whole["rss_bytes"] > 1_000_000
    silent = {"sensor_to_score", "receive_to_score"}
    expected = {f.name for f in GATEWAY.fields if not any(map(f.name.startswith, silent))}
    assert set(whole) == expected
    store = dict(Accounts(View(), "s", "store", 5).points(NOW_MS)[0].fields)
    assert store["stored"] == 7
    assert not {"received", "messages_received", "scored"} & set(store)


def test_only_changed_devices_are_reported_again_after_confirmation() -> None:
    view = View()
    accounts = Accounts(view, "w", "worker", NOW_MS)

    def devices() -> list[str]:
        points = by_measurement(accounts.points(NOW_MS)).get("device", [])
        return [dict(point.tags)["device"] for point in points]

    assert devices() == ["e0", "e1", "e2"]
    assert devices() == ["e0", "e1", "e2"], "not confirmed"
    accounts.confirm()
    assert devices() == []
    view.devices = [*view.devices[:2], replace(view.devices[2], received=11)]
    assert devices() == ["e2"]


def test_the_account_of_a_device_has_the_time_of_its_state() -> None:
    """A frozen worker reports an old state last; the newest state must stay the newest."""
    view = View()
    (old, _, _) = by_measurement(Accounts(view, "w-1", "worker", 1).points(NOW_MS))["device"]
    first = view.devices[0]
    assert first.last_recv_ms is not None
    view.devices[0] = replace(first, received=first.received + 5, windowed=first.windowed + 5)
    (new, _, _) = by_measurement(Accounts(view, "w-2", "worker", 1).points(NOW_MS))["device"]
    (again, _, _) = by_measurement(Accounts(view, "w-3", "worker", 1).points(NOW_MS + 77))["device"]
    assert old.time_ns < new.time_ns
    assert again == new
    assert new.time_ns // 1_000_000 == first.last_recv_ms


def test_the_counter_of_a_new_reason_begins_at_zero() -> None:
    """Queries of the growth of the counter must include them."""
    accounts = Accounts(View(), "b", "bridge", NOW_MS - 10_000)

    def dead_letters(now_ms: int) -> list[tuple[int, int]]:
        points = by_measurement(accounts.points(now_ms))["dead_letters"]
        return [(p.time_ns // 10**6, dict(p.fields)["count"]) for p in points]

    assert dead_letters(NOW_MS) == [(NOW_MS - 10_000, 0), (NOW_MS, 2)]
    assert dead_letters(NOW_MS + 5_000) == [(NOW_MS - 10_000, 0), (NOW_MS + 5_000, 2)]
    accounts.confirm()
    assert dead_letters(NOW_MS + 10_000) == [(NOW_MS + 10_000, 2)]


def test_backlog_reports_how_long_it_has_stalled() -> None:
    lags = by_measurement(Accounts(View(), "s", "store", 5).points(NOW_MS))["lag"]
    first, second = (dict(point.fields) for point in lags)
    assert first == {"end_offset": 10, "backlog": 3, "still_ms": 500, "committed": 7}
    assert second == {"end_offset": 10, "backlog": 0, "still_ms": 0}


def test_a_rollout_is_marked_once_and_a_start_is_none() -> None:
    view = View()
    accounts = Accounts(view, "w", "worker", NOW_MS)

    def marks() -> list[tuple[str, object, int]]:
        points = by_measurement(accounts.points(NOW_MS)).get("rollout", [])
        return [(dict(p.tags)["event"], dict(p.fields)["text"], p.time_ns // 10**6) for p in points]

    assert marks() == []
    view.model = replace(view.model, version=4, since_ms=NOW_MS + 77)
    mark = ("swapped", "rul-fd001 v4 swapped, before v3", NOW_MS + 77)
    assert marks() == [mark]
    assert marks() == [mark], "until the log has it"
    accounts.confirm()
    assert marks() == []
    view.model = replace(view.model, refused_version=5, refused_error="sha256\ndiffers")
    assert marks() == [("refused", "rul-fd001 v5 refused: sha256 differs", NOW_MS)]


async def test_an_unavailable_log_gets_everything_later() -> None:
    view = View()
    accounts = Accounts(view, "w", "worker", NOW_MS)
    values: list[bytes] = []
    failures = [LogUnavailable("away"), LogUnavailable("away")]
    done = asyncio.Event()

    async def append(value: bytes) -> None:
        if failures:
            raise failures.pop()
        values.append(value)
        done.set()

    task = asyncio.create_task(publish_accounts(accounts, append, lambda: NOW_MS, every_ms=1))
    await asyncio.wait_for(done.wait(), 120)
    task.cancel()
    lines = values[0].decode().split("\n")
    assert sum(line.startswith("device,") for line in lines) == 3
    assert not failures


def test_many_points_are_several_records() -> None:
    point = Point("device", (("site", "s"),), (("received", 1),), 5)
    sizes = [value.count(b"\n") + 1 for value in encode_points([point] * 2_500)]
    assert sizes == [1000, 1000, 500]
