"""A state folder with every file of state except the log's and the results', and who reads each.

An owner opens its files as a gateway does, goes on working, and says what became of them:

- ``correct``: everything is as it was, or nothing but time is lost.
- ``told``: something is lost or doubted, and the log of the process or the status says so.
- ``refused``: a typed error that names the file.
- ``forgotten``: a hint is gone that no reading depends on, as if it had never been noted.
- ``silent``: something is lost or wrong, and nobody says so; or another student scores.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from deploy.commands.replayed import note_replayed, read_replayed
from ingest.errors import IngestError
from ingest.knownversions import KnownVersions
from ingest.payloads import decode_payload
from ingest.sparkplug.decoder import Sparkplug
from ingest.sparkplug.names import SparkplugMapping
from ingest.sparkplug.store import SparkplugStore
from ingest.subscribed import SubscribedFilters
from models.dummy import write_dummy
from models.errors import ModelError
from models.registry import Registry
from pipeline.errors import PipelineError
from pipeline.scoring.students import Students
from pipeline.settings import PipelineSettings
from tests.fakes.sparkplugnode import EdgeNode

__all__ = ["DAMAGES", "OWNERS", "Damage", "Owner", "make_state", "verdict"]

TYPED = (IngestError, ModelError, PipelineError, OSError)
STREAM = "engine"
FILTERS = ["sensors/#", "spBv1.0/#"]
T0_MS = 1_750_000_000_000
MAPPING = SparkplugMapping.model_validate(
    {"stream": [{"name": "s", "metrics": {"a": "A", "b": "B"}}]}
)
NEWEST = {"filters": FILTERS, "session": True, "version": "3.1.1", "notes": ["a", "b"]}
EARLIER: dict[str, tuple[object, ...]] = {
    "filters": (FILTERS[:1], []),
    "session": (False,),
    "version": ("5", None),
    "notes": (["a"], []),
}
MORE_MESSAGES = 7
"""Sparkplug messages between the older copy and the end: no multiple of 256."""
LAST_ROW = {"a": [float(MORE_MESSAGES)], "b": [1.0]}


# -- damage ----------------------------------------------------------------------------------------


def _bit(path: Path, _older: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, _older: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(path, rng.randrange(size) if size else 0)


def _emptied(path: Path, _older: Path, _rng: random.Random) -> None:
    os.truncate(path, 0)


def _removed(path: Path, _older: Path, _rng: random.Random) -> None:
    path.unlink(missing_ok=True)


def _garbage(path: Path, _older: Path, rng: random.Random) -> None:
    _replace(path, rng.randbytes(5000))


def _nested(path: Path, _older: Path, _rng: random.Random) -> None:
    _replace(path, b'{"running":' + b"[" * 200_000)


def _older(path: Path, older: Path, _rng: random.Random) -> None:
    if older.exists():
        _replace(path, older.read_bytes())


def _pipe(path: Path, _older: Path, _rng: random.Random) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path, _older: Path, _rng: random.Random) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _link(path: Path, older: Path, _rng: random.Random) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(older)


def _socket(path: Path, _older: Path, _rng: random.Random) -> None:
    path.unlink(missing_ok=True)
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(data)
    fresh.replace(path)


Damage = Callable[[Path, Path, random.Random], None]
DAMAGES: dict[str, Damage] = {
    "bit": _bit,
    "cut": _cut,
    "emptied": _emptied,
    "removed": _removed,
    "garbage": _garbage,
    "nested": _nested,
    "older": _older,
    "pipe": _pipe,
    "folder": _folder,
    "link": _link,
    "socket": _socket,
}
"""What happens to a file: function of the file, its older copy, and a source of chance."""


# -- owners ----------------------------------------------------------------------------------------


class Owner(Protocol):
    """Who reads and writes some of the files; a context manager is its time from start to end."""

    files: tuple[str, ...]

    def run(self, state: Path) -> Iterator[str]:
        """Start and yield what became of the files; when continued, go on working, and end."""


class StudentsOwner:
    """Runs the students: of version 2 of the user's own, and of the starters."""

    files = (
        "running.json",
        "tried.json",
        "registry/own/stable.json",
        "registry/own/history.jsonl",
        "registry/own/.lock",
        "registry/own/versions/2/manifest.json",
        "registry/own/versions/2/model.onnx",
        "registry/.seed.lock",
    )

    def run(self, state: Path) -> Iterator[str]:
        students = Students(state / "registry", state / "running.json", PipelineSettings())
        students.models.poll()
        yield self._found(students)
        students.models.poll()
        if self._found(students) == "silent":
            raise AssertionError("another student scores, although nothing was promoted")

    def _found(self, students: Students) -> str:
        student = students.models.student_of(STREAM)
        if student is not None and student.manifest.name != "own":
            return "silent"
        if any(status.refused_error for status in students.models.statuses()):
            return "told"
        is_same = student is not None and student.manifest.version == 2
        return "correct" if is_same else "silent"


class MemoryOwner:
    """Reads and writes what the bridge and the commands remember."""

    files = ("subscriptions.json", "mqtt-versions.json", "dead-letters-replayed.json")

    def run(self, state: Path) -> Iterator[str]:
        filters, versions = _filters(state), _versions(state)
        found = {
            "filters": list(filters.read()),
            "session": filters.has_session(),
            "version": versions.read(),
            "notes": sorted(read_replayed(state)),
        }
        if found == NEWEST:
            yield "correct"
        else:
            is_hint_gone = all(found[name] in (NEWEST[name], *EARLIER[name]) for name in NEWEST)
            yield "forgotten" if is_hint_gone else "silent"
        filters.write(FILTERS, has_session=True)
        versions.write("3.1.1")
        note_replayed(state, ["a", "b"], "replay", 5)


class SparkplugOwner:
    """Decodes the messages of a node, which goes on where it was."""

    files = ("sparkplug.db", "sparkplug.db-wal", "sparkplug.db.mark")

    def run(self, state: Path) -> Iterator[str]:
        decoder = Sparkplug(MAPPING, SparkplugStore(state / "sparkplug.db"))
        try:
            yield self._take(decoder, state)
            self._take(decoder, state)
        finally:
            decoder.close()

    def _take(self, decoder: Sparkplug, state: Path) -> str:
        """Take two messages that change B only: A comes from the memory.

        A row is released by the message after it.
        """
        sent = state / "sent"  # by the node; no file of ours
        count = int(sent.read_text())
        sent.write_text(str(count + 2))
        node = _node()
        for n in range(count):
            node.data("d", T0_MS + n, {"A": float(n)})
        rows = []
        for n in (count, count + 1):
            decoded = decoder.decode(*node.data("d", T0_MS + n, {"B": 1.0}), T0_MS, 1)
            _keep(decoder)
            rows += [decode_payload(body)["values"] for _, body in decoded.messages]
            if decoded.refused is not None or decoder.counters.seq_gaps_total:
                return "told"
        return "correct" if rows[-1:] == [LAST_ROW] else "silent"


OWNERS: tuple[Owner, ...] = (StudentsOwner(), MemoryOwner(), SparkplugOwner())


# -- the folder ------------------------------------------------------------------------------------


def make_state(folder: Path) -> tuple[Path, Path]:
    """Make a state folder; returns it, and a copy of it from an earlier moment."""
    state, older = folder / "state", folder / "older"
    registry = Registry(state / "registry")
    write_dummy(folder / "own", "rul", stream=STREAM)
    registry.publish(folder / "own", "own", stable=True)
    _run_students(state)
    _filters(state).write(FILTERS[:1], has_session=True)
    _versions(state).write("5")
    note_replayed(state, ["a"], "replay", 5)
    node = _node()
    decoder = Sparkplug(MAPPING, SparkplugStore(state / "sparkplug.db"))
    for message in [*_node().births(T0_MS), node.data("d", T0_MS, {"A": 0.0})]:
        decoder.decode(*message, T0_MS, 1)
    _keep(decoder)
    shutil.copytree(state, older)
    shutil.copytree(older / "registry/own/versions/1", older / "registry/own/versions/2")

    shutil.rmtree(folder / "own")
    write_dummy(folder / "own", "rul", stream=STREAM, seed=1)
    registry.publish(folder / "own", "own", stable=True)
    _run_students(state)
    _filters(state).write(FILTERS, has_session=True)
    _versions(state).write("3.1.1")
    note_replayed(state, ["b"], "replay", 5)
    for n in range(1, 1 + MORE_MESSAGES):
        decoder.decode(*node.data("d", T0_MS + n, {"A": float(n)}), T0_MS, 1)
        _keep(decoder)
    (state / "sent").write_text(str(1 + MORE_MESSAGES))
    shutil.copytree(state, folder / "killed")  # sparkplug.db as a killed process leaves it
    decoder.close()
    return folder / "killed", older


def verdict(owner: Owner, state: Path, caplog_text: Callable[[], str]) -> str:
    """Start an owner on a folder; see the module for what is returned."""
    try:
        with running(owner, state) as found:
            is_told = found == "forgotten" and "WARNING" in caplog_text()
            return "told" if is_told else found
    except TYPED:
        return "refused"


@contextmanager
def running(owner: Owner, state: Path) -> Iterator[str]:
    """An owner from start to end; it goes on working after the block."""
    steps = owner.run(state)
    try:
        yield next(steps)
        next(steps, None)
    finally:
        steps.close()  # type: ignore[attr-defined]


def _node() -> EdgeNode:
    node = EdgeNode("g", "n", {"d": {"A": 0.0, "B": 0.0}})
    node.births(T0_MS)
    return node


def _keep(decoder: Sparkplug) -> None:
    checkpoint = decoder.checkpoint()
    assert checkpoint is not None
    asyncio.run(decoder.keep(checkpoint))


def _run_students(state: Path) -> None:
    Students(state / "registry", state / "running.json", PipelineSettings()).models.poll()


def _filters(state: Path) -> SubscribedFilters:
    return SubscribedFilters(state / "subscriptions.json", "localhost", 1883, "bridge")


def _versions(state: Path) -> KnownVersions:
    return KnownVersions(state / "mqtt-versions.json", "localhost", 1883)
