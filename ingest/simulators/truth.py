"""The truth behind simulated readings, and the error of scores against it.

The truth travels apart from the readings, in a file of JSON lines with one line per stretch of
time: the life of an engine (its RUL falls by one with every reading from a known start), or one
bout of a person's activity. Each kind of device has its own judge.

>>> truth = [EngineTruth("hangar", "engine-01", 1_000, 2.0, 130)]
>>> score = {"site": "hangar", "device": "engine-01", "end_ms": 6_001, "rul": 118.0}
>>> print(error_against_truth([score], truth).lines()[0])  # 10 cycles later RUL is 120
RUL        MAE 2.0, RMSE 2.0 cycles over 1 window (RUL capped at 125)
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import orjson

from ingest.simulators.imu import DT_MS

__all__ = [
    "MAX_RUL",
    "EngineError",
    "EngineTruth",
    "PersonError",
    "PersonTruth",
    "TransformerTruth",
    "TruthError",
    "TruthRecord",
    "encode_truth",
    "error_against_truth",
    "read_truth",
]

MAX_RUL: Final = 125
"""Cap of the RUL on both sides of the comparison, per C-MAPSS practice."""
_DEFAULT_READINGS = 128  # of an IMU window


@dataclass(frozen=True, slots=True)
class EngineTruth:
    """The life of an engine from `start_ms` on: one cycle of RUL less with every reading.

    Attributes:
        task: Task of the scores that this truth judges, also its field in them.
        site: Site of the engine.
        device: Device name of the engine.
        start_ms: Event time of the first reading, epoch ms.
        cycles_per_second: Readings per second.
        rul_cycles: RUL at `start_ms`.
    """

    task: ClassVar[str] = "rul"
    site: str
    device: str
    start_ms: int
    cycles_per_second: float
    rul_cycles: int

    def at(self, ts_ms: int) -> int:
        """Return the RUL in cycles after the reading of `ts_ms`."""
        return self.rul_cycles - round((ts_ms - self.start_ms) * self.cycles_per_second / 1000)


@dataclass(frozen=True, slots=True)
class PersonTruth:
    """One bout: a person did `activity` in [start_ms, end_ms); transitions lie between bouts.

    Attributes:
        task: Task of the scores that this truth judges, also its field in them.
        site: Site of the person.
        device: Device name of the IMU.
        start_ms: Event time of the first reading, epoch ms.
        end_ms: Epoch ms, exclusive.
        activity: Label of the activity.
    """

    task: ClassVar[str] = "activity"
    site: str
    device: str
    start_ms: int
    end_ms: int
    activity: str


@dataclass(frozen=True, slots=True)
class TransformerTruth:
    """One fault of a transformer's sensor in [start_ms, end_ms).

    Attributes:
        task: Task of the scores that this truth judges.
        site: Site of the transformer.
        device: Device name of the transformer.
        start_ms: Event time of the first faulty reading, epoch ms.
        end_ms: Event time of the first reading after the fault, epoch ms.
        kind: Kind of the fault, as in `ingest.simulators.faults`.
        channel: Channel with the fault.
        size: Size of the fault, as in `ingest.simulators.faults`.
    """

    task: ClassVar[str] = "forecast"
    site: str
    device: str
    start_ms: int
    end_ms: int
    kind: str
    channel: str
    size: float

    def cut(self, end_ms: int) -> TransformerTruth:
        """Return the part of the fault before `end_ms`."""
        return replace(self, end_ms=min(self.end_ms, end_ms))


TruthRecord = EngineTruth | PersonTruth | TransformerTruth
_RECORDS: Final[dict[str, type[TruthRecord]]] = {
    record.task: record for record in (EngineTruth, PersonTruth, TransformerTruth)
}


@dataclass(frozen=True, slots=True)
class EngineError:
    """Error of RUL scores; None without a window.

    Attributes:
        windows: Scores compared.
        mae: Mean absolute error in cycles, both sides capped at `MAX_RUL`.
        rmse: Root mean squared error in cycles, likewise.
    """

    windows: int
    mae: float | None
    rmse: float | None

    def line(self) -> str:
        """Return one line of text."""
        if self.mae is None or self.rmse is None:
            return "RUL        no scores to compare"
        return (
            f"RUL        MAE {self.mae:.1f}, RMSE {self.rmse:.1f} cycles over "
            f"{_windows(self.windows)} (RUL capped at {MAX_RUL})"
        )


@dataclass(frozen=True, slots=True)
class PersonError:
    """Error of activity scores; None without a window.

    Attributes:
        windows: Scores whose window lies inside one bout.
        accuracy: Share of those with the right label.
        macro_f1: Mean F1 over the activities that occurred.
        transition_windows: Scores of windows with a change of activity: not judged.
    """

    windows: int
    accuracy: float | None
    macro_f1: float | None
    transition_windows: int

    def line(self) -> str:
        """Return one line of text."""
        if self.accuracy is None or self.macro_f1 is None:
            return "activity   no scores to compare"
        line = (
            f"activity   accuracy {self.accuracy:.3f}, "
            f"macro-F1 {self.macro_f1:.3f} over {_windows(self.windows)}"
        )
        if self.transition_windows:
            line += f"; {_windows(self.transition_windows)} over a change not judged"
        return line


@dataclass(frozen=True, slots=True)
class TruthError:
    """Error of scores against the truth.

    Attributes:
        engines: Error of the RUL scores.
        people: Error of the activity scores.
        unknown_windows: Scores of devices or times without a truth record.
    """

    engines: EngineError
    people: PersonError
    unknown_windows: int

    def lines(self) -> list[str]:
        """Return the report, one line per kind of device."""
        lines = [self.engines.line(), self.people.line()]
        if self.unknown_windows:
            lines.append(f"no truth   for {_windows(self.unknown_windows)}")
        return lines


def encode_truth(record: TruthRecord) -> bytes:
    """Encode a record as one line of a truth file, with its line break."""
    return orjson.dumps({"task": record.task, **asdict(record)}) + b"\n"


def read_truth(path: Path) -> list[TruthRecord]:
    """Read a truth file; a last line without its line break (a killed writer) is left out.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not a truth record; the message has its number.
    """
    records: list[TruthRecord] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = orjson.loads(line)
            records.append(_RECORDS[record.pop("task")](**record))
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            msg = f"{path}, line {number}, is not a truth record: {exc!r}"
            raise ValueError(msg) from exc
    return records


def error_against_truth(
    scores: Iterable[Mapping[str, Any]], truth: Sequence[TruthRecord]
) -> TruthError:
    """Compare scores with the truth of their windows.

    Args:
        scores: Score records (as on the topic `scores`) or points with the same names. Each has
            `site`, `device`, `end_ms` (epoch ms, exclusive) and the field of its task. Without
            `start_ms` a window is taken to hold `readings` (128 if that is missing too) at 50 Hz.
        truth: Records, as `read_truth` returns them.
    """
    engines = _EngineJudge([each for each in truth if isinstance(each, EngineTruth)])
    people = _PersonJudge([each for each in truth if isinstance(each, PersonTruth)])
    judges: tuple[_EngineJudge | _PersonJudge, ...] = (engines, people)
    unknown = 0
    for score in scores:
        judge = next((each for each in judges if score.get(each.field) is not None), None)
        if judge is not None:
            unknown += not judge.judge(score)
    return TruthError(engines.error(), people.error(), unknown)


class _EngineJudge:
    """Compares RUL scores with the true RUL of engines."""

    field = EngineTruth.task

    def __init__(self, engines: Sequence[EngineTruth]) -> None:
        self._engines = _by_device(engines)
        self._errors: list[float] = []

    def judge(self, score: Mapping[str, Any]) -> bool:
        """Take a score; False if no truth covers its window."""
        last_ms = int(score["end_ms"]) - 1
        life = _newest(self._engines.get(_device(score), []), last_ms)
        if life is None or life.at(last_ms) < 0:
            return False
        rul = float(score[self.field])
        self._errors.append(min(rul, MAX_RUL) - min(life.at(last_ms), MAX_RUL))
        return True

    def error(self) -> EngineError:
        errors = self._errors
        if not errors:
            return EngineError(0, None, None)
        mae = sum(map(abs, errors)) / len(errors)
        return EngineError(len(errors), mae, (sum(e * e for e in errors) / len(errors)) ** 0.5)


class _PersonJudge:
    """Compares activity scores with the bouts of people."""

    field = PersonTruth.task

    def __init__(self, bouts: Sequence[PersonTruth]) -> None:
        self._bouts = _by_device(bouts)
        self._judged: list[tuple[str, str]] = []  # true and scored label
        self._transitions = 0

    def judge(self, score: Mapping[str, Any]) -> bool:
        """Take a score; False if no truth covers its window."""
        last_ms, first_ms = int(score["end_ms"]) - 1, score.get("start_ms")
        if first_ms is None:
            first_ms = last_ms - (int(score.get("readings") or _DEFAULT_READINGS) - 1) * DT_MS
        bouts = self._bouts.get(_device(score), [])
        bout = _newest(bouts, int(first_ms))
        if bout is not None and last_ms < bout.end_ms:
            self._judged.append((bout.activity, str(score[self.field])))
        elif bouts and bouts[0].start_ms <= last_ms and int(first_ms) < bouts[-1].end_ms:
            self._transitions += 1
        else:
            return False
        return True

    def error(self) -> PersonError:
        judged = self._judged
        if not judged:
            return PersonError(0, None, None, self._transitions)
        accuracy = sum(true == scored for true, scored in judged) / len(judged)
        return PersonError(len(judged), accuracy, _macro_f1(judged), self._transitions)


_Stretch = TypeVar("_Stretch", EngineTruth, PersonTruth)


def _device(score: Mapping[str, Any]) -> tuple[str, str]:
    return str(score["site"]), str(score["device"])


def _by_device(stretches: Sequence[_Stretch]) -> dict[tuple[str, str], list[_Stretch]]:
    found: defaultdict[tuple[str, str], list[_Stretch]] = defaultdict(list)
    for stretch in sorted(stretches, key=attrgetter("start_ms")):
        found[stretch.site, stretch.device].append(stretch)
    return found


def _newest(stretches: Sequence[_Stretch], ts_ms: int) -> _Stretch | None:
    """Return the last of the sorted stretches that began at or before `ts_ms`."""
    at = bisect_right([stretch.start_ms for stretch in stretches], ts_ms)
    return stretches[at - 1] if at else None


def _macro_f1(judged: Sequence[tuple[str, str]]) -> float:
    hits = Counter(true for true, scored in judged if true == scored)
    occurred, scored = Counter(true for true, _ in judged), Counter(label for _, label in judged)
    f1 = [2 * hits[label] / (occurred[label] + scored[label]) for label in occurred]
    return sum(f1) / len(f1)


def _windows(count: int) -> str:
    return f"{count:,} window{'' if count == 1 else 's'}"
