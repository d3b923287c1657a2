"""Offsets of a running Faust app in its acknowledged topics, on any transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faust.types import TP

from pipeline.log.sqliteconsumer import Consumer


@dataclass(frozen=True)
class Progress:
    """Offsets of one partition: next to be written, next to be read, committed."""

    end: int
    position: int | None
    committed: int | None


def progress(app: Any) -> list[Progress]:
    """One entry per acknowledged partition; empty before the first assignment."""
    consumer = app.consumer
    if isinstance(consumer, Consumer):
        found = [] if consumer._log is None else consumer._log.group_offsets(app.conf.id)
        return [
            Progress(at.end, consumer._positions.get(TP(at.topic, at.partition)), at.committed)
            for at in found
        ]
    return [
        _progress_on_kafka(app, tp)
        for tp in sorted(consumer.assignment())
        if app.topics.acks_enabled_for(tp.topic)
    ]


def _progress_on_kafka(app: Any, tp: TP) -> Progress:
    read = app.consumer._read_offset.get(tp)
    committed = app.consumer._committed_offset.get(tp)
    position = None if read is None else read + 1
    end = max(app.monitor.tp_end_offsets.get(tp, 0), position or 0, committed or 0)
    return Progress(end, position, committed)
