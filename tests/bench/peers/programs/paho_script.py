"""An afternoon's script: paho-mqtt and ONNX Runtime, nothing is kept.

`naive` runs the network once for each window. `batch` keeps a ring per device, and scores the
windows of all devices together, every 50 ms or when there are 256.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from typing import Any, BinaryIO

import numpy as np
import orjson
import paho.mqtt.client as mqtt
from student import Progress, Student

_FLUSH_S = 0.05
_MOST = 256


class Naive:
    """One run of the network for each window."""

    def __init__(self, student: Student, out: BinaryIO) -> None:
        self._student, self._out = student, out
        self._devices: dict[str, tuple[deque[list[float]], list[int]]] = {}
        self.readings = self.scores = 0

    def take(self, device: str, payload: bytes) -> None:
        student = self._student
        if device not in self._devices:
            self._devices[device] = (deque(maxlen=student.length), [0])
        rows, count = self._devices[device]
        for ts, row in student.rows(json.loads(payload)):
            rows.append(row)
            count[0] += 1
            self.readings += 1
            if student.is_due(count[0]):
                score = student.run(student.window(rows)[None])[0]
                line = {"device": device, "ts": ts, "score": score.tolist()}
                self._out.write(json.dumps(line).encode() + b"\n")
                self.scores += 1

    def flush(self) -> None:
        """Nothing waits."""


class Ring:
    """The last readings of a device, `[4 x length, channels]`."""

    __slots__ = ("at", "count", "rows")

    def __init__(self, length: int, channels: int) -> None:
        self.rows = np.zeros((4 * length, channels), np.float32)
        self.at = self.count = 0


class Batch:
    """Windows of all devices, scored together."""

    def __init__(self, student: Student, out: BinaryIO) -> None:
        self._student, self._out = student, out
        self._rings: dict[str, Ring] = {}
        self._waiting: list[tuple[str, int, Any]] = []
        self.readings = self.scores = 0

    def take(self, device: str, payload: bytes) -> None:
        student, names = self._student, self._student.names
        ring = self._rings.get(device)
        if ring is None:
            ring = self._rings[device] = Ring(student.length, len(names))
        message = orjson.loads(payload)
        values = message["values"]
        if "ts" in message:
            rows = np.array([[values[name] for name in names]], np.float32)
            ts, step = message["ts"], 0
        else:
            rows = np.array([values[name] for name in names], np.float32).T
            ts, step = message["t0"], message["dt_ms"]
        length, new = student.length, len(rows)
        if ring.at + new > len(ring.rows):
            ring.rows[:length] = ring.rows[ring.at - length : ring.at]
            ring.at = length
        ring.rows[ring.at : ring.at + new] = rows
        self.readings += new
        for n in range(new):
            count, end = ring.count + n + 1, ring.at + n + 1
            if student.is_due(count):
                window = student.window(ring.rows[max(0, end - min(count, length)) : end])
                self._waiting.append((device, ts + n * step, window))
        ring.count += new
        ring.at += new
        if len(self._waiting) >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Score what waits."""
        if not self._waiting:
            return
        scores = self._student.run(np.stack([window for _, _, window in self._waiting])).tolist()
        lines = [
            orjson.dumps({"device": device, "ts": ts, "score": score})
            for (device, ts, _), score in zip(self._waiting, scores)  # noqa: B905
        ]
        self._out.write(b"\n".join(lines) + b"\n")
        self.scores += len(lines)
        self._waiting.clear()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("style", choices=["naive", "batch"])
    parser.add_argument("--student", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--progress", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    progress = Progress(args.progress)
    with open(args.out, "ab", buffering=1 << 16) as out:  # noqa: PTH123
        kind = Naive if args.style == "naive" else Batch
        work = kind(Student(args.student), out)
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="script", clean_session=False
        )
        client.on_connect = lambda client, *_: client.subscribe("sensors/+/+/+", qos=1)
        client.on_subscribe = lambda *_: progress.set(0, 0)
        client.on_message = lambda _client, _data, message: work.take(
            message.topic.split("/")[2], message.payload
        )
        client.connect("127.0.0.1", args.port)
        flushed = told = time.monotonic()
        while True:
            client.loop(0.05)
            now = time.monotonic()
            if now - flushed >= _FLUSH_S:
                flushed = now
                work.flush()
            if client.is_connected() and now - told >= 0.2:
                told = now
                out.flush()
                progress.set(work.readings, work.scores)


if __name__ == "__main__":
    main()
