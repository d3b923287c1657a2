"""The InfluxDB sink against the real InfluxDB: refused and stored lines, and the effect of
kills."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deploy.stack.servers import InfluxServer
from ingest.backoff import Backoff
from ingest.errors import RefusalReason
from pipeline.errors import SinkMisconfigured, SinkSlow, SinkUnavailable
from pipeline.points.lines import to_line
from pipeline.points.points import Point
from pipeline.stores.influx import InfluxSink
from pipeline.stores.influxclient import Answer, InfluxClient, InfluxConnection
from pipeline.stores.stage import deliver

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 10**6


def point(time_ms: int, device: str = "e1", value: float | str = 50.0) -> Point:
    return Point("rul", (("device", device),), (("rul", value),), time_ms * 10**6)


class Bucket:
    """A bucket of its own on a server, a sink that writes it and a client that reads it."""

    def __init__(self, server: InfluxServer, keeps_s: int = 0) -> None:
        self.name = f"b{time.time_ns()}"
        connection = InfluxConnection(server.url, SecretStr(server.token), server.org)
        self.client = InfluxClient(connection)
        orgs = self.client.call("GET", "/orgs").json["orgs"]
        rules = [{"type": "expire", "everySeconds": keeps_s}] if keeps_s else []
        wish: dict[str, Any] = {"name": self.name, "retentionRules": rules}
        wish["orgID"] = next(org["id"] for org in orgs if org["name"] == server.org)
        assert self.client.call("POST", "/buckets", wish).status == 201
        self.sink = InfluxSink(connection, self.name)

    def times_ms(self) -> dict[str, list[int]]:
        """Event times of `rul` by device."""
        rows = self.client.query(
            "from(bucket: bucket) |> range(start: 0, stop: 2100-01-01T00:00:00Z)"
            ' |> filter(fn: (r) => r._field == "rul")',
            {"bucket": self.name},
        )
        found: dict[str, list[int]] = {}
        for row in rows:
            found.setdefault(row["device"], []).append(round(row["_time"].timestamp() * 1000))
        return {device: sorted(times) for device, times in found.items()}

    def close(self) -> None:
        self.sink.close()
        self.client.close()


@pytest.fixture
def made() -> Iterator[Callable[..., Bucket]]:
    buckets: list[Bucket] = []

    def make(server: InfluxServer, keeps_s: int = 0) -> Bucket:
        buckets.append(Bucket(server, keeps_s))
        return buckets[-1]

    yield make
    for bucket in buckets:
        bucket.close()


@pytest.fixture
def bucket(real_influx: InfluxServer, made: Callable[..., Bucket]) -> Bucket:
    return made(real_influx)


def requests_of(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> list[Answer]:
    """Record the server's answers to the sink from now on."""
    answers: list[Answer] = []
    write = InfluxClient.write

    def watched(self: InfluxClient, name: str, lines: bytes, **limits: int | None) -> Answer:
        answers.append(write(self, name, lines, **limits))
        return answers[-1]

    monkeypatch.setattr(InfluxClient, "write", watched)
    return answers


def test_points_overwrite_themselves(bucket: Bucket) -> None:
    points = [point(now_ms() - i * 1000) for i in range(500)]
    assert bucket.sink.write(points) == []
    assert bucket.sink.write(points) == []
    assert len(bucket.times_ms()["e1"]) == 500


@pytest.mark.parametrize("bad_share", [0.001, 0.05, 1.0])
def test_points_of_another_type_are_found_and_the_others_stored(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, bad_share: float
) -> None:
    start = now_ms() - DAY_MS
    assert bucket.sink.write([point(start - 1)]) == []
    chance = random.Random(5)
    bad = {i for i in range(2_000) if chance.random() < bad_share} | {17}
    points = [point(start + i, "e1", "text" if i in bad else 1.0) for i in range(2_000)]
    answers = requests_of(bucket, monkeypatch)
    refused = bucket.sink.write(points)
    assert {r.point.time_ns // 10**6 - start for r in refused} == bad
    assert "type string" in refused[0].reason
    good = [start + i for i in range(2_000) if i not in bad]
    assert bucket.times_ms()["e1"] == [start - 1, *good]
    assert len(answers) <= 3, "guessed from the answer, then proven"


def test_points_older_than_the_bucket_keeps_are_named_so(
    real_influx: InfluxServer, made: Callable[..., Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = made(real_influx, keeps_s=3 * 86_400)
    now = now_ms()
    times = [now - n * DAY_MS - 1000 for n in (0, 1, 2, 3, 4, 9)] * 2
    lines = [to_line(point(t + i, f"e{i % 3}")) for i, t in enumerate(times)]
    answers = requests_of(bucket, monkeypatch)
    refused = bucket.sink.writing(lines)()
    assert {r.reason for r in refused} == {RefusalReason.beyond_retention}
    assert [r.line for r in refused] == [lines[i] for i in (3, 4, 5, 9, 10, 11)]
    assert sum(map(len, bucket.times_ms().values())) == 6
    assert len(answers) <= 3


def test_flaws_of_all_kinds_at_once_cost_no_good_point(
    real_influx: InfluxServer, made: Callable[..., Bucket]
) -> None:
    """InfluxDB reports one kind only, stores some days and not others, and nothing with a 400."""
    bucket = made(real_influx, keeps_s=30 * 86_400)
    now = now_ms()
    assert bucket.sink.write([point(now - n * DAY_MS, "first") for n in range(20)]) == []
    chance = random.Random(11)
    good, bad = {}, {}
    for i in range(3_000):
        time_ms = now - chance.randrange(20) * DAY_MS - chance.randrange(1, DAY_MS // 2)
        line = to_line(point(time_ms, f"e{i}"))
        flaw = chance.random()
        if flaw < 0.01:
            bad[line.replace("rul=50", 'rul="x"')] = RefusalReason.type_conflict
        elif flaw < 0.02:
            bad[to_line(point(time_ms - 60 * DAY_MS, f"e{i}"))] = RefusalReason.beyond_retention
        elif flaw < 0.03:
            bad[line.replace("rul=50", "rul=50t")] = RefusalReason.refused_point
        elif flaw < 0.035:
            bad[line.replace("rul=50", "time=5")] = RefusalReason.refused_point
        elif flaw < 0.04:
            bad[line.replace("rul=50", "rul=true")] = RefusalReason.type_conflict
        else:
            good[f"e{i}"] = [time_ms]
            bad[line] = None  # type: ignore[assignment]
    lines = list(bad)
    refused = bucket.sink.writing(lines)()
    assert {r.line: r.reason for r in refused} == {k: v for k, v in bad.items() if v is not None}
    assert all(r.detail for r in refused)
    stored = bucket.times_ms()
    stored.pop("first")
    assert stored == good


def test_wrong_settings_are_named(real_influx: InfluxServer, bucket: Bucket) -> None:
    def error_of(token: str, org: str, name: str) -> str:
        connection = InfluxConnection(real_influx.url, SecretStr(token), org)
        sink = InfluxSink(connection, name)
        with pytest.raises(SinkMisconfigured) as caught:
            sink.write([point(now_ms())])
        sink.close()
        assert caught.value.retry_after_ms == 30_000
        return str(caught.value)

    token, org = real_influx.token, real_influx.org
    assert "answers 401: the token is not accepted" in error_of("wrong", org, bucket.name)
    assert "answers 404: organisation or bucket" in error_of(token, "no-org", bucket.name)
    assert "answers 404: organisation or bucket" in error_of(token, org, "no-bucket")
    orgs = bucket.client.call("GET", "/orgs").json["orgs"]
    org_id = next(o["id"] for o in orgs if o["name"] == org)
    wish = {"orgID": org_id, "description": "reads only"}
    rights = [{"action": "read", "resource": {"type": "buckets", "orgID": org_id}}]
    reader = bucket.client.call("POST", "/authorizations", {**wish, "permissions": rights}).json
    assert "answers 403: the token may not write" in error_of(reader["token"], org, bucket.name)
    assert bucket.times_ms() == {}


def test_a_bucket_made_later_gets_the_points(bucket: Bucket, real_influx: InfluxServer) -> None:
    connection = InfluxConnection(real_influx.url, SecretStr(real_influx.token), real_influx.org)
    sink = InfluxSink(connection, f"{bucket.name}-later")
    with pytest.raises(SinkMisconfigured):
        sink.write([point(1)])
    org = bucket.client.call("GET", "/buckets", query={"name": bucket.name}).json["buckets"][0]
    wish = {"name": f"{bucket.name}-later", "orgID": org["orgID"], "retentionRules": []}
    assert bucket.client.call("POST", "/buckets", wish).status == 201
    assert sink.write([point(1)]) == []
    sink.close()


@pytest.mark.needs_influxd
def test_a_frozen_server_is_slow_and_requests_get_shorter_until_it_is_not(
    tmp_path: Path, made: Callable[..., Bucket]
) -> None:
    with InfluxServer(tmp_path / "influx") as server:
        server.setup("org", "bucket")
        bucket = made(server)
        connection = InfluxConnection(server.url, SecretStr(server.token), "org", timeout_ms=300)
        sink = InfluxSink(connection, bucket.name, max_lines=1_000)
        points = [point(i) for i in range(1_000)]
        assert sink.write(points[:1]) == []
        server.pause()
        for _ in range(5):
            with pytest.raises(SinkSlow, match="has not answered in 300 ms"):
                sink.write(points)
        server.resume()
        sent: list[int] = []
        post = sink._post
        sink._post = lambda lines: sent.append(len(lines)) or post(lines)  # type: ignore[assignment,func-returns-value]
        assert sink.write(points) == []
        assert sent[:4] == [100, 200, 400, 300]
        assert len(bucket.times_ms()["e1"]) == 1_000
        sink.close()


class TinyCache(InfluxServer):
    """An InfluxDB whose cache is full after some thousand points."""

    def command(self) -> list[str]:
        limits = {"max-memory-size": 60_000, "snapshot-memory-size": 20_000}
        return [*super().command(), *(f"--storage-cache-{k}={v}" for k, v in limits.items())]


@pytest.mark.needs_influxd
async def test_a_server_out_of_memory_gets_shorter_requests_and_all_points_in_the_end(
    tmp_path: Path, made: Callable[..., Bucket]
) -> None:
    with TinyCache(tmp_path / "influx") as server:
        server.setup("org", "bucket")
        bucket = made(server)
        points = [point(i, f"e{i % 7}") for i in range(6_000)]
        complaints: list[str] = []
        refused = await deliver(
            bucket.sink.writing([to_line(point) for point in points]),
            backoff=Backoff(first_ms=50, max_ms=400),
            on_unavailable=lambda exc, _: complaints.append(str(exc)),
        )
        assert refused == []
        assert "cache-max-memory-size exceeded" in complaints[0]
        assert sum(map(len, bucket.times_ms().values())) == 6_000


@pytest.mark.needs_influxd
def test_what_is_confirmed_after_a_kill_survives_the_next_kill(
    tmp_path: Path, made: Callable[..., Bucket]
) -> None:
    """The kill came in the middle of a write; see `deploy.stack.influxwal`."""
    server = InfluxServer(tmp_path / "influx").start()
    server.setup("org", "bucket")
    bucket = made(server)
    for first in (0, 1000):
        assert bucket.sink.write([point(t) for t in range(first, first + 1000)]) == []
    server.kill()
    (segment,) = (tmp_path / "influx" / "engine" / "wal").rglob("_*.wal")
    os.truncate(segment, segment.stat().st_size - 100)
    server.start()
    assert bucket.sink.write([point(t) for t in range(5000, 6000)]) == []
    server.kill()
    server.start()
    stored = {t for times in bucket.times_ms().values() for t in times}
    server.stop()
    assert stored == {*range(1000), *range(5000, 6000)}


@pytest.mark.needs_influxd
def test_nothing_confirmed_is_missing_after_kills_while_writing(
    tmp_path: Path, made: Callable[..., Bucket]
) -> None:
    """Six rounds: SIGKILL at a random moment of a stream of writes, restart, count."""
    rounds, chance = 6, random.Random(3)
    server = InfluxServer(tmp_path / "influx").start()
    server.setup("org", "bucket")
    bucket = made(server)
    confirmed: set[int] = set()
    at, killed_while_writing = 0, 0

    def kill_soon() -> threading.Timer:
        timer = threading.Timer(chance.uniform(0.02, 0.4), server.kill)
        timer.start()
        return timer

    for _ in range(rounds):
        timer = None  # runs from the first write on that is confirmed, however slow the machine
        while True:
            batch = range(at, at + 2_000)
            try:
                refused = bucket.sink.write([point(t, f"e{t % 50}") for t in batch])
            except SinkUnavailable:
                killed_while_writing += 1
                break
            assert refused == []
            confirmed.update(batch)
            at += 2_000
            timer = timer or kill_soon()
        assert timer is not None
        timer.join()
        server.start()
        stored = {t for times in bucket.times_ms().values() for t in times}
        assert confirmed <= stored, f"{len(confirmed - stored)} confirmed points are missing"
    assert killed_while_writing == rounds
    assert confirmed
    assert bucket.sink.write([point(t, f"e{t % 50}") for t in range(at + 2_000)]) == []
    times = bucket.times_ms()
    assert sum(map(len, times.values())) == at + 2_000, "written again, nothing is there twice"
    server.stop()


def test_the_answers_are_those_that_the_stub_gives(bucket: Bucket) -> None:
    """`tests.fakes.influx` quotes and drops as the real one does."""

    def answer_to(lines: Sequence[str]) -> tuple[int, str]:
        answer = bucket.client.write(bucket.name, "\n".join(lines).encode())
        return answer.status, json.dumps(answer.json)

    assert answer_to(["m f=1 1"]) == (204, "{}")
    status, text = answer_to(["m f=1 2", "m bad 3"])
    assert status == 400
    assert "unable to parse 'm bad 3': invalid field format" in text
    status, text = answer_to(["m f=1 4", 'm f="bad" 5'])
    assert status == 422
    assert "partial write: field type conflict" in text
    assert text.endswith('dropped=1"}')
