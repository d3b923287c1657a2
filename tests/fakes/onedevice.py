"""One device in a slab of its own, with plain windows: for tests that look at single readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.status.counters import ReadingCounters
from pipeline.windows.slab import StreamSlab
from pipeline.windows.slabwindows import SlabWindows
from pipeline.windows.spec import Window, WindowSpec

__all__ = ["OneDevice", "OneStep", "plain_windows"]


@dataclass(frozen=True, slots=True)
class OneStep:
    """The result of one message; see `SlabStep`, with the gaps that it released."""

    windows: list[Window]
    windowed: int
    duplicate: int
    corrected: int
    late: NDArray[np.intp]
    future: NDArray[np.intp]
    gaps: int


class OneDevice:
    """A slab with one row."""

    def __init__(
        self,
        spec: WindowSpec,
        channels: int,
        run_ms: int | None = None,
        snapshot: bytes | None = None,
    ) -> None:
        self.spec = spec
        self.channels = channels
        self.slab = StreamSlab(spec, channels)
        self.row = self.slab.add(snapshot, run_ms)
        self._rows = np.array([self.row], dtype=np.int32)

    @classmethod
    def restore(cls, spec: WindowSpec, channels: int, data: bytes) -> OneDevice:
        return cls(spec, channels, snapshot=data)

    @property
    def max_event_ms(self) -> int:
        return int(self.slab.max_event_ms[self.row])

    @property
    def watermark_ms(self) -> int:
        return int(self.slab.watermark_ms[self.row])

    @property
    def gaps(self) -> int:
        return int(self.slab.gaps[self.row])

    @property
    def pending(self) -> bool:
        return bool(self.slab.pending(self._rows)[0])

    @property
    def rate_hz(self) -> float | None:
        return self.slab.rate_hz(self.row)

    @property
    def counters(self) -> ReadingCounters:
        return self.slab.counters(self.row)

    def step(self, ts_ms: NDArray[np.int64], values: NDArray[np.float32], recv_ms: int) -> OneStep:
        before = self.gaps
        step = self.slab.step(
            self._rows, np.array([len(ts_ms)]), ts_ms, values, np.array([recv_ms], dtype=np.int64)
        )
        counts = (int(each[0]) for each in (step.windowed, step.duplicate, step.corrected))
        windows = plain_windows(step.windows)
        return OneStep(windows, *counts, step.late, step.future, self.gaps - before)

    def advance(self, now_ms: int, since_ms: int) -> list[Window]:
        before, before_ms = self.snapshot(), self.watermark_ms
        closed, moved = self.slab.advance(self._rows, now_ms, since_ms)
        # Another snapshot has to be saved; one of resampled rows may differ without a reason.
        if self.watermark_ms != before_ms or (self.spec.rate_hz is None and not closed):
            assert moved.tolist() == [self.snapshot() != before]
        return plain_windows(closed)

    def snapshot(self) -> bytes:
        return self.slab.snapshots(self._rows)[0]


def plain_windows(parts: list[SlabWindows], row: int | None = None) -> list[Window]:
    """The windows of a row, or of all, in order of their ends."""
    found = []
    for part in parts:
        assert part.values.dtype == np.float32
        assert part.values.flags.c_contiguous
        assert not part.values.flags.writeable
        chosen = range(len(part)) if row is None else np.flatnonzero(part.row == row).tolist()
        found += [_window(part, i) for i in chosen]
    return sorted(found, key=lambda window: window.end_ms)


def _window(part: SlabWindows, i: int) -> Window:
    return Window(
        start_ms=int(part.start_ms[i]),
        end_ms=int(part.end_ms[i]),
        values=part.values[i],
        readings=int(part.readings[i]),
        gaps=int(part.gaps[i]),
        recv_ms=int(part.recv_ms[i]),
        made_up=float(part.made_up[i]),
        rate_hz=None if part.rate_hz is None else float(part.rate_hz[i]),
        run_ms=None if part.run_ms is None else int(part.run_ms[i]),
    )
