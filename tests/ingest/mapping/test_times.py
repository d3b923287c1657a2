"""Event times in every form, and what is no time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mapping.times import parse_zone, time_reader

T0_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("epoch-s", 1_700_000_000, T0_MS),
        ("epoch-s", 1_700_000_000.25, T0_MS + 250),
        ("epoch-s", 1_700_000_000.0004, T0_MS),
        ("epoch-s", 1_700_000_000.0006, T0_MS + 1),
        ("epoch-s", "1700000000.250", T0_MS + 250),
        ("epoch-s", " 17e8 ", T0_MS),
        ("epoch-ms", T0_MS, T0_MS),
        ("epoch-ms", 1.7e12, T0_MS),
        ("epoch-ms", f"{T0_MS}", T0_MS),
        ("epoch-us", T0_MS * 1000 + 499, T0_MS),
        ("epoch-us", T0_MS * 1000 + 500, T0_MS + 1),
        ("epoch-ns", T0_MS * 10**6 + 400_000, T0_MS),
        ("epoch-ns", f"{T0_MS * 10**6 + 1_000_000}", T0_MS + 1),
        ("offset-ms", -20, -20),
        ("offset-us", 1500, 2),
        ("iso8601", "2023-11-14T22:13:20Z", T0_MS),
        ("iso8601", "2023-11-14T23:13:20.25+01:00", T0_MS + 250),
        ("iso8601", "2023-11-14 16:13:20,2501 -0600", T0_MS + 250),
        ("iso8601", "20231114T221320Z", T0_MS),
        ("iso8601", "2023-11-14T22:13Z", T0_MS - 20_000),
        ("iso8601", "2023-11-14T22:13:20.123456789+00", T0_MS + 123),
        ("iso8601", "2016-12-31T23:59:60Z", 1_483_228_800_000),
    ],
)
def test_every_form(form: str, value: Any, expected: int) -> None:
    assert time_reader(form)(value) == expected


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (form, value)
        for form in ("epoch-s", "epoch-ms", "offset-ns")
        for value in (
            *("", "now", "1_0", "0x1", "nan", "1" * 30, "1e99", True, None, [], {}, b"1"),
            *(float("nan"), float("inf"), 1e300, 10**30, -(10**30)),
        )
    ]
    + [
        ("iso8601", value)
        for value in (
            *("", "2023-11-14", "22:13:20", "2023-13-14T22:13:20Z", "2023-11-14T25:13:20Z"),
            *("2023-11-14T22:13:20+99:00", "2023-11-14T22:13:20", "x" * 10_000, 1.7e9, None),
            *("0001-01-01T00:00:00+23:00x", "2023-02-30T00:00:00Z", "\uff12023-11-14T22:13:20Z"),
        )
    ],
)
def test_what_is_no_time_is_refused(form: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"time|number|ISO|offset|month|hour|day|range"):
        time_reader(form)(value)


def test_local_times_need_a_zone_and_follow_its_summer_time() -> None:
    berlin = time_reader("iso8601", zone="Europe/Berlin")
    assert berlin("2023-11-14T23:13:20") == T0_MS
    assert berlin("2023-07-01T12:00:00") == _ms(2023, 7, 1, 10)
    assert berlin("2023-07-01T12:00:00Z") == _ms(2023, 7, 1, 12), "an offset of its own counts"
    assert berlin("2023-10-29T02:30:00") == _ms(2023, 10, 29, 0, 30), "the first of two"
    assert berlin("2023-03-26T02:30:00") == _ms(2023, 3, 26, 1, 30), "a time that is skipped"
    with pytest.raises(ValueError, match=r"no offset: give the zone"):
        time_reader("iso8601")("2023-11-14T23:13:20")


def test_strptime_takes_a_zone_or_an_offset() -> None:
    local = time_reader("strptime", "%d.%m.%Y %H:%M:%S", "+01:00")
    assert local("14.11.2023 23:13:20") == T0_MS
    assert time_reader("strptime", "%Y%m%d%H%M%S%z")("20231114221320+0000") == T0_MS
    for value in ("14.11.2023", 5, None, "x" * 1000):
        with pytest.raises(ValueError, match=r"is not a text of the format"):
            local(value)


@pytest.mark.parametrize(
    "name", ["Mars", "", "../etc/passwd", "+25:00", "Europe", "/etc/passwd", "\x00"]
)
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"time zone|offset"):
        parse_zone(name)


@given(st.integers(-(10**12), 4 * 10**12), st.integers(-14 * 60, 14 * 60))
def test_iso_8601_as_python_writes_it(ms: int, minutes: int) -> None:
    offset = timezone(timedelta(minutes=minutes))
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)
    assert time_reader("iso8601")(moment.astimezone(offset).isoformat()) == ms


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_any_value_is_a_time_or_a_fault(value: Any) -> None:
    for reader in READERS:
        try:
            assert -(2**53) < reader(value) < 2**53
        except ValueError as exc:
            assert len(str(exc)) < 300


READERS = [
    time_reader("epoch-s"),
    time_reader("epoch-ns"),
    time_reader("iso8601", zone="Europe/Berlin"),
    time_reader("strptime", "%Y-%m-%d", "UTC"),
]


def _ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=timezone.utc).timestamp()) * 1000  # type: ignore[arg-type,misc]
