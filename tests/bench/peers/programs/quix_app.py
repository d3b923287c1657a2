"""Quix Streams: count windows with `collect`, the network run for each window, scores to Kafka.

Settings come as environment variables: STUDENT, BROKER, PROGRESS, STATE.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import numpy as np
from quixstreams import Application
from student import Progress, Student

student = Student(os.environ["STUDENT"])
progress = Progress(os.environ["PROGRESS"])
count = [0, 0]


def rows(message: Any) -> Any:
    found = [row for _, row in student.rows(message)]
    count[0] += len(found)
    return found


def score(window: Any) -> Any:
    scores = student.run(np.array(window["value"], dtype=np.float32)[None])[0]
    count[1] += 1
    return {"end": window["end"], "score": scores.tolist()}


def report() -> None:
    while True:
        progress.set(*count)
        time.sleep(0.2)


def main() -> None:
    app = Application(
        broker_address=os.environ["BROKER"],
        consumer_group="quix",
        auto_offset_reset="earliest",
        state_dir=os.environ["STATE"],
        loglevel="WARNING",
    )
    frame = app.dataframe(
        app.topic("readings", key_deserializer="str", value_deserializer="json")
    ).apply(rows, expand=True)
    if student.hop == 1:
        window = frame.sliding_count_window(count=student.length)
    else:
        window = frame.hopping_count_window(count=student.length, step=student.hop)
    scored = window.collect().final().apply(score)
    scored.to_topic(app.topic("scores", value_serializer="json"))
    threading.Thread(target=report, daemon=True).start()
    app.run()


if __name__ == "__main__":
    main()
