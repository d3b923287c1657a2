"""Sizes of a gateway's log and results file for `/metrics`, their write-ahead files included."""

from __future__ import annotations

from pipeline.log.locallog import SqliteLog
from pipeline.status.view import Measure
from pipeline.stores.resultsfile import ResultsFile

__all__ = ["file_measures"]


def file_measures(log: SqliteLog, results: ResultsFile) -> list[Measure]:
    """Read from memory and from the file system only."""
    stats = log.stats()
    return [
        Measure("log_file_bytes", "Size of the log with its write-ahead file.", stats.file_bytes),
        Measure("log_wal_bytes", "Size of the log's write-ahead file.", stats.wal_bytes),
        Measure(
            "log_accepted_lost_total",
            "Records whose loss was accepted in the life of the log.",
            stats.accepted_lost,
            True,
        ),
        Measure(
            "results_wal_bytes", "Size of the results file's write-ahead file.", results.wal_bytes()
        ),
    ]
