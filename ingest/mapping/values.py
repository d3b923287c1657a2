"""The number of a channel, from whatever a device sends for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ingest.mapping.errors import ValueFault
from ingest.payloads import MAX_FLOAT32

__all__ = ["Converter", "converter"]

Converter = Callable[[Any], "float | None"]
"""Returns the number; None: the device says that it has no value; raises ValueFault."""

_POINT: Final = re.compile(
    r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?", re.ASCII
)
_COMMA: Final = re.compile(_POINT.pattern.replace(r"\.", ","), re.ASCII)


def converter(
    scale: float = 1.0,
    offset: float = 0.0,
    *,
    values: Mapping[str, float] | None = None,
    text: bool = False,
    decimal: str = ".",
    missing: frozenset[str] = frozenset(),
) -> Converter:
    """Return the function that reads one value.

    | value | number |
    |---|---|
    | number | itself |
    | true, false | 1, 0 |
    | null, or a text of `missing` (an empty one from the caller) | None |
    | text | what `values` says; else a number with `text`; else a fault |
    | array, object, bytes, NaN, infinity | a fault |

    >>> converter(0.1, -40.0)(655), converter(values={"open": 1, "closed": 0})("open")
    (25.5, 1.0)
    >>> converter(text=True, decimal=",")("23,4")
    23.4

    Args:
        scale: The number is `value * scale + offset`.
        offset: See `scale`.
        values: Number of each text; every other value is a fault. Numbers and booleans are looked
            up as text, too (`1`, `true`).
        text: Numbers may come as text.
        decimal: Decimal sign of such a text.
        missing: Texts that say that there is no value.
    """
    pattern = _COMMA if decimal == "," else _POINT

    def convert(value: Any) -> float | None:
        kind = type(value)
        if value is None or (kind is str and value.strip() in missing):
            return None
        if values is not None:
            return _looked_up(value, values)
        if kind is str:
            if not text:
                msg = f"{value[:40]!r} is text: set text = true if it is a number, or give values"
                raise ValueFault(msg)
            stripped = value.strip()
            if pattern.fullmatch(stripped) is None:
                msg = f"{value[:40]!r} is not a number with the decimal sign {decimal!r}"
                raise ValueFault(msg)
            value = float(stripped.replace(",", "."))
        elif kind is not float and kind is not int and kind is not bool:
            msg = f"{_kind(value)} is not a number"
            raise ValueFault(msg)
        try:
            number = value * scale + offset
        except OverflowError:
            number = math.inf
        if not -MAX_FLOAT32 <= number <= MAX_FLOAT32:
            msg = "the number has no finite float32"
            raise ValueFault(msg)
        return float(number)

    return convert


def _looked_up(value: Any, values: Mapping[str, float]) -> float:
    kind = type(value)
    if kind is bool:
        key = "true" if value else "false"
    elif kind is str:
        key = value.strip()
    elif kind is int and abs(value) < 10**18:
        key = str(value)
    else:
        msg = f"{_kind(value)} is not a text; values has {', '.join(values)[:80]}"
        raise ValueFault(msg)
    try:
        return float(values[key])
    except KeyError:
        msg = f"{key[:40]!r} is not in values, which has {', '.join(values)[:80]}"
        raise ValueFault(msg) from None


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        dict: "an object",
        list: "an array",
        bytes: "a byte string",
        int: "an integer",
    }
    return names.get(type(value), f"a {type(value).__name__}")
