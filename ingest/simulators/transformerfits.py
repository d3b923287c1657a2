"""Fitted numbers of two power transformers (training parts of ETTh1 and ETTh2).

The readings of a station, in units of its channels' deviations, are

    mean day + mean week + sum over the motions of Re(z) * factors

where the state `z` of a motion is a complex autoregressive process of first order: it forgets with
`memory_h` and turns once in `period_h`. So a motion of memory m and period p has the covariance
`outer(factors, factors) * exp(-lag / m) * cos(2 pi lag / p)` between channels, and the motions
together have the autocovariance of the recording. Oil temperature is the exception: to its own
motions comes the load, which heats the oil with the lag of a first-order low-pass of `oil_h` hours
(the top-oil model of IEC 60076-7, linear in the load).

`python -m training.starters.transformerfit` fits the numbers and writes them into this file. They
are statistics over a year; no reading is reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "STATIONS", "Station"]

CHANNELS: Final = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
"""High, middle and low useful (UFL) and useless (ULL) load, and oil temperature in degC."""


@dataclass(frozen=True, slots=True)
class Station:
    """One transformer.

    Attributes:
        mean: Mean of each channel `[7]`, in its unit.
        deviation: Standard deviation of each channel `[7]`, in its unit.
        day: Mean day `[7, 7]`: per channel a constant and the cosine and sine of three harmonics.
        week: Mean of each weekday from Monday on `[7 channels, 7 days]`, beyond the mean day.
        oil_h: Time constant from load to oil temperature in hours.
        heating: Deviations of oil temperature per lasting deviation of each load `[6]`.
        tail: Degrees of freedom of the innovations (Student's t) of motions with memories below
            20 hours: steps from hour to hour have heavy tails.
        memory_h: Hours after which each motion has forgotten all but 1/e `[motions]`; 0 for noise.
        period_h: Hours of one turn of each motion `[motions]`; 0 for none.
        factors: Deviations of the channels per unit of each motion `[motions, 7]`.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    day: NDArray[np.float64]
    week: NDArray[np.float64]
    oil_h: float
    heating: NDArray[np.float64]
    tail: float
    memory_h: NDArray[np.float64]
    period_h: NDArray[np.float64]
    factors: NDArray[np.float64]


def _table(milli: str) -> NDArray[np.float64]:
    """Parse a table of thousandths."""
    rows = [[float(word) for word in line.split()] for line in milli.strip().splitlines()]
    table: NDArray[np.float64] = np.array(rows, dtype=np.float64) / 1000
    return table


def _row(milli: str) -> NDArray[np.float64]:
    """Parse thousandths on any number of lines."""
    row: NDArray[np.float64] = np.array(milli.split(), dtype=np.float64) / 1000
    return row


STATIONS: Final[Mapping[str, Station]] = {
    # Fitted numbers, written by `python -m training.starters.transformerfit`.
    "ETTh1": Station(
        mean=_row("""
        7938 2021 5080 746 2782 788 17128
        """),
        deviation=_row("""
        5813 2090 5519 1926 1024 630 9176
        """),
        day=_table("""
        0 615 246 -234 -15 104 6
        0 5 329 145 127 109 1
        0 662 239 -221 7 113 -6
        0 23 280 139 126 96 10
        0 -42 51 -167 -133 -6 76
        0 -140 84 6 14 76 13
        0 -26 -149 6 23 11 -4
        """),
        week=_table("""
        30 1 -14 -8 37 -20 -26
        7 -113 -72 -2 52 109 15
        19 20 13 -12 22 -36 -26
        -12 -106 -56 -5 56 109 11
        59 -93 -144 10 108 66 -10
        51 -29 -67 12 7 28 -2
        11 -50 -45 -3 -27 29 83
        """),
        oil_h=10,
        heating=_row("""
        0 102 0 317 61 0
        """),
        tail=4.8,
        memory_h=_row("""
        0 2000 2000 2000 8000 8000 8000 40000 40000 240000 240000 240000 1500000 1500000
        1500000 1500000 150000 2000000 2000000 2000000 500000 500000 500000
        """),
        period_h=_row("""
        0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 24000 24000 24000 24000 12000 12000 8000
        """),
        factors=_table("""
        -74 -177 -76 -179 -32 2 18
        55 136 55 128 -14 15 -39
        304 -130 323 -128 -7 -9 13
        -63 -47 33 29 -552 -213 11
        4 90 11 43 -63 63 87
        -170 -34 -208 -53 121 89 116
        -226 -157 -145 -74 -503 -211 17
        7 -142 8 -109 -5 -132 204
        -210 37 -202 98 -103 -120 13
        31 -45 28 -96 7 45 131
        -85 -12 -51 37 -179 3 63
        -5 -267 -14 -49 44 -716 121
        27 1 69 -18 -228 82 53
        468 -122 481 -101 78 -209 -236
        -175 250 -104 520 -435 -634 -491
        -412 -924 -373 -888 -319 -196 -650
        -94 92 -104 90 11 7 -76
        4 68 25 90 -123 -35 63
        25 157 -10 146 202 20 29
        -377 35 -393 46 -34 -11 9
        10 -77 38 -75 -130 7 -8
        -240 4 -236 16 -99 8 -6
        -68 -41 -52 -39 -105 11 -6
        """),
    ),
    "ETTh2": Station(
        mean=_row("""
        41537 12273 46610 10526 1187 -2373 26872
        """),
        deviation=_row("""
        10449 4587 16858 3019 4641 8461 11585
        """),
        day=_table("""
        0 -47 -303 -20 -74 -38 -17
        0 20 -206 10 39 7 -80
        0 -54 -158 4 -35 -18 -10
        0 -19 -200 40 83 27 -115
        0 125 -38 -57 -28 -17 8
        0 17 -14 -7 -4 -1 0
        0 -198 -287 63 99 -11 -7
        """),
        week=_table("""
        74 44 109 58 -64 -133 -84
        77 32 61 -10 -13 -83 -61
        -2 -9 59 49 -14 -35 -46
        56 -46 49 6 25 -56 -32
        38 27 7 -9 -10 -37 -15
        3 40 37 17 -28 -32 -35
        48 -25 -82 -45 -43 39 106
        """),
        oil_h=4,
        heating=_row("""
        0 22 0 72 93 0
        """),
        tail=4.4,
        memory_h=_row("""
        0 8000 8000 8000 40000 40000 40000 240000 240000 1500000 1500000 1500000 1500000
        2000000
        """),
        period_h=_row("""
        0 0 0 0 0 0 0 0 0 0 0 0 0 24000
        """),
        factors=_table("""
        -107 -210 -70 -310 -1 -4 17
        -92 107 54 -50 36 -12 -42
        11 15 -16 -98 70 21 165
        -306 -328 -29 -158 -30 -41 -30
        57 2 -40 -23 -147 -32 -101
        -218 104 -200 123 -44 -181 53
        -554 -627 -183 -705 -63 40 -12
        -48 188 383 135 -21 213 -83
        -411 -148 -187 -295 -451 489 -70
        -35 -17 -12 -200 328 -144 232
        312 159 251 132 89 -157 -37
        -105 -301 128 -447 218 -338 -932
        -562 -599 979 -122 -934 -920 564
        -25 -35 52 17 -96 -49 118
        """),
    ),
}
