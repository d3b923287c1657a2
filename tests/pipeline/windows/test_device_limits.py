"""Devices that are gone or made up: bounded, counted, and no harm to those that live."""

from __future__ import annotations

import numpy as np

from ingest.errors import RefusalReason
from ingest.messages import Batch, Tick
from ingest.roster import RosterLimits
from pipeline.windows.devices import Devices, Outcome, StreamPlan, device_limits
from pipeline.windows.spec import WindowSpec
from tests.fakes.windows import closed_windows

T0 = 1_700_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
PLAN = StreamPlan("m", ("a",), WindowSpec(length=2, hop=1, lateness_ms=0, idle_ms=100))
LIMITS = RosterLimits(
    most=10, most_strangers=5, keep_ms=3 * DAY_MS, keep_stranger_ms=DAY_MS, protect_ms=DAY_MS
)


class Worker:
    """Devices with their saved rows; records move the time on."""

    def __init__(self, limits: RosterLimits = LIMITS) -> None:
        self.limits = limits
        self.rows: dict[str, bytes] = {}
        self.offset = -1
        self.now_ms = T0
        self.start()

    def start(self) -> None:
        self.devices = Devices(
            lambda stream: PLAN if stream == "x" else None, self.rows.get, self.limits
        )
        self.devices.restore(list(self.rows), lambda _site, _device: 0)

    def save(self) -> None:
        for _, key, value in self.devices.dirty_rows():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def send(self, device: str, *, at_ms: int | None = None, stream: str = "x") -> Outcome:
        self.now_ms += 1
        self.offset += 1
        ts = np.array([self.now_ms if at_ms is None else at_ms], dtype=np.int64)
        batch = Batch(
            site="s",
            device=device,
            stream=stream,
            recv_ms=self.now_ms,
            ts_ms=ts,
            values={"a": [1.0]},
        )
        return self.devices.apply(0, self.offset, [batch])

    def pass_time(self, ms: int) -> None:
        for _ in range(ms // (MINUTE_MS // 2)):
            self.now_ms += MINUTE_MS // 2
            self.offset += 1
            self.devices.apply(0, self.offset, [Tick(self.now_ms, T0)])

    def names(self) -> set[str]:
        return {account.device for account in self.devices.accounts()}

    def balance(self) -> tuple[int, int]:
        totals = self.devices.totals()
        return totals.received, totals.missing


def known(worker: Worker, *devices: str) -> None:
    for device in devices:
        for _ in range(3):
            worker.send(device)
        worker.save()


def test_a_flood_of_names_removes_no_living_device_and_is_refused_with_a_reason() -> None:
    worker = Worker()
    known(worker, "living")
    reasons = [
        refusal.reason for n in range(100) for refusal in worker.send(f"made-up-{n}").refused
    ]
    assert reasons == [RefusalReason.too_many_devices] * 95
    assert len(worker.devices) == 1 + 5 + 1  # living, strangers, the shared account
    assert [w.device for w in closed_windows(worker.send("living").windows)] == ["living"]
    assert worker.balance() == (3 + 100 + 1, 0)


def test_strangers_make_room_for_a_newcomer_that_then_is_known() -> None:
    worker = Worker()
    for n in range(5):
        worker.send(f"made-up-{n}")
    worker.save()
    worker.pass_time(2 * MINUTE_MS)
    assert worker.send("real").refused == []
    assert "made-up-0" not in worker.names()
    known(worker, "real")
    for n in range(100):
        worker.send(f"more-{n}")
    assert "real" in worker.names()


def test_unsaved_state_never_goes() -> None:
    worker = Worker()
    for n in range(5):
        worker.send(f"made-up-{n}")
    worker.pass_time(2 * MINUTE_MS)  # as in a backlog, where hours pass before a checkpoint
    assert len(worker.send("new").refused) == 1
    worker.save()
    assert worker.send("new").refused == []


def test_what_is_removed_leaves_no_row_and_its_counters_stay_in_the_sum() -> None:
    worker = Worker()
    known(worker, "gone", "living")
    worker.send("stranger")
    worker.save()
    before = worker.balance()
    for _ in range(4):
        worker.pass_time(DAY_MS)
        known(worker, "living")
    assert worker.names() == {"living", "others-0"}
    assert worker.devices.removed_total == 2
    assert set(worker.rows) == {"s/living/x", "-/others-0/-"}
    assert worker.balance() == (before[0] + 12, 0)
    worker.start()
    assert worker.names() == {"living", "others-0"}
    assert worker.balance() == (before[0] + 12, 0)


def test_a_device_that_comes_back_starts_with_empty_windows() -> None:
    worker = Worker()
    known(worker, "back")
    first_ms = worker.now_ms - 1
    worker.pass_time(3 * DAY_MS + 2 * MINUTE_MS)
    assert "back" not in worker.names()
    outcome = worker.send("back", at_ms=first_ms)  # before its row is deleted, and not late
    assert (outcome.late, outcome.refused) == ([], [])
    worker.save()
    assert "s/back/x" in worker.rows
    assert worker.balance() == (4, 0)


def test_a_restart_keeps_half_the_term_whatever_the_clock_did() -> None:
    worker = Worker()
    known(worker, "old")
    worker.now_ms += 400 * DAY_MS  # a wrong clock, or a long time off
    known(worker, "new")
    worker.start()
    assert worker.names() == {"old", "new"}
    worker.pass_time(3 * DAY_MS // 2 - MINUTE_MS)
    known(worker, "new")
    assert worker.names() == {"old", "new"}
    worker.pass_time(2 * MINUTE_MS)
    assert worker.names() == {"new", "others-0"}


def test_a_step_of_the_clock_removes_nobody() -> None:
    worker = Worker()
    known(worker, "one", "two")
    worker.now_ms += 40 * DAY_MS
    known(worker, "one")
    worker.now_ms -= 40 * DAY_MS
    worker.pass_time(5 * MINUTE_MS)
    assert worker.names() == {"one", "two"}


def test_a_restart_with_too_many_strangers_trims_them() -> None:
    worker = Worker(device_limits(1000))
    known(worker, "real")
    for n in range(50):
        worker.send(f"made-up-{n}")
    worker.save()
    worker.limits = LIMITS
    worker.start()
    worker.save()
    assert len(worker.rows) == 1 + 5 + 1
    assert "real" in worker.names()
    assert worker.balance()[1] == 0


def test_streams_without_a_student_are_strangers_too() -> None:
    worker = Worker()
    for n in range(20):
        (refused,) = worker.send(f"d{n}", stream="unknown").refused
        assert refused.reason is RefusalReason.no_model
    assert len(worker.devices) == 6
    assert worker.balance() == (20, 0)


def test_moved_partitions_leave_nothing_behind() -> None:
    worker = Worker()
    known(worker, "a", "b")
    worker.devices.forget_partitions([0])
    assert len(worker.devices) == 0
    assert worker.devices.dirty_rows() == []
    worker.start()
    assert worker.names() == {"a", "b"}


def test_limits_of_the_settings() -> None:
    assert device_limits(most=2).most_strangers == 1
    assert device_limits(days=0.5).keep_stranger_ms == DAY_MS // 2
    assert device_limits().keep_ms == 30 * DAY_MS
