"""Named columns of CSV, Parquet and HDF5 files: one form, one check of numbers, for all of them.

A description of own data names the columns it needs, as text or as numbers. What the file is, its
first bytes say:

- **CSV** with or without a header, separated by any character or by blanks (C-MAPSS text).
- **Parquet**, as `kpstream record` and pandas write it. Times become epoch milliseconds.
- **HDF5** whose data sets have one row per reading, such as N-CMAPSS: the columns of `X_s_dev` are
  named by `X_s_var`, and `part` chooses `dev` or `test`. The virtual sensors and health parameters
  of N-CMAPSS (`X_v`, `T`) are left out, because no engine measures them.

A number is finite and fits float32, or its cell is one of the words that mean "missing" (in Parquet
and HDF5 also null and NaN) and it becomes NaN. All columns that are missing or wrong are told at
once, with file, line and column.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RecordingError
from ingest.extras import install_command
from ingest.recordings.tables import LARGEST, decode, parse_number
from ingest.secrettext import error_text

__all__ = ["Columns", "Notation", "column_names", "read_columns"]

_MOST_FAULTS = 20
_N_CMAPSS = {"W_var", "X_s_var", "X_v_var", "T_var"}
_SIMULATED = ("X_v", "T")
_SIGNS = {"parquet": b"PAR1", "hdf5": b"\x89HDF\r\n\x1a\n"}
_ENDINGS = {".parquet": "Parquet", ".h5": "HDF5", ".hdf5": "HDF5"}


@dataclass(frozen=True, slots=True)
class Notation:
    """How text files are written; Parquet and HDF5 say it themselves.

    Attributes:
        separator: Character between the cells; a blank means any number of blanks.
        decimal: `.` or `,`.
        encoding: Encoding of the text.
        missing: Cells that hold no reading.
        header: Names of the columns of files without a header line; empty for files with one.
    """

    separator: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    header: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of one file, all of the same length.

    Attributes:
        rows: Number of rows.
        texts: Cells by column, without blanks around them; "" where there is none.
        numbers: float64 `[rows]` by column; NaN where a reading is missing.
    """

    rows: int
    texts: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]


def column_names(
    content: bytes, name: str, notation: Notation | None = None, part: str = ""
) -> tuple[str, ...]:
    """Return the names of the columns in the order of the file.

    Raises:
        RecordingError: The file cannot be read.
    """
    return tuple(_open(content, name, notation or Notation(), part).names)


def read_columns(
    content: bytes,
    name: str,
    *,
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
    notation: Notation | None = None,
    part: str = "",
    most_rows: int | None = None,
) -> Columns:
    """Read columns of a file.

    Args:
        content: The file.
        name: Its name, for messages.
        texts: Columns to read as text.
        numbers: Columns to read as numbers.
        notation: How a text file is written.
        part: Ending of the data sets of an HDF5 file, such as `dev`; "" for its only part.
        most_rows: Read only so many rows, for a look at the file.

    Raises:
        RecordingError: The file cannot be read, or columns are missing, there twice or hold
            something else; one line of the message for each column.
    """
    table = _open(content, name, notation or Notation(), part)
    wanted = list(dict.fromkeys([*texts, *numbers]))
    faults = [
        f"{name}: there is no column {one!r}, only {_listed(table.names)}"
        if one not in table.names
        else f"{name}: two columns are named {one!r}: rename or remove one"
        for one in wanted
        if table.names.count(one) != 1
    ]
    if faults:
        raise RecordingError("\n".join(faults))
    return table.read(texts, numbers, most_rows)


def _open(content: bytes, name: str, notation: Notation, part: str) -> _Text | _Parquet | _Hdf5:
    if content.startswith(_SIGNS["parquet"]):
        return _Parquet(content, name)
    if content.startswith(_SIGNS["hdf5"]):
        return _Hdf5(content, name, part)
    for ending, kind in _ENDINGS.items():
        if name.lower().endswith(ending):
            msg = (
                f"{name} does not begin as {kind} does: copy or export it again, or name it .csv "
                "if it is text"
            )
            raise RecordingError(msg)
    return _Text(content, name, notation)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one) for one in names[:_MOST_FAULTS])
    return shown + (f" and {len(names) - _MOST_FAULTS} more" if len(names) > _MOST_FAULTS else "")


class _Text:
    """A CSV file, or a table separated by blanks."""

    def __init__(self, content: bytes, name: str, notation: Notation) -> None:
        self._name, self._notation = name, notation
        text = decode(content, name, notation.encoding).removeprefix("\ufeff")
        self._lines = self._cells(text)
        first = next(self._lines, None)
        if first is None:
            msg = f"{name} is empty: copy or export it again"
            raise RecordingError(msg)
        self.names = list(notation.header) or first[1]
        if notation.header:
            self._lines = self._cells(text)

    def _cells(self, text: str) -> Iterator[tuple[int, list[str]]]:
        """Yield number and cells of every line that is not empty."""
        if self._notation.separator.isspace() and self._notation.separator != "\t":
            for number, line in enumerate(text.splitlines(), start=1):
                if cells := line.split():
                    yield number, cells
            return
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=self._notation.separator)
        try:
            for row in rows:
                if row and (len(row) > 1 or row[0].strip()):
                    yield rows.line_num, [cell.strip() for cell in row]
        except csv.Error as exc:
            msg = (
                f"{self._name}, line {rows.line_num}, is not CSV: {error_text(exc)}: correct the "
                "line, or separator or encoding in the description"
            )
            raise RecordingError(msg) from exc

    def read(self, texts: Sequence[str], numbers: Sequence[str], most_rows: int | None) -> Columns:
        text_cells: dict[str, list[str]] = {one: [] for one in texts}
        values = {one: array("d") for one in numbers}
        faults = _Faults(self._name)
        missing = frozenset(self._notation.missing)
        as_text = [(self.names.index(one), text_cells[one]) for one in texts]
        as_number = [(self.names.index(one), values[one], one) for one in numbers]
        rows = 0
        for number, cells in self._lines:
            if len(cells) != len(self.names):
                faults.add(
                    "line",
                    f"line {number}: it has {len(cells)} cells, expected {len(self.names)}: "
                    "correct the line, or separator or header in the description",
                )
                continue
            rows += 1
            for place, found in as_text:
                cell = cells[place]
                found.append("" if cell in missing else cell)
            for place, column, one in as_number:
                cell = cells[place]
                if cell in missing:
                    column.append(np.nan)
                    continue
                try:
                    column.append(_parse(cell, self._notation.decimal))
                except ValueError:
                    column.append(np.nan)
                    faults.add(
                        one,
                        f"line {number}, column {one!r}: {cell[:40]!r} is not a finite number of "
                        f"single precision with the decimal sign {self._notation.decimal!r}: "
                        "correct it, or add it to missing in the description",
                    )
            if rows == most_rows:
                break
        faults.check(rows)
        return Columns(rows, text_cells, {one: np.array(values[one]) for one in values})


def _parse(cell: str, decimal: str) -> float:
    if decimal == ".":
        return parse_number(cell)
    if "." in cell:  # a sign between thousands, such as in 1.234,5
        raise ValueError(cell)
    return parse_number(cell.replace(decimal, "."))


class _Parquet:
    """A Parquet file."""

    def __init__(self, content: bytes, name: str) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as exc:
            msg = f"{name} is Parquet, which needs pyarrow: run {install_command('record')}"
            raise RecordingError(msg) from exc
        self._name, self._arrow = name, arrow
        self._damage = (arrow.ArrowException, OSError, ValueError)
        try:
            self._file = parquet.ParquetFile(arrow.BufferReader(content))
        except self._damage as exc:
            raise _damaged(name, exc) from exc
        self.names = list(self._file.schema_arrow.names)

    def read(self, texts: Sequence[str], numbers: Sequence[str], most_rows: int | None) -> Columns:
        wanted = list(dict.fromkeys([*texts, *numbers]))
        try:
            table = self._file.read(columns=wanted)
        except self._damage as exc:
            raise _damaged(self._name, exc) from exc
        table = table if most_rows is None else table.slice(0, most_rows)
        faults = _Faults(self._name)
        text_cells = {one: [_text(cell) for cell in table[one].to_pylist()] for one in texts}
        values = {one: self._numbers(table[one], one, faults) for one in numbers}
        faults.check(len(table))
        return Columns(len(table), text_cells, values)

    def _numbers(self, column: Any, name: str, faults: _Faults) -> NDArray[np.float64]:
        kinds, kind = self._arrow.types, column.type
        if kinds.is_timestamp(kind):
            column = column.cast(self._arrow.timestamp("ms", kind.tz), safe=False)
            column = column.cast(self._arrow.int64())
        elif not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
            faults.add(name, f"column {name!r} is {kind}, expected numbers")
            return np.full(len(column), np.nan)
        values = column.cast(self._arrow.float64(), safe=False)
        return _checked(values.to_numpy(), name, faults)


class _Hdf5:
    """An HDF5 file whose data sets have one row per reading."""

    def __init__(self, content: bytes, name: str, part: str) -> None:
        try:
            import h5py
        except ImportError as exc:
            msg = f"{name} is HDF5, which needs h5py: run {install_command('training')}"
            raise RecordingError(msg) from exc
        self._name = name
        try:
            self._file = h5py.File(io.BytesIO(content), "r")
            self._places = dict(self._find(part))
        except (OSError, ValueError, RuntimeError, KeyError) as exc:
            raise _damaged(name, exc) from exc
        self.names = list(self._places)
        if not self._places:
            ends = sorted({one.rpartition("_")[2] for one in self._file if "_" in one} - {"var"})
            choice = f"; its data sets end in {', '.join(ends)}" if ends else ""
            msg = f"{name} has no data sets of the part {part!r} with one row per reading{choice}"
            raise RecordingError(msg)

    def _find(self, part: str) -> Iterator[tuple[str, tuple[str, int | None]]]:
        """Yield name, data set and place of every column."""
        left_out = _SIMULATED if set(self._file) >= _N_CMAPSS else ()
        for key, data in self._file.items():
            if key.rpartition("_")[0] in left_out:
                continue
            if not hasattr(data, "shape") or data.ndim not in (1, 2):
                continue
            word, _, end = key.rpartition("_")
            if end == "var" or (part and end != part):
                continue
            word = word if part else key
            if data.ndim == 1:
                yield word, (key, None)
            else:
                for place, column in enumerate(self._variables(word, data.shape[1])):
                    yield column, (key, place)

    def _variables(self, word: str, count: int) -> list[str]:
        if f"{word}_var" in self._file:
            cells = np.ravel(self._file[f"{word}_var"][()])
            names = [one.decode() if isinstance(one, bytes) else str(one) for one in cells]
            if len(names) == count:
                return names
        return [word] if count == 1 else [f"{word}_{place}" for place in range(count)]

    def read(self, texts: Sequence[str], numbers: Sequence[str], most_rows: int | None) -> Columns:
        faults = _Faults(self._name)
        found = {one: self._column(one, most_rows) for one in dict.fromkeys([*texts, *numbers])}
        rows = {len(values) for values in found.values()}
        if len(rows) > 1:
            sizes = ", ".join(f"{one} {len(values)}" for one, values in found.items())
            faults.add("rows", f"the columns have different numbers of rows: {sizes}")
            faults.check(1)
        text_cells = {one: [_text(cell) for cell in found[one]] for one in texts}
        values = {}
        for one in numbers:
            if found[one].dtype.kind not in "iufb":
                faults.add(one, f"column {one!r} is {found[one].dtype}, expected numbers")
                continue
            values[one] = _checked(found[one].astype(np.float64), one, faults)
        faults.check(max(rows))
        return Columns(max(rows), text_cells, values)

    def _column(self, name: str, most_rows: int | None) -> NDArray[Any]:
        key, place = self._places[name]
        rows = slice(0, most_rows)
        try:
            data = self._file[key]
            return np.asarray(data[rows] if place is None else data[rows, place])
        except (OSError, ValueError, RuntimeError, KeyError) as exc:
            raise _damaged(self._name, exc) from exc


def _text(cell: Any) -> str:
    """Write a cell as text: 7.0 is `7`, because files keep numbers of engines as floats."""
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip()
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _checked(values: NDArray[np.float64], column: str, faults: _Faults) -> NDArray[np.float64]:
    """Tell the first number that is infinite or beyond float32; NaN is a missing reading."""
    wrong = np.abs(values) > LARGEST
    if wrong.any():
        row = int(np.argmax(wrong))
        faults.add(
            column,
            f"row {row + 1}, column {column!r}: {values[row]} is not a finite number of single "
            "precision: correct it",
            count=int(wrong.sum()),
        )
    return values


def _damaged(name: str, exc: Exception) -> RecordingError:
    return RecordingError(
        f"{name} is damaged or incomplete ({error_text(exc)}): copy or export it again"
    )


class _Faults:
    """The first fault of every column of one file, and how many more there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, column: str, text: str, count: int = 1) -> None:
        self._first.setdefault(column, text)
        self._counts[column] = self._counts.get(column, 0) + count

    def check(self, rows: int) -> None:
        """Raise all faults at once, or say that there is no row.

        Raises:
            RecordingError: There are faults, or no row.
        """
        if not self._first:
            if rows:
                return
            msg = f"{self._name} has no line of readings: copy or export it again"
            raise RecordingError(msg)
        lines = []
        for column, text in list(self._first.items())[:_MOST_FAULTS]:
            more = self._counts[column] - 1
            lines.append(f"{self._name}, {text}" + (f" ({more} more like it)" if more else ""))
        raise RecordingError("\n".join(lines))
