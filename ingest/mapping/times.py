"""Event times: the forms in which devices write them, as epoch milliseconds.

| form | the value | example |
|---|---|---|
| `epoch-s`, `epoch-ms`, `epoch-us`, `epoch-ns` | number, or number as text | `1700000000.25` |
| `iso8601` | date and time; offset, `Z`, or `zone` | `2023-11-14T22:13:20+00:00` |
| `strptime` | text of `format`; with `%z` in it, or `zone` | `14.11.2023 23:13:20` |
| `offset-s` ... `offset-ns` | number, from a base | `20` |

Times are rounded to the nearest millisecond. A local time that a zone has twice is its first; one
that it skips is read with the offset before the jump.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from typing import Any, Final
from zoneinfo import ZoneInfo

__all__ = ["EPOCH_FORMS", "MAX_MS", "OFFSET_FORMS", "TimeForm", "parse_zone", "time_reader"]

EPOCH_FORMS: Final = {"epoch-s": 1, "epoch-ms": 10**3, "epoch-us": 10**6, "epoch-ns": 10**9}
"""Form -> units per second."""
OFFSET_FORMS: Final = {form.replace("epoch", "offset"): per for form, per in EPOCH_FORMS.items()}
MAX_MS: Final = 2**53 - 1
"""Largest time or offset; larger ones are no times, and a float would round them."""

TimeForm = Callable[[Any], int]
"""Returns epoch ms (or ms of an offset) of a value; raises ValueError with what is wrong."""

_HALF: Final = Fraction(1, 2)
_MAX_FLOAT: Final = 1e25
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NUMBER: Final = re.compile(r"[+-]?\d{1,25}(?:\.\d{0,25})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_ISO: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)"
    r"[Tt _](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d{1,18}))?)?"
    r"\s?([Zz]|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_OFFSET: Final = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)


def time_reader(form: str, format_: str | None = None, zone: str | None = None) -> TimeForm:
    """Return the function that reads times of a form.

    >>> time_reader("epoch-s")(1700000000.25), time_reader("epoch-us")("1700000000250000")
    (1700000000250, 1700000000250)
    >>> time_reader("iso8601")("2023-11-14T22:13:20.250Z")
    1700000000250
    >>> time_reader("strptime", "%d.%m.%Y %H:%M:%S", "Europe/Berlin")("14.11.2023 23:13:20")
    1700000000000

    Raises:
        ValueError: The zone is unknown.
    """
    if form in EPOCH_FORMS or form in OFFSET_FORMS:
        return _number_reader(EPOCH_FORMS.get(form) or OFFSET_FORMS[form])
    place = None if zone is None else parse_zone(zone)
    if form == "iso8601":
        return lambda value: _iso_ms(value, place)
    return lambda value: _strptime_ms(value, str(format_), place)


def parse_zone(name: str) -> tzinfo:
    """Return a zone by name (`Europe/Berlin`, `UTC`) or by offset (`+02:00`).

    Raises:
        ValueError: There is no such zone; the message says what to do.
    """
    if name in ("UTC", "Z"):
        return timezone.utc
    found = _OFFSET.fullmatch(name)
    if found is not None:
        return _fixed_zone(found)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as exc:
        raise ValueError(_zone_advice(name)) from exc


def _zone_advice(name: str) -> str:
    return (
        f"{name[:80]!r} is no known time zone: use a name like Europe/Berlin, UTC or +02:00; "
        "if the name is right, install the time zones (pip install tzdata)"
    )


def _number_reader(per_second: int) -> TimeForm:
    def read(value: Any) -> int:
        kind = type(value)
        if kind is str and _NUMBER.fullmatch(value.strip()):
            return _checked(math.floor(Fraction(value.strip()) * 1000 / per_second + _HALF))
        if kind is int:
            return _checked((value * 2000 + per_second) // (2 * per_second))
        if kind is float and abs(value) < _MAX_FLOAT:
            return _checked(math.floor(value * (1000 / per_second) + 0.5))
        msg = f"{_shown(value)} is not a number that can be a time"
        raise ValueError(msg)

    return read


def _checked(ms: int) -> int:
    if not -MAX_MS <= ms <= MAX_MS:
        msg = "the number is too large for a time"
        raise ValueError(msg)
    return ms


def _iso_ms(value: Any, zone: tzinfo | None) -> int:
    found = _ISO.fullmatch(value.strip()) if type(value) is str and len(value) < 80 else None
    if found is None:
        msg = f"{_shown(value)} is not ISO 8601 like 2023-11-14T22:13:20.250Z"
        raise ValueError(msg)
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    place = zone
    if offset is not None:
        place = timezone.utc if offset in "Zz" else _fixed_zone(_OFFSET.fullmatch(offset))
    if place is None:
        msg = f"{_shown(value)} has no offset: give the zone of the device in [time], zone"
        raise ValueError(msg)
    seconds = int(second or 0)
    is_leap = seconds == 60
    moment = datetime(
        int(year), int(month), int(day), int(hour), int(minute), 59 if is_leap else seconds,
        tzinfo=place,
    )  # fmt: skip
    sub_ms = math.floor(Fraction(f"0.{fraction}") * 1000 + _HALF) if fraction else 0
    return _ms(moment) + 1000 * is_leap + sub_ms


def _strptime_ms(value: Any, format_: str, zone: tzinfo | None) -> int:
    if type(value) is not str or len(value) > 200:
        msg = f"{_shown(value)} is not a text of the format {format_!r}"
        raise ValueError(msg)
    try:
        moment = datetime.strptime(value.strip(), format_)  # noqa: DTZ007  # the zone follows
    except (ValueError, OverflowError) as exc:
        msg = f"{_shown(value)} is not a text of the format {format_!r}"
        raise ValueError(msg) from exc
    if moment.tzinfo is None:
        if zone is None:
            msg = f"{_shown(value)} has no offset: give the zone of the device in [time], zone"
            raise ValueError(msg)
        moment = moment.replace(tzinfo=zone)
    return _ms(moment)


def _fixed_zone(found: re.Match[str] | None) -> tzinfo:
    if found is None or int(found[2]) > 23 or int(found[3] or 0) > 59:
        msg = "the offset from UTC is not between -23:59 and +23:59"
        raise ValueError(msg)
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    return timezone(-offset if found[1] == "-" else offset)


def _ms(moment: datetime) -> int:
    """Return epoch ms, rounded to the nearest; OverflowError near the years 1 and 9999."""
    try:
        return ((moment - _EPOCH) // timedelta(microseconds=1) + 500) // 1000
    except OverflowError as exc:
        msg = f"{moment} is no time"
        raise ValueError(msg) from exc


def _shown(value: Any) -> str:
    return repr(value)[:80] if type(value) in (str, float, bool) else f"a {type(value).__name__}"
