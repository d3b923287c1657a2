"""The InfluxDB sink against a stub; the real InfluxDB is in test_influx_real."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from pipeline.errors import SinkError, SinkMisconfigured, SinkUnavailable
from pipeline.points.lines import to_line
from pipeline.points.points import Point
from pipeline.stores.influx import InfluxSink
from pipeline.stores.influxclient import InfluxConnection
from tests.fakes.influx import TOKEN, FakeInflux, sink_at


def point(time_ms: int, device: str = "e1", value: float = 50.0) -> Point:
    return Point("rul", (("device", device),), (("rul", value),), time_ms * 10**6)


@pytest.fixture
def server() -> Iterator[FakeInflux]:
    with FakeInflux() as server:
        yield server


@pytest.fixture
def sink(server: FakeInflux) -> Iterator[InfluxSink]:
    sink = sink_at(server.url, TOKEN, "kpstream", "scores")
    yield sink
    sink.close()
    sink.close()


def test_points_are_stored_in_one_request_and_again_changes_nothing(
    server: FakeInflux, sink: InfluxSink
) -> None:
    points = [point(i) for i in range(500)]
    assert sink.write(points) == []
    assert sink.write(points) == []
    assert len(server.points) == 500
    assert len(server.requests) == 2
    assert server.requests[0]["Content-Encoding"] == "identity", "nothing to gain on one machine"
    assert server.requests[0]["path"] == "/api/v2/write?org=kpstream&bucket=scores&precision=ns"
    assert sink.write([]) == []


def test_writes_over_a_network_are_compressed(server: FakeInflux) -> None:
    connection = InfluxConnection(server.url, SecretStr(TOKEN), "o", gzip=True)
    sink = InfluxSink(connection, "b")
    assert sink.write([point(i) for i in range(500)]) == []
    assert server.requests[0]["Content-Encoding"] == "gzip"
    assert int(server.requests[0]["Content-Length"]) < 500 * 10
    assert len(server.points) == 500
    sink.close()
    assert InfluxConnection("https://influx.plant:8086", SecretStr("t"), "o").compresses
    assert not InfluxConnection("http://localhost:8086", SecretStr("t"), "o").compresses


def test_long_batches_go_in_several_requests(server: FakeInflux) -> None:
    connection = InfluxConnection(server.url, SecretStr(TOKEN), "o")
    sink = InfluxSink(connection, "b", max_lines=10)
    assert sink.write([point(i) for i in range(25)]) == []
    assert len(server.points) == 25
    assert len(server.requests) == 3
    sink.close()


@pytest.mark.parametrize(
    ("dialect", "most_requests"), [("v2", 4), ("v3", 2), ("silent", 2 * 3 * 7 + 1)]
)
def test_bad_lines_come_back_refused_and_every_other_point_is_stored(
    server: FakeInflux, sink: InfluxSink, dialect: str, most_requests: int
) -> None:
    server.dialect = dialect
    points = [point(i, f"bad{i}" if i in (0, 17, 63) else "e1") for i in range(100)]
    refused = sink.write(points)
    assert sorted(r.point.time_ns for r in refused) == [0, 17 * 10**6, 63 * 10**6]
    assert all(r.reason for r in refused)
    assert len(server.points) == 97
    assert len(server.requests) <= most_requests


def test_all_lines_bad_are_all_refused(server: FakeInflux, sink: InfluxSink) -> None:
    server.dialect = "silent"
    assert len(sink.write([point(i, "bad") for i in range(9)])) == 9


@pytest.mark.parametrize("status", [400, 422])
def test_a_400_that_names_no_line_costs_no_point(
    server: FakeInflux, sink: InfluxSink, status: int
) -> None:
    points = [point(i) for i in range(500)]
    lines = [to_line(p) for p in points]
    server.script = [(status, {}, '{"code": "invalid", "message": "bad gateway plan"}')] * 100
    write = sink.writing(lines)
    with pytest.raises(SinkMisconfigured, match=r"every line is refused, .*: bad gateway plan"):
        write()
    assert len(server.requests) < 100
    server.script = []
    assert write() == []
    assert len(server.points) == 500


def test_a_line_refused_without_being_named_is_refused_if_others_are_stored(
    server: FakeInflux, sink: InfluxSink
) -> None:
    server.dialect = "mute"
    points = [point(i, "bad" if i in (0, 1, 2, 50) else "e1") for i in range(100)]
    refused = sink.write(points)
    assert sorted(r.point.time_ns // 10**6 for r in refused) == [0, 1, 2, 50]
    assert len(server.points) == 96
    assert len(sink.write([point(7, "bad")])) == 1, "one alone: its own fault"


def test_a_request_too_large_is_halved(server: FakeInflux, sink: InfluxSink) -> None:
    server.script = [(413, {}, '{"code":"request too large","message":"too large"}')]
    assert sink.write([point(i) for i in range(8)]) == []
    assert len(server.points) == 8


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_an_overloaded_server_is_unavailable(
    server: FakeInflux, sink: InfluxSink, status: int
) -> None:
    server.script = [(status, {"Retry-After": "17"}, '{"message":"slow down"}')]
    with pytest.raises(SinkUnavailable, match=f"answers {status}: slow down") as caught:
        sink.write([point(1)])
    assert not isinstance(caught.value, SinkMisconfigured)
    assert caught.value.retry_after_ms == 17_000
    assert sink.write([point(1)]) == []


def test_a_retry_after_that_is_a_date_is_no_problem(server: FakeInflux, sink: InfluxSink) -> None:
    server.script = [(503, {"Retry-After": "Sat, 21 Nov 2026 08:00:00 GMT"}, "")]
    with pytest.raises(SinkUnavailable) as caught:
        sink.write([point(1)])
    assert caught.value.retry_after_ms is None


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "TOKEN"), (403, "permission"), (404, "bucket"), (302, "URL"), (200, "URL")],
)
def test_wrong_settings_are_named(
    server: FakeInflux, sink: InfluxSink, status: int, hint: str
) -> None:
    server.script = [(status, {}, "<html>a captive portal answers 200</html>")]
    with pytest.raises(SinkMisconfigured, match=hint) as caught:
        sink.write([point(1)])
    assert caught.value.retry_after_ms == 30_000
    assert server.points == {}


def test_a_wrong_token_is_refused_and_shown_nowhere(
    server: FakeInflux, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "wrong-token-value"
    sink = sink_at(server.url, wrong, "o", "b")
    with caplog.at_level(logging.DEBUG), pytest.raises(SinkMisconfigured) as caught:
        sink.write([point(1)])
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text} {vars(sink)}"
    assert wrong not in shown
    sink.close()


def test_a_server_that_does_not_listen_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    sink = sink_at(f"http://user:pass@127.0.0.1:{port}", TOKEN, "o", "b")
    with pytest.raises(SinkUnavailable, match="cannot be reached") as caught:
        sink.write([point(1)])
    assert TOKEN not in str(caught.value)
    assert "pass" not in str(caught.value)
    sink.close()


def test_a_server_that_is_slow_even_for_few_lines_is_waited_for_longer(server: FakeInflux) -> None:
    sink = sink_at(server.url, TOKEN, "o", "b", timeout_ms=200)
    server.delay_seconds = 0.6
    waited = []
    while True:
        try:
            assert sink.write([point(1)]) == []
            break
        except SinkUnavailable as exc:
            waited.append(str(exc).rpartition(" in ")[2])
    sink.close()
    assert waited[:2] == ["200 ms", "400 ms"]


def test_a_slow_server_is_unavailable_after_the_time_limit(server: FakeInflux) -> None:
    server.delay_seconds = 5.0
    sink = sink_at(server.url, TOKEN, "o", "b", timeout_ms=100)
    start = time.monotonic()
    with pytest.raises(SinkUnavailable):
        sink.write([point(1)])
    assert time.monotonic() - start < server.delay_seconds
    sink.close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8086", "ftp://x"])
def test_an_invalid_url_of_influxdb_is_refused_at_once(url: str) -> None:
    with pytest.raises(SinkError, match="must look like"):
        sink_at(url, TOKEN, "o", "b")


def test_a_missing_token_is_refused_at_once() -> None:
    with pytest.raises(SinkError, match="needs a token"):
        sink_at("http://127.0.0.1:8086", None, "o", "b")


def test_the_stub_speaks_json_where_influxdb_does(server: FakeInflux) -> None:
    assert json.loads(server.answer(["bad 1 1"])[2])["code"] == "invalid"
