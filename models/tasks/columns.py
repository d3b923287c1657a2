"""Columns: the scores of a batch, field by field instead of window by window. Pure.

A column is one of

1. an array or a list, with one value a window along its first axis;
2. an object of columns, by label or channel;
3. any other value, which then holds for all windows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column", "Columns", "row_of", "take"]

Column = Any
Columns = Mapping[str, Column]


def row_of(columns: Columns, row: int) -> dict[str, Any]:
    """The fields of one window, as plain data.

    >>> row_of({"rul": np.float32([1.5, 2.5]), "unit": "h", "p": {"a": [0.25, 0.75]}}, 1)
    {'rul': 2.5, 'unit': 'h', 'p': {'a': 0.75}}
    """
    return {name: _value(column, row) for name, column in columns.items()}


def take(column: Column, rows: slice | NDArray[np.intp]) -> Column:
    """The column of some windows, in the order of `rows`.

    >>> take({"a": [1, 2, 3], "b": "same"}, np.array([2, 0]))
    {'a': [3, 1], 'b': 'same'}
    """
    if isinstance(column, np.ndarray):
        return column[rows]
    if isinstance(column, list):
        return column[rows] if isinstance(rows, slice) else [column[row] for row in rows.tolist()]
    if isinstance(column, dict):
        return {name: take(part, rows) for name, part in column.items()}
    return column


def _value(column: Column, row: int) -> Any:
    if isinstance(column, np.ndarray):
        return column[row].tolist()
    if isinstance(column, list):
        return column[row]
    if isinstance(column, dict):
        return {name: _value(part, row) for name, part in column.items()}
    return column
