"""The readings of a description of own data: its files, opened, checked and put in order of time.

A path may be a file, a pattern, a folder (also a folder of recordings) or an archive; what is in a
folder or archive is found as for every data set (`ingest.recordings.files`). All faults of all
files are told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ingest.recordings import RecordingError
from ingest.recordings.columns import Columns, column_names, read_columns
from ingest.recordings.files import read_matching_files
from training.datasets.csv_series import TimeReader
from training.datasets.own_description import Files, Own, several_faults
from training.datasets.series_description import TimeColumn
from training.errors import DataSetError

__all__ = ["Device", "Notes", "open_files", "read_devices"]

_TABLES = r"csv|txt|tsv|dat|parquet|h5|hdf5"
_MOST_FAULTS = 20
_NUMERIC = ("cycle", "epoch_s", "epoch_ms")


@dataclass(slots=True)
class Notes:
    """What a reader left out, as sentences by their number of cases.

    Attributes:
        counts: Number of cases by sentence; `{}` in the sentence stands for the number.
    """

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, count: int = 1) -> None:
        """Count cases of one kind."""
        if count:
            self.counts[text] = self.counts.get(text, 0) + count

    def lines(self) -> tuple[str, ...]:
        """The sentences with their numbers."""
        return tuple(text.format(count) for text, count in self.counts.items())


@dataclass(frozen=True, slots=True)
class Device:
    """The readings of one device, in order of time, each time once.

    Attributes:
        name: The machine or person.
        group: What a split must not cut; the device itself unless the file names a column.
        times: Epoch milliseconds, or cycles, float64 `[n]`.
        values: `[n, channels]` float32 in the units of the student.
        texts: Cells of further columns by name, `[n]` each.
        numbers: Numbers of further columns by name, float64 `[n]` each.
    """

    name: str
    group: str
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    texts: dict[str, NDArray[np.str_]]
    numbers: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.times)

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Device:
        """Return these readings only, or in this order."""
        return replace(
            self,
            times=self.times[chosen],
            values=self.values[chosen],
            texts={key: cells[chosen] for key, cells in self.texts.items()},
            numbers={key: cells[chosen] for key, cells in self.numbers.items()},
        )


def open_files(folder: Path, files: Iterable[Files]) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, content and part of every file that the paths name, in order.

    Raises:
        DataSetError: A path names no file, or a file cannot be read.
    """
    for one in files:
        found = _matching(folder, one.path)
        if not found:
            msg = f"no file matches {one.path!r}: give paths relative to the folder {folder}"
            raise DataSetError(msg)
        for path in found:
            try:
                yield from _open(path, one)
            except RecordingError as exc:
                raise DataSetError(str(exc)) from exc


def _matching(folder: Path, pattern: str) -> list[Path]:
    given = folder / pattern
    if given.exists():
        return [given]
    if Path(pattern).is_absolute():
        return []
    try:
        return sorted(folder.glob(pattern))
    except (ValueError, IndexError, NotImplementedError):  # no pattern, such as "" or "**x"
        return []


def _open(path: Path, files: Files) -> Iterator[tuple[str, bytes, str]]:
    if files.inside is None and path.is_file() and re.search(rf"\.({_TABLES})$", path.name, re.I):
        inside = re.escape(path.name)
    elif files.inside is None:
        inside = rf"[^/]*\.(?:{_TABLES})"
    else:
        # `translate` ends in \Z (or \z), which the search for the end of a path adds itself.
        inside = re.sub(r"\\[Zz]$", "", translate(files.inside)).removeprefix("(?s:")
        inside = rf"(?s:{inside}"
    example = files.inside or "a table (.csv, .txt, .parquet, .h5)"
    found = read_matching_files(path, rf"((?:.*/)?{inside})", example, "the data")
    for key, content in found.items():
        yield (
            key if path.is_dir() else f"{path.name}: {key}" if key != path.name else key,
            (content),
            files.part,
        )


def read_devices(
    path: Path,
    own: Own,
    files: Iterable[Files],
    notes: Notes,
    *,
    texts: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
) -> list[Device]:
    """Read all devices of some files, ordered by their names.

    Args:
        path: The description, for messages and relative paths.
        own: The description.
        files: Files to read.
        notes: Gets what is left out.
        texts: Further columns to read as text.
        numbers: Further columns to read as numbers.

    Raises:
        DataSetError: Files are missing or hold something else; all faults at once.
    """
    rows: dict[tuple[str, str], list[Device]] = {}
    faults: list[str] = []
    lacking: list[str] = []
    read_time = _time_reader(own)
    for name, content, part in open_files(path.parent, files):
        try:
            if lost := _lost_channels(name, content, part, own):
                lacking.append(f"{name}: it lacks the channels {', '.join(map(repr, lost))}")
                continue
            columns = _read(name, content, part, own, texts, numbers)
            for device in _split(name, columns, own, read_time, texts, numbers):
                rows.setdefault((device.group, device.name), []).append(device)
        except RecordingError as exc:
            faults += str(exc).split("\n")
    if not rows and not faults:
        faults = lacking
    notes.add("{} files are left out: their messages lack a channel", len(lacking))
    if faults:
        shown = faults[:_MOST_FAULTS]
        if len(faults) > _MOST_FAULTS:
            shown.append(f"and {len(faults) - _MOST_FAULTS} more")
        raise DataSetError(several_faults(str(path), shown))
    return [_in_order(parts, own, notes) for _, parts in sorted(rows.items(), key=_natural)]


def _lost_channels(name: str, content: bytes, part: str, own: Own) -> list[str]:
    """Channels that a file of recordings lacks; other files must have all columns.

    A recording keeps messages of other channels in files of their own, and the gateway that scores
    the stream refuses those messages.
    """
    if not _is_typed(content):
        return []
    names = column_names(content, name, own.notation, part)
    if not {"ts_ms", "recv_ms"} <= set(names):
        return []
    return [one.header for one in own.channels if one.header not in names]


def _natural(item: tuple[tuple[str, str], list[Device]]) -> list[tuple[int, int, str]]:
    """Order `9` before `10`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for name in item[0]
        for part in re.split(r"(\d+)", name)
        if part
    ]


def _read(
    name: str,
    content: bytes,
    part: str,
    own: Own,
    texts: tuple[str, ...],
    numbers: tuple[str, ...],
) -> Columns:
    as_text = [*texts]
    as_number = [channel.header for channel in own.channels] + [*numbers]
    as_text += [*own.device_column] + ([own.group_column] if own.group_column else [])
    if own.time.column is not None:
        numeric = own.time.form in _NUMERIC or _is_typed(content)
        (as_number if numeric else as_text).append(own.time.column)
    return read_columns(
        content, name, texts=as_text, numbers=as_number, notation=own.notation, part=part
    )


def _is_typed(content: bytes) -> bool:
    """Whether a file is Parquet, whose times are typed and are read as milliseconds."""
    return content.startswith(b"PAR1")


def _time_reader(own: Own) -> Callable[[str], int | None] | None:
    if own.time.form in _NUMERIC or own.time.column is None:
        return None
    column = TimeColumn(column=own.time.column, form=own.time.form, zone=own.time.zone)
    return TimeReader(column).read


def _split(
    name: str,
    columns: Columns,
    own: Own,
    read_time: Callable[[str], int | None] | None,
    texts: tuple[str, ...],
    numbers: tuple[str, ...],
) -> Iterator[Device]:
    """Split one file by device."""
    times = _times(name, columns, own, read_time)
    values = np.stack([columns.numbers[one.header] for one in own.channels], axis=1)
    scale, offset = np.array([one.factors for one in own.channels]).T
    readings = (values * scale + offset).astype(np.float32)
    stem = PurePosixPath(name.rpartition(": ")[2]).stem
    devices = np.full(columns.rows, stem)
    if own.device_column:
        cells = [_cells(name, columns, one) for one in own.device_column]
        devices = np.array(["/".join(row) for row in zip(*cells, strict=True)], dtype=np.str_)
    if own.time.restarts:
        numbers_of_runs = np.cumsum(np.diff(times, prepend=times[:1]) < 0) + 1
        devices = np.array(
            [f"{one}-{run}" for one, run in zip(devices, numbers_of_runs, strict=True)], np.str_
        )
    groups = devices if own.group_column is None else _cells(name, columns, own.group_column)
    keys, places = np.unique(np.stack([devices, groups], axis=1), axis=0, return_inverse=True)
    order = np.argsort(places.ravel(), kind="stable")
    bounds = np.searchsorted(places.ravel()[order], np.arange(len(keys) + 1))
    whole = Device(
        "",
        "",
        times,
        readings,
        {key: np.array(columns.texts[key], dtype=np.str_) for key in texts},
        {key: columns.numbers[key] for key in numbers},
    )
    for number, (device, group) in enumerate(keys):
        chosen = whole.where(order[bounds[number] : bounds[number + 1]])
        yield replace(chosen, name=str(device), group=str(group))


def _cells(name: str, columns: Columns, column: str) -> NDArray[np.str_]:
    """Names in a column, none of them empty."""
    cells = np.array(columns.texts[column], dtype=np.str_)
    if (empty := cells == "").any():
        msg = (
            f"{name}, reading {int(np.argmax(empty)) + 1}: column {column!r} is empty "
            f"({int(empty.sum())} such readings): name the machine or person, or leave them out"
        )
        raise RecordingError(msg)
    return cells


def _times(
    name: str, columns: Columns, own: Own, read_time: Callable[[str], int | None] | None
) -> NDArray[np.float64]:
    """Epoch milliseconds or cycles; NaN for a local time that occurs twice."""
    column = own.time.column
    if column is None:
        return np.arange(columns.rows, dtype=np.float64)
    if column in columns.numbers:
        times = columns.numbers[column]
        if np.isnan(times).any():
            place = int(np.argmax(np.isnan(times)))
            msg = f"{name}, reading {place + 1}: column {column!r} holds no time: correct it"
            raise RecordingError(msg)
        return times * 1000 if own.time.form == "epoch_s" else times
    found = np.empty(columns.rows)
    for place, cell in enumerate(columns.texts[column]):
        try:
            time_ms = read_time(cell) if read_time is not None else None
        except (ValueError, OverflowError) as exc:
            msg = (
                f"{name}, reading {place + 1}: {cell[:40]!r} is no time of the form "
                f"{own.time.form!r} in the zone {own.time.zone!r}: correct it, or time.form or "
                "time.zone in the description"
            )
            raise RecordingError(msg) from exc
        found[place] = np.nan if time_ms is None else time_ms
    return found


def _in_order(parts: list[Device], own: Own, notes: Notes) -> Device:
    """Join the files of a device, and leave out readings that the stream refuses too."""
    first = parts[0]
    whole = Device(
        first.name,
        first.group,
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
        {key: np.concatenate([part.texts[key] for part in parts]) for key in first.texts},
        {key: np.concatenate([part.numbers[key] for part in parts]) for key in first.numbers},
    )
    if own.time.column is None and len(parts) > 1:
        whole = replace(whole, times=np.arange(len(whole), dtype=np.float64))
    twice = np.isnan(whole.times)
    notes.add("{} readings are left out: their local time occurs twice", int(twice.sum()))
    missing = np.isnan(whole.values).any(axis=1) & ~twice
    notes.add("{} readings are left out: a channel is missing", int(missing.sum()))
    whole = whole.where(~(twice | missing))
    whole = whole.where(np.argsort(whole.times, kind="stable"))
    again = np.diff(whole.times, prepend=-np.inf) <= 0
    notes.add("{} readings are left out: another one has their time", int(again.sum()))
    whole = whole.where(~again)
    if own.window.every > 1:
        whole = whole.where(np.arange(0, len(whole), own.window.every))
    return whole
