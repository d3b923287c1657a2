"""Which partitions get ticks with a load, and which ones of their own."""

from __future__ import annotations

from ingest.ticks import HeardPartitions, TickRhythm


def test_a_tick_follows_messages_once_in_half_a_beat_and_comes_alone_after_half_the_interval() -> (
    None
):
    waiting = [0, 1]
    ticks = TickRhythm(lambda: waiting, beat_ms=100, tick_ms=250)
    assert ticks.due(10.0) == [0, 1]  # never ticked
    ticks.ticked([0, 1], 10.0)
    assert ticks.due(10.04, heard=[0]) == []
    assert ticks.due(10.05, heard=[0, 2]) == [0]
    ticks.ticked([0], 10.05)
    assert ticks.due(10.12) == []
    assert ticks.due(10.125, heard=[0]) == [0, 1]
    waiting.clear()
    assert ticks.due(99.0, heard=[0]) == []


def test_partitions_heard_lately_may_have_silent_devices():
    heard = HeardPartitions()
    heard.heard([2, 0], now_s=10.0)
    heard.heard([0], now_s=14.0)
    assert heard.within(5_000, 14.0, partitions=4) == [0, 2]
    assert heard.within(5_000, 16.0, partitions=4) == [0]


def test_after_a_connect_any_partition_may_have_silent_devices():
    heard = HeardPartitions()
    heard.connected(now_s=10.0)
    assert heard.within(5_000, 15.0, partitions=3) == [0, 1, 2]
    assert heard.within(5_000, 15.5, partitions=3) == []
