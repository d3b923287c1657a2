"""The event time of each reading of an object, as `[time]` says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingest.mapping.errors import ObjectFault
from ingest.mapping.paths import ABSENT, Path, parse_path
from ingest.mapping.schema import TimeTable
from ingest.mapping.times import MAX_MS, OFFSET_FORMS, TimeForm, time_reader

__all__ = ["EventTimes"]


class EventTimes:
    """Reads the times of objects.

    Attributes:
        path: Where the time is; None: it is the time of receipt.
        is_received: The time is that of receipt.
        is_since_receipt: Times are offsets; the largest one of a message was measured at receipt.
        form: Form of the times; None: that of receipt.
    """

    def __init__(self, table: TimeTable | None) -> None:
        self.is_received = table is None or table.path is None
        self.is_since_receipt = table is not None and table.base == "received"
        self.path: Path | None = None
        self.form: str | None = None
        self._is_ms = False
        self._step_ms = None if table is None else table.step_ms
        self._base: tuple[Path, TimeForm] | None = None
        if table is None or table.path is None:
            return
        self.path = parse_path(table.path)
        self.form = table.form
        self._read = time_reader(str(table.form), table.format, table.zone)
        base = table.base
        self._is_ms = base is None and table.form == "epoch-ms"
        if base is not None and base != "received":
            read = time_reader(str(base.form), base.format, base.zone)
            self._base = parse_path(base.path), read

    @property
    def ms_name(self) -> str | None:
        """The name in the object under which epoch ms stand, if `[time]` says nothing else."""
        if self.path is None or not self._is_ms or self.path.is_rooted:
            return None
        steps = self.path.steps or ()
        return steps[0] if len(steps) == 1 and isinstance(steps[0], str) else None

    @property
    def is_offset(self) -> bool:
        """Whether the times are offsets from a base."""
        return self.form in OFFSET_FORMS

    def of(self, document: Any, each: Any, rows: int, recv_ms: int) -> list[int]:
        """Return `rows` event times (offsets, if they count from the receipt).

        Raises:
            ObjectFault: The message does not have them.
        """
        if self.path is None:
            return [recv_ms] if rows == 1 else self.before(recv_ms, rows)
        raw = self.path.of(document, each)
        if rows == 1 and type(raw) is int and self._is_ms and -MAX_MS <= raw <= MAX_MS:
            return [raw]
        cells = raw if type(raw) is list else [raw]
        if len(cells) not in (1, rows):
            msg = f"{len(cells)} times for {rows} readings (at {self.path.text})"
            raise ObjectFault(msg)
        base = 0
        if self._base is not None:
            place, read = self._base
            base = _time(place, read, place.of(document, each))
        times = [base + _time(self.path, self._read, cell) for cell in cells]
        return times if len(times) == rows else self.after(times[0], rows)

    @property
    def is_shared(self) -> bool:
        """Whether all objects of a message have one time."""
        return self.path is None or self.path.is_rooted

    def spread(self, ts_ms: Sequence[int], recv_ms: int) -> Sequence[int]:
        """Return times of their own for the readings of one sender in a message.

        Raises:
            ObjectFault: They have one time, and there is no step.
        """
        if self.path is None:
            return self.before(recv_ms, len(ts_ms))
        if not self.is_shared or len(set(ts_ms)) == len(ts_ms):
            return ts_ms
        if self.is_since_receipt:
            return self.before(ts_ms[-1], len(ts_ms))
        return self.after(ts_ms[0], len(ts_ms))

    def before(self, last_ms: int, rows: int) -> list[int]:
        """Return `rows` times a step apart, of which the last is given."""
        step = self._step(rows)
        return [last_ms - round((rows - 1 - at) * step) for at in range(rows)]

    def after(self, first_ms: int, rows: int) -> list[int]:
        """Return `rows` times a step apart, of which the first is given."""
        step = self._step(rows)
        return [first_ms + round(at * step) for at in range(rows)]

    def _step(self, rows: int) -> float:
        if rows > 1 and self._step_ms is None:
            msg = f"{rows} readings have one time: give step_ms in [time]"
            raise ObjectFault(msg)
        return self._step_ms or 0.0


def _time(path: Path, read: TimeForm, value: Any) -> int:
    try:
        if value is ABSENT or value is None:
            msg = 'the message has none; if devices send none, write [time] from = "received"'
            raise ValueError(msg)
        return read(value)
    except ValueError as exc:
        msg = f"time: {exc} (at {path.text})"
        raise ObjectFault(msg) from exc
