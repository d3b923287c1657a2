"""Faust as a user writes it by hand: an agent, a deque per device, the network run for each window.

The windows are in memory only. Settings come as environment variables: STUDENT, BROKER, PROGRESS,
STATE.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import Any

import faust
from student import Progress, Student

student = Student(os.environ["STUDENT"])
progress = Progress(os.environ["PROGRESS"])
app = faust.App(
    "faust-peer",
    broker=f"kafka://{os.environ['BROKER']}",
    store="memory://",
    topic_partitions=4,
    web_enabled=False,
    datadir=os.environ["STATE"],
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=500,
)
readings = app.topic(
    "readings", key_type=str, value_serializer="json", key_serializer="raw", partitions=4
)
scores = app.topic("scores", value_serializer="json", key_serializer="raw", partitions=4)
devices: dict[str, Any] = {}
count = [0, 0]


@app.agent(readings)
async def score(stream: Any) -> None:
    async for key, message in stream.items():
        if key not in devices:
            devices[key] = (deque(maxlen=student.length), [0])
        rows, seen = devices[key]
        for ts, row in student.rows(message):
            rows.append(row)
            seen[0] += 1
            count[0] += 1
            if student.is_due(seen[0]):
                found = student.run(student.window(rows)[None])[0].tolist()
                await scores.send(key=key, value={"device": key, "ts": ts, "score": found})
                count[1] += 1


@app.timer(0.2)
async def report() -> None:
    progress.set(*count)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "-l", "warn"]
    app.main()
