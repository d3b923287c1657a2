"""A kind of answer: quantiles of the next readings of every channel, with a backtest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.tasks.anomaly import (
    AnomalyScorer,
    AnomalyTable,
    anomaly_statistics,
)
from models.tasks.columns import Column
from models.tasks.fields import MAX_CHANNELS, Count, Decoding, Float32, Name, require_unique
from models.tasks.moved import Moved, Neutral
from models.tasks.number import Interval
from models.tasks.outputs import Decode, Outputs, Tolerances
from models.tasks.traits import NO_LABELS, Traits

__all__ = ["QUANTILES", "ForecastDecoding", "ForecastScores", "QuantilesAnswer"]

QUANTILES = (0.1, 0.5, 0.9)
"""The quantiles of a forecast, in the order of the graph's last dimension."""
_NAMES = ("p10", "p50", "p90")

# How much a forecast may depend on the batch around it, in training deviations: float32 sums in
# another order at another batch size.
_REPEATABLE = 1e-4
_LARGEST_ERROR = 1e30
# Changes that count in an explanation: above the last knot the score hardly moves any more.
_SAME_SCORE = 1e-3
_SAME_ODDNESS = 1e-2
# Two forecasts disagree fully if their medians are the width from p10 to p90 apart, or this many
# training deviations if that is more. Differences below the grains shift no distribution.
_APART = 0.1
_SCORE_GRAIN = 0.1
_GRAIN = 0.5
# One broken reading must not outweigh all other windows, in training deviations.
_COMPARED_ERROR = 10.0


class ForecastDecoding(Decoding):
    """Outputs `forecast` and `backtest`, both `[batch, steps, channels, 3]` in raw units.

    `forecast` continues the window by `horizon` steps from its newest `length` readings;
    `backtest` continues the `length` readings before the newest `backtest` ones, with the same
    weights.

    Attributes:
        step_ms: Time between two readings, milliseconds.
        length: Readings that a forecast looks back on.
        horizon: Steps of the forecast.
        backtest: Steps of the backtest; the window has `length + backtest` readings.
        leads: Steps ahead that are stored, ascending.
        channels: Names of the channels, as in the manifest.
        spread: Deviation of each channel in training, in its unit; `mae` is measured in it.
        anomaly: Calibration of the anomaly score.
    """

    kind: Literal["forecast"]
    output: Literal["forecast"]
    step_ms: Count
    length: Annotated[Count, Field(le=4096)]
    horizon: Annotated[Count, Field(le=4096)]
    backtest: Annotated[Count, Field(le=4096)]
    leads: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_CHANNELS)]
    spread: tuple[Annotated[Float32, Field(ge=0)], ...]
    anomaly: AnomalyTable

    @model_validator(mode="after")
    def _consistent(self) -> ForecastDecoding:
        require_unique("channels", self.channels)
        if list(self.leads) != sorted(set(self.leads)) or self.leads[-1] > self.horizon:
            msg = f"leads {self.leads} are not ascending steps up to the horizon {self.horizon}"
            raise ValueError(msg)
        if self.backtest > self.horizon:
            msg = f"backtest {self.backtest} is above the horizon {self.horizon}"
            raise ValueError(msg)
        if not len(self.channels) == len(self.spread) == len(self.anomaly.channels):
            msg = (
                f"{len(self.channels)} channels, but spread has {len(self.spread)} numbers and "
                f"anomaly {len(self.anomaly.channels)} channels"
            )
            raise ValueError(msg)
        return self

    def misfit(self, channels: tuple[str, ...], length: int, rate_hz: float | None) -> str | None:
        """The contradiction to channels, window length and rate of the manifest, or None."""
        if channels != self.channels:
            return f"decoding.channels {self.channels} differ from the channels {channels}"
        if length != self.length + self.backtest:
            return (
                f"window.length is {length}, but decoding.length {self.length} and backtest "
                f"{self.backtest} add up to {self.length + self.backtest}"
            )
        if rate_hz is None or abs(rate_hz * self.step_ms / 1000 - 1) > 1e-3:
            return f"rate_hz is {rate_hz}, but decoding.step_ms is {self.step_ms}"
        return None


@dataclass(frozen=True, slots=True)
class ForecastScores:
    """Forecasts of a batch, with the error of their backtest.

    Attributes:
        decoding: Decoding of the student.
        values: [batch, horizon, channels, 3] float32 p10, p50, p90 in raw units.
        actual: [batch, channels] float32 newest reading of each channel.
        expected: [batch, backtest, channels] float32 median of the backtest in raw units.
        score: [batch] float32 anomaly score, 0 to 1.
        channel: [batch] int64 index of the oddest channel.
        oddness: [batch, channels] float32 how odd each channel is, see `AnomalyScores`.
        mae: [batch] float32 mean absolute error of the backtest's p50, in training deviations.
        covered: [batch] float32 share of backtest readings between p10 and p90.
        valid: [batch] False where the window or the output was not finite; such rows hold 0.
    """

    decoding: ForecastDecoding
    values: NDArray[np.float32]
    actual: NDArray[np.float32]
    expected: NDArray[np.float32]
    score: NDArray[np.float32]
    channel: NDArray[np.int64]
    oddness: NDArray[np.float32]
    mae: NDArray[np.float32]
    covered: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class QuantilesAnswer:
    """Quantiles of the next readings, and from the backtest an anomaly score.

    The raw outputs are `forecast` `[batch, horizon, channels, 3]` and `backtest`
    `[batch, backtest, channels, 3]`.
    """

    @property
    def has_interval(self) -> bool:
        """The quantiles are calibrated inside the graph; a manifest carries no interval."""
        return False

    @property
    def headline_field(self) -> str:
        """The field that stands for the whole score."""
        return "score"

    def outputs(self, decoding: ForecastDecoding) -> dict[str, tuple[int, ...]]:
        """The graph's outputs: quantiles of each step of each channel."""
        rest = (len(decoding.channels), len(QUANTILES))
        return {"forecast": (decoding.horizon, *rest), "backtest": (decoding.backtest, *rest)}

    def unit(self, decoding: ForecastDecoding) -> str:
        """Every channel has its own unit; that of the score is a share."""
        return "1"

    def labels(self, decoding: ForecastDecoding) -> tuple[str, ...]:
        """Quantiles have no labels."""
        return ()

    def tolerance(self, decoding: ForecastDecoding) -> Tolerances:
        """Largest change of both outputs with the batch around it, `[channels, 1]` in raw units."""
        limits = _repeatable(decoding)[:, None]
        return {"forecast": limits, "backtest": limits}

    def flaw(self, raw: Outputs, decoding: ForecastDecoding) -> str | None:
        """The fault in the outputs of the self-test, or None."""
        gaps = np.minimum(*(np.diff(part, axis=3).min(axis=(0, 1, 3)) for part in raw.values()))
        scale = np.maximum(np.array(decoding.spread, dtype=np.float32), np.float32(1e-30))
        if (gaps / scale).min() < -1e-3:
            channel = int((gaps / scale).argmin())
            return (
                f"quantiles of channel {decoding.channels[channel]!r} are not in ascending order "
                f"(by {-gaps[channel]:.3g}): sort p10, p50 and p90 inside the graph"
            )
        return None

    def decoder(
        self, decoding: ForecastDecoding, interval: Interval | None
    ) -> Decode[ForecastScores]:
        """Scores of raw outputs and their windows.

        Quantiles that rounding has put in the wrong order are sorted; invalid rows hold 0.
        """
        spread, scale = np.array(decoding.spread, dtype=np.float32), _scale(decoding)
        cells = decoding.backtest * len(decoding.channels)
        scorer = AnomalyScorer(decoding.anomaly)

        def decode(
            raw: Outputs,
            valid: NDArray[np.bool_],
            windows: NDArray[np.float32],
        ) -> ForecastScores:
            forecast, backtest = (np.sort(raw[name], axis=3) for name in ("forecast", "backtest"))
            seen = windows
            if not valid.all():
                is_valid = valid[:, None, None, None]
                forecast = np.where(is_valid, forecast, np.float32(0))
                backtest = np.where(is_valid, backtest, np.float32(0))
                seen = np.where(valid[:, None, None], windows, np.float32(0))
            actual = seen[:, -decoding.backtest :]
            anomalies = scorer.score(anomaly_statistics(seen, backtest, spread))
            inside = (backtest[..., 0] <= actual) & (actual <= backtest[..., 2])
            # Finite however large a reading or small a deviation is: a log takes no other number.
            errors = np.abs(actual.astype(np.float64) - backtest[..., 1]) / scale
            mae = np.minimum(errors.sum(axis=(1, 2)) / cells, _LARGEST_ERROR)
            mask = valid.astype(np.float32)
            return ForecastScores(
                decoding=decoding,
                values=forecast,
                actual=seen[:, -1],
                expected=backtest[..., 1],
                score=anomalies.score * mask,
                channel=anomalies.channel,
                oddness=anomalies.oddness * mask[:, None],
                mae=mae.astype(np.float32) * mask,
                covered=(inside.sum(axis=(1, 2)) / cells * mask).astype(np.float32),
                valid=valid,
            )

        return decode

    def columns(self, scores: ForecastScores) -> dict[str, Column]:
        """Fields of the scores, as columns; a quantile column is [batch, 3]."""
        decoding, values = scores.decoding, scores.values
        names = decoding.channels
        return {
            "score": scores.score,
            "channel": [names[place] for place in scores.channel.tolist()],
            "alarm": (scores.score >= np.float32(decoding.anomaly.alarm)).astype(np.int64),
            "mae": scores.mae,
            "covered": scores.covered,
            "step_ms": decoding.step_ms,
            "forecast": {
                name: {str(lead): values[:, lead - 1, place] for lead in decoding.leads}
                for place, name in enumerate(names)
            },
            "actual": dict(zip(names, scores.actual.T, strict=True)),
        }

    def window_errors(
        self, truth: NDArray[Any], values: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Mean squared error of each window: `[n, horizon, channels]`, `[n, horizon, channels, 3]`.

        Both are in standardised units, so that channels weigh alike.
        """
        errors = (values[..., 1].astype(np.float64) - truth) ** 2
        return np.asarray(errors.mean(axis=(1, 2)), dtype=np.float64)

    def health(self, scores: ForecastScores) -> dict[str, float]:
        """Live health figures of a batch; empty without a valid score."""
        if not scores.valid.any():
            return {}
        alarm = scores.score[scores.valid] >= np.float32(scores.decoding.anomaly.alarm)
        return {
            "mae": float(scores.mae[scores.valid].astype(np.float64).mean()),
            "covered": float(scores.covered[scores.valid].astype(np.float64).mean()),
            "alarm_share": float(alarm.mean()),
        }

    def disagreement(
        self, champion: ForecastScores, challenger: ForecastScores, decoding: ForecastDecoding
    ) -> NDArray[np.float64]:
        """Distance of the medians in widths of the champion's p10 to p90, at most 1.

        The mean over channels and stored leads.
        """
        steps = [lead - 1 for lead in decoding.leads]
        is_, other = (
            scores.values[:, steps].astype(np.float64) for scores in (champion, challenger)
        )
        widths = np.maximum(is_[..., 2] - is_[..., 0], _APART * _scale(decoding))
        apart = np.abs(is_[..., 1] - other[..., 1]) / widths
        return np.asarray(np.minimum(apart, 1.0).mean(axis=(1, 2)), dtype=np.float64)

    def unfamiliar(self, scores: ForecastScores) -> None:
        """An odd window has a high anomaly score."""

    def traits(
        self, scores: ForecastScores, decoding: ForecastDecoding, windows: NDArray[np.float32]
    ) -> Traits:
        """The anomaly score, the median of each channel at the first lead, and the backtest."""
        scale = _scale(decoding)
        middle = scores.values[:, decoding.leads[0] - 1, :, 1] / scale
        actual = windows[:, -scores.expected.shape[1] :]
        with np.errstate(over="ignore", invalid="ignore"):  # rows that are not valid
            errors = np.minimum(np.abs(actual - scores.expected) / scale, _COMPARED_ERROR)
        return Traits(
            numbers=np.column_stack([scores.score, middle]).astype(np.float32),
            grain=np.array([_SCORE_GRAIN] + [_GRAIN] * len(scale), dtype=np.float32),
            labels=NO_LABELS,
            unknown=np.zeros(len(scores), dtype=np.bool_),
            error=errors.mean(axis=(1, 2)),
            covered=scores.covered.astype(np.float64),
        )

    @property
    def neutral(self) -> Neutral:
        """The backtest says what readings without anything odd would have been."""
        return "expected"

    def expected(self, scores: ForecastScores) -> NDArray[np.float32]:
        """The median of the backtest."""
        return scores.expected

    def moved(
        self, before: ForecastScores, after: ForecastScores, decoding: ForecastDecoding
    ) -> tuple[Moved, Moved, Moved]:
        """The change of the anomaly score, of the oddness, and of the oddest channel's p50.

        Where several channels are odd, none alone moves the score, which knows the oddest only; the
        sum of their oddness tells how much each of them counts. p50 is that of the first lead.
        """
        channel, step = int(before.channel[0]), decoding.leads[0] - 1
        name = f"forecast of {decoding.channels[channel]}, {decoding.leads[0]} ahead"
        score, oddness, middle = (
            np.asarray(was[0] - became, dtype=np.float64)
            for was, became in (
                (before.score, after.score),
                (before.oddness.sum(axis=1), after.oddness.sum(axis=1)),
                (before.values[:, step, channel, 1], after.values[:, step, channel, 1]),
            )
        )
        return (
            Moved("anomaly score", "1", score, _SAME_SCORE),
            Moved("oddness of all channels", "", oddness, _SAME_ODDNESS),
            Moved(name, "", middle, float(_repeatable(decoding)[channel])),
        )


def _repeatable(decoding: ForecastDecoding) -> NDArray[np.float32]:
    """Largest change of a channel's quantiles with the batch around it, [channels] raw units."""
    spread = np.array(decoding.spread, dtype=np.float32)
    limits: NDArray[np.float32] = np.maximum(_REPEATABLE * spread, np.float32(1e-30))
    return limits


def _scale(decoding: ForecastDecoding) -> NDArray[np.float64]:
    """Training deviation of each channel, [channels]; 1 for a channel that stood still."""
    spread = np.array(decoding.spread, dtype=np.float64)
    return np.where(spread > 0, spread, 1.0)
