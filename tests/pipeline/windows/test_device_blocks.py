"""Blocks of many messages and single messages: the same accounts, windows and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.blocks import Block
from ingest.messages import Batch, Tick
from pipeline.windows.devices import Devices, Outcome, StreamPlan
from pipeline.windows.joining import joined, part_of
from pipeline.windows.spec import WindowSpec
from tests.fakes.windows import closed_windows

T0 = 1_700_000_000_000

specs = st.builds(
    WindowSpec,
    length=st.integers(1, 4),
    hop=st.integers(1, 3),
    lateness_ms=st.sampled_from([0, 30, 200]),
    idle_ms=st.just(100),
    future_ms=st.just(5_000),
    gap_ms=st.sampled_from([None, 100]),
) | st.builds(
    WindowSpec,
    kind=st.just("time"),
    length_ms=st.just(40),
    hop_ms=st.sampled_from([20, 40]),
    lateness_ms=st.sampled_from([0, 30]),
    idle_ms=st.just(100),
    future_ms=st.just(5_000),
)
plans = st.fixed_dictionaries(
    {
        "x": st.builds(StreamPlan, st.just("m"), st.sampled_from([("a", "b"), ("b",)]), specs),
        "y": st.none() | st.builds(StreamPlan, st.just("n"), st.just(("a",)), specs),
    }
)


@dataclass(frozen=True)
class Message:
    """A message of a device, or with `device` None a tick."""

    device: int | None
    stream: str
    channels: tuple[str, ...]
    steps: tuple[int, ...]


messages = st.builds(
    Message,
    st.none() | st.integers(0, 4),
    st.sampled_from(["x", "x", "x", "y", "z"]),
    st.sampled_from([("a", "b"), ("a", "b"), ("b", "a", "c"), ("a",)]),
    st.lists(st.sampled_from([0, 1, 1, 1, 1, 2, -3, 50, 10_000]), min_size=1, max_size=3).map(
        tuple
    ),
)
records = st.lists(st.lists(messages, max_size=12), min_size=1, max_size=6)


def items_of(found: list[list[Message]]) -> list[list[Batch | Tick]]:
    """Records with times: each device goes on by its steps of 10 ms."""
    at = dict.fromkeys(range(5), 0)
    now, items = 0, []
    for record in found:
        made: list[Batch | Tick] = []
        for message in record:
            now += 7
            if message.device is None:
                now += 90
                made.append(Tick(T0 + now, T0 - 10_000))
                continue
            ts = []
            for step in message.steps:
                at[message.device] += step if step < 10_000 else 0
                ts.append(10 * at[message.device] + (step if step == 10_000 else 0))
            now = max(now, min(ts))
            values = {name: [float(t % 7) for t in ts] for name in message.channels}
            made.append(
                Batch(
                    site="s",
                    device=f"d{message.device}",
                    stream=message.stream,
                    recv_ms=T0 + now,
                    ts_ms=T0 + np.array(ts, dtype=np.int64),
                    values=values,
                )
            )
        items.append(made)
    return items


def one_by_one(items: Sequence[Batch | Tick]) -> list[Any]:
    """The items of a record, every message in a block of its own."""
    return [each for item in items for each in joined([item])]


def seen(outcomes: list[Outcome]) -> dict[str, Any]:
    """What came of records, in an order that does not depend on how devices were mixed.

    Windows of one step are in the order in which they closed if they have the same shape.
    """
    closed = [w for outcome in outcomes for w in closed_windows(outcome.windows)]
    windows: dict[tuple[str, str, int], list[Any]] = {}
    for each in closed:
        window = each.window
        fields = (window.start_ms, window.end_ms, window.readings, window.gaps, window.recv_ms)
        windows.setdefault((each.device, each.stream, len(window.values)), []).append(
            (*fields, window.values.tobytes())
        )
    refused = [
        (offset, r.partition, r.address, str(r.reason), r.detail, r.recv_ms, r.body)
        for offset, outcome in enumerate(outcomes)
        for r in [*outcome.refused, *outcome.late]
    ]
    return {"windows": windows, "refused": sorted(refused)}


@settings(max_examples=300, deadline=None)
@given(plans, records, st.integers(0, 6), st.integers(0, 3))
def test_blocks_give_what_single_messages_give(
    found: dict[str, StreamPlan | None], cut: list[list[Message]], restart: int, replayed: int
) -> None:
    """Also over a restart after some records, with some of them replayed."""
    items = items_of(cut)
    rows: dict[str, bytes | None] = {}
    together, alone = Devices(found.get, rows.get), Devices(found.get, {}.get)
    outcomes: list[Outcome] = []
    for offset, record in enumerate(items):
        outcomes.append(together.apply(0, offset, record))
        if offset == restart:
            rows |= {key: value for _, key, value in together.dirty_rows()}
            together = Devices(found.get, rows.get)
            together.restore(rows, lambda _site, _device: 0)
            for back in range(max(0, offset - replayed), offset + 1):
                again = together.apply(0, back, items[back])
                assert (again.windows, again.refused, again.readings) == ([], [], 0)
        assert all(account.balances for account in together.accounts())
    single = [alone.apply(0, offset, one_by_one(record)) for offset, record in enumerate(items)]
    assert seen(outcomes) == seen(single)
    assert together.accounts() == alone.accounts()
    assert together.totals() == alone.totals()
    assert sum(each.readings for each in outcomes) == sum(each.readings for each in single)
    assert together.pending_partitions() == alone.pending_partitions()


@settings(max_examples=200, deadline=None)
@given(plans, st.lists(records, min_size=1, max_size=3), st.integers(1, 7), st.booleans())
def test_records_of_many_partitions_together_give_what_each_gives_alone(
    found: dict[str, StreamPlan | None],
    cuts: list[list[list[Message]]],
    at_once: int,
    again: bool,
) -> None:
    """Their ticks are the same ones now and then, and some records come twice."""
    log: list[tuple[int, int, list[Batch | Tick]]] = []
    for partition, cut in enumerate(cuts):
        for offset, items in enumerate(items_of(cut)):
            named = [
                replace(item, device=f"p{partition}-{item.device}")
                if isinstance(item, Batch)
                else item
                for item in items
            ]
            log.append((partition, offset, named))
    log.sort(key=lambda record: record[1])
    together, alone = Devices(found.get, {}.get), Devices(found.get, {}.get)
    outcomes = []
    for start in range(0, len(log), at_once):
        outcomes.append(together.apply_records(log[start : start + at_once]))
        if again:
            assert together.apply_records(log[: start + at_once]).readings == 0
    single = [alone.apply(*record) for record in log]
    assert seen_anywhere(outcomes) == seen_anywhere(single)
    assert together.accounts() == alone.accounts()
    assert together.totals() == alone.totals()
    rows = [{name: row for _, name, row in each.dirty_rows()} for each in (together, alone)]
    assert rows[0] == rows[1]


def seen_anywhere(outcomes: list[Outcome]) -> dict[str, Any]:
    """As `seen`, whatever records were applied together."""
    found = seen(outcomes)
    return found | {"refused": sorted(refusal[1:] for refusal in found["refused"])}


def block_of(*messages: tuple[str, list[int]], channels: tuple[str, ...] = ("a",)) -> Block:
    batches = [
        Batch(
            site="s",
            device=device,
            stream="x",
            recv_ms=T0 + 1_000,
            ts_ms=T0 + np.array(ts, dtype=np.int64),
            values={name: [float(t) for t in ts] for name in channels},
        )
        for device, ts in messages
    ]
    (block,) = joined(batches)
    assert isinstance(block, Block)
    return block


def test_messages_of_one_stream_share_a_block_between_two_ticks() -> None:
    def message(stream: str, *channels: str) -> Batch:
        ts = np.array([T0], dtype=np.int64)
        return Batch("s", "d", stream, T0, ts, dict.fromkeys(channels, (1,)))

    items = [
        message("x", "a"),
        message("y", "a"),
        message("x", "a"),
        message("x", "b"),
        Tick(T0, T0),
        message("x", "b"),
    ]
    blocks = [
        (item.stream, item.channels, len(item.counts)) if isinstance(item, Block) else "tick"
        for item in joined(items)
    ]
    assert blocks == [
        ("x", ("a",), 2),
        ("y", ("a",), 1),
        ("x", ("b",), 1),
        "tick",
        ("x", ("b",), 1),
    ]


def test_a_part_of_a_block_keeps_messages_readings_and_senders_together() -> None:
    block = block_of(("d", [0, 1]), ("e", [2]), ("d", [3]), ("f", [4, 5]))
    part = part_of(block, np.array([True, False, True]))
    assert part.senders == (("s", "d"), ("s", "f"))
    assert part.sender.tolist() == [0, 0, 1]
    assert part.counts.tolist() == [2, 1, 2]
    assert (part.ts_ms - T0).tolist() == part.values[:, 0].tolist() == [0, 1, 3, 4, 5]


def test_a_device_keeps_its_rules_and_a_newcomer_has_those_of_the_new_student() -> None:
    plan = StreamPlan("m", ("a",), WindowSpec(length=2, hop=2, lateness_ms=0))
    found = Devices(lambda _stream: plan, {}.get)
    found.apply(0, 0, [block_of(("old", [0]))])
    plan = StreamPlan("m", ("a",), WindowSpec(length=1, hop=1, lateness_ms=0))
    closed = closed_windows(found.apply(0, 1, [block_of(("new", [1]), ("old", [1]))]).windows)
    assert sorted((w.device, w.window.readings) for w in closed) == [("new", 1), ("old", 2)]


def test_a_student_with_another_number_of_channels_begins_anew() -> None:
    plan = StreamPlan("m", ("a",), WindowSpec(length=2, hop=2, lateness_ms=0))
    found = Devices(lambda _stream: plan, {}.get)
    found.apply(0, 0, [block_of(("d", [0]))])
    plan = StreamPlan("m", ("a", "b"), WindowSpec(length=2, hop=2, lateness_ms=0))
    outcome = found.apply(0, 1, [block_of(("d", [1, 2]), channels=("a", "b"))])
    assert [w.window.values.shape for w in closed_windows(outcome.windows)] == [(2, 2)]
    assert found.reset_total == 1
    assert found.accounts()[0].received == 3


def test_a_silence_that_begins_anew_because_the_clock_was_set_back_is_saved() -> None:
    spec = WindowSpec(length=2, hop=1, lateness_ms=200, idle_ms=100)
    devices = Devices({"x": StreamPlan("m", ("a",), spec)}.get, lambda _: None)
    ts = np.array([T0], dtype=np.int64)
    devices.apply(0, 0, [Batch("s", "d", "x", T0 + 500, ts, {"a": [1.0]})])
    devices.dirty_rows()
    devices.apply(0, 1, [Tick(T0 + 550, T0)])
    assert devices.dirty_rows() == []
    devices.apply(0, 2, [Tick(T0 + 300, T0)])
    assert [name for _, name, _ in devices.dirty_rows()] == ["s/d/x"]
