"""A schedule of kills and pauses; the same seed gives the same schedule."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

__all__ = ["Fault", "schedule"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: Kind of fault: "kill" is SIGKILL, "pause" is SIGSTOP and SIGCONT.
        victim: Name of the program.
        after_s: Seconds without a fault before it.
        pause_s: Length of the pause; 0 for a kill.
    """

    kind: Literal["kill", "pause"]
    victim: str
    after_s: float
    pause_s: float = 0.0


def schedule(
    victims: Sequence[str], rounds: int, seed: int, *, longest_pause_s: float = 60.0
) -> list[Fault]:
    """`rounds` faults: two kills, then a pause, and so on; every victim in turn, in random order.

    Pauses last 10 s to `longest_pause_s`. Every victim is killed once before one is killed twice,
    and the same for pauses.
    """
    rng = random.Random(seed)
    kinds = list(islice(cycle(["kill", "kill", "pause"]), rounds))
    turns = {kind: _in_turn(victims, kinds.count(kind), rng) for kind in ("kill", "pause")}
    faults = []
    for kind in kinds:
        victim, after_s = turns[kind].pop(0), rng.uniform(0.5, 3.0)
        if kind == "kill":
            faults.append(Fault("kill", victim, after_s))
        else:
            faults.append(Fault("pause", victim, after_s, rng.uniform(10.0, longest_pause_s)))
    return faults


def _in_turn(victims: Sequence[str], count: int, rng: random.Random) -> list[str]:
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += rng.sample(list(victims), len(victims))
    return chosen[:count]
