"""The files of a log as a killed process leaves them, and what a log that opens must still have."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import LogError
from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord, StoredRecord

__all__ = ["FILES", "KilledLog", "flips", "kill_log", "records", "verdict"]

FILES = ("log.db", "log.db-wal", "log.db.mark")
GROUP = "score"
OPTIONS: dict[str, Any] = {"partitions": 2, "min_free_bytes": 0, "linger_ms": 0}


@dataclass(frozen=True, slots=True)
class KilledLog:
    """The bytes of the files after a kill, and everything that was confirmed before.

    Attributes:
        files: Name to bytes.
        older: The same files at an earlier moment.
        records: Every confirmed record of the ordinary topic, and the newest of each key of the
            compacted one.
        committed: Confirmed offset of the group in partition 0.
    """

    files: dict[str, bytes]
    older: dict[str, bytes]
    records: dict[tuple[str, int, int], StoredRecord]
    committed: int

    def put(self, folder: Path, **changed: bytes | None) -> Path:
        """Write the files; `changed` replaces some (None removes), with `.` and `-` as `_`."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in self.files.items():
            data = changed.get(name.replace(".", "_").replace("-", "_"), data)  # type: ignore[assignment]
            if data is not None:
                (folder / name).write_bytes(data)
        return folder / "log.db"


def kill_log(
    folder: Path, *, name: str = "log.db", seed: int = 0, closed: bool = False, **options: Any
) -> KilledLog:
    """Fill a log, and copy its files while it is open, as a SIGKILL leaves them.

    The log was closed once, so its records stand in both files, and its last transaction appends.
    With `closed`, it is closed again, so there is no write-ahead file.
    """
    path = folder / name
    rng = random.Random(seed)

    def fill(log: SqliteLog, count: int) -> None:
        for n in range(count):
            log.append(
                [
                    NewRecord("readings", rng.randbytes(700), b"k%d" % n, n % 2, 1000 + n),
                    NewRecord("changes", rng.randbytes(90), b"k%d" % (n % 5), 0),
                ]
            ).result()

    with SqliteLog(path, **OPTIONS, **options) as log:
        log.create_topic("changes", 1, compacted=True)
        fill(log, 25)
        log.register_group(GROUP, ["readings"]).result()
    with SqliteLog(path, **OPTIONS, **options) as log:
        fill(log, 12)
        older = _copied(path)
        log.commit(GROUP, {("readings", 0): 9}).result()
        fill(log, 13)
        files = _copied(path)
        confirmed = {(r.topic, r.partition, r.offset): r for r in records(log)}
    if closed:
        files = _copied(path)
    return KilledLog(files, older, confirmed, 9)


def _copied(path: Path) -> dict[str, bytes]:
    return {
        f"log.db{end}": file.read_bytes()
        for end in ("", "-wal", ".mark")
        if (file := path.with_name(path.name + end)).exists()
    }


def records(log: SqliteLog) -> Iterator[StoredRecord]:
    """Every record of every topic."""
    for topic, partitions in log.topics().items():
        for partition in range(partitions):
            at, end = log.earliest_offset(topic, partition), log.end_offset(topic, partition)
            while at < end and (batch := log.read(topic, partition, at)):
                yield from batch
                at = batch[-1].offset + 1


def verdict(path: Path, killed: KilledLog, **options: Any) -> str:
    """Open the log and use it: "correct", the name of a typed error, or "silent".

    Silent is any difference that nothing told: a record that is gone or changed, an offset of the
    group that is ahead, a group that no longer pins, a topic that changed. What a check in the
    background finds comes too late for it: a reader has acted by then.
    """
    is_same = True
    try:
        with SqliteLog(path, **OPTIONS, cache_bytes=0, **options) as log:
            found = {(r.topic, r.partition, r.offset): r for r in records(log)}
            pins = {at.partition for at in log.group_offsets(GROUP)}
            (offset,) = log.append([NewRecord("readings", b"new", partition=0)]).result(30)
            is_same = (
                found == killed.records
                and pins == {0, 1}
                and log.start_offset(GROUP, "readings", 0) <= killed.committed
                and log.start_offset(GROUP, "readings", 1) == 0
                and log.topics() == {"changes": 1, "readings": 2}
                and log.is_compacted("changes")
                and not log.is_compacted("readings")
                and ("readings", 0, offset) not in killed.records
            )
            while log.stats().is_checking:
                time.sleep(0.001)
            log.flush().result(30)
    except LogError as exc:
        return type(exc).__name__ if is_same else "silent"
    return "correct" if is_same else "silent"


def flips(data: bytes, count: int, rng: random.Random, tender: int = 0) -> Iterator[bytes]:
    """`count` copies with one bit flipped each: half of them in the first `tender` bytes."""
    for n in range(count):
        at = rng.randrange(min(tender, len(data)) if tender and n % 2 else len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        yield bytes(changed)
