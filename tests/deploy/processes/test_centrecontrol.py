"""The control process of a centre against a real broker; the repository is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from deploy.processes.centrecontrol import CentreControl, ReleaseControl
from deploy.rollout.errors import KeyRefused
from deploy.rollout.inventory import Inventory
from deploy.rollout.release import ReleaseIndex
from deploy.rollout.report import GatewayReport, encode_note, encode_report
from ingest.errors import MqttError
from ingest.mqtt.broker import LocalBroker
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.topics import NOTE_TOPIC, report_topic
from pipeline.errors import SinkError
from pipeline.points.points import Point
from tests.deploy.rollout.fleets import NOW_S, release, student
from tests.fakes.log import until
from tests.fakes.ports import free_port


class MemoryRepository:
    """An index in memory; `made_s` counts its versions."""

    def __init__(self, *releases: object) -> None:
        self.newest = ReleaseIndex(made_s=100, releases=releases)
        self.error: KeyRefused | None = None
        self.renewed = 0

    def index(self) -> ReleaseIndex:
        return self.newest

    def write_index(self, change: Callable[[ReleaseIndex], ReleaseIndex]) -> ReleaseIndex:
        if self.error is not None:
            raise self.error
        changed = change(self.newest)
        if changed != self.newest:
            made_s = self.newest.made_s + 1
            self.newest = changed.model_copy(update={"made_s": made_s})
        return self.newest

    def refresh_timestamp(self) -> Sequence[str]:
        self.renewed += 1
        return []


class Places:
    """A broker, an inventory and a repository, and control processes over them."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.repository = MemoryRepository(release())
        self.points: list[Point] = []

    def endpoint(self, client_id: str) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, client_id)

    def control(
        self, write: Callable[[Sequence[Point]], None] | None = None, **changes: object
    ) -> CentreControl:
        decisions = ReleaseControl(
            self.repository, Inventory(self.folder / "inventory", lambda: NOW_S), lambda: NOW_S
        )
        return CentreControl(
            decisions, self.endpoint("centre"), write or self.points.extend, **changes
        )

    async def publish(self, *messages: tuple[str, bytes]) -> None:
        connection = Connection(self.endpoint("gateway"), on_confirmed=lambda _: done.set())
        connection.start()
        await connection.wait_connected()
        for topic, payload in messages:
            done = asyncio.Event()
            connection.publish(topic, payload, retain=True)
            await asyncio.wait_for(done.wait(), 120)
        await connection.stop()

    async def report(self, name: str, standing: str, sent_s: int = NOW_S - 9) -> None:
        report = GatewayReport(gateway=name, sent_s=sent_s, students=(student(standing),))
        await self.publish((report_topic(name), encode_report(report)))

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[list[bytes]]:
        notes: list[bytes] = []

        def take(packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
            notes.append(payload)
            if qos:
                connection.ack(packet_id)

        connection = Connection(self.endpoint("listener"), on_message=take, subscribe=NOTE_TOPIC)
        connection.start()
        await until(lambda: connection.subscribed)
        yield notes
        await connection.stop()

    @property
    def step(self) -> int:
        return self.repository.newest.releases[0].step


@pytest.fixture
def places(tmp_path: Path, mosquitto_program: str) -> Iterator[Places]:
    port = free_port()
    with LocalBroker(tmp_path / "mq", port=port):
        yield Places(tmp_path, port)


@asynccontextmanager
async def running(control: CentreControl) -> AsyncIterator[None]:
    task = asyncio.create_task(control.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_timer_moves_a_release_on_the_reports_that_the_broker_keeps(
    places: Places,
) -> None:
    async with places.listening() as notes:
        await places.report("gw-1", "healthy")
        await places.report("gw-2", "shadow")
        turn = await places.control().run_once()
        assert (turn.has_changed, turn.moves["rul-fd001"].action) == (False, "wait")
        assert places.repository.renewed == 1
        await until(lambda: notes == [encode_note(100)])
        await places.report("gw-2", "healthy", NOW_S - 8)
        turn = await places.control().run_once()
        assert (turn.has_changed, places.step) == (True, 1)
        await until(lambda: notes == [encode_note(100), encode_note(101)])
        turn = await places.control().run_once()
        assert not turn.has_changed, "the next step has its own time"
        assert notes == [encode_note(100), encode_note(101)], (
            "a note that the broker has is not sent again"
        )
    assert (places.folder / "inventory" / "gw-1.json").exists()


async def test_a_running_control_moves_as_soon_as_the_last_member_reports(places: Places) -> None:
    await places.report("gw-1", "healthy")
    await places.report("gw-2", "shadow")
    async with places.listening() as notes, running(places.control(every_s=600)):
        await until(lambda: notes == [encode_note(100)])
        assert places.step == 0
        await places.report("gw-2", "healthy", NOW_S - 8)
        await until(lambda: places.step == 1)
        await until(lambda: notes == [encode_note(100), encode_note(101)])
        await places.report("gw-1", "failed", NOW_S - 7)
        await until(lambda: places.repository.newest.releases[0].state == "paused")
        assert "gw-1: 12 of 200" in places.repository.newest.releases[0].reason


async def test_what_is_no_report_stops_nothing(places: Places) -> None:
    odd = [("gateways/gw-9/report", b"{"), ("gateways/gw-9/report", b"x" * 200_000)]
    await places.publish(*odd, ("gateways/a b/report", b"1"), ("gateways/gw-8/report", b""))
    async with running(places.control(every_s=600)):
        await places.report("gw-1", "healthy")
        await until(lambda: places.step == 1)


async def test_points_of_gateways_are_written_when_there_is_news(places: Places) -> None:
    await places.report("gw-1", "shadow")
    async with running(places.control(every_s=0.1)):
        await until(lambda: sum(p.measurement == "release" for p in places.points) > 3)
        assert sum(p.measurement == "rollout_state" for p in places.points) == 1
        await places.report("gw-1", "failed", NOW_S - 8)
        await until(lambda: any(p.measurement == "rollout" for p in places.points))
    assert sum(p.measurement == "rollout_state" for p in places.points) == 2


async def test_points_that_are_not_stored_are_written_again_and_stop_nothing(
    places: Places,
) -> None:
    await places.report("gw-1", "healthy")
    refused: list[int] = []

    def write(points: Sequence[Point]) -> None:
        if len(refused) < 3:
            refused.append(len(points))
            msg = "InfluxDB is away"
            raise SinkError(msg)
        places.points.extend(points)

    async with running(places.control(write, every_s=0.1)):
        await until(lambda: places.points)
    assert places.step == 1
    assert any(point.measurement == "rollout_state" for point in places.points)


async def test_a_key_that_is_missing_is_named_and_tried_again(
    places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    await places.report("gw-1", "healthy")
    places.repository.error = KeyRefused("the targets key is missing")
    async with running(places.control(every_s=0.1)):
        await until(lambda: "the targets key is missing" in caplog.text)
        assert places.step == 0
        places.repository.error = None
        await until(lambda: places.step == 1)
    assert caplog.text.count("the targets key is missing") == 1


async def test_a_broker_that_is_away_is_an_error_of_the_timer_after_what_can_be_done(
    places: Places,
) -> None:
    places.port = free_port()
    with pytest.raises(MqttError, match="refused"):
        await places.control().run_once()
    assert places.repository.renewed == 1
