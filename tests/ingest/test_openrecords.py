"""Messages of a load as records: order, content, bounds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.blocks import Block, decode_messages, decode_record
from ingest.messages import Batch, Tick
from ingest.openrecords import OpenRecords, Sender
from ingest.topics import Address

T0 = 1_700_000_000_000
FORMS: list[tuple[Any, dict[str, Any]]] = [
    (T0, {"a": 1, "b": 0.1}),
    (T0, {"b": 0.1, "a": 1}),
    (T0, {"a": 7.5}),
    ([T0], {"a": [1], "b": [2]}),
    ([T0, T0 - 5], {"a": [1, 2], "b": [3, 0.25]}),
    (range(T0, T0 + 60, 20), {"a": (1, 2, 3)}),
]
FULL: list[tuple[Any, dict[str, list[float]]]] = [
    (
        [t] if isinstance(t, int) else list(t),
        {
            c: [float(x) for x in ([v] if isinstance(v, int | float) else v)]
            for c, v in values.items()
        },
    )
    for t, values in FORMS
]


def senders(partitions: int) -> list[Sender]:
    found = []
    for at in range(4):
        for stream in ("engine", "imu"):
            found.append(Sender(Address("plant", f"d{at}", stream), at % partitions))
    return found


def items_of(records: OpenRecords) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for partition, value in records.encode():
        found[partition] += decode_messages(value)
    return found


step = st.tuples(st.integers(0, 7), st.integers(0, len(FORMS) - 1))


@given(
    st.lists(step | st.sampled_from(["forget", "body", "load"]), max_size=60),
    st.integers(1, 3),
    st.sampled_from([1, 3, 500]),
)
def test_every_stream_of_a_device_keeps_its_messages_and_their_order(
    steps: list[Any], partitions: int, most_messages: int
) -> None:
    known = senders(partitions)
    records = OpenRecords(most_messages, 500_000)
    found: dict[int, list[Any]] = defaultdict(list)
    expected: dict[Address, list[Any]] = defaultdict(list)
    at_ms = 0

    def take() -> None:
        for partition, items in items_of(records).items():
            found[partition] += items

    for each in steps:
        at_ms += 1
        if each == "forget":
            records.leave_blocks()
            known = senders(partitions)
        elif each == "load":
            take()
            records = OpenRecords(most_messages, 500_000, records.next_number)
        elif each == "body":
            body = b'{"ts": 1700000000000, "values": {"a": 1}}'
            records.add_body(known[0], at_ms, 1, body)
            expected[known[0].address].append((at_ms, [T0], {"a": [1.0]}))
        else:
            sender, form = known[each[0]], each[1]
            records.add(sender, at_ms, *FORMS[form])
            expected[sender.address].append((at_ms, *FULL[form]))
    take()
    got: dict[Address, list[Any]] = defaultdict(list)
    for partition, items in found.items():
        for item in items:
            assert isinstance(item, Batch)
            address = Address(item.site, item.device, item.stream)
            assert int(item.device[1:]) % partitions == partition
            values = {channel: list(map(float, column)) for channel, column in item.values.items()}
            got[address].append((item.recv_ms, item.ts_ms.tolist(), values))
    assert got == expected


def test_messages_of_many_devices_share_a_block() -> None:
    records = OpenRecords(500, 500_000)
    known = [Sender(Address("plant", f"d{at}", "engine"), 0) for at in range(100)]
    for turn in range(3):
        for sender in known:
            records.add(sender, T0 + turn, T0, {"a": 1.5, "b": 2})
    ((partition, value),) = records.encode()
    (block,) = decode_record(value)
    assert isinstance(block, Block)
    assert (partition, len(block.senders), len(block.counts)) == (0, 100, 300)


def test_ticks_stand_last_also_in_partitions_without_readings() -> None:
    records = OpenRecords(2, 500_000)
    sender = Sender(Address("plant", "d", "engine"), 1)
    records.add_tick([1, 2], Tick(T0, 0))
    for _ in range(3):
        records.add(sender, T0, T0, {"a": 1})
    records.add_tick([1], Tick(T0 + 1, 0))
    found = items_of(records)
    assert [type(item) for item in found[1]] == [Batch] * 3 + [Tick]
    assert found[1][-1] == Tick(T0 + 1, 0)
    assert found[2] == [Tick(T0, 0)]
    assert records.partitions_heard == [1]


@pytest.mark.parametrize("channels", [1, 200])
def test_a_record_is_bounded_by_bytes_whatever_the_names(channels: int) -> None:
    records = OpenRecords(10**9, 10_000)
    for at in range(300):
        sender = Sender(Address("s" * 64, f"{at:064d}", "x" * 64), 0)
        values = {f"{at % 7:03d}-{channel:060d}": 1 for channel in range(channels)}
        records.add(sender, T0, T0, values)
    sizes = [len(value) for _, value in records.encode()]
    one_more = channels * (64 + 4 + 8) + 500
    assert max(sizes) < 10_000 + one_more
    assert len(sizes) > 1
