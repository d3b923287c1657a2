"""How the scores of a challenger compare with the champion's, on the same windows. Pure.

`Comparison` takes batches that both students have scored; `Evidence` is what they amount to, in
whole numbers as in `Thresholds`; `Evidence.verdict` judges. All figures are those of the newest
windows (`RECENT`), so that a fault which begins late is not diluted by good times, and memory is
bounded.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models.tasks.contract import Answer, Scores
from models.tasks.fields import Decoding
from models.tasks.traits import Traits
from pipeline.scoring.thresholds import Thresholds

__all__ = ["RECENT", "Comparison", "Evidence", "population_stability"]

RECENT = 500
"""Windows that the figures are of."""
_TIMES = 500
"""Batches that the times are of."""
_BINS = 10
_LEAST_VARIETY = 0.2
"""Variety (`_variety`) of the champion's classes below which a challenger's tells nothing."""
_LEAST_SPREAD = 0.5
"""Deviation of the champion's numbers, in grains, below which a challenger's tells nothing: a
healthy machine keeps its students at one number, and the better one may not move at all."""
_LEAST_ERROR = 0.02
"""Errors below this, in training deviations, are as good as none."""
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a challenger; None for what has not been measured or does not apply.

    Attributes:
        windows: Windows that both students have scored, since the comparison began.
        nonfinite_permille: Share of the windows with a finite score by the champion to which the
            challenger gave none, rounded up.
        latency_us: 99th percentile of its CPU time for a batch, microseconds.
        latency_percent: Its time in per cent of the champion's for the same batches: of the 99th
            percentile or of the sum, whichever is more. The sum shows a student that is always
            slower through the outliers of a busy machine, the percentile one that is so at times.
        disagreement_permille: Mean disagreement (`Answer.disagreement`).
        psi_permille: Population stability index of its scores against the champion's; the largest
            one of several numbers.
        spread_percent: Spread of its scores in per cent of the champion's; the smallest one of
            several numbers.
        unknown_permille: Share of unknown windows beyond the champion's share.
        error_percent: Live error in per cent of the champion's.
        coverage_permille: Loss of interval coverage against the champion's.
    """

    windows: int = 0
    nonfinite_permille: int | None = None
    latency_us: int | None = None
    latency_percent: int | None = None
    disagreement_permille: int | None = None
    psi_permille: int | None = None
    spread_percent: int | None = None
    unknown_permille: int | None = None
    error_percent: int | None = None
    coverage_permille: int | None = None

    def figures(self) -> dict[str, int]:
        """What has been measured, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def verdict(self, thresholds: Thresholds) -> str | None:
        """Why the challenger is unhealthy, with numbers; None while it is not known to be.

        Windows without a finite score count from the first one, everything else once
        `Thresholds.windows` windows have been compared.
        """
        limits = thresholds
        if _above(self.nonfinite_permille, limits.nonfinite_permille):
            return (
                f"it gave no finite score to {_share(self.nonfinite_permille)} of the windows that "
                f"the other student scored (limit {_share(limits.nonfinite_permille)})"
            )
        if self.windows < limits.windows:
            return None
        if _above(self.latency_us, 1000 * limits.latency_ms) and _above(
            self.latency_percent, limits.latency_percent
        ):
            return (
                f"it needs {self.latency_percent} % of the other student's time (limit "
                f"{limits.latency_percent} %), up to {(self.latency_us or 0) / 1000:g} ms for 99 % "
                "of the batches"
            )
        if _above(self.disagreement_permille, limits.disagreement_permille):
            return (
                f"it disagrees with the other student by {_share(self.disagreement_permille)} in "
                f"the mean (limit {_share(limits.disagreement_permille)})"
            )
        if _above(self.psi_permille, limits.psi_permille):
            return (
                "the distribution of its scores differs from the other student's by a population "
                f"stability index of {_thousandths(self.psi_permille)} (limit "
                f"{_thousandths(limits.psi_permille)})"
            )
        if _above(limits.spread_percent, self.spread_percent):
            return (
                f"its scores vary only {self.spread_percent} % as much as the other student's "
                f"(limit {limits.spread_percent} %)"
            )
        if _above(self.unknown_permille, limits.unknown_permille):
            return (
                f"it calls {_share(self.unknown_permille)} more of the windows unknown than the "
                f"other student (limit {_share(limits.unknown_permille)})"
            )
        if _above(self.error_percent, limits.error_percent):
            return (
                f"its live error is {self.error_percent} % of the other student's (limit "
                f"{limits.error_percent} %)"
            )
        if _above(self.coverage_permille, limits.coverage_permille):
            return (
                f"its intervals cover {_share(self.coverage_permille)} less of the readings than "
                f"the other student's (limit {_share(limits.coverage_permille)})"
            )
        return None


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Windows that both students have scored; the traits are of those with a score of both."""

    scored: int
    missing: int
    disagreement: NDArray[np.float64]
    champion: Traits
    challenger: Traits


class Comparison:
    """Collects what two students gave to the same windows; for one thread at a time.

    Args:
        answer: The kind of answer of both.
        decoding: The champion's decoding.
    """

    def __init__(self, answer: Answer, decoding: Decoding) -> None:
        self._answer = answer
        self._decoding = decoding
        self._batches: deque[_Batch] = deque()
        self._times: deque[tuple[float, float]] = deque(maxlen=_TIMES)
        self._windows = 0

    def add(
        self,
        windows: NDArray[np.float32],
        champion: Scores,
        challenger: Scores,
        seconds: tuple[float, float],
    ) -> None:
        """Add a batch.

        Args:
            windows: The windows, [n, length, channels] in raw units.
            champion: The champion's scores of them.
            challenger: The challenger's.
            seconds: CPU time that the champion took for the batch, and the challenger.
        """
        both = champion.valid & challenger.valid
        is_finite = champion.valid
        scored = int(is_finite.sum())
        if not scored:
            return
        decoding, answer = self._decoding, self._answer
        batch = _Batch(
            scored,
            int((is_finite & ~challenger.valid).sum()),
            answer.disagreement(champion, challenger, decoding)[both],
            _rows(answer.traits(champion, decoding, windows), both),
            _rows(answer.traits(challenger, decoding, windows), both),
        )
        self._batches.append(batch)
        self._times.append(seconds)
        self._windows += scored
        while self._recent() - self._batches[0].scored >= RECENT:
            self._batches.popleft()

    def evidence(self) -> Evidence:
        """What the batches so far amount to."""
        if not self._batches:
            return Evidence()
        recent = self._recent()
        disagreement = np.concatenate([batch.disagreement for batch in self._batches])
        missing = sum(batch.missing for batch in self._batches)
        latency_us, latency_percent = _latency(self._times)
        found = Evidence(
            windows=self._windows,
            nonfinite_permille=math.ceil(1000 * missing / recent),
            latency_us=latency_us,
            latency_percent=latency_percent,
        )
        if not len(disagreement):
            return found
        champion = _joined([batch.champion for batch in self._batches])
        challenger = _joined([batch.challenger for batch in self._batches])
        return Evidence(
            windows=found.windows,
            nonfinite_permille=found.nonfinite_permille,
            latency_us=latency_us,
            latency_percent=latency_percent,
            disagreement_permille=_whole(1000 * disagreement.mean()),
            psi_permille=_whole(1000 * _largest_index(champion, challenger)),
            spread_percent=_spread_percent(champion, challenger),
            unknown_permille=_whole(1000 * (challenger.unknown.mean() - champion.unknown.mean())),
            error_percent=_error_percent(champion, challenger),
            coverage_permille=_coverage_loss(champion, challenger),
        )

    def _recent(self) -> int:
        return sum(batch.scored for batch in self._batches)


def population_stability(expected: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Population stability index of two histograms over the same bins.

    The sum of (p - q) ln(p / q). Half a window counts in an empty bin.

    >>> population_stability(np.array([50, 50]), np.array([50, 50]))
    0.0
    >>> round(population_stability(np.array([50, 50]), np.array([80, 20])), 3)
    0.416
    """
    shares = [np.maximum(counts, 0.5) / max(counts.sum(), 1) for counts in (expected, found)]
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def _largest_index(champion: Traits, challenger: Traits) -> float:
    """The largest index over all numbers, or that of the classes."""
    if len(champion.labels):
        return population_stability(*_label_counts(champion, challenger))
    columns = zip(champion.numbers.T, challenger.numbers.T, champion.grain, strict=True)
    return max(population_stability(*_number_counts(*column)) for column in columns)


def _label_counts(
    champion: Traits, challenger: Traits
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each class was given by each of the two, in the order of the classes' names."""
    names = np.union1d(champion.labels, challenger.labels)
    first, second = (
        np.bincount(np.searchsorted(names, side.labels), minlength=len(names)).astype(np.float64)
        for side in (champion, challenger)
    )
    return first, second


def _number_counts(
    champion: NDArray[np.float32], challenger: NDArray[np.float32], grain: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts in the quantile bins of the champion; no bin is narrower than the grain.

    There is one bin if nearly all numbers are within a grain.
    """
    quantiles = np.quantile(champion, np.arange(1, _BINS) / _BINS).tolist()
    edges = quantiles[:1] if quantiles[-1] - quantiles[0] >= grain else []
    for edge in quantiles[1:]:
        if edges and edge - edges[-1] >= grain:
            edges.append(edge)
    first, second = (
        np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1).astype(np.float64)
        for side in (champion, challenger)
    )
    return first, second


def _spread_percent(champion: Traits, challenger: Traits) -> int | None:
    """The challenger's spread in per cent; None while the champion's own is too small to tell."""
    if len(champion.labels):
        counts = _label_counts(champion, challenger)
        before, after = (np.array([_variety(side)]) for side in counts)
        least = np.array([_LEAST_VARIETY])
    else:
        before, after = (
            side.numbers.astype(np.float64).std(axis=0) for side in (champion, challenger)
        )
        least = _LEAST_SPREAD * champion.grain.astype(np.float64)
    tells = before >= least
    return _whole(100 * np.min(after[tells] / before[tells])) if tells.any() else None


def _variety(counts: NDArray[np.float64]) -> float:
    """The probability that two windows have different classes."""
    return float(1 - np.sum((counts / counts.sum()) ** 2))


def _error_percent(champion: Traits, challenger: Traits) -> int | None:
    if champion.error is None or challenger.error is None:
        return None
    before, after = (
        max(float(error.mean()), _LEAST_ERROR) for error in (champion.error, challenger.error)
    )
    return _whole(100 * after / before)


def _coverage_loss(champion: Traits, challenger: Traits) -> int | None:
    if champion.covered is None or challenger.covered is None:
        return None
    return _whole(1000 * (champion.covered.mean() - challenger.covered.mean()))


def _latency(times: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """The challenger's 99th percentile in microseconds, and its time in per cent."""
    found = np.array(times)
    (champion, challenger), sums = np.quantile(found, 0.99, axis=0), found.sum(axis=0)
    ratio = max(challenger / max(champion, 1e-9), sums[1] / max(sums[0], 1e-9))
    return _whole(1e6 * challenger), _whole(100 * ratio)


def _rows(traits: Traits, rows: NDArray[np.bool_]) -> Traits:
    return Traits(
        numbers=traits.numbers[rows],
        grain=traits.grain,
        labels=traits.labels[rows] if len(traits.labels) else traits.labels,
        unknown=traits.unknown[rows],
        error=None if traits.error is None else traits.error[rows],
        covered=None if traits.covered is None else traits.covered[rows],
    )


def _joined(parts: Sequence[Traits]) -> Traits:
    errors = [part.error for part in parts if part.error is not None]
    covered = [part.covered for part in parts if part.covered is not None]
    return Traits(
        numbers=np.concatenate([part.numbers for part in parts]),
        grain=parts[0].grain,
        labels=np.concatenate([part.labels for part in parts]),
        unknown=np.concatenate([part.unknown for part in parts]),
        error=np.concatenate(errors) if errors else None,
        covered=np.concatenate(covered) if covered else None,
    )


def _whole(value: float) -> int:
    """A whole number, also for a value beyond all limits."""
    return round(min(max(float(value), -_MOST), _MOST))


def _above(value: int | None, limit: int | None) -> bool:
    return value is not None and limit is not None and value > limit


def _share(permille: int | None) -> str:
    return f"{(permille or 0) / 10:g} %"


def _thousandths(permille: int | None) -> str:
    return f"{(permille or 0) / 1000:g}"
