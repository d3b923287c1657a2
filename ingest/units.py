"""Units of measurement, and how a number of one becomes a number of another.

The table holds the units that sensors of machines, buildings and people use. A unit has a
dimension; only units of one dimension convert into each other. Every conversion is linear:

>>> scale, offset = convert("degC", "K")
>>> 20.0 * scale + offset
293.15
>>> convert("g", "m/s2")
(9.80665, 0.0)
>>> convert("bar", "g")
Traceback (most recent call last):
ingest.units.UnitMismatch: bar measures a pressure and g an acceleration: no factor converts them
>>> convert("Kwh", "J")
Traceback (most recent call last):
ingest.units.UnknownUnit: 'Kwh' is no known unit; did you mean kWh or Wh or kW?

A name is exact, letter case included, because mW and MW differ. `g` is the acceleration, a gram is
`gram`; `C` and `F` are degrees, `K` a kelvin.
"""

from __future__ import annotations

from difflib import get_close_matches
from fractions import Fraction
from math import pi
from typing import Final

from ingest.errors import IngestError

__all__ = ["UNITS", "UnitMismatch", "UnknownUnit", "convert", "dimension"]


class UnknownUnit(IngestError):
    """No unit has this name; the message names the nearest ones."""


class UnitMismatch(IngestError):
    """The units measure different things."""


_TABLE: Final = """
acceleration: m/s2 1, m/s^2 1, m/s² 1, cm/s2 0.01, mm/s2 0.001, g 9.80665, mg 0.00980665
angle: deg 1, ° 1, rev 360, turn 360, rad RAD, mrad MRAD
angular rate: deg/s 1, °/s 1, dps 1, mdps 0.001, rad/s RAD, mrad/s MRAD, rpm 6, rps 360
temperature: K 1, mK 0.001, degC 1, °C 1, C 1, degF 5/9, °F 5/9, F 5/9, degR 5/9, °R 5/9, R 5/9
pressure: Pa 1, hPa 100, kPa 1e3, MPa 1e6, mbar 100, bar 1e5, psi PSI, psia PSI, atm 101325
pressure: Torr 101325/760, mmHg 133.322387415, inHg 3386.388640341, mmH2O 9.80665, inH2O 249.08891
power: W 1, uW 1e-6, mW 0.001, kW 1e3, MW 1e6, GW 1e9, hp 745.6998715822702, PS 735.49875
power: BTU/h 0.29307107017222
apparent power: VA 1, kVA 1e3, MVA 1e6
reactive power: var 1, VAr 1, kvar 1e3, kVAr 1e3, Mvar 1e6
energy: J 1, kJ 1e3, MJ 1e6, GJ 1e9, Ws 1, mWh 3.6, Wh 3600, kWh 3.6e6, MWh 3.6e9
energy: cal 4.184, kcal 4184, BTU 1055.05585262
apparent energy: VAh 1, kVAh 1e3
reactive energy: varh 1, kvarh 1e3
voltage: V 1, uV 1e-6, µV 1e-6, mV 0.001, kV 1e3
current: A 1, nA 1e-9, uA 1e-6, µA 1e-6, mA 0.001, kA 1e3
charge: As 1, mAh 3.6, Ah 3600
resistance: ohm 1, Ω 1, mohm 0.001, kohm 1e3, kΩ 1e3, Mohm 1e6
frequency: Hz 1, mHz 0.001, kHz 1e3, MHz 1e6, GHz 1e9, 1/s 1, 1/min 1/60, bpm 1/60
speed: m/s 1, mm/s 0.001, cm/s 0.01, m/min 1/60, km/h 1000/3600, mph 0.44704, kn 1852/3600
speed: in/s 0.0254, ft/s 0.3048, ft/min 0.00508
length: m 1, nm 1e-9, um 1e-6, µm 1e-6, mm 0.001, cm 0.01, km 1e3
length: mil 2.54e-5, in 0.0254, ft 0.3048, mi 1609.344
area: m2 1, m² 1, cm2 1e-4, mm2 1e-6, ft2 0.09290304
volume: m3 1, m³ 1, l 0.001, L 0.001, ml 1e-6, mL 1e-6, cm3 1e-6, ft3 0.028316846592
volume: gal 0.003785411784
mass: kg 1, gram 0.001, milligram 1e-6, t 1e3, lb POUND, oz 0.028349523125
force: N 1, mN 0.001, kN 1e3, lbf 4.4482216152605
torque: Nm 1, N*m 1, kNm 1e3, lbf*ft 1.3558179483314004
volume flow: m3/h 1, m³/h 1, m3/s 3600, l/s 3.6, l/min 0.06, L/min 0.06, lpm 0.06, l/h 0.001
volume flow: ml/min 6e-5, gpm 0.22712470704, cfm 1.69901079552
mass flow: kg/h 1, kg/min 60, kg/s 3600, gram/s 3.6, t/h 1000
mass flow: lb/h POUND, lb/min 27.2155422, lb/s 1632.932532, lbm/s 1632.932532, pps 1632.932532
density: kg/m3 1, gram/cm3 1e3, gram/m3 0.001, mg/m3 1e-6, ug/m3 1e-9, µg/m3 1e-9, µg/m³ 1e-9
ratio: 1 1, ratio 1, % 0.01, percent 0.01, %RH 0.01, permille 0.001, ppm 1e-6, ppb 1e-9
illuminance: lx 1, lux 1, klx 1e3, fc 10.763910416709722
irradiance: W/m2 1, W/m² 1, kW/m2 1e3, mW/cm2 10
magnetic field: T 1, nT 1e-9, uT 1e-6, µT 1e-6, mT 0.001, gauss 1e-4, mgauss 1e-7
conductivity: S/m 1, uS/cm 1e-4, µS/cm 1e-4, mS/cm 0.1
time: s 1, ns 1e-9, us 1e-6, µs 1e-6, ms 0.001, min 60, h 3600, d 86400
information: B 1, kB 1e3, MB 1e6, GB 1e9, KiB 1024, MiB 1048576
sound level: dB 1, dBA 1
signal level: dBm 1
acidity: pH 1
count: count 1, pulse 1, cycles 1
"""
"""Dimension, then each unit and its size in the first unit of the dimension."""

_CONSTANTS: Final = {
    "RAD": Fraction(180 / pi),
    "MRAD": Fraction(180 / pi) / 1000,
    "PSI": Fraction("6894.757293168361"),
    "POUND": Fraction("0.45359237"),
}
_ZEROS: Final = {
    **dict.fromkeys(("degC", "°C", "C"), Fraction("273.15")),
    **dict.fromkeys(("degF", "°F", "F"), Fraction("459.67") * 5 / 9),
}
"""Zero of a unit, in the first unit of its dimension; 0 for all others."""


def _read_table() -> dict[str, tuple[str, Fraction, Fraction]]:
    found = {}
    for line in _TABLE.strip().splitlines():
        measured, units = line.split(": ")
        for entry in units.split(", "):
            name, size = entry.split()
            factor = _CONSTANTS[size] if size in _CONSTANTS else Fraction(size)
            found[name] = (measured, factor, _ZEROS.get(name, Fraction(0)))
    return found


UNITS: Final = _read_table()
"""Unit -> dimension, size and zero in the first unit of the dimension."""


def dimension(unit: str) -> str:
    """Return what a unit measures.

    >>> dimension("rpm")
    'angular rate'

    Raises:
        UnknownUnit: No unit has this name.
    """
    return _unit(unit)[0]


def convert(unit: str, to: str) -> tuple[float, float]:
    """Return scale and offset: `number of to = number of unit * scale + offset`.

    Raises:
        UnknownUnit: No unit has one of the names.
        UnitMismatch: The units measure different things.
    """
    source, source_size, source_zero = _unit(unit)
    target, target_size, target_zero = _unit(to)
    if source != target:
        msg = (
            f"{unit} measures {_article(source)} and {to} {_article(target)}: "
            "no factor converts them"
        )
        raise UnitMismatch(msg)
    return float(source_size / target_size), float((source_zero - target_zero) / target_size)


def _unit(name: str) -> tuple[str, Fraction, Fraction]:
    found = UNITS.get(name)
    if found is None:
        msg = f"{name[:40]!r} is no known unit{_nearest(name)}"
        raise UnknownUnit(msg)
    return found


def _nearest(name: str) -> str:
    """Return `; did you mean ...?` with up to three units, or where the list is."""
    folded: dict[str, list[str]] = {}
    for unit in UNITS:
        folded.setdefault(unit.casefold(), []).append(unit)
    close = get_close_matches(name.casefold()[:40], folded, n=3, cutoff=0.6)
    units = [unit for each in close for unit in folded[each]][:3]
    if not units:
        return "; docs/mapping.md lists them"
    return f"; did you mean {' or '.join(units)}?"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
