"""Task `forecast`: the next readings of every channel, and how odd the newest ones are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.contract import DetailPoint, Details, Field, Hourly, HourlyField, Measure, Task
from models.tasks.quantiles import QUANTILES, ForecastDecoding, QuantilesAnswer

__all__ = ["ANOMALY", "FORECAST", "LEAD_ZERO", "coverage", "mae", "mse", "pinball"]

ANOMALY = "anomaly"
"""Measurement of the score of a window; its quantiles are points of the measurement `forecast`."""
LEAD_ZERO = "0"
"""Value of the tag `lead` of the reading that came."""


def mse(truth: NDArray[Any], values: NDArray[np.float32]) -> float:
    """Mean squared error of p50, `[n, horizon, channels]` against `[n, horizon, channels, 3]`.

    >>> mse(np.zeros((1, 2, 1)), np.array([[[[0, 1, 2]], [[0, 3, 4]]]], dtype=np.float32))
    5.0
    """
    return float(np.mean((values[..., 1].astype(np.float64) - truth) ** 2))


def mae(truth: NDArray[Any], values: NDArray[np.float32]) -> float:
    """Mean absolute error of p50, `[n, horizon, channels]` against `[n, horizon, channels, 3]`."""
    return float(np.mean(np.abs(values[..., 1].astype(np.float64) - truth)))


def pinball(truth: NDArray[Any], values: NDArray[np.float32]) -> float:
    """Mean pinball loss of p10, p50 and p90; half of the absolute error where all three agree."""
    error = np.asarray(truth, dtype=np.float64)[..., None] - values
    levels = np.array(QUANTILES)
    return float(np.mean(np.maximum(levels * error, (levels - 1) * error)))


def coverage(truth: NDArray[Any], values: NDArray[np.float32]) -> float:
    """Share of readings between p10 and p90; 0.8 is what the quantiles promise."""
    return float(np.mean((values[..., 0] <= truth) & (truth <= values[..., 2])))


def _details(record: Mapping[str, Any]) -> Iterator[DetailPoint]:
    """The reading of each channel at the window's end, and its quantiles at each lead."""
    end_ms, step_ms = record["end_ms"], record["step_ms"]
    if type(step_ms) is not int or step_ms < 1:
        msg = f"step_ms is a positive whole number, not {step_ms!r:.40}"
        raise ValueError(msg)
    for channel, value in record["actual"].items():
        yield DetailPoint((channel, LEAD_ZERO), end_ms, {"value": value})
    for channel, leads in record["forecast"].items():
        for lead, (low, middle, high) in leads.items():
            if not 0 < int(lead) < 2**31 or str(int(lead)) != lead:
                msg = f"lead {lead!r:.20} is not a positive number of steps"
                raise ValueError(msg)
            at_ms = end_ms + int(lead) * step_ms
            yield DetailPoint((channel, lead), at_ms, {"p10": low, "p50": middle, "p90": high})


def _no_default(labels: tuple[str, ...], unknown: object) -> ForecastDecoding:
    msg = (
        "the decoding of a forecast needs a calibration of its anomaly score: training makes it in "
        "training.forecasting"
    )
    raise ValueError(msg)


FORECAST = Task(
    name="forecast",
    title="Forecast",
    about="one scored window of a sensor: how odd its newest readings are",
    own_measurement=ANOMALY,
    answer=QuantilesAnswer(),
    decoding=ForecastDecoding,
    new_decoding=_no_default,
    fields=(
        Field("score", "float", "1", "share of calibration windows that are less odd"),
        Field("channel", "text", "", "the oddest channel"),
        Field("alarm", "int", "1", "1 while the score is at or above the student's alarm level"),
        Field("mae", "float", "sd", "mean absolute error of the backtest, in training deviations"),
        Field("covered", "float", "1", "share of backtest readings between p10 and p90"),
    ),
    details=Details(
        measurement="forecast",
        tags=("channel", "lead"),
        fields=(
            Field("p10", "float", "", "10 % quantile, unit of the channel", always=False),
            Field("p50", "float", "", "median", always=False),
            Field("p90", "float", "", "90 % quantile", always=False),
            Field("value", "float", "", "the reading that came; only at lead 0", always=False),
        ),
        keys=("step_ms", "forecast", "actual"),
        points=_details,
        about="a channel at a time that was forecast `lead` steps before; at lead 0 as it came",
    ),
    must_match=("step_ms", "leads"),
    measures=(
        Measure("mse", "smaller", mse),
        Measure("mae", "smaller", mae),
        Measure("pinball", "smaller", pinball),
        Measure("coverage", None, coverage),
    ),
    error_unit="squared training deviations",
    hourly=Hourly(
        (
            HourlyField(
                Field("score_max", "float", "1", "greatest anomaly score in the hour"),
                "score",
                "max",
            ),
            HourlyField(
                Field("alarm_share", "float", "1", "share of windows with an alarm"),
                "alarm",
                "mean",
            ),
            HourlyField(Field("mae_mean", "float", "sd", "mean of the errors"), "mae", "mean"),
            HourlyField(
                Field("covered_mean", "float", "1", "mean share between p10 and p90"),
                "covered",
                "mean",
            ),
            HourlyField(
                Field("windows", "int", "windows", "how many there were"), "score", "count"
            ),
        ),
        "an hour of a forecast stream",
    ),
    card="forecast",
    needs_attention=lambda fields: fields["alarm"] == 1,
    trusts_doubtful=True,
)
