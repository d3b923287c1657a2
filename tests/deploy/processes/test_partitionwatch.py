"""A stalled partition is reported, and finally ends the process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from types import SimpleNamespace

import pytest
from faust.types import TP

from deploy.processes import partitionwatch
from deploy.processes.lifecycle import PartFailed
from deploy.processes.partitionwatch import PartitionWatch
from ingest.errors import LogUnavailable

PLACE = TP("readings", 0)


class App:
    """The part of a Faust app that the watch uses."""

    def __init__(self) -> None:
        self.conf = SimpleNamespace(id="kpstream-score")
        self.rebalancing = False
        self.has_joined = True
        self.consumer_generation_id = 1
        self.next = 0
        self.topics = SimpleNamespace(acks_enabled_for=lambda topic: topic == "readings")
        self.consumer = SimpleNamespace(
            assignment=lambda: {PLACE, TP("changelog", 0)},
            next_offset=lambda tp: self.next,
            _committed_offset=defaultdict(lambda: None),
        )

    def commit(self, offset: int) -> None:
        self.consumer._committed_offset[PLACE] = offset


class Probe:
    def __init__(self) -> None:
        self.end = 0
        self.is_away = False
        self.closed = False

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        if self.is_away:
            raise LogUnavailable
        return dict.fromkeys(places, self.end)

    async def close(self) -> None:
        self.closed = True


class Site:
    """A watch with a clock that the test advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.app, self.probe = App(), Probe()
        self.excused = False
        monkeypatch.setattr(partitionwatch, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.watch = PartitionWatch(
            self.app,
            self.probe,  # type: ignore[arg-type]
            lambda: round(self.now_s * 1000),
            stall_s=60,
            is_excused=lambda: self.excused,
        )

    async def check(self, seconds: int, advance: int = 0) -> None:
        for _ in range(seconds):
            self.now_s += 1
            self.app.next += advance
            await self.watch._check()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(monkeypatch)


async def test_a_stalled_partition_with_a_backlog_is_reported_and_then_ends_the_process(
    site: Site,
) -> None:
    site.probe.end = 9
    site.app.next = 4
    site.app.commit(4)
    await site.check(30)
    assert site.watch.stalled() == []
    (seen,) = site.watch.partitions()
    assert (seen.topic, seen.partition, seen.backlog) == ("readings", 0, 5)
    await site.check(1)
    assert [p.partition for p in site.watch.stalled()] == [0]
    with pytest.raises(
        PartFailed, match=r"readings\[0\] has made no progress for 60 s with a backlog of 5 records"
    ):
        await site.check(31)


async def test_a_partition_that_moves_or_has_no_backlog_never_stalls(site: Site) -> None:
    site.probe.end = 10_000
    await site.check(300, advance=1)
    assert site.watch.stalled() == []
    site.app.next = 10_000
    site.app.commit(10_000)
    await site.check(300)
    assert site.watch.stalled() == []


async def test_no_partition_counts_as_stalled_during_an_outage_of_kafka(site: Site) -> None:
    site.probe.end = 9
    await site.check(50)
    site.probe.is_away = True
    await site.check(300)
    assert site.watch.away_since_ms == 1_051_000
    assert site.watch.stalled() == []
    site.probe.is_away = False
    await site.check(30)
    assert site.watch.away_since_ms is None
    assert site.watch.stalled() == []
    with pytest.raises(PartFailed):
        await site.check(40)


async def test_a_pause_or_a_rebalance_resets_the_watch(site: Site) -> None:
    site.probe.end = 9
    await site.check(59)
    site.now_s += 600  # frozen
    await site.check(50)
    site.app.rebalancing = True
    await site.check(20)
    site.app.rebalancing, site.app.consumer_generation_id = False, 2
    await site.check(50)
    assert len(site.watch.stalled()) == 1


async def test_a_stall_with_an_external_cause_is_excused(site: Site) -> None:
    site.probe.end = 9
    site.excused = True
    await site.check(300)
    assert site.watch.stalled() == []
    assert site.watch.partitions()[0].backlog == 9


async def test_a_process_without_partitions_ends_if_kafka_answers(site: Site) -> None:
    site.app.rebalancing = True
    site.probe.is_away = True
    await site.check(300)
    site.probe.is_away = False
    with pytest.raises(PartFailed, match="no partitions for 180 s, although Kafka answers"):
        await site.check(200)
