"""Counters, sizes and group offsets of the local log."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GroupOffsets", "LogStats", "WriterStats"]


@dataclass(slots=True)
class WriterStats:
    """Counters of the writer since the log was opened; see `LogStats`."""

    records: int = 0
    bytes: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    longest_commit_seconds: float = 0.0
    last_commit_seconds: float = 0.0
    refused: int = 0
    deleted: int = 0
    compacted: int = 0
    released: int = 0


@dataclass(frozen=True, slots=True)
class LogStats:
    """Counters since the log was opened, and its current size.

    Attributes:
        records: Records appended.
        bytes: Size of their values.
        commits: Transactions.
        commit_seconds: Time in all transactions, mostly fsync.
        refused: Appends refused with LogFull.
        deleted: Records deleted by retention.
        compacted: Records superseded by a newer one with the same key.
        released: Deleted records that a soft group still had to read.
        stored_records: Records in the file.
        stored_bytes: Their size as it counts against the cap.
        file_bytes: Size of the file and its WAL.
        end_offsets: (topic, partition) to next offset.
        failure: Reason why the writer stopped; None while it works.
        accepted_lost: Records whose loss was accepted (`kpstream log accept-loss`) in the life of
            the log.
        wal_bytes: Size of the WAL alone.
        is_checking: Whether a large file is still being checked for damage.
    """

    records: int
    bytes: int
    commits: int
    commit_seconds: float
    longest_commit_seconds: float
    last_commit_seconds: float
    refused: int
    deleted: int
    compacted: int
    released: int
    stored_records: int
    stored_bytes: int
    max_bytes: int
    file_bytes: int
    end_offsets: dict[tuple[str, int], int]
    failure: str | None
    accepted_lost: int = 0
    wal_bytes: int = 0
    is_checking: bool = False


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """The offsets of a group in one partition it registered for.

    Attributes:
        earliest: First offset still stored.
        end: Offset of the next record to be appended.
        committed: Committed offset; None before the first commit.
    """

    topic: str
    partition: int
    earliest: int
    end: int
    committed: int | None
