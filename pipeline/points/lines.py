"""InfluxDB's line protocol: points as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from pipeline.points.pointblocks import PointBlock
from pipeline.points.points import FieldValue, Point

__all__ = ["block_lines", "escape_name", "lines_of", "quote_text", "series_key", "to_line"]

_NAME_ESCAPES = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_MEASUREMENT_ESCAPES = str.maketrans({",": r"\,", " ": r"\ "})
_TEXT_ESCAPES = str.maketrans({'"': r"\"", "\\": r"\\"})


def to_line(point: Point) -> str:
    r"""The point in line protocol, tags and fields sorted by name; cannot fail.

    >>> to_line(Point("rul", (("site", "plant 7"),), (("rul", 95.0), ("version", 3)), 17))
    'rul,site=plant\\ 7 rul=95,version=3i 17'
    """
    fields = ",".join(
        [f"{escape_name(name)}={_field_value(value)}" for name, value in sorted(point.fields)]
    )
    return f"{series_key(point.measurement, point.tags)} {fields} {point.time_ns}"


def lines_of(points: Iterable[Point | PointBlock]) -> Iterator[str]:
    """The lines of single points and of blocks, in order."""
    for item in points:
        if isinstance(item, PointBlock):
            yield from block_lines(item)
        else:
            yield to_line(item)


def block_lines(block: PointBlock) -> list[str]:
    """The points of a block as lines; those of `to_line`, but whole floats keep their `.0`.

    A store does this a thousand times a second, so a line is filled into a template.
    """
    kinds = tuple(type(column[0]) for column in block.columns)
    template, order = _template(block.names, kinds)
    series = [_series(block.measurement, block.tag_names, tags) for tags in block.tags]
    columns = [
        map(quote_text, block.columns[place]) if kinds[place] is str else block.columns[place]
        for place in order
    ]
    return [template % row for row in zip(series, *columns, block.time_ms, strict=True)]


@lru_cache(maxsize=256)
def _template(names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[str, tuple[int, ...]]:
    """A line with holes for series, fields and time; and the places of the fields, by name."""
    order = tuple(sorted(range(len(names)), key=names.__getitem__))
    holes = [
        f"{escape_name(names[place]).replace('%', '%%')}=%s{'i' if kinds[place] is int else ''}"
        for place in order
    ]
    return f"%s {','.join(holes)} %s000000", order


@lru_cache(maxsize=65_536)
def _series(measurement: str, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return series_key(measurement, tuple(zip(names, values, strict=True)))


@lru_cache(maxsize=16_384)
def series_key(measurement: str, tags: tuple[tuple[str, str], ...]) -> str:
    """Measurement and tags, the beginning of a line; cached, because a series repeats them.

    >>> series_key("rul", (("site", "b"), ("device", "a")))
    'rul,device=a,site=b'
    """
    pairs = (f",{escape_name(name)}={_tag_value(text)}" for name, text in sorted(tags))
    return measurement.translate(_MEASUREMENT_ESCAPES) + "".join(pairs)


@lru_cache(maxsize=1024)
def escape_name(name: str) -> str:
    """The name of a tag or field as a line holds it."""
    return name.translate(_NAME_ESCAPES)


@lru_cache(maxsize=1024)
def quote_text(text: str) -> str:
    """The value of a text field as a line holds it; cached, so for texts that recur."""
    return f'"{text.translate(_TEXT_ESCAPES)}"'


def _tag_value(text: str) -> str:
    escaped = text.translate(_NAME_ESCAPES)
    # A backslash at the end would escape the next character, so InfluxDB's client appends a blank.
    return escaped + " " if escaped.endswith("\\") else escaped


def _field_value(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return f'"{value.translate(_TEXT_ESCAPES)}"'
