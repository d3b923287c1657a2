"""What a Flux query of a board or an alert is, and the queries that fill template variables. Pure.

A `Query` is its text together with the `Shape` of its answer as Grafana will see it. Grafana's
InfluxDB data source makes a frame of every Flux table: columns of the group key become labels of
the values, the others become columns. A query therefore ends by keeping exactly what it gives:

- `series`: a frame per label set with `_time` and one number, `_value`;
- `states`: the same with a text, for a timeline;
- `table`: one frame without labels, columns by name and type;
- `marks`: the same with a time and a text, for annotations;
- `choices`: one column `_value` of text, for a template variable.

The scores' queries are in `dashboards.queries.scores`, those of the accounts in
`dashboards.queries.line`, the alerts' in `dashboards.queries.alerts`. A test runs every one of them
against InfluxDB and compares the answer with its shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dashboards.queries.flux import BUCKET, START, Where, names, pipe, text
from pipeline.points.points import ACTIVITY, DEVICE, RUL, Measurement

__all__ = [
    "DEVICES",
    "MAX_ANNOTATIONS",
    "MAX_ROWS",
    "MODELS",
    "SITES",
    "STREAMS",
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
"""Rows of a table: Grafana refuses an answer with more rows than a panel has pixels, or so."""
MAX_ANNOTATIONS = 100
"""Marks in a chart: Grafana's own limit for annotations."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a query gives, as Grafana sees it.

    Attributes:
        kind: see the module.
        columns: name -> type of the columns that are no labels, in any order.
        labels: the group key: names of the labels of every series.
        may_be_empty: True when a healthy site has no row of it (dead letters, refusals).
    """

    kind: Kind
    columns: Mapping[str, ColumnType]
    labels: tuple[str, ...] = ()
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """One Flux query.

    Attributes:
        name: unique among all queries; for tests and messages.
        flux: the text, with the words and variables that Grafana fills in.
        gives: the answer's shape.
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
    """A query whose stages end in `_time` and `_value`: a series per value of the labels."""
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
    """A query whose stages end in these columns: one table, sorted, the first rows of it.

    Of marks, which are sorted by time, the last ones.
    """
    order = ", desc: true" if descending else ""
    ending = ["group()", f"keep(columns: {names(columns)})"]
    if sort:
        ending.append(f"sort(columns: {names(sort)}{order})")
    ending.append(f"tail(n: {MAX_ANNOTATIONS})" if kind == "annotations" else f"limit(n: {limit})")
    return Query(name, head + pipe(stages, *ending), Shape(kind, columns, (), may_be_empty))


def _choices(name: str, tag: str, measurements: Sequence[Measurement], *where: Where) -> Query:
    conditions = " or ".join(f"r._measurement == {text(m.name)}" for m in measurements)
    predicate = " and ".join([f"({conditions})", *(condition.flux for condition in where)])
    flux = (
        'import "influxdata/influxdb/schema"\n\n'
        f"schema.tagValues(bucket: {BUCKET}, tag: {text(tag)}, start: {START},\n"
        f"  predicate: (r) => {predicate})"
    )
    return Query(name, flux, Shape("choices", {"_value": "text"}))


_SEEN = (DEVICE, RUL, ACTIVITY)
_SCORED = (RUL, ACTIVITY)

SITES = _choices("sites", "site", _SEEN)
DEVICES = _choices("devices", "device", _SEEN, Where.selected("site"))
STREAMS = _choices("streams", "stream", _SEEN, Where.selected("site"), Where.selected("device"))
MODELS = _choices("models", "model", _SCORED)
