"""The host announces its presence when due, and spreads its requests for births."""

from __future__ import annotations

import orjson

from ingest.sparkplug.counters import SparkplugCounters
from ingest.sparkplug.host import Host
from ingest.sparkplug.nodes import Node

NOW_MS = 1_750_000_000_000


def topics(host: Host, now_ms: int) -> list[str]:
    return [message.topic for message in host.outgoing(now_ms)]


def test_presence_is_announced_once_per_connection_with_the_time_of_the_will() -> None:
    host = Host("kp", SparkplugCounters())
    will = host.farewell(NOW_MS)
    assert will is not None
    assert orjson.loads(will.payload) == {"online": False, "timestamp": NOW_MS}
    host.connected(NOW_MS + 10)
    (presence,) = host.outgoing(NOW_MS + 10)
    assert (presence.topic, presence.qos, presence.retain) == ("spBv1.0/STATE/kp", 1, True)
    assert orjson.loads(presence.payload) == {"online": True, "timestamp": NOW_MS}
    assert host.outgoing(NOW_MS + 20) == []


def test_presence_is_repeated_when_a_late_will_says_offline() -> None:
    host = Host("kp", SparkplugCounters())
    host.farewell(NOW_MS)
    levels = ["spBv1.0", "STATE", "kp"]
    host.note_state(levels, b'{"online": true}')
    host.note_state(["spBv1.0", "STATE", "other"], b'{"online": false}')
    assert topics(host, NOW_MS + 60_000) == []
    host.note_state(levels, b'{"online": false}')
    assert topics(host, NOW_MS + 4_999) == []
    assert topics(host, NOW_MS + 5_000) == ["spBv1.0/STATE/kp"]


def test_without_a_host_id_there_is_no_presence_and_no_will() -> None:
    host = Host(None, SparkplugCounters())
    host.connected(NOW_MS)
    assert host.farewell(NOW_MS) is None
    assert topics(host, NOW_MS) == []


def test_requests_are_spread_repeated_with_back_off_and_cancelled() -> None:
    counters = SparkplugCounters()
    host = Host(None, counters)
    nodes = [Node("g", f"n{number}") for number in range(7)]
    for node in nodes:
        host.request_birth(node)
    assert len(topics(host, NOW_MS)) == 5
    assert len(topics(host, NOW_MS + 250)) == 2
    assert topics(host, NOW_MS + 4_999) == []
    for node in nodes[1:]:
        host.cancel_request(node)
    assert host.births_awaited == 1
    assert topics(host, NOW_MS + 5_000) == ["spBv1.0/g/NCMD/n0"]
    assert topics(host, NOW_MS + 14_999) == []
    assert topics(host, NOW_MS + 15_000) == ["spBv1.0/g/NCMD/n0"]
    assert counters.rebirths_requested_total == 9


def test_a_clock_set_back_does_not_silence_the_requests() -> None:
    host = Host(None, SparkplugCounters())
    host.request_birth(Node("g", "n"))
    assert len(topics(host, NOW_MS)) == 1
    assert len(topics(host, NOW_MS - 3_600_000)) == 1
