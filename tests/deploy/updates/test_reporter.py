"""Reports reach the broker and stay there; notes come in, and a flood of them changes little."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.rollout.report import GatewayReport, StudentReport, decode_report
from deploy.updates.reporter import Reporter
from deploy.updates.reports import encode_bounded
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.topics import NOTE_TOPIC, report_topic

TOPIC = report_topic("gw-1")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with LocalBroker(tmp_path / "broker", kind="mosquitto") as started:
        yield started


@asynccontextmanager
async def reporting(broker: LocalBroker, notes: list[bytes]) -> AsyncIterator[Reporter]:
    endpoint = Endpoint("127.0.0.1", broker.port, "kpstream-rollout-gw-1")
    reporter = Reporter(endpoint, "gw-1", notes.append)
    reporter.start()
    try:
        yield reporter
    finally:
        await reporter.stop()


async def until(is_true: Callable[[], bool], reporter: Reporter, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline
        reporter.tick()
        await asyncio.sleep(0.05)


def retained(broker: LocalBroker) -> bytes:
    command = ["mosquitto_sub", "-p", str(broker.port), "-t", TOPIC, "-C", "1", "-W", "60", "-N"]
    return subprocess.run(command, capture_output=True, check=False).stdout


@pytest.mark.needs_mosquitto
def test_newest_report_is_kept_by_the_broker(broker: LocalBroker) -> None:
    async def run() -> None:
        async with reporting(broker, []) as reporter:
            for n in range(200):  # most of them before the broker has accepted the connection
                reporter.offer(b"report %d" % n)
            await until(lambda: reporter.published_total > 0, reporter)
            await until(lambda: retained(broker) == b"report 199", reporter)
            assert reporter.published_total < 5, "a newer one takes the place of one that waits"

    asyncio.run(run())
    assert retained(broker) == b"report 199", "it stays when the gateway has gone"


@pytest.mark.needs_mosquitto
def test_note_comes_in_and_a_flood_is_slowed_down(broker: LocalBroker) -> None:
    notes: list[bytes] = []

    async def run() -> None:
        async with reporting(broker, notes) as reporter:
            await until(lambda: reporter.is_connected, reporter)
            async with Publisher(Endpoint("127.0.0.1", broker.port, "peer")) as peer:
                await peer.publish(NOTE_TOPIC, b"1700000000")
                await until(lambda: notes == [b"1700000000"], reporter)
                await peer.publish(NOTE_TOPIC, b"x" * 100_000)
                for n in range(2000):
                    await peer.publish(NOTE_TOPIC, b"%d" % n)
                await peer.flush()
            reporter.offer(b"still here")
            await until(lambda: reporter.published_total > 0, reporter)
            assert b"x" * 100_000 not in notes, "a note is short"

    asyncio.run(run())
    assert retained(broker) == b"still here"


def test_report_with_very_many_students_is_shortened() -> None:
    students = tuple(
        StudentReport(name=f"model-{n}", reason="r" * 500, stream="s" * 200) for n in range(100)
    )
    report = GatewayReport(gateway="gw-1", sent_s=1, students=students)
    found = decode_report(TOPIC, encode_bounded(report, b"k" * 32), b"k" * 32)
    assert len(found.students) >= 50
    assert found.students[0].name == "model-0"
    small = GatewayReport(gateway="gw-1", sent_s=1, students=students[:2])
    assert decode_report(TOPIC, encode_bounded(small, None)) == small
