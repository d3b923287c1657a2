"""Tables and arrays of numbers: the one check of what the files of recorded data hold.

Every number is finite and fits float32, unless the data set marks missing readings by a word of its
own. Labels, groups and other counts are whole numbers in a stated range; nothing is cut to one.
Messages name the file and, in texts, line and column.
"""

from __future__ import annotations

import csv
import io
import struct
import tokenize
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest.errors import RecordingError
from ingest.recordings.files import read_named_files
from ingest.secrettext import error_text

__all__ = [
    "LARGEST",
    "decode",
    "float32_array",
    "parse_csv",
    "parse_datetimes",
    "parse_number",
    "parse_table",
    "read_arrays",
    "whole_numbers",
]

LARGEST = float(np.finfo(np.float32).max)
"""Largest number that a reading may be; float32 has no larger one."""

_ARRAY_DAMAGE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RecursionError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
)


def decode(content: bytes, name: str, encoding: str = "utf-8") -> str:
    """Decode a text file.

    Raises:
        RecordingError: It has other bytes.
    """
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as exc:
        msg = f"{name} is not {encoding} text: {error_text(exc)}: copy or download it again"
        raise RecordingError(msg) from exc


def parse_number(cell: str) -> float:
    """Parse one finite number that fits float32.

    Raises:
        ValueError: It is none. `nan`, `inf`, `1e39` and `1_000` are none either.

    >>> parse_number(" 1.5e3 ")
    1500.0
    """
    value = float(cell)
    if "_" in cell or not cell.isascii() or not abs(value) <= LARGEST:
        raise ValueError(cell)
    return value


def parse_table(
    text: str,
    name: str,
    columns: int,
    *,
    delimiter: str | None = None,
    comments: str | None = None,
    first_line: int = 1,
) -> NDArray[np.float64]:
    """Parse a table without a header, `[rows, columns]`.

    Args:
        text: Lines of numbers.
        name: Name of the file, for messages.
        columns: Numbers in every line.
        delimiter: What separates them; None for blanks.
        comments: What begins a comment.
        first_line: Number of the first line in the file, for messages.

    Raises:
        RecordingError: A line has another number of cells, or one that is no number
            (`parse_number`), or there is no line.
    """
    if not text.strip():
        msg = f"{name} has no line with numbers: copy or download it again"
        raise RecordingError(msg)
    try:
        table = np.loadtxt(
            io.StringIO(text),
            dtype=np.float64,
            delimiter=delimiter,
            comments=comments,
            quotechar='"',
            ndmin=2,
        )
        if table.shape[1] == columns and (np.abs(table) <= LARGEST).all():
            return table
    except (ValueError, UserWarning) as exc:
        problem = error_text(exc)
    else:
        problem = f"it has {table.shape[1]} columns, expected {columns}"
    fault = _first_fault(text, columns, delimiter, comments, first_line)
    msg = f"{name}{fault or f' is not a table of numbers: {problem}'}: copy or download it again"
    raise RecordingError(msg)


def _first_fault(
    text: str, columns: int, delimiter: str | None, comments: str | None, first_line: int
) -> str:
    """Describe the first line that is wrong; "" if each one looks right."""
    for number, line in enumerate(text.splitlines(), start=first_line):
        kept = line.partition(comments)[0] if comments else line
        cells = kept.split(delimiter)
        if not kept.strip():
            continue
        if len(cells) != columns:
            return f", line {number}, has {len(cells)} values, expected {columns}"
        for column, cell in enumerate(cells, start=1):
            try:
                parse_number(cell.strip().strip('"'))
            except ValueError:
                return (
                    f", line {number}, column {column}: {cell.strip()[:40]!r} is not a finite "
                    "number of single precision"
                )
    return ""


def parse_csv(
    text: str, name: str, columns: Sequence[str] | None = None, *, missing: str = ""
) -> tuple[list[str], NDArray[np.float64]]:
    """Parse a CSV table with a header: the first column as text, the others as numbers.

    Args:
        text: Content of the file.
        name: Name of the file, for messages.
        columns: Names of the columns, which the header may have in any order; None for all.
        missing: Word that stands for a missing number, which becomes NaN; "" for none.

    Returns:
        Cells of the first column, and the numbers of the others, `[rows, columns - 1]`.

    Raises:
        RecordingError: A column is missing or there twice, a line has another number of cells than
            the header, or a cell is no number.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    again = "copy or download the file again"
    first, numbers = [], []
    try:
        head = next(lines, [])
        names = list(columns or head)
        if len(names) < 2:
            msg = f"{name}, line 1: expected the names of columns: {again}"
            raise RecordingError(msg)
        for one in names:
            if head.count(one) != 1:
                found = "there is no column" if one not in head else "two columns are named"
                msg = f"{name}, line 1: {found} {one!r}: {again}"
                raise RecordingError(msg)
        places = [head.index(one) for one in names]
        for row in lines:
            if len(row) != len(head):
                if not row:
                    continue
                msg = (
                    f"{name}, line {lines.line_num}: it has {len(row)} cells, but the header has "
                    f"{len(head)}: {again}"
                )
                raise RecordingError(msg)
            first.append(row[places[0]])
            for place in places[1:]:
                cell = row[place]
                try:
                    is_missing = cell == missing and missing != ""
                    numbers.append(np.nan if is_missing else parse_number(cell))
                except ValueError as exc:
                    msg = (
                        f"{name}, line {lines.line_num}, column {head[place]!r}: {cell[:40]!r} is "
                        f"not a finite number of single precision: {again}"
                    )
                    raise RecordingError(msg) from exc
    except csv.Error as exc:
        msg = f"{name}, line {lines.line_num}, is not CSV: {error_text(exc)}: {again}"
        raise RecordingError(msg) from exc
    if not first:
        msg = f"{name} has no line of numbers below its header: {again}"
        raise RecordingError(msg)
    return first, np.array(numbers).reshape(len(first), len(names) - 1)


def parse_datetimes(texts: Sequence[str], name: str) -> NDArray[np.int64]:
    """Parse times such as `2016-07-01 00:00:00` in UTC, as epoch milliseconds.

    Raises:
        RecordingError: A text is no such time.
    """
    times = []
    for number, text in enumerate(texts, start=1):
        try:
            moment = datetime.fromisoformat(text.strip())
            if moment.tzinfo is not None:
                raise ValueError(text)
        except ValueError as exc:
            msg = (
                f"{name}, reading {number}: {text[:40]!r} is no time such as 2016-07-01 00:00:00: "
                "copy or download the file again"
            )
            raise RecordingError(msg) from exc
        times.append(round(moment.replace(tzinfo=timezone.utc).timestamp() * 1000))
    return np.array(times, dtype=np.int64)


def whole_numbers(values: NDArray[Any], name: str, low: int, high: int) -> NDArray[np.int64]:
    """Return numbers `[n]` as int64 if all of them are whole and in a range.

    Raises:
        RecordingError: One is a fraction, not finite, no number, or out of the range.
    """
    problem = f"expected whole numbers from {low} to {high}: copy or download the file again"
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        msg = f"{name} are {values.dtype} {values.shape}; {problem}"
        raise RecordingError(msg)
    wrong = ~((values >= low) & (values <= high) & (values == np.floor(values)))
    if wrong.any():
        place = int(np.argmax(wrong))
        msg = f"{name}: number {place + 1} is {values[place]}; {problem}"
        raise RecordingError(msg)
    return values.astype(np.int64)


def float32_array(
    array: NDArray[Any], name: str, shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    """Return an array as float32 if it has this shape (None: any size from 1 on) and is finite.

    Raises:
        RecordingError: It has another shape or type, or a number is not finite in float32.
    """
    again = "copy or download the file again"
    fits = array.ndim == len(shape) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in "iuf":
        wanted = ", ".join("n" if size is None else str(size) for size in shape)
        msg = f"{name} is {array.dtype} {array.shape}, expected numbers [{wanted}]: {again}"
        raise RecordingError(msg)
    wrong = ~(np.abs(array) <= LARGEST)
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), array.shape)
        at = ", ".join(str(int(index)) for index in place)
        msg = f"{name}[{at}] is {array[place]}, which is no finite float32 number: {again}"
        raise RecordingError(msg)
    return array.astype(np.float32)


def read_arrays(path: Path, names: Sequence[str], what: str) -> dict[str, NDArray[Any]]:
    """Read arrays of an npz file by their names; nothing in it is run.

    Raises:
        RecordingError: The file is no npz, lacks an array, or is damaged.
    """
    files = read_named_files(path, [f"{name}.npy" for name in names], what, any_case=False)
    arrays = {}
    for name in names:
        content = io.BytesIO(files[f"{name}.npy"])
        try:
            arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
        except _ARRAY_DAMAGE as exc:
            msg = (
                f"{path}: the array {name} is damaged or holds objects ({error_text(exc)}): "
                "copy or download the file again"
            )
            raise RecordingError(msg) from exc
    return arrays
