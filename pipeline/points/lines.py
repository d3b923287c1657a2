"""InfluxDB's line protocol: points as lines. Pure."""

from __future__ import annotations

from functools import lru_cache

from pipeline.points.points import FieldValue, Point

__all__ = ["escape_name", "quote_text", "series_key", "to_line"]

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
