"""Made-up nodes use up nothing that a real one needs, and nodes that are gone leave nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingest.errors import RefusalReason
from ingest.roster import RosterLimits
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from tests.fakes.sparkplugnode import EdgeNode

T0_MS = 1_750_000_000_000
MINUTE_MS, DAY_MS = 60_000, 86_400_000
LIMITS = RosterLimits(
    most=40, most_strangers=20, keep_ms=3 * DAY_MS, keep_stranger_ms=DAY_MS, protect_ms=DAY_MS
)
MAPPING = SparkplugMapping.model_validate({"stream": [{"name": "s", "metrics": {"a": "A"}}]})


class Site:
    """A decoder with its file, and a clock that messages move on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ms = T0_MS
        self._open()

    def _open(self) -> None:
        self.store = SparkplugStore(self.path)
        self.decoder = Sparkplug(MAPPING, self.store, LIMITS)

    def keep(self) -> None:
        checkpoint = self.decoder.checkpoint()
        if checkpoint is not None:
            asyncio.run(self.decoder.keep(checkpoint))

    def restart(self) -> None:
        self.keep()
        self.store.close()
        self._open()

    def birth(self, node: EdgeNode) -> list[RefusalReason | None]:
        return [self._send(*message) for message in node.births(self.now_ms)]

    def data(self, node: EdgeNode) -> RefusalReason | None:
        self.now_ms += 1
        return self._send(*node.data("d", self.now_ms, {"A": float(self.now_ms % 1000)}))

    def _send(self, topic: str, payload: bytes) -> RefusalReason | None:
        refused = self.decoder.decode(topic, payload, self.now_ms, 1).refused
        return None if refused is None else refused.reason

    def pass_time(self, ms: int, *living: EdgeNode) -> None:
        """Let time pass with a message of the living nodes every half minute or day."""
        step = MINUTE_MS // 2
        for _ in range(ms // step):
            self.now_ms += step
            for node in living:
                assert self.data(node) is None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "sparkplug.db")


def named(name: str) -> EdgeNode:
    return EdgeNode("plant", name, {"d": {"A": 1.0}})


def test_made_up_births_lock_no_real_node_out(site: Site) -> None:
    real = named("real")
    assert site.birth(real) == [None, None]
    assert site.data(real) is None
    refused = [site.birth(named(f"made-up-{n}"))[0] for n in range(100)]
    assert set(refused[30:]) == {RefusalReason.too_many_devices}
    assert site.data(real) is None  # the living one has lost nothing
    site.pass_time(2 * MINUTE_MS, real)
    late = named("late")
    assert site.birth(late) == [None, None]
    assert site.data(late) is None
    assert site.decoder.status()["nodes"] == 21


def test_unknown_nodes_that_send_data_only_fill_no_more_than_their_part(site: Site) -> None:
    for n in range(100):
        site.data(named(f"made-up-{n}"))
    assert site.decoder.status()["nodes"] == LIMITS.most_strangers
    assert site.decoder.status()["births_awaited"] == LIMITS.most_strangers


def test_what_is_gone_is_gone_from_the_file_too(site: Site) -> None:
    for n in range(10):
        site.birth(named(f"made-up-{n}"))
    real = named("real")
    site.birth(real)
    site.data(real)
    site.restart()
    assert len(list(site.store.nodes())) == 11
    assert len(list(site.store.devices())) == 22
    site.pass_time(DAY_MS + 2 * MINUTE_MS, real)
    site.restart()
    assert [name for _, name, _ in site.store.nodes()] == ["real"]
    assert len(list(site.store.devices())) == 2
    assert site.data(real) is None  # and its state is what it was


def test_a_node_that_comes_back_is_asked_for_a_birth_and_goes_on(site: Site) -> None:
    back, real = named("back"), named("real")
    for node in (back, real):
        site.birth(node)
        assert site.data(node) is None
    site.pass_time(3 * DAY_MS + 2 * MINUTE_MS, real)
    assert site.decoder.status()["nodes"] == 1
    assert site.decoder.status()["nodes_removed_total"] == 1
    assert site.data(back) is RefusalReason.no_birth
    assert [each.topic for each in site.decoder.outgoing(site.now_ms)] == [
        "spBv1.0/plant/NCMD/back"
    ]
    site.birth(back)
    assert site.data(back) is None


def test_a_node_with_too_many_devices_loses_those_that_are_offline(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.sparkplug.nodes._MAX_DEVICES_OF_NODE", 4)
    many = EdgeNode("plant", "many", {f"d{n}": {"A": 1.0} for n in range(6)})
    other = named("other")
    assert site.birth(many)[-1] is RefusalReason.too_many_devices
    assert site.birth(other) == [None, None]
    site._send(*many.ddeath("d0", site.now_ms))
    more = EdgeNode("plant", "many", {"d9": {"A": 1.0}})
    more.seq = many.seq
    topic, payload = more.births(site.now_ms)[1]
    assert site._send(topic, payload) is None
    site.restart()
    names = {device for _, node, device, *_ in site.store.devices() if node == "many"}
    assert names == {"", "d1", "d2", "d9"}
