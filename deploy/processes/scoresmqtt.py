"""Scores over MQTT, for whoever listens on the gateway's broker: a PLC, a display, Node-RED.

- `scores/{site}/{device}/{stream}`: each score as JSON, the newest one retained. It has the fields
  of the point, its `measurement`, its tag `model`, and `time_ms`.
- `alarms/{site}/{device}/{stream}`: the score with which a device came to alert level or left it
  (`Task.is_alarming`), with `alarm` true or false, retained. So a gateway without Grafana alarms
  too. A doubtful score neither raises nor ends an alarm; one that is only unfamiliar raises one if
  even the upper end of its interval is at alert level.
- `alarms/{site}/{device}/{stream}/quality`: the score with which the scores of a device became
  doubtful or good again, with `alarm` true or false, retained; `quality` says why.

A score counts as stored when the broker has confirmed it (QoS 1); a broker that is away holds this
sink back and nothing else. A score may come twice, after a restart or a reconnect. The state of the
alarms is not kept: the first score of a device after a start publishes it again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

import orjson

from ingest.errors import MqttError
from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.publisher import Publisher
from ingest.secrettext import error_text
from models.tasks.contract import Task
from models.tasks.quality import QUALITY, is_doubtful
from models.tasks.registry import tasks
from pipeline.errors import SinkUnavailable
from pipeline.points.measurements import score_measurement
from pipeline.points.pointblocks import Points, each_point
from pipeline.points.points import Point
from pipeline.stores.sinks import Refused

__all__ = ["ALARMS", "SCORES_TOPIC", "MqttSink"]

SCORES_TOPIC = "scores"
"""First level of the topics of scores."""
ALARMS = "alarms"
"""First level of the topics of alarms."""

_CONNECT_S = 5.0
_CONFIRM_S = 10.0
_LEAVE_S = 5.0
_IN_FLIGHT = 200
_MOST_ALARMS = 100_000
"""Topics whose state of alarm is remembered; beyond, it is published more often than needed."""

_R = TypeVar("_R")


class MqttSink:
    """A `pipeline.stores.sinks.Sink` over a broker, with a thread for its connection.

    Not thread-safe: one consumer owns it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare; it connects at the first write."""
        self._endpoint = endpoint
        self._where = f"{endpoint.host}:{endpoint.port}"
        self._tasks = {score_measurement(task).name: task for task in tasks()}
        self._alarms: dict[str, bool] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._publisher: Publisher | None = None

    def write(self, points: Points) -> list[Refused]:
        """Publish scores in their order; block until the broker has confirmed all of them.

        Points beside a score, such as the steps of a forecast, are left out.

        Raises:
            SinkUnavailable: The broker is away or does not confirm; write all of them again.
        """
        messages: list[tuple[str, bytes, Point]] = []
        alarms: dict[str, bool] = {}
        for point in each_point(points):
            task = self._tasks.get(point.measurement)
            if task is not None:
                messages += self._messages(point, task, alarms)
        if not messages:
            return []
        refused = self._run(self._publish(messages))
        if len(self._alarms) > _MOST_ALARMS:
            self._alarms.clear()
        self._alarms |= alarms
        return refused

    def close(self) -> None:
        """Disconnect; idempotent."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if self._publisher is not None:
            try:
                asyncio.run_coroutine_threadsafe(self._leave(), loop).result(_LEAVE_S)
            except (FutureTimeout, asyncio.TimeoutError):
                pass  # the thread ends with the process
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_LEAVE_S)
        if not thread.is_alive():
            loop.close()
        self._loop = self._thread = None

    def _messages(
        self, point: Point, task: Task, alarms: dict[str, bool]
    ) -> list[tuple[str, bytes, Point]]:
        tags, fields = dict(point.tags), dict(point.fields)
        content = {
            "measurement": point.measurement,
            "model": tags.get("model", ""),
            "time_ms": point.time_ns // 1_000_000,
            **fields,
        }
        where = "/".join((tags["site"], tags["device"], tags["stream"]))
        found = [(f"{SCORES_TOPIC}/{where}", orjson.dumps(content), point)]
        states = {f"{ALARMS}/{where}/{QUALITY}": is_doubtful(fields)}
        alarm = task.is_alarming(fields)
        if task.needs_attention is not None and alarm is not None:
            states[f"{ALARMS}/{where}"] = alarm
        for topic, state in states.items():
            if alarms.get(topic, self._alarms.get(topic)) != state:
                found.append((topic, orjson.dumps({**content, "alarm": state}), point))
            alarms[topic] = state
        return found

    async def _publish(self, messages: Sequence[tuple[str, bytes, Point]]) -> list[Refused]:
        if self._publisher is None:
            self._publisher = Publisher(self._endpoint, in_flight=_IN_FLIGHT)
            await self._publisher.__aenter__()
        publisher = self._publisher
        try:
            await asyncio.wait_for(publisher.connection.connected.wait(), _CONNECT_S)
        except asyncio.TimeoutError as exc:
            why = publisher.waiting or "it does not answer"
            msg = f"cannot publish scores to {self._where}: {why}"
            raise SinkUnavailable(msg) from exc
        sending = asyncio.ensure_future(self._send(publisher, messages))
        try:
            while not sending.done():
                before = publisher.confirmed_total
                patience_s = _CONFIRM_S if publisher.connection.connected.is_set() else _CONNECT_S
                await asyncio.wait({sending}, timeout=patience_s)
                if not sending.done() and publisher.confirmed_total == before:
                    why = publisher.waiting or "it does not answer"
                    msg = f"the broker {self._where} has not confirmed scores: {why}"
                    raise SinkUnavailable(msg)
            return sending.result()
        finally:
            sending.cancel()

    @staticmethod
    async def _send(
        publisher: Publisher, messages: Sequence[tuple[str, bytes, Point]]
    ) -> list[Refused]:
        refused = []
        for topic, payload, point in messages:
            try:
                await publisher.publish(topic, payload, retain=True)
            except MqttError as exc:  # the broker announced that it takes no such message
                refused.append(Refused(point, error_text(exc)))
        await publisher.flush()
        return refused

    async def _leave(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.__aexit__(None, None, None)

    def _run(self, work: Coroutine[Any, Any, _R]) -> _R:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="scores-mqtt", daemon=True
            )
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
