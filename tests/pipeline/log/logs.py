"""Logs for the tests of this folder: a clock, records, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.log.locallog import SqliteLog
from pipeline.log.state import NewRecord


class Clock:
    """A wall clock that stands still."""

    ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.ms


def fill(log: SqliteLog, count: int, topic: str = "readings", size: int = 1000) -> None:
    log.append([NewRecord(topic, b"%06d" % n * (size // 6)) for n in range(count)]).result()


def values(log: SqliteLog, topic: str = "readings", partition: int = 0) -> list[bytes | None]:
    return [r.value for r in log.read(topic, partition, 0, 10_000, 10**9)]


def soft_log(path: Path, **options: Any) -> SqliteLog:
    """A small log read by a scorer, and by a store as a soft group."""
    options = {"max_bytes": 100_000, "reserve_bytes": 0, "maintenance_ms": 60_000, **options}
    options |= {"durability": "normal", "linger_ms": 0}
    log = SqliteLog(path, partitions=2, min_free_bytes=0, soft_groups={"away"}, **options)
    log.create_topic("readings", 1)
    log.create_topic("scores", 2)
    log.register_group("scorer", ["readings"]).result()
    log.register_group("results", ["scores"]).result()
    log.register_group("away", ["scores"]).result()
    return log


def make_log(path: Path, count: int = 300) -> None:
    with SqliteLog(path, partitions=1) as log:
        log.append([NewRecord("readings", b"<%06d>" % n * 200) for n in range(count)]).result()
        log.create_topic("changes", 1, compacted=True)
        for n in range(10):
            log.append([NewRecord("changes", b"[%06d]" % n * 200, b"k%d" % n)]).result()
        log.commit("score", {("readings", 0): 250}).result()


def flip(path: Path, pattern: bytes) -> None:
    """Change one byte in the middle of the pattern in the file."""
    data = bytearray(path.read_bytes())
    at = data.index(pattern) + len(pattern) // 2
    data[at] ^= 0x01
    path.write_bytes(data)
