"""A log, scores and a registry as a gateway makes them, with the stream's own code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from ingest.blocks import decode_record
from ingest.messages import Tick, encode_envelope
from ingest.topics import READINGS, device_key, partition_of
from models.artifact import write_artifact
from models.dummy import dummy_draft, dummy_onnx
from models.manifest import Draft
from models.registry import Registry
from models.seen import Seen
from models.session import Student
from pipeline.explain.explainer import Explainer
from pipeline.explain.logscan import LogFile
from pipeline.explain.scores import DeviceStream, find_score
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord
from pipeline.points.scores import points_of
from pipeline.scoring.batch import Scored, score_windows
from pipeline.scoring.students import stream_plan
from pipeline.settings import PipelineSettings
from pipeline.stores.resultsfile import ResultsFile
from pipeline.windows.devices import Devices
from tests.fakes.records import as_columns, encode_bundle, encode_tick
from tests.fakes.scores import Closed, records_of
from tests.fakes.windows import closed_windows

T0 = 1_700_000_000_000
STEP = 100
PARTITIONS = 2
CHANNELS = ("T24", "T30", "Nf")
WHERE = DeviceStream("plant", "press-1", "engine")


@dataclass
class Plant:
    """A gateway's files in a folder; `send` appends to the log and scores what closes."""

    folder: Path
    results: ResultsFile
    log: SqliteLog
    devices: Devices
    student: Student
    scored: list[tuple[list[Closed], Scored]]

    @classmethod
    def make(cls, folder: Path, seen: Seen | None = None, task: str = "rul") -> Plant:
        registry = Registry(folder / "registry")
        draft = Draft(**dict(dummy_draft(task)) | {"seen": seen})
        write_artifact(folder / "student", draft, dummy_onnx(draft))
        registry.publish(folder / "student", stable=True)
        student = Student(registry.read(draft.name, 1))
        plan = stream_plan(student.manifest, PipelineSettings())
        log = SqliteLog(folder / "log.db", partitions=PARTITIONS, durability="normal")
        log.create_topic(READINGS, PARTITIONS)
        devices = Devices({draft.stream: plan}.get, lambda _key: None)
        return cls(folder, ResultsFile(folder / "results.db"), log, devices, student, [])

    def explainer(self) -> Explainer:
        log = LogFile(self.folder / "log.db")
        find = partial(find_score, self.results)
        return Explainer(find, log, self.folder / "registry", PipelineSettings())

    def send(self, *lines: bytes, device: str = "press-1") -> None:
        """Append one record to the log, apply it, and score what closes; its form alternates."""
        partition = partition_of(device_key("plant", device), PARTITIONS)
        value = encode_bundle(lines)
        value = as_columns(value) if len(self.scored) % 2 else value
        (offset,) = self.log.append([NewRecord(READINGS, value, partition=partition)]).result()
        batches = self.devices.apply(partition, offset, decode_record(value)).windows
        closed = closed_windows(batches)
        student_of = {self.student.manifest.stream: self.student}.get
        scored = score_windows(batches, student_of, T0)
        self.scored.append((closed, scored))

    def store(self) -> None:
        """Store the scores of everything sent."""
        self.results.write([p for _, scored in self.scored for p in points_of(records_of(scored))])

    def windows(self) -> list[Closed]:
        return [item for closed, _ in self.scored for item in closed]

    def close(self) -> None:
        self.results.close()
        self.log.close()


def values_at(number: int) -> tuple[float, ...]:
    """Readings that differ from each other, inside the range of the dummy's weights."""
    rng = np.random.default_rng(number)
    return tuple(np.round(rng.normal(0, 2, len(CHANNELS)), 3).tolist())


def line(
    numbers: Sequence[int],
    *,
    recv: int | None = None,
    device: str = "press-1",
    stream: str = "engine",
    channels: Sequence[str] = CHANNELS,
) -> bytes:
    """One message with the readings of these numbers, received when the last one was taken."""
    ts = [T0 + STEP * number for number in numbers]
    columns = zip(*(values_at(number) for number in numbers), strict=True)
    body = {"ts": ts, "values": dict(zip(channels, map(list, columns), strict=True))}
    recv_ms = max(ts) if recv is None else T0 + STEP * recv
    return encode_envelope("plant", device, stream, recv_ms, orjson.dumps(body))


def tick(number: int) -> bytes:
    """A tick at the time of a reading's number."""
    return encode_tick(Tick(T0 + STEP * number, T0))
