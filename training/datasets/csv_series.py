"""Recorded series of your own: CSV files that one description file names.

`training.datasets.series_description` shows a description. The parts of all devices end at the same
times, because devices of one site share their weather and their orders. Missing readings follow the
rule of `training.datasets.missing`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ingest.recordings.tables import parse_number
from models.manifest import Channel
from training.datasets.missing import Grid, fill_short_gaps, to_grid
from training.datasets.series import SeriesSet
from training.datasets.series_description import Description, TimeColumn, read_description
from training.errors import DataSetError

__all__ = ["TimeReader", "read_csv_series"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_MS = 253_402_300_800_000  # the year 10000
_MOST_VALUES = 100_000_000
"""Most grid times x channels of a device; more is a wrong step or a time that is far off."""
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Rows:
    """The readings of one device while its files are read."""

    times_ms: list[int] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)


def read_csv_series(path: Path) -> SeriesSet:
    """Read the CSV files that a description file names.

    Raises:
        DataSetError: The description is wrong, a file is missing, or a cell cannot be read; the
            message names file, line and column.
    """
    description = read_description(path)
    devices = _read_devices(path, description)
    grids = {
        device: _grid(f"{path}: device {device}", rows, description.step_ms)
        for device, rows in sorted(devices.items())
    }
    ends_ms = _part_ends(description, list(grids.values()))
    longest = int(1000 * description.longest_gap_s // description.step_ms)
    series, times_ms, borders = [], [], []
    for device, grid in grids.items():
        ends = tuple(int(end) for end in np.searchsorted(grid.times_ms, ends_ms))
        times, values, kept = fill_short_gaps(grid, longest, ends)
        if not len(times):
            msg = (
                f"{path}: device {device} has no time at which all channels have a reading: raise "
                "longest_gap_s, or leave out a channel"
            )
            raise DataSetError(msg)
        series.append(values)
        times_ms.append(times)
        borders.append((kept[0], kept[1], kept[2]))
    return SeriesSet(
        name=description.name,
        title=description.title or description.name,
        stream=description.stream,
        channels=tuple(Channel(name=one.name, unit=one.unit) for one in description.channels),
        step_ms=description.step_ms,
        period=description.period,
        devices=tuple(grids),
        series=tuple(series),
        times_ms=tuple(times_ms),
        borders=tuple(borders),
        terms=description.terms,
        about=description.about or f"Readings of the stream {description.stream}",
    )


def _grid(name: str, rows: _Rows, step_ms: int) -> Grid:
    """Put the readings of a device on its grid, unless that would be out of all proportion."""
    first, last = min(rows.times_ms), max(rows.times_ms)
    if ((last - first) // step_ms + 1) * len(rows.values[0]) > _MOST_VALUES:
        msg = (
            f"{name} has readings from {_utc(first)} to {_utc(last)}, {(last - first) // step_ms} "
            f"steps of {step_ms / 1000:g} s: correct the time that is far from the others, or "
            "time.form or step_s in the description"
        )
        raise DataSetError(msg)
    return to_grid(np.array(rows.times_ms), np.array(rows.values), step_ms)


def _read_devices(path: Path, description: Description) -> dict[str, _Rows]:
    devices: dict[str, _Rows] = {}
    for file in _find_files(path, description):
        for device, time_ms, values in _read_file(file, description):
            if time_ms is None:
                continue
            rows = devices.setdefault(device, _Rows())
            rows.times_ms.append(time_ms)
            rows.values.append(values)
    if not devices:
        msg = f"{path}: its files have no line below the header"
        raise DataSetError(msg)
    return devices


def _find_files(path: Path, description: Description) -> list[Path]:
    """Find the files of all patterns, each once; two of one name are not one device."""
    found: dict[Path, None] = {}
    for pattern in description.files:
        files = _matching(path, pattern)
        if not files:
            msg = (
                f"{path}: no file matches {pattern!r}: give paths relative to the folder of the "
                "description"
            )
            raise DataSetError(msg)
        found |= dict.fromkeys(files)
    devices: dict[str, Path] = {}
    for file in found:
        if description.device_column is None and file.stem in devices:
            msg = (
                f"{path}: {devices[file.stem]} and {file} would both be the device {file.stem!r}: "
                "rename one, or name the devices in a column (device_column)"
            )
            raise DataSetError(msg)
        devices[file.stem] = file
    return list(found)


def _matching(path: Path, pattern: str) -> list[Path]:
    """The files that a pattern of the description matches, in order."""
    if Path(pattern).is_absolute():
        return []
    try:
        return sorted(path.parent.glob(pattern))
    except (ValueError, IndexError, NotImplementedError):  # no pattern, such as "" or "**x"
        return []


def _read_file(
    path: Path, description: Description
) -> Iterator[tuple[str, int | None, list[float]]]:
    """Yield device, time (None: ambiguous) and values (NaN where missing) of every line."""
    try:
        with path.open(encoding=description.encoding, newline="") as file:
            lines = csv.reader(file, delimiter=description.separator)
            # Spreadsheets put a byte order mark before the first cell.
            head = [cell.removeprefix("\ufeff").strip() for cell in next(lines, [])]
            columns = _find_columns(path, head, description)
            when = TimeReader(description.time)
            for row in lines:
                if row:
                    yield _read_line(path, lines.line_num, row, columns, when, description)
    except (OSError, ValueError, LookupError, csv.Error) as exc:
        msg = (
            f"cannot read {path} as CSV in {description.encoding!r}: {exc}: correct encoding or "
            "separator in the description"
        )
        raise DataSetError(msg) from exc


def _find_columns(path: Path, head: list[str], description: Description) -> list[int]:
    """Find the columns of time, device (-1: none) and channels."""
    names = [description.time.column, description.device_column]
    names += [channel.header for channel in description.channels]
    if not head:
        msg = f"{path} is empty: its first line must name the columns"
        raise DataSetError(msg)
    for name in names:
        if name is not None and name not in head:
            msg = (
                f"{path}, line 1: there is no column {name!r}, only {', '.join(map(repr, head))}: "
                "correct the description, or its separator"
            )
            raise DataSetError(msg)
        if name is not None and head.count(name) > 1:
            msg = f"{path}, line 1: two columns are named {name!r}: rename or remove one"
            raise DataSetError(msg)
    return [-1 if name is None else head.index(name) for name in names]


def _read_line(
    path: Path,
    line: int,
    row: list[str],
    columns: list[int],
    when: TimeReader,
    description: Description,
) -> tuple[str, int | None, list[float]]:
    if max(columns) >= len(row):
        msg = f"{path}, line {line}: it has {len(row)} cells, expected {max(columns) + 1} or more"
        raise DataSetError(msg)
    try:
        time_ms = when.read(row[columns[0]].strip())
    except (ValueError, OverflowError) as exc:
        msg = (
            f"{path}, line {line}: {row[columns[0]]!r} is no time of the form "
            f"{description.time.form!r} in the zone {description.time.zone!r} ({exc}): correct "
            "the line, or form or zone in the description"
        )
        raise DataSetError(msg) from exc
    device = path.stem if columns[1] < 0 else row[columns[1]].strip()
    if not device:
        msg = f"{path}, line {line}: column {description.device_column!r} names no device: name it"
        raise DataSetError(msg)
    values = []
    for column, channel in zip(columns[2:], description.channels, strict=True):
        cell = row[column].strip()
        if cell in description.missing:
            values.append(np.nan)
            continue
        try:
            values.append(_number(cell, description.decimal))
        except ValueError as exc:
            msg = (
                f"{path}, line {line}: {cell!r} in column {channel.header!r} is no number of "
                f"single precision with the decimal sign {description.decimal!r}: correct it, or "
                "add it to missing in the description"
            )
            raise DataSetError(msg) from exc
    return device, time_ms, values


def _number(cell: str, decimal: str) -> float:
    if decimal != "." and "." in cell:
        raise ValueError  # a sign between thousands, such as in 1.234,5
    return parse_number(cell.replace(decimal, "."))


class TimeReader:
    """Reads times of one form as epoch milliseconds."""

    def __init__(self, time: TimeColumn) -> None:
        self._form = time.form
        try:
            self._zone: tzinfo = timezone.utc if time.zone == "UTC" else ZoneInfo(time.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
            msg = f"time.zone {time.zone!r} is unknown: use a name such as 'Europe/Berlin'"
            raise DataSetError(msg) from exc

    def read(self, cell: str) -> int | None:
        """Read one cell; None if its local time occurs twice, where summer time ends.

        Raises:
            ValueError: It does not have the form, or the zone skips it, where summer time begins.
        """
        if self._form in ("epoch_s", "epoch_ms"):
            time_ms = round(float(cell) * (1000 if self._form == "epoch_s" else 1))
            if abs(time_ms) >= _LAST_MS:
                msg = "beyond the year 9999; are these milliseconds?"
                raise ValueError(msg)
            return time_ms
        if self._form == "iso":
            moment = datetime.fromisoformat(cell.replace("Z", "+00:00"))
        else:
            moment = datetime.strptime(cell, self._form)  # noqa: DTZ007 (the zone follows)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self._zone)
            jump = moment.replace(fold=1).utcoffset() - moment.utcoffset()  # type: ignore[operator]
            if jump > timedelta(0):
                msg = "summer time skips it: does the clock keep winter time, as Etc/GMT-1 does?"
                raise ValueError(msg)
            if jump < timedelta(0):
                return None
        return (moment - _EPOCH) // _MILLISECOND


def _part_ends(description: Description, grids: list[Grid]) -> NDArray[np.int64]:
    """Return the times at which the three parts end, in epoch milliseconds; the ends excluded."""
    split = description.split
    begin = min(int(grid.times_ms[0]) for grid in grids)
    end = max(int(grid.times_ms[-1]) for grid in grids) + description.step_ms
    if split.train_until is None or split.validation_until is None:
        span = end - begin
        ends = [begin + span * split.train, begin + span * (split.train + split.validation), end]
        return np.array(ends, dtype=np.int64)
    ends = [_ms(split.train_until), _ms(split.validation_until), end]
    if not begin < ends[0] < ends[1] <= end:
        first, last = (datetime.fromtimestamp(at / 1000, timezone.utc) for at in (begin, end))
        msg = (
            f"split: the readings lie between {first} and {last}; train_until "
            f"{split.train_until} and validation_until {split.validation_until} must lie between "
            "them, in this order"
        )
        raise DataSetError(msg)
    return np.array(ends, dtype=np.int64)


def _utc(time_ms: int) -> str:
    return str(_EPOCH + timedelta(milliseconds=time_ms))


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND
