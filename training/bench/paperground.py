"""The paper's ground: which network, on which set, with which anchors, under which settings.

The settings are those of the first author's public code line (window of 30 cycles, 14 sensors,
min-max scaling per operating condition, label up to 125, Adam 1e-3 with weight decay 1e-4, batches
of 128; with anchors a tenth of the rate after 5/8 of the steps), apart from the number of passes,
which is cut to what a CPU can do (`PASSES`; the code line has 160).

A **run** is one training. One training is measured under both protocols, because the test set is
scored at every checkpoint: the clean protocol takes the last one, the literature's the one with the
best test result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from training.bench.papernets import NETWORKS

__all__ = [
    "ARMS",
    "BENCHMARKS",
    "PASSES",
    "PaperRun",
    "extra_runs",
    "main_runs",
    "missing_paper_runs",
]

ARMS = ("none", "text", "random")
"""`none`: plain head. `text`: anchors from sentences. `random`: Gaussian directions instead."""

BENCHMARKS = ("FD001", "FD002", "FD003", "FD004", "UCI-HAR")
SEEDS = (0, 1, 2)

PASSES = {
    "bilstm": {"FD001": 14, "FD002": 5, "FD003": 11, "FD004": 5, "UCI-HAR": 10},
    "cnn": {"FD001": 6, "FD002": 3, "FD003": 5, "FD004": 2, "UCI-HAR": 5},
    "penet": {"FD001": 6, "FD002": 3, "FD003": 5, "FD004": 2, "UCI-HAR": 5},
}
"""Passes over the training windows: 1 400 to 1 700 steps (Bi-LSTM) and 650 to 900 on C-MAPSS."""

VARIANTS = {
    "": "as in the table",
    "no-dropout": "no dropout",
    "four-times": "four times the passes",
    "alpha-absent": "no scale alpha in training, 14.3 in use",
    "one-scaler": "one min-max scaler for all operating conditions",
    "all-engines": "no engine held out",
    "unit-anchors": "anchors of length 1 instead of 11.7",
}
"""Runs that differ from the table in one setting."""

_EXTRA: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    *(
        ("no-dropout", network, benchmark, ARMS)
        for benchmark in BENCHMARKS[:4]
        for network in ("cnn", "penet")
    ),
    ("four-times", "bilstm", "FD001", ARMS),
    ("alpha-absent", "bilstm", "FD001", ("text", "random")),
    ("one-scaler", "bilstm", "FD002", ARMS),
    ("four-times", "penet", "FD001", ARMS),
    ("four-times", "bilstm", "UCI-HAR", ARMS),
    ("no-dropout", "bilstm", "FD001", ARMS),
    ("all-engines", "bilstm", "FD001", ARMS),
    ("unit-anchors", "bilstm", "FD001", ("text", "random")),
)


@dataclass(frozen=True, slots=True)
class PaperRun:
    """One training on the paper's ground.

    Attributes:
        network: Key of `training.bench.papernets.NETWORKS`.
        benchmark: One of `BENCHMARKS`, or a made-up set for tests.
        arm: One of `ARMS`.
        seed: Seed of weights, batches, dropout, held-out groups and random anchors.
        passes: Passes over the training windows.
        variant: Key of `VARIANTS`.
    """

    network: str
    benchmark: str
    arm: str
    seed: int
    passes: int
    variant: str = ""

    @property
    def key(self) -> str:
        """Identity of the run in the results file."""
        parts = (self.network, self.benchmark, self.arm, str(self.seed), str(self.passes))
        return "/".join((*parts, self.variant) if self.variant else parts)


def main_runs() -> list[PaperRun]:
    """List the runs of the table; seed 0 of every cell comes first."""
    return [
        PaperRun(network, benchmark, arm, seed, PASSES[network][benchmark])
        for seed in SEEDS
        for benchmark in BENCHMARKS
        for network in NETWORKS
        for arm in ARMS
    ]


def extra_runs() -> list[PaperRun]:
    """List the runs that vary one setting in one cell; seed 0 of every variant comes first."""
    return [
        PaperRun(
            network,
            benchmark,
            arm,
            seed,
            PASSES[network][benchmark] * (4 if variant == "four-times" else 1),
            variant,
        )
        for seed in SEEDS
        for variant, network, benchmark, arms in _EXTRA
        for arm in arms
    ]


def missing_paper_runs(runs: Sequence[PaperRun], lines: Iterable[dict[str, Any]]) -> list[PaperRun]:
    """Return the runs without a line, in order."""
    done = {line["config"] for line in lines}
    return [run for run in runs if run.key not in done]
