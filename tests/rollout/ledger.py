"""What a gateway writes about its windows: one line a batch, appended at once.

A line is `[time_ms, stream, [[number, version], ...]]`; version 0 stands for a window without a
score, and -1 for a score that is not finite. Other lines are `{"event": ..., "ms": ...}`.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.scoring.batch import Scored
from tests.fakes.scores import records_of
from tests.rollout.feed import window_number

__all__ = ["Batch", "Ledger", "read_batches", "read_events", "unbalanced"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The windows of one batch, with the versions that scored them."""

    ms: int
    stream: str
    scored: tuple[tuple[int, int], ...]


class Ledger:
    """The file of one gateway; what a killed process wrote half is cut off at the next start."""

    def __init__(self, path: Path) -> None:
        """Open the file and find the number of the next window of each stream."""
        whole = path.read_bytes() if path.exists() else b""
        end = whole.rfind(b"\n") + 1
        self.next: Counter[str] = Counter()
        for batch in _batches(whole[:end]):
            for number, _ in batch.scored:
                self.next[batch.stream] = max(self.next[batch.stream], number + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(self._file, end)
        os.lseek(self._file, 0, os.SEEK_END)

    def write(self, ms: int, stream: str, scored: Scored) -> None:
        """Append a batch."""
        lines = [
            [window_number(record["end_ms"]), record["version"] if _is_finite(record) else -1]
            for record in records_of(scored)
        ]
        lines += [[window_number(each.end_ms), 0] for each in scored.unscored]
        self._append([ms, stream, sorted(lines)])

    def note(self, event: str, ms: int, **facts: Any) -> None:
        """Append an event."""
        self._append({"event": event, "ms": ms, **facts})

    def _append(self, line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def read_batches(path: Path) -> list[Batch]:
    """The batches of a ledger, without a line that is being written."""
    whole = path.read_bytes() if path.exists() else b""
    return list(_batches(whole[: whole.rfind(b"\n") + 1]))


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a ledger."""
    whole = path.read_bytes() if path.exists() else b""
    lines = (json.loads(line) for line in whole[: whole.rfind(b"\n") + 1].splitlines())
    return [line for line in lines if isinstance(line, dict)]


def unbalanced(batches: Sequence[Batch]) -> list[str]:
    """What is lost, doubled, unscored or not finite, by identity; empty if nothing is."""
    found = []
    for stream in sorted({batch.stream for batch in batches}):
        counts: Counter[int] = Counter()
        for batch in batches:
            if batch.stream == stream:
                counts.update(number for number, _ in batch.scored)
                bad = [number for number, version in batch.scored if version < 1]
                found += [f"{stream} {number} has no finite score" for number in bad]
        found += [f"{stream} {n} has {count} scores" for n, count in counts.items() if count > 1]
        lost = set(range(max(counts, default=-1) + 1)) - set(counts)
        found += [f"{stream} {number} is lost" for number in sorted(lost)]
    return found


def _batches(whole: bytes) -> Iterator[Batch]:
    for line in whole.splitlines():
        content = json.loads(line)
        if isinstance(content, list):
            ms, stream, scored = content
            yield Batch(ms, stream, tuple((number, version) for number, version in scored))


def _is_finite(record: Any) -> bool:
    return all(math.isfinite(value) for value in record.values() if isinstance(value, float))
