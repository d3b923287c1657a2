"""A Flux query together with the shape of its answer. Pure.

Grafana's InfluxDB data source makes one frame of each Flux table: columns of the group key become
labels of the values, and the other columns stay columns. A query therefore ends by keeping exactly
the columns that it promises:

- `series`: one frame per set of labels, with `_time` and one number, `_value`;
- `states`: the same with a text, for a timeline;
- `table`: one frame without labels, columns by name and type;
- `annotations`: the same with a time and a text;
- `choices`: one text column `_value`, for a template variable.

A test runs every query against InfluxDB and compares the answer with its shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dashboards.queries.flux import names, pipe

__all__ = [
    "MAX_ANNOTATIONS",
    "MAX_ROWS",
    "ColumnType",
    "Kind",
    "Query",
    "Shape",
    "per_series",
    "table",
]

Kind = Literal["series", "states", "table", "annotations", "choices"]
ColumnType = Literal["time", "float", "int", "text"]


MAX_ROWS = 500
"""Maximum rows of a table; Grafana refuses answers with many more rows than pixels."""

MAX_ANNOTATIONS = 100
"""Maximum annotations in a chart, as Grafana limits them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The answer of a query, as Grafana sees it.

    Attributes:
        kind: Kind of answer, as the module describes.
        columns: Types of the columns that are not labels, by name, in any order.
        labels: Labels of every series: the group key.
        may_be_empty: True if a healthy site may have no such row (dead letters, refusals).
    """

    kind: Kind
    columns: Mapping[str, ColumnType]
    labels: tuple[str, ...] = ()
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One Flux query.

    Attributes:
        name: Name, unique among all queries; for tests and messages.
        flux: Text, with the variables that Grafana fills in.
        shape: Shape of the answer.
    """

    name: str
    flux: str
    shape: Shape = field(repr=False)


def per_series(
    name: str,
    stages: Iterable[str],
    labels: Sequence[str],
    value: ColumnType = "float",
    *,
    head: str = "",
    may_be_empty: bool = False,
) -> Query:
    """A query whose stages end in `_time` and `_value`: one series per set of label values."""
    flux = head + pipe(
        stages,
        f"group(columns: {names(labels)})",
        f"keep(columns: {names(['_time', '_value', *labels])})",
        'sort(columns: ["_time"])',
    )
    kind: Kind = "states" if value == "text" else "series"
    shape = Shape(kind, {"_time": "time", "_value": value}, tuple(labels), may_be_empty)
    return Query(name, flux, shape)


def table(
    name: str,
    stages: Iterable[str],
    columns: Mapping[str, ColumnType],
    *,
    sort: Sequence[str] = (),
    descending: bool = False,
    limit: int = MAX_ROWS,
    kind: Literal["table", "annotations"] = "table",
    head: str = "",
    may_be_empty: bool = False,
) -> Query:
    """A query whose stages end in these columns: one sorted table.

    It keeps the first `limit` rows; of annotations, which are sorted by time, it keeps the last.
    """
    order = ", desc: true" if descending else ""
    ending = ["group()", f"keep(columns: {names(columns)})"]
    if sort:
        ending.append(f"sort(columns: {names(sort)}{order})")
    ending.append(f"tail(n: {MAX_ANNOTATIONS})" if kind == "annotations" else f"limit(n: {limit})")
    return Query(name, head + pipe(stages, *ending), Shape(kind, columns, (), may_be_empty))
