"""The control process of a centre: takes reports, moves releases, tells the gateways to look.

It holds nothing that matters: releases are in the signed index, gateways in the inventory, the
newest reports and the note at the broker. So it may be killed anywhere, and a second one beside it
does no harm, because every decision is made under the lock of the repository.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from deploy.rollout.controller import SILENT_S, Move, move_all
from deploy.rollout.errors import CentreError
from deploy.rollout.inventory import Inventory
from deploy.rollout.points import release_point, report_points
from deploy.rollout.release import AnyRelease, Release, ReleaseIndex
from deploy.rollout.report import MAX_REPORT_BYTES, GatewayReport, ReportRefused, encode_note
from ingest.errors import MqttError
from ingest.mqtt.connection import Connection
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.packets import Oversized
from ingest.secrettext import error_text
from ingest.topics import NOTE_TOPIC, REPORTS_FILTER
from pipeline.errors import SinkError
from pipeline.points.points import Point

__all__ = ["CentreControl", "ReleaseControl", "Repository", "Turn", "WritePoints"]

log = logging.getLogger(__name__)

_QUIET_S, _MOST_QUIET_S = 1.0, 30.0
_NEWS_S = 0.5
_TOPIC_BYTES = 200

WritePoints = Callable[[Sequence[Point]], None]
"""Writes points to InfluxDB, or raises `SinkError`."""


class Repository(Protocol):
    """What the control process needs of `deploy.rollout.repository.CentreRepository`."""

    def index(self) -> ReleaseIndex:
        """The newest index, verified."""

    def write_index(self, change: Callable[[ReleaseIndex], ReleaseIndex]) -> ReleaseIndex:
        """Change the index under the lock."""

    def refresh_timestamp(self) -> Sequence[str]:
        """Renew what is about to expire, and return the renewed roles."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one look at all releases has brought.

    Attributes:
        index: The newest index.
        moves: The decision about each release, by its name.
        has_changed: Whether a release moved.
    """

    index: ReleaseIndex
    moves: Mapping[str, Move] = field(default_factory=dict)
    has_changed: bool = False


class ReleaseControl:
    """Decides about all releases on what the inventory knows.

    Args:
        repository: The repository of the centre.
        inventory: Its gateways.
        now_s: Its clock, epoch seconds.
        silent_s: Seconds without a new report after which a gateway is left out.
        obstacle: Why people do not want the version of a release any more; "" if they do.
    """

    def __init__(
        self,
        repository: Repository,
        inventory: Inventory,
        now_s: Callable[[], int],
        silent_s: int = SILENT_S,
        obstacle: Callable[[Release], str] = lambda release: "",
    ) -> None:
        self._obstacle = obstacle
        self.inventory = inventory
        self._repository = repository
        self._now_s = now_s
        self._silent_s = silent_s
        self._written: dict[str, GatewayReport | None] = {}
        self._offered: dict[str, GatewayReport | None] = {}

    def turn(self) -> Turn:
        """Renew what expires, decide about every release, and sign what moves.

        Raises:
            CentreError: See `CentreRepository.write_index`.
        """
        for role in self._repository.refresh_timestamp():
            log.info("signed anew before it expires: %s", role)
        known, now_s = self.inventory.known(), self._now_s()

        def change(index: ReleaseIndex) -> ReleaseIndex:
            return move_all(index, known, now_s, self._silent_s, against)[0]

        index = self._repository.index()
        running = [each for each in index.releases if each.state == "running"]
        against = {each.title: text for each in running if (text := self._obstacle(each))}
        moved, moves = move_all(index, known, now_s, self._silent_s, against)
        if moved is index:
            return Turn(index, moves)
        moved = self._repository.write_index(change)
        for before, after in zip(index.rollouts, moved.rollouts, strict=False):
            if before != after:
                log.info("%s", _moved_text(after, moves[after.name]))
        return Turn(moved, moves, has_changed=moved != index)

    def points(self, turn: Turn) -> list[Point]:
        """The points of all releases, and of the gateways that have news since `confirm`."""
        now_s, known = self._now_s(), self.inventory.known()
        points = [
            release_point(release, turn.moves[release.name], len(known), now_s)
            for release in turn.index.releases
            if release.name in turn.moves
        ]
        for each in known:
            if each.report is not None and self._written.get(each.gateway) is not each.report:
                points += report_points(each.report, each.seen_s)
        self._offered = {each.gateway: each.report for each in known}
        return points

    def confirm(self) -> None:
        """Confirm that the points of the last call of `points` are stored."""
        self._written = self._offered


class CentreControl:
    """The control process: a broker, the decisions, and points.

    Args:
        control: Decides.
        endpoint: The broker; None: the inventory alone, without reports and note.
        write_points: Writes points to InfluxDB; None: nowhere.
        every_s: Seconds between two looks without any news.
    """

    def __init__(
        self,
        control: ReleaseControl,
        endpoint: Endpoint | None,
        write_points: WritePoints | None = None,
        every_s: float = 10.0,
    ) -> None:
        self._control = control
        self._write_points = write_points
        self._every_s = every_s
        self._news = asyncio.Event()
        self._note: bytes | None = None
        self._arrived = 0
        self._confirmed = asyncio.Event()
        self._complaints: dict[str, str] = {}
        self._connection = None if endpoint is None else self._connection_to(endpoint)

    async def run(self) -> None:
        """Take reports and move releases until cancelled."""
        if self._connection is not None:
            self._connection.start()
            await self._settle()
        try:
            while True:
                self._news.clear()
                try:
                    await self._turn()
                except CentreError as exc:
                    self._complain("repository", str(exc))
                else:
                    self._complaints.pop("repository", None)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._news.wait(), self._every_s)
                await asyncio.sleep(_NEWS_S)  # news come in bursts
        finally:
            await self._stop()

    async def run_once(self) -> Turn:
        """Take the reports that the broker keeps, move the releases once, and leave.

        Raises:
            CentreError: The repository cannot be read or signed.
            MqttError: The broker cannot be reached; what expires was renewed all the same.
        """
        error = None
        if self._connection is not None:
            self._connection.start()
            if not await self._settle():
                error = self._connection.error or "the broker does not answer"
        try:
            turn = await self._turn()
            if self._connection is not None and self._connection.connected.is_set():
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._confirmed.wait(), _MOST_QUIET_S)
        finally:
            await self._stop()
        if error is not None:
            raise MqttError(error)
        return turn

    # -- parts ------------------------------------------------------------------------------

    async def _turn(self) -> Turn:
        turn = await asyncio.to_thread(self._control.turn)
        self._publish_note(turn.index)
        if self._write_points is not None:
            await asyncio.to_thread(self._store, self._write_points, turn)
        return turn

    def _store(self, write: WritePoints, turn: Turn) -> None:
        try:
            write(self._control.points(turn))
        except SinkError as exc:
            self._complain("InfluxDB", f"points are not stored now: {exc}")
        else:
            self._control.confirm()
            self._complaints.pop("InfluxDB", None)

    def _publish_note(self, index: ReleaseIndex) -> None:
        """Publish the note, unless the broker has it: each one causes a look of every gateway."""
        connection, note = self._connection, encode_note(index.made_s)
        if note == self._note or connection is None or not connection.connected.is_set():
            self._confirmed.set()
            return
        self._confirmed.clear()
        try:
            connection.publish(NOTE_TOPIC, note, retain=True)
        except MqttError as exc:
            self._complain("note", error_text(exc))
            self._confirmed.set()
        else:
            self._note = note

    async def _settle(self) -> bool:
        """Wait until the broker has delivered what it keeps; return whether it is connected."""
        connection = self._connection
        assert connection is not None  # noqa: S101 - its callers have one
        if not await connection.wait_connected():
            return False
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _MOST_QUIET_S
        arrived = -1
        while loop.time() < until_s and (not connection.subscribed or arrived != self._arrived):
            arrived = self._arrived
            await asyncio.sleep(_QUIET_S)
        return connection.connected.is_set()

    async def _stop(self) -> None:
        if self._connection is not None:
            await self._connection.stop()

    def _complain(self, about: str, text: str) -> None:
        if self._complaints.get(about) != text:
            self._complaints[about] = text
            log.error("%s", text)

    # -- the connection ---------------------------------------------------------------------

    def _connection_to(self, endpoint: Endpoint) -> Connection:
        return Connection(
            endpoint,
            on_message=self._take,
            on_oversized=self._skip,
            on_confirmed=self._answered,
            on_refused=self._refused,
            subscribe=(REPORTS_FILTER, NOTE_TOPIC),
            max_packet_bytes=MAX_REPORT_BYTES + _TOPIC_BYTES,
        )

    def _take(self, packet_id: int, qos: int, topic: str, payload: bytes, *flags: bool) -> None:
        del flags
        self._arrived += 1
        if topic == NOTE_TOPIC:
            self._note = payload
        else:
            with suppress(ReportRefused):  # the inventory has logged and noted it
                if self._control.inventory.take(topic, payload) is not None:
                    self._news.set()
        self._acknowledge(packet_id, qos)

    def _skip(self, message: Oversized) -> None:
        self._complain(message.topic, f"{message.topic}: a report above {MAX_REPORT_BYTES} bytes")
        self._acknowledge(message.packet_id, message.qos)

    def _acknowledge(self, packet_id: int, qos: int) -> None:
        if qos and self._connection is not None:
            self._connection.ack(packet_id)

    def _answered(self, packet_id: int) -> None:
        del packet_id
        self._confirmed.set()
        self._complaints.pop("note", None)

    def _refused(self, packet_id: int) -> None:
        self._complain("note", f"the broker refuses {NOTE_TOPIC}: look at its access list")
        self._answered(packet_id)


def _moved_text(release: AnyRelease, move: Move) -> str:
    head = f"release {release.number} of {release.title}"
    if release.state != "running":
        return f"{head} is {release.state}: {move.reason}"
    step = release.plan.steps[release.step]
    steps = len(release.plan.steps)
    return f"{head}: step {release.step + 1} of {steps}, {step.percent} %: {move.reason}"
