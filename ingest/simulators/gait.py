"""Fitted numbers of the mean gait cycle per kind of walking (UCI-HAR training recordings).

Per channel (body_acc x y z in g, body_gyro x y z in rad/s) the signal of a **stride** (two steps)
is a Fourier series of eight harmonics of the stride rate, with the phases of all strides aligned,
plus coloured noise. People differ in the coefficients (`subject_sd`), and so do the bouts of one
person, a little less (`bout_ratio`). The mean cycle alone explains 0.70, 0.67 and 0.57 of the
variance of body_acc_x in the three kinds; the person's own cycle explains 0.83, 0.76 and 0.64.

These are statistics over 21 people; no recording is reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["GAITS", "HARMONICS", "Gait"]

HARMONICS: Final = 8


@dataclass(frozen=True, slots=True)
class Gait:
    """One kind of walking.

    Attributes:
        stride_hz: Stride rate: mean, deviation over people, deviation over one person's bouts.
        mean: Fourier coefficients of the mean person, complex `[6 channels, 8 harmonics]`.
        subject_sd: Root mean square of a person's complex difference from it, `[6, 8]`.
        bout_ratio: The same within a person from bout to bout, as a share of `subject_sd`.
        residual_sd: Deviation that the series does not explain, `[6]`, in units of the channel.
        residual_lag: Autocorrelation of the residual at lag 1 and 2 (20 and 40 ms), `[2, 6]`.
        turn_sd: Slow turning about the vertical (body_gyro_x), rad/s.
    """

    stride_hz: tuple[float, float, float]
    mean: NDArray[np.complex128]
    subject_sd: NDArray[np.float64]
    bout_ratio: float
    residual_sd: tuple[float, ...]
    residual_lag: tuple[tuple[float, ...], tuple[float, ...]]
    turn_sd: float


def _table(milli: str) -> NDArray[np.complex128]:
    """Parse a table of thousandths, one channel per line."""
    rows = [[complex(word) for word in line.split()] for line in milli.strip().splitlines()]
    table: NDArray[np.complex128] = np.array(rows, dtype=np.complex128) / 1000
    return table


GAITS: Final[Mapping[str, Gait]] = {
    "WALKING": Gait(
        stride_hz=(0.877, 0.0538, 0.0246),
        mean=_table("""
        18-10j 116-195j -69+65j 40-42j 20+15j -48-51j -2-6j 12+42j
        57-12j 66+105j 5+21j 49-21j -48-31j -22-37j 15+39j -34+1j
        -73-13j 73+69j 9-7j 37-19j 11+6j -19-29j -5-4j -29+0j
        190+364j 30+7j -53+55j 3+3j 180-95j -1-10j -85-30j -4+15j
        -128-231j -79-74j 125+286j -15+3j 66-41j 45-11j -31-20j 12-58j
        -104-9j 53+125j 154+223j -5-18j 22-23j -39-7j 13-2j -5+51j
        """),
        subject_sd=_table("""
        18 58 46 43 31 41 33 34
        44 47 39 33 51 27 27 20
        49 57 22 31 22 24 26 29
        219 73 175 58 139 49 72 49
        231 163 205 81 125 86 129 164
        152 99 122 61 61 77 45 49
        """).real,
        bout_ratio=0.55,
        residual_sd=(0.085, 0.0767, 0.0637, 0.219, 0.261, 0.131),
        residual_lag=((0.64, 0.65, 0.6, 0.81, 0.58, 0.71), (0.091, 0.095, 0.01, 0.5, -0.11, 0.23)),
        turn_sd=0.12,
    ),
    "WALKING_UPSTAIRS": Gait(
        stride_hz=(0.825, 0.0761, 0.0372),
        mean=_table("""
        21+46j -5+283j 21+11j -36-49j -9+12j 22-44j -11-1j 16-4j
        29+82j -103-97j -16-9j 21-42j 18+6j 7+8j 13-17j -5+0j
        -25-127j -86-28j 18+0j 18-31j 9+0j 10+10j 7+4j -5+0j
        -45-10j 26-93j 18-30j -11-13j -46+38j 10-18j 20+47j 0+4j
        458-111j 66-86j 69-11j 26+12j -7+28j -2+24j 2+24j -10-3j
        284-153j -46+109j 0-49j -39+16j 16-9j -8-25j -23-9j 4+12j
        """),
        subject_sd=_table("""
        33 64 30 60 21 28 15 20
        57 49 23 27 33 14 22 10
        69 67 21 28 18 16 11 9
        288 84 95 59 87 47 52 18
        325 168 118 75 96 61 62 34
        241 120 77 71 51 37 33 29
        """).real,
        bout_ratio=0.58,
        residual_sd=(0.121, 0.0976, 0.0798, 0.383, 0.292, 0.21),
        residual_lag=((0.8, 0.81, 0.83, 0.85, 0.79, 0.88), (0.43, 0.46, 0.55, 0.6, 0.42, 0.66)),
        turn_sd=0.28,
    ),
    "WALKING_DOWNSTAIRS": Gait(
        stride_hz=(0.891, 0.089, 0.0521),
        mean=_table("""
        -10-15j -348-150j -18-53j 98+64j 0+16j -12-32j 7-10j -13+5j
        -43-38j 76+72j -21+31j 10-57j 6-4j -21+14j 4+5j 9+5j
        42+61j 23+44j 11-9j 23-34j -15-4j -19+2j 2+10j 4+7j
        -52-209j -31-40j -106-79j 21+23j 35+24j -8-9j -19-19j -1+0j
        -160+98j -20-123j -157+61j 71+58j 31-23j -9-11j -41-12j -20+10j
        -71-46j 40+139j -137-12j -91-44j 25+36j 22+9j 21-26j 2-17j
        """),
        subject_sd=_table("""
        25 116 46 52 29 27 19 15
        44 46 36 32 32 27 23 12
        40 72 21 28 15 16 15 13
        295 81 141 59 80 45 53 24
        171 133 113 111 74 55 65 49
        120 106 71 83 38 48 35 32
        """).real,
        bout_ratio=0.84,
        residual_sd=(0.207, 0.133, 0.112, 0.495, 0.43, 0.267),
        residual_lag=((0.83, 0.79, 0.74, 0.85, 0.7, 0.81), (0.51, 0.38, 0.31, 0.6, 0.19, 0.43)),
        turn_sd=0.29,
    ),
}
