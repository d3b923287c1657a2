"""Flux as text, put together safely: literals, template variables, reads of known fields. Pure.

A query of a board holds three kinds of names, and each is made here in one place:

- measurements, tags and fields come from the table in `pipeline.points.points`; one that is not in
it
  is refused when the query is built (`read`, `Where`);
- values chosen on the board are template variables, which Grafana fills in as an escaped regular
  expression (`Where.selected`), so that a name cannot end the expression it stands in;
- everything else is a literal (`text`), with Flux's own escapes.

Time range, bucket and step are the words Grafana's InfluxDB data source replaces
(`v.timeRangeStart`, `v.timeRangeStop`, `v.defaultBucket`, `v.windowPeriod`). There is no `now()`:
a query asked for a past range answers for that range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.points.points import PROBABILITY_PREFIX, Measurement

__all__ = ["BUCKET", "START", "STEP", "STOP", "FluxError", "Where", "names", "pipe", "read", "text"]

BUCKET = "v.defaultBucket"
"""The data source's bucket."""

START = "v.timeRangeStart"
"""Start of the board's time range."""

STOP = "v.timeRangeStop"
"""End of the board's time range."""

STEP = "v.windowPeriod"
"""The width of one pixel or so; Grafana chooses it from the range and the panel's width."""


class FluxError(ValueError):
    """A query that names what is not stored; the message says what is."""


def text(value: str) -> str:
    r"""A Flux string literal.

    Raises:
        FluxError: a control character, which no name of ours has.

    >>> print(text('say "${x}"'))
    "say \"\${x}\""
    """
    if not value.isprintable():
        msg = f"not printable: {value!r}"
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
    """A condition on rows, one line of Flux over `r`.

    >>> Where.selected("site").flux
    'r.site =~ /^${site:regex}$/'
    """

    flux: str
    tag: str | None = None

    @classmethod
    def selected(cls, tag: str, variable: str | None = None) -> Where:
        """Rows whose tag is among the values chosen for the template variable of that name."""
        return cls(f"r.{tag} =~ /^${{{variable or tag}:regex}}$/", tag)

    @classmethod
    def equal(cls, tag: str, value: str) -> Where:
        """Rows whose tag is this value."""
        return cls(f"r.{tag} == {text(value)}", tag)


def read(
    measurement: Measurement,
    fields: Sequence[str],
    *where: Where,
    bucket: str = BUCKET,
) -> list[str]:
    """The first stages of a query: these fields of a measurement, in the time range.

    `PROBABILITY_PREFIX` as a field stands for the field of every class. The bucket is a Flux
    expression: the data source's own, or the `text` of a name.

    Raises:
        FluxError: the measurement has no such field or tag.
    """
    for name in fields:
        _known(name, [field.name for field in measurement.fields], f"field of {measurement.name}")
    for condition in where:
        if condition.tag is not None:
            _known(condition.tag, measurement.tags, f"tag of {measurement.name}")
    stages = [
        f"from(bucket: {bucket})",
        f"range(start: {START}, stop: {STOP})",
        f"filter(fn: (r) => r._measurement == {text(measurement.name)})",
        f"filter(fn: (r) => {' or '.join(map(_is_field, fields))})",
    ]
    return stages + [f"filter(fn: (r) => {condition.flux})" for condition in where]


def pipe(stages: Iterable[str], *more: str) -> str:
    """Stages, one a line, as Flux is usually written."""
    return "\n  |> ".join([*stages, *more])


def _is_field(name: str) -> str:
    if name == PROBABILITY_PREFIX:
        return f"r._field =~ /^{PROBABILITY_PREFIX}/"
    return f"r._field == {text(name)}"


def _known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        msg = f"{name!r} is no {what}; there are {', '.join(known)}"
        raise FluxError(msg)
