"""Which runs make a benchmark, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["CASES", "FULL", "LIVE_RATES", "QUICK", "Form", "Step", "steps"]

LIVE_RATES = (50, 200, 500, 1000, 2000)

CASES: dict[str, tuple[str, ...]] = {
    "day": ("now", "baseline", "paho-batch"),
    "flood w1": ("now", "baseline", "paho-batch"),
    "flood w2": ("now", "baseline", "paho-batch"),
    "puback": ("now", "baseline"),
    "site": ("now", "baseline"),
    "peers w1": ("paho-naive", "bytewax", "quix", "faust", "ekuiper", "telegraf"),
    "peers w2": ("paho-naive", "bytewax", "quix", "faust", "ekuiper"),
    "profile": ("now", "baseline"),
    "floor": ("now",),
}
"""Case -> its candidates."""


@dataclass(frozen=True, slots=True)
class Form:
    """How much is measured.

    Attributes:
        rounds: Rounds of each case.
        rates: Messages a second of the live loads.
        seconds: Length of each live load.
        idle_s: Time without a message.
        per_device: Readings of a device in a flood of `w1`, of `w2`, of a site, and of peers
            with Kafka.
    """

    rounds: dict[str, int]
    rates: tuple[int, ...]
    seconds: float
    idle_s: float
    per_device: dict[str, int]


FULL = Form(
    rounds={"day": 5, "flood w1": 5, "flood w2": 5, "puback": 3, "site": 5, "peers w1": 3,
            "peers w2": 3, "profile": 1, "floor": 1},
    rates=LIVE_RATES,
    seconds=20,
    idle_s=30,
    per_device={"w1": 400, "w2": 6400, "site": 400, "kafka w1": 200, "kafka w2": 3200},
)  # fmt: skip

QUICK = Form(
    rounds={"day": 3, "flood w1": 3, "flood w2": 3, "puback": 1, "site": 2, "peers w1": 1,
            "peers w2": 1, "profile": 1, "floor": 1},
    rates=(50, 200, 500, 2000),
    seconds=10,
    idle_s=15,
    per_device={"w1": 200, "w2": 3200, "site": 300, "kafka w1": 100, "kafka w2": 1280},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One run that is due."""

    case: str
    candidate: str
    round: int


def steps(form: Form, only: Sequence[str] = ()) -> Iterator[Step]:
    """All runs: round by round, so that an early end leaves some of everything.

    In every other round the candidates of a case run in reverse order, because the machine may
    get slower or faster with time.

    >>> [step.candidate for step in steps(QUICK, ["site"])]
    ['now', 'baseline', 'baseline', 'now']
    """
    cases = [case for case in CASES if not only or case in only]
    for round_ in range(max(form.rounds[case] for case in cases)):
        for case in cases:
            if round_ < form.rounds[case]:
                candidates = CASES[case][:: -1 if round_ % 2 else 1]
                for candidate in candidates:
                    yield Step(case, candidate, round_)
