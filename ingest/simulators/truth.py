"""What the simulators know and the students must find out: kept beside the readings, and compared.

A truth file is JSON lines, one per stretch: the life of an engine (its RUL falls by one with every
reading from a known start), or one bout of a person's activity.

>>> truth = Truth(rul=[RulTruth("hangar", "engine-01", 1_000, 2.0, 130)], activity=[])
>>> score = {"site": "hangar", "device": "engine-01", "end_ms": 6_001, "rul": 118.0}
>>> print(error_against_truth([score], truth).lines()[0])  # 10 cycles later RUL is 120
RUL        MAE 2.0, RMSE 2.0 cycles over 1 window (RUL capped at 125)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from ingest.simulators.imu import DT_MS

__all__ = [
    "MAX_RUL",
    "ActivityTruth",
    "RulTruth",
    "Truth",
    "TruthError",
    "encode_truth",
    "error_against_truth",
    "read_truth",
]

MAX_RUL: Final = 125
"""Cap of the RUL on both sides of the comparison, per C-MAPSS practice."""


@dataclass(frozen=True, slots=True)
class RulTruth:
    """An engine from `start_ms` on: its RUL there, and one cycle less with every reading."""

    site: str
    device: str
    start_ms: int
    cycles_per_second: float
    rul_cycles: int

    def at(self, ts_ms: int) -> int:
        """RUL in cycles after the reading of `ts_ms`."""
        return self.rul_cycles - round((ts_ms - self.start_ms) * self.cycles_per_second / 1000)


@dataclass(frozen=True, slots=True)
class ActivityTruth:
    """A person did `activity` from `start_ms` until before `end_ms`; transitions lie between."""

    site: str
    device: str
    start_ms: int
    end_ms: int
    activity: str


@dataclass(frozen=True, slots=True)
class Truth:
    """Content of a truth file, in its order."""

    rul: Sequence[RulTruth]
    activity: Sequence[ActivityTruth]


@dataclass(frozen=True, slots=True)
class TruthError:
    """How far scores are from the truth; an error over no windows is None.

    Attributes:
        rul_windows: RUL scores compared.
        rul_mae: Mean absolute error in cycles, both sides capped at `MAX_RUL`.
        rul_rmse: Root mean squared error in cycles, likewise.
        activity_windows: Activity scores whose window lies inside one activity.
        activity_accuracy: Share of those that name it.
        activity_macro_f1: Mean F1 over the activities that occurred.
        transition_windows: Activity scores of windows with a change of activity: not judged.
        unknown_windows: Scores of devices or times that the truth says nothing about.
    """

    rul_windows: int
    rul_mae: float | None
    rul_rmse: float | None
    activity_windows: int
    activity_accuracy: float | None
    activity_macro_f1: float | None
    transition_windows: int
    unknown_windows: int

    def lines(self) -> list[str]:
        """For a person, one line per task."""
        lines = ["RUL        no scores to compare", "activity   no scores to compare"]
        if self.rul_mae is not None and self.rul_rmse is not None:
            lines[0] = (
                f"RUL        MAE {self.rul_mae:.1f}, RMSE {self.rul_rmse:.1f} cycles over "
                f"{_windows(self.rul_windows)} (RUL capped at {MAX_RUL})"
            )
        if self.activity_accuracy is not None and self.activity_macro_f1 is not None:
            lines[1] = (
                f"activity   accuracy {self.activity_accuracy:.3f}, "
                f"macro-F1 {self.activity_macro_f1:.3f} over {_windows(self.activity_windows)}"
            )
            if self.transition_windows:
                lines[1] += f"; {_windows(self.transition_windows)} over a change not judged"
        if self.unknown_windows:
            lines.append(f"no truth   for {_windows(self.unknown_windows)}")
        return lines


def encode_truth(record: RulTruth | ActivityTruth) -> bytes:
    """One line of a truth file, with its line break."""
    task = "rul" if isinstance(record, RulTruth) else "activity"
    return orjson.dumps({"task": task, **asdict(record)}) + b"\n"


def read_truth(path: Path) -> Truth:
    """Read a truth file; a last line without its line break (a killed writer) is left out.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not a truth record; the message has its number.
    """
    truth: dict[str, list[Any]] = {"rul": [], "activity": []}
    kinds: dict[str, Callable[..., Any]] = {"rul": RulTruth, "activity": ActivityTruth}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = orjson.loads(line)
            task = record.pop("task")
            truth[task].append(kinds[task](**record))
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            msg = f"{path}, line {number}, is no truth record: {exc!r}"
            raise ValueError(msg) from exc
    return Truth(rul=truth["rul"], activity=truth["activity"])


def error_against_truth(scores: Iterable[Mapping[str, Any]], truth: Truth) -> TruthError:
    """Compare scores with the truth of their windows.

    Args:
        scores: Score records (as on the topic `scores`) or points with the same names: each has
            `site`, `device`, `end_ms` (epoch ms, exclusive) and either `rul` or `activity`; without
            `start_ms` a window is taken to hold `readings` (128 if that is missing too) at 50 Hz.
        truth: What `read_truth` gives.
    """
    lives, bouts = _by_device(truth.rul), _by_device(truth.activity)
    errors: list[float] = []
    judged: list[tuple[str, str]] = []
    transitions = unknown = 0
    for score in scores:
        device = (str(score["site"]), str(score["device"]))
        last_ms = int(score["end_ms"]) - 1
        if score.get("rul") is not None:
            life = _newest(lives.get(device, []), last_ms)
            if life is None or life.at(last_ms) < 0:
                unknown += 1
            else:
                errors.append(min(float(score["rul"]), MAX_RUL) - min(life.at(last_ms), MAX_RUL))
        elif score.get("activity") is not None:
            first_ms = score.get("start_ms")
            if first_ms is None:
                first_ms = last_ms - (int(score.get("readings") or 128) - 1) * DT_MS
            bout = _newest(bouts.get(device, []), int(first_ms))
            if bout is not None and last_ms < bout.end_ms:
                judged.append((bout.activity, str(score["activity"])))
            elif _touches(bouts.get(device, []), int(first_ms), last_ms):
                transitions += 1
            else:
                unknown += 1
    return TruthError(
        rul_windows=len(errors),
        rul_mae=sum(map(abs, errors)) / len(errors) if errors else None,
        rul_rmse=(sum(e * e for e in errors) / len(errors)) ** 0.5 if errors else None,
        activity_windows=len(judged),
        activity_accuracy=sum(a == b for a, b in judged) / len(judged) if judged else None,
        activity_macro_f1=_macro_f1(judged) if judged else None,
        transition_windows=transitions,
        unknown_windows=unknown,
    )


_Stretch = TypeVar("_Stretch", RulTruth, ActivityTruth)


def _by_device(stretches: Sequence[_Stretch]) -> dict[tuple[str, str], list[_Stretch]]:
    found: defaultdict[tuple[str, str], list[_Stretch]] = defaultdict(list)
    for stretch in sorted(stretches, key=attrgetter("start_ms")):
        found[stretch.site, stretch.device].append(stretch)
    return found


def _newest(stretches: Sequence[_Stretch], ts_ms: int) -> _Stretch | None:
    """The last of the stretches (sorted) that began at or before `ts_ms`."""
    at = bisect_right([stretch.start_ms for stretch in stretches], ts_ms)
    return stretches[at - 1] if at else None


def _touches(bouts: Sequence[ActivityTruth], first_ms: int, last_ms: int) -> bool:
    """Whether [first_ms, last_ms] lies within the time that the bouts span."""
    return bool(bouts) and bouts[0].start_ms <= last_ms and first_ms < bouts[-1].end_ms


def _macro_f1(judged: Sequence[tuple[str, str]]) -> float:
    hits = Counter(true for true, named in judged if true == named)
    occurred, named = Counter(true for true, _ in judged), Counter(name for _, name in judged)
    f1 = [2 * hits[label] / (occurred[label] + named[label]) for label in occurred]
    return sum(f1) / len(f1)


def _windows(count: int) -> str:
    return f"{count:,} window{'' if count == 1 else 's'}"
