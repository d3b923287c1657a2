"""bytewax: a keyed stateful step with a deque, windows scored in batches; readings from memory.

There is no MQTT and no log, so this is a lower bound of what a bytewax pipeline costs. Settings
come as environment variables: STUDENT, MESSAGES (a file: device, tab, body), PROGRESS, OUT.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main
from student import Progress, Student

student = Student(os.environ["STUDENT"])
progress = Progress(os.environ["PROGRESS"])
count = [0, 0]


def windows(state: Any, payload: bytes) -> Any:
    """One message of a device; returns its new state and the windows that it closed."""
    seen, rows = state or (0, deque(maxlen=student.length))
    closed = []
    for _, row in student.rows(orjson.loads(payload)):
        rows.append(row)
        seen += 1
        count[0] += 1
        if student.is_due(seen):
            closed.append(student.window(rows))
    return (seen, rows), closed


def score(batch: Any) -> Any:
    """Score windows of any devices together."""
    if not batch:
        return []
    scores = student.run(np.stack([window for _, window in batch])).tolist()
    count[1] += len(scores)
    return [
        {"device": device, "score": score}
        for (device, _), score in zip(batch, scores)  # noqa: B905
    ]


class Part(StatelessSinkPartition):
    """A JSON line for each score."""

    def __init__(self) -> None:
        self._file = Path(os.environ["OUT"]).open("ab")

    def write_batch(self, items: Any) -> None:
        self._file.write(b"".join(orjson.dumps(item) + b"\n" for item in items))

    def close(self) -> None:
        self._file.close()


class Lines(DynamicSink):
    """Where scores go."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Part:
        return Part()


def main() -> None:
    lines = Path(os.environ["MESSAGES"]).read_bytes().splitlines()
    items = [(line[:6].decode(), line[7:]) for line in lines]
    flow = Dataflow("peer")
    stream = op.input("in", flow, TestingSource(items, batch_size=200))
    stream = op.stateful_flat_map("window", stream, windows)
    op.output("out", op.flat_map_batch("score", stream, score), Lines())
    progress.set(0, 0)
    while progress.get()[2] != 2:
        time.sleep(0.05)
    threading.Thread(target=report, daemon=True).start()
    run_main(flow)
    progress.set(*count)
    time.sleep(3)


def report() -> None:
    while True:
        progress.set(*count)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
