"""Medians, ratios and targets of runs. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.peers.journal import Run

__all__ = [
    "NO_WORSE",
    "TARGETS",
    "Target",
    "Verdict",
    "figure_of",
    "judge",
    "median_of",
    "ratio_of",
]

Path = tuple[str, ...]
"""Keys that lead to a figure of a run."""

NO_WORSE = 1.05
"""Largest ratio of a figure that should be no worse: equal runs differ by so much."""

_COST = "CPU-seconds per million readings"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be: a share of another candidate's, or at most a value.

    Attributes:
        label: What is measured, with the unit of the figure.
        case: Case of the runs.
        path: Where the figure is in a run.
        of_baseline: Largest ratio to the baseline.
        of_script: Largest ratio to `paho-batch`.
        at_most: Largest value.
        more_is_better: The ratio is to be at least `of_baseline`.
    """

    label: str
    case: str
    path: Path
    of_baseline: float | None = None
    of_script: float | None = None
    at_most: float | None = None
    more_is_better: bool = False


def _live(rate: int, of_baseline: float | None = None, of_script: float | None = None) -> Target:
    return Target(
        f"live, {rate:,} messages/s: {_COST}", "day",
        ("live", str(rate), "cpu_per_million"), of_baseline, of_script,
    )  # fmt: skip


def _delay(rate: int, kind: str, at: str) -> Target:
    name = kind.removesuffix("_ms").replace("_", " ")
    path = ("live", str(rate), kind, at)
    return Target(f"{name}, {rate:,} messages/s: {at}, ms", "day", path, NO_WORSE)


TARGETS: tuple[Target, ...] = (
    _live(50, 0.3),
    _live(200, 0.2, 1.0),
    _live(500, 0.17, 1.0),
    _live(1000),
    _live(2000),
    Target("idle: share of a core", "day", ("idle_share",), at_most=0.005),
    *(
        _delay(rate, kind, at)
        for rate in (50, 200, 500, 2000)
        for kind in ("receive_to_score_ms", "sensor_to_stored_ms")
        for at in ("p50", "p99")
    ),
    Target(f"flood, W1: {_COST}", "flood w1", ("cpu_per_million",), 0.35, 1.0),
    Target(f"flood, W2: {_COST}", "flood w2", ("cpu_per_million",), 0.5, 1.0),
    Target("PUBACK of a lone message: p99, ms", "puback", ("puback_alone_ms", "p99"), at_most=100),
    Target(
        "burst, twenty in flight: messages/s", "puback", ("burst_per_second",), 1 / NO_WORSE,
        more_is_better=True,
    ),
    Target(
        f"site, live at 200/s: bridge, worker and store, {_COST}", "site",
        ("live", "cpu_per_million"), 0.25,
    ),
    Target(
        f"site, live at 200/s: Kafka beside, {_COST}", "site",
        ("live", "kafka_per_million"), 0.4,
    ),
    Target(f"site worker, W1: {_COST}", "site", ("worker_per_million",), 0.35),
    Target(f"bridge to Kafka, W1: {_COST}", "site", ("bridge_per_million",), 0.6),
    Target(
        "store, one score a record: CPU-seconds per million scores", "site",
        ("store_single_per_million",), 0.5,
    ),
    Target("gateway, idle: RSS, MB", "day", ("rss_idle_mb",), at_most=85),
    Target("gateway: cold start, s", "day", ("cold_start_s",), at_most=1.2),
)  # fmt: skip
"""What issue 17 asks for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target beside what was measured; None where nothing was.

    Attributes:
        target: What was asked for.
        now: Median of this revision.
        baseline: Median of the baseline.
        script: Median of `paho-batch`.
        to_baseline: Median of the ratios of neighbouring runs.
        to_script: The same.
    """

    target: Target
    now: float | None
    baseline: float | None
    script: float | None
    to_baseline: float | None
    to_script: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether everything asked for was measured and holds; None: not measured or no target."""
        target = self.target
        pairs = [
            (self.to_baseline, target.of_baseline),
            (self.to_script, target.of_script),
            (self.now, target.at_most),
        ]
        found = []
        for at, (measured, limit) in enumerate(pairs):
            if limit is None:
                continue
            if measured is None:
                return None
            more = target.more_is_better and at == 0
            found.append(measured >= limit if more else measured <= limit)
        return all(found) if found else None


def judge(runs: Sequence[Run], targets: Iterable[Target] = TARGETS) -> list[Verdict]:
    """Every target beside its figures. Runs with a wrong or missing score do not count."""
    found = []
    for target in targets:
        case, path = target.case, target.path
        found.append(
            Verdict(
                target,
                median_of(runs, case, "now", path),
                median_of(runs, case, "baseline", path),
                median_of(runs, case, "paho-batch", path),
                ratio_of(runs, case, path, "baseline"),
                ratio_of(runs, case, path, "paho-batch"),
            )
        )
    return found


def median_of(runs: Iterable[Run], case: str, candidate: str, path: Path) -> float | None:
    """Median of a figure over the rounds."""
    found = _by_round(runs, case, candidate, path)
    return statistics.median(found.values()) if found else None


def ratio_of(runs: Sequence[Run], case: str, path: Path, to: str) -> float | None:
    """Median over the rounds of this revision's figure, divided by that of another candidate."""
    now, other = _by_round(runs, case, "now", path), _by_round(runs, case, to, path)
    ratios = [now[round_] / other[round_] for round_ in now if other.get(round_)]
    return statistics.median(ratios) if ratios else None


def figure_of(run: Run, path: Path) -> float | None:
    """A figure of a run; None: it has none."""
    found: Any = run.figures
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else None


def _by_round(runs: Iterable[Run], case: str, candidate: str, path: Path) -> dict[int, float]:
    found = {}
    for run in runs:
        if (run.case, run.candidate) == (case, candidate) and run.holds:
            figure = figure_of(run, path)
            if figure is not None:
                found[run.round] = figure
    return found
