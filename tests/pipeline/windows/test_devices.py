"""Devices: every reading accounted for, records applied once, devices independent of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import RefusalReason
from ingest.messages import Batch, Tick, Unreadable
from pipeline.status.counters import sum_accounts
from pipeline.windows.devices import Devices, Outcome, StreamPlan
from pipeline.windows.spec import WindowSpec
from tests.fakes.windows import closed_windows

T0 = 1_700_000_000_000
PLAN = StreamPlan("m", ("a", "b"), WindowSpec(length=4, hop=2, lateness_ms=0, idle_ms=100))


def batch(device: str, start: int, count: int = 1, **changes: Any) -> Batch:
    ts = T0 + 10 * np.arange(start, start + count, dtype=np.int64)
    values = {"a": [float(i) for i in range(count)], "b": [0.0] * count, "extra": [9.0] * count}
    fields = {
        "site": "s",
        "device": device,
        "stream": "x",
        "recv_ms": T0 + 10 * (start + count),
        "ts_ms": ts,
        "values": values,
    } | changes
    return Batch(**fields)


def devices(rows: dict[str, bytes] | None = None) -> Devices:
    return Devices(lambda stream: PLAN if stream == "x" else None, (rows or {}).get)


def balanced(found: Devices) -> bool:
    return all(account.balances for account in found.accounts())


def test_windows_close_across_records_and_every_reading_is_counted() -> None:
    found = devices()
    first = found.apply(0, 0, [batch("d", 0, 3)])
    again = batch("d", 4, 1, values={"a": [1.0], "b": [0.0]})
    second = found.apply(0, 1, [batch("d", 3, 3), again, batch("d", 5, 1)])
    assert [w.window.readings for w in closed_windows(first.windows + second.windows)] == [4, 4]
    (counters,) = found.accounts()
    assert (counters.received, counters.windowed, counters.duplicate) == (8, 6, 1)
    assert counters.corrected == 1, "the value of the last one is another one"
    assert counters.last_event_ms == T0 + 50
    assert balanced(found)


def test_a_record_that_the_saved_state_already_holds_changes_nothing() -> None:
    found = devices()
    found.apply(0, 0, [batch("d", 0, 3)])
    found.apply(0, 1, [batch("d", 3, 3)])
    rows = {key: value for _, key, value in found.dirty_rows()}
    again = devices(rows)
    assert again.apply(0, 0, [batch("d", 0, 3)]).windows == []
    assert again.apply(0, 1, [batch("d", 3, 3)]).windows == []
    assert [
        w.window.end_ms for w in closed_windows(again.apply(0, 2, [batch("d", 6, 2)]).windows)
    ] == [T0 + 71]
    assert again.accounts()[0].received == 8


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 4))
def test_a_kill_anywhere_gives_the_windows_of_an_undisturbed_run(
    saved_after: int, replay_from: int, chunk: int
) -> None:
    """A SIGKILL can leave a saved state that is ahead of the committed offset."""
    replay_from = min(replay_from, saved_after)
    records = [(i, [batch("d", i * chunk, chunk), batch("e", i, 1)]) for i in range(12)]

    def run(target: Devices, start: int, stop: int) -> set[tuple[str, int, bytes]]:
        outcomes = [target.apply(0, offset, items) for offset, items in records[start:stop]]
        return {
            (w.device, w.window.end_ms, w.window.values.tobytes())
            for outcome in outcomes
            for w in closed_windows(outcome.windows)
        }

    undisturbed = run(devices(), 0, 12)
    first = devices()
    before = run(first, 0, saved_after)
    rows = {key: value for _, key, value in first.dirty_rows()}
    after = run(devices(rows), replay_from, 12)
    assert before | after == undisturbed


def test_bad_messages_are_refused_with_their_reason_and_affect_no_other() -> None:
    alone, mixed = devices(), devices()
    good = [batch("good", i) for i in range(6)]
    bad = [
        batch("bad", 0, values={"a": [1.0]}),
        batch("bad", 0, stream="unknown"),
        batch("bad", 100_000_000),
    ]
    want = [w.window.end_ms for w in closed_windows(alone.apply(0, 0, good).windows)]
    bad[2] = batch("bad", 100_000_000, recv_ms=T0)
    got = mixed.apply(
        0, 0, [good[0], *bad, *good[1:], Unreadable(b"?", RefusalReason.unreadable, "")]
    )
    assert [w.window.end_ms for w in closed_windows(got.windows) if w.device == "good"] == want
    assert [r.reason for r in got.refused] == [
        RefusalReason.missing_channel,
        RefusalReason.no_model,
        RefusalReason.future,
    ]
    assert b'"a":[1.0]' in got.refused[0].body
    assert len(got.unreadable) == 1
    assert balanced(mixed)


def test_late_readings_are_an_output_with_their_values() -> None:
    found = devices()
    found.apply(0, 0, [batch("d", 100, 1)])
    outcome: Outcome = found.apply(0, 1, [batch("d", 0, 2)])
    assert [r.reason for r in outcome.late] == [None]
    assert str(T0).encode() in outcome.late[0].body
    assert found.accounts()[0].late == 2
    assert balanced(found)


def test_a_tick_releases_what_waits_and_only_then_is_the_device_dirty() -> None:
    spec = WindowSpec(length=2, hop=1, lateness_ms=1000, idle_ms=100)
    found = Devices(lambda stream: StreamPlan("m", ("a", "b"), spec), {}.get)
    found.apply(1, 0, [batch("d", 0, 3)])
    assert found.pending_partitions() == [1]
    found.dirty_rows()
    early = found.apply(1, 1, [Tick(T0 + 40, T0)])
    assert (early.windows, found.dirty_rows()) == ([], [])
    late = found.apply(1, 2, [Tick(T0 + 1000, T0)])
    assert [w.window.end_ms for w in closed_windows(late.windows)] == [T0 + 11, T0 + 21]
    assert found.pending_partitions() == []
    assert [key for _, key, _ in found.dirty_rows()] == ["s/d/x"]


def test_restored_devices_wait_for_ticks_again() -> None:
    spec = WindowSpec(length=2, hop=1, lateness_ms=1000, idle_ms=100)
    plan = StreamPlan("m", ("a", "b"), spec)
    found = Devices(lambda stream: plan, {}.get)
    found.apply(3, 0, [batch("d", 0, 3)])
    rows = {key: value for _, key, value in found.dirty_rows()}
    again = Devices(lambda stream: plan, rows.get)
    again.restore(rows, lambda site, device: 3)
    assert again.pending_partitions() == [3]
    assert again.accounts()[0].received == 3


def test_devices_of_a_partition_that_moved_away_are_forgotten() -> None:
    found = devices()
    found.apply(0, 0, [batch("d", 0)])
    found.apply(1, 0, [batch("e", 0)])
    found.forget_partitions([0])
    assert [account.device for account in found.accounts()] == ["e"]
    assert [partition for partition, *_ in found.dirty_rows()] == [1]


@pytest.mark.parametrize("row", [b"", b"KPD1", b"XXXX\x00\x00\x00\x00", b"KPD1\xff\x00\x00\x00{}"])
def test_a_device_with_an_unusable_row_starts_empty_and_is_counted(row: bytes) -> None:
    found = devices({"s/d/x": row})
    outcome = found.apply(0, 0, [batch("d", 0, 4), batch("e", 0, 4)])
    assert [w.device for w in closed_windows(outcome.windows)] == ["d", "e"]
    assert found.reset_total == 1


def test_a_snapshot_of_another_shape_resets_one_device_and_keeps_its_account() -> None:
    before = devices()
    before.apply(0, 5, [batch("d", 0, 3)])
    rows = {key: value for _, key, value in before.dirty_rows()}
    wider = StreamPlan("m", ("a", "b"), WindowSpec(length=8, hop=2, lateness_ms=0))
    found = Devices(lambda stream: wider, rows.get)
    found.restore(rows, lambda site, device: 0)
    assert (found.reset_total, found.accounts()[0].received) == (1, 3)
    assert found.apply(0, 5, [batch("d", 0, 3)]).readings == 0


def test_state_survives_a_start_without_its_student() -> None:
    before = devices()
    before.apply(0, 0, [batch("d", 0, 3)])
    rows = {key: value for _, key, value in before.dirty_rows()}
    without = Devices(lambda stream: None, rows.get)
    without.restore(rows, lambda site, device: 0)
    without.apply(0, 1, [batch("d", 3, 1)])  # refused: no student
    rows = {key: value for _, key, value in without.dirty_rows()}
    again = devices(rows)
    assert sum(map(len, again.apply(0, 2, [batch("d", 3, 1)]).windows)) == 1


def test_offsets_of_another_partition_are_not_compared() -> None:
    before = devices()
    before.apply(0, 99, [batch("d", 0, 3)])
    rows = {key: value for _, key, value in before.dirty_rows()}
    assert devices(rows).apply(1, 0, [batch("d", 3, 1)]).readings == 1


def test_invented_streams_share_one_account_beyond_a_number() -> None:
    found = devices()
    found.apply(2, 0, [batch(f"d{i}", 0, 1, stream="none") for i in range(2000)])
    accounts = found.accounts()
    assert len(accounts) < 600
    assert sum(account.dead_lettered for account in accounts) == 2000
    rows = {key: value for _, key, value in found.dirty_rows()}
    again = devices(rows)
    again.restore(rows, lambda site, device: 2)
    assert sum(account.dead_lettered for account in again.accounts()) == 2000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["reading", "tick", "cut"]), min_size=1, max_size=60))
def test_ticks_between_readings_lose_none_for_any_cut_of_records(steps: list[str]) -> None:
    """A tick may share a record with readings of the same device, before or behind it."""
    spec = WindowSpec(length=4, hop=2, lateness_ms=15, idle_ms=5)
    plan = StreamPlan("m", ("a", "b"), spec)
    found = Devices(lambda stream: plan, {}.get)
    records: list[list[Any]] = [[]]
    sent = 0
    for step in steps:
        if step == "reading":
            records[-1].append(batch("d", sent))
            sent += 1
        elif step == "tick":
            records[-1].append(Tick(T0 + 10 * sent + 1000, T0))
        else:
            records.append([])
    records.append([Tick(T0 + 10 * sent + 10_000, T0)])
    ends = [
        w.window.end_ms
        for offset, items in enumerate(records)
        for w in closed_windows(found.apply(0, offset, items).windows)
    ]
    assert ends == [T0 + 10 * n + 1 for n in range(3, sent, 2)]
    assert sum(account.windowed for account in found.accounts()) == sent


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["reading", "again", "unknown", "tick", "forget", "restart", "look"]),
            st.integers(0, 2),
        ),
        max_size=40,
    )
)
def test_totals_and_copies_follow_every_change(steps: list[tuple[str, int]]) -> None:
    rows: dict[str, bytes] = {}
    found = devices(rows)
    for offset, (step, number) in enumerate(steps):
        device, partition = f"d{number}", number % 2
        if step == "tick":
            found.apply(partition, offset, [Tick(T0 + 20 * offset, T0)])
        elif step == "forget":
            found.forget_partitions([partition])
        elif step == "restart":
            rows |= {key: value for _, key, value in found.dirty_rows()}
            found = devices(rows)
            found.restore(rows, lambda _, name: int(name[-1]) % 2)
        elif step == "look":
            seen = found.accounts()
            before = [each.received for each in seen]
            found.apply(partition, offset, [batch(device, offset)])
            assert [each.received for each in seen] == before
        else:
            start = offset if step == "reading" else 0
            stream = "none" if step == "unknown" else "x"
            found.apply(partition, offset, [batch(device, start, 2, stream=stream)])
        accounts = found.accounts()
        assert found.totals() == sum_accounts(accounts)
        assert accounts == sorted(accounts, key=lambda a: (a.site, a.device, a.stream))
        assert len(accounts) == len(found)
