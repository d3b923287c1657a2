"""Units: the table against values from elsewhere, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.units import UNITS, UnitMismatch, UnknownUnit, convert, dimension

KNOWN = [
    (1, "g", "m/s2", 9.80665),
    (250, "mg", "g", 0.25),
    (180, "deg/s", "rad/s", math.pi),
    (3000, "rpm", "rad/s", 314.1592653589793),
    (60, "rpm", "rps", 1),
    (100, "degC", "K", 373.15),
    (100, "degC", "degF", 212),
    (-40, "degF", "degC", -40),
    (518.67, "degR", "degF", 59),
    (518.67, "degR", "K", 288.15),
    (14.695948775, "psi", "kPa", 101.325),
    (1, "bar", "psi", 14.503773773),
    (760, "Torr", "hPa", 1013.25),
    (1, "inHg", "mbar", 33.8638866667),
    (1, "hp", "kW", 0.745699872),
    (1, "kWh", "MJ", 3.6),
    (1, "BTU", "J", 1055.05585262),
    (230_000, "mV", "V", 230),
    (2, "Ah", "As", 7200),
    (50, "Hz", "1/min", 3000),
    (36, "km/h", "m/s", 10),
    (1, "kn", "km/h", 1.852),
    (1, "mi", "km", 1.609344),
    (1, "in", "mm", 25.4),
    (1, "gal", "l", 3.785411784),
    (1, "lb", "kg", 0.45359237),
    (1, "gpm", "l/min", 3.785411784),
    (1, "cfm", "m3/h", 1.69901079552),
    (3600, "lb/h", "pps", 1),
    (1, "t/h", "kg/s", 1 / 3.6),
    (55, "%RH", "ratio", 0.55),
    (400, "ppm", "%", 0.04),
    (1, "fc", "lx", 10.763910417),
    (1, "gauss", "uT", 100),
    (1, "lbf*ft", "Nm", 1.3558179483),
    (35, "ug/m3", "mg/m3", 0.035),
]


@pytest.mark.parametrize(("value", "unit", "to", "expected"), KNOWN)
def test_known_conversions(value: float, unit: str, to: str, expected: float) -> None:
    scale, offset = convert(unit, to)
    assert value * scale + offset == pytest.approx(expected, rel=1e-8, abs=1e-9)


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6))
def test_there_and_back(unit: str, to: str, value: float) -> None:
    if dimension(unit) != dimension(to):
        with pytest.raises(UnitMismatch, match="no factor converts them"):
            convert(unit, to)
        return
    scale, offset = convert(unit, to)
    back, zero = convert(to, unit)
    tolerance = 1e-9 * (1 + abs(value) + abs(zero))
    assert (value * scale + offset) * back + zero == pytest.approx(value, abs=tolerance)


def test_a_unit_converts_to_itself_exactly() -> None:
    assert {convert(unit, unit) for unit in UNITS} == {(1.0, 0.0)}


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("celsius", "lists them"),
        ("kpa", "did you mean kPa"),
        ("RPM", "did you mean rpm"),
        ("mv", "did you mean mV"),
        ("deg C", "did you mean degC"),
        ("", "lists them"),
        ("x" * 10_000, "lists them"),
    ],
)
def test_an_unknown_unit_is_told_with_the_nearest(name: str, advice: str) -> None:
    with pytest.raises(UnknownUnit) as caught:
        convert(name, "V")
    assert advice in str(caught.value)
    assert len(str(caught.value)) < 200
