"""Text of Flux queries, put together safely: literals, template variables, reads. Pure.

A query of a board holds three kinds of names, and each is made in one place:

- Measurements, tags and fields come from the tables of `pipeline.points` and `models.tasks`; `read`
  refuses one that is not stored.
- Values selected on the board are template variables. Grafana fills them in as an escaped regular
  expression (`Where.selected`), so a value cannot end the expression around it.
- Everything else is a literal (`text`), escaped as Flux requires.

Time range, bucket and step are variables that Grafana's InfluxDB data source replaces
(`v.timeRangeStart`, `v.timeRangeStop`, `v.defaultBucket`, `v.windowPeriod`). There is no `now()`,
because a query over a past range has to answer for that range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.tasks.classes import PROBABILITY_PREFIX
from pipeline.points.measurements import Measurement

__all__ = [
    "BUCKET",
    "START",
    "STEP",
    "STOP",
    "FluxError",
    "Where",
    "is_of",
    "names",
    "pipe",
    "read",
    "text",
]

BUCKET = "v.defaultBucket"
"""Default bucket of the data source."""

START = "v.timeRangeStart"
"""Start of the board's time range."""

STOP = "v.timeRangeStop"
"""End of the board's time range."""

STEP = "v.windowPeriod"
"""Time covered by about one pixel; Grafana derives it from the time range and the width of the
panel."""


class FluxError(ValueError):
    """A query names a field or tag that is not stored, or cannot be written as Flux."""


def text(value: str) -> str:
    r"""A Flux string literal.

    Raises:
        FluxError: The value contains a character that is not printable; no stored name does.

    >>> print(text('say "${x}"'))
    "say \"\${x}\""
    """
    if not value.isprintable():
        msg = f"{value!r} contains a character that is not printable; Flux texts must not"
        raise FluxError(msg)
    return '"' + value.replace("\\", r"\\").replace('"', r"\"").replace("${", r"\${") + '"'


def names(values: Iterable[str]) -> str:
    """A Flux list of string literals.

    >>> names(["site", "device"])
    '["site", "device"]'
    """
    return "[" + ", ".join(map(text, values)) + "]"


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on rows: an expression of Flux over `r`.

    Attributes:
        flux: The expression.
        tag: Tag that it compares, so that `read` can check it; None for none.

    >>> Where.selected("site").flux
    'r.site =~ /^${site:regex}$/'
    """

    flux: str
    tag: str | None = None

    @classmethod
    def selected(cls, tag: str) -> Where:
        """Rows whose tag has a value selected in the template variable of the same name."""
        return cls(f"r.{tag} =~ /^${{{tag}:regex}}$/", tag)

    @classmethod
    def equal(cls, tag: str, value: str) -> Where:
        """Rows whose tag has this value."""
        return cls(f"r.{tag} == {text(value)}", tag)


def read(
    measurement: Measurement,
    fields: Sequence[str],
    *where: Where,
    bucket: str = BUCKET,
) -> list[str]:
    """First stages of a query: fields of a measurement within the time range.

    Args:
        measurement: Measurement to read.
        fields: Names of its fields; `PROBABILITY_PREFIX` stands for the field of every class.
        where: Conditions, all of which must hold.
        bucket: Bucket as a Flux expression, such as `text("name")`.

    Raises:
        FluxError: The measurement has no such field or tag.
    """
    for name in fields:
        known = [field.name for field in measurement.fields]
        _require_known(name, known, f"field of {measurement.name}")
    for condition in where:
        if condition.tag is not None:
            _require_known(condition.tag, measurement.tags, f"tag of {measurement.name}")
    stages = [
        f"from(bucket: {bucket})",
        f"range(start: {START}, stop: {STOP})",
        f"filter(fn: (r) => {is_of(measurement)})",
        f"filter(fn: (r) => {' or '.join(map(_is_field, fields))})",
    ]
    return stages + [f"filter(fn: (r) => {condition.flux})" for condition in where]


def is_of(measurement: Measurement) -> str:
    """The condition for rows of a measurement."""
    return f"r._measurement == {text(measurement.name)}"


def pipe(stages: Iterable[str], *more: str) -> str:
    """Join stages with the pipe operator, one stage per line."""
    return "\n  |> ".join([*stages, *more])


def _is_field(name: str) -> str:
    if name == PROBABILITY_PREFIX:
        return f"r._field =~ /^{PROBABILITY_PREFIX}/"
    return f"r._field == {text(name)}"


def _require_known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        msg = f"{name!r} is not a {what}; use one of {', '.join(known)}"
        raise FluxError(msg)
