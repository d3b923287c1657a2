"""The description of your own labelled data: one TOML file, for remaining useful life or classes.

    name = "pumps"
    task = "rul"                     # or activity
    stream = "pump"                  # stream of the devices on the gateway
    files = ["pumps/*.csv"]          # relative to this file: CSV, Parquet, HDF5, folders, archives
    device_column = "pump"           # machine or person; left out: each file is one device

    [time]
    column = "time"                  # left out: the readings are in the order of their lines
    form = "cycle"                   # or epoch_s, epoch_ms, iso, or a pattern "%d.%m.%Y %H:%M"

    [[channels]]
    name = "flow"                    # the key in a message's values
    unit = "m3/h"
    column = "Flow [m3/h]"           # left out: the name

    [rul]
    end = "failure"                  # the last reading of every device is its failure
    censored = ["P-07"]              # except of these, which still run

    [window]
    length = 30

docs/own-data.md describes every field. A fault is told with its place and what to do, and all of
them at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from ingest.recordings.columns import Notation
from ingest.units import UnitMismatch, UnknownUnit, convert
from models.tasks.fields import ClassLabel, Frozen, Label, Name, Text, require_unique
from models.tasks.registry import find_task
from models.tasks.rul import MAX_RUL
from pipeline.windows.resample import MOST_HZ
from training.errors import DataSetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Activity",
    "Channel",
    "Files",
    "Own",
    "OwnTime",
    "Rul",
    "Test",
    "Window",
    "described",
    "is_own",
    "read_own_description",
    "several_faults",
]

_MOST_READINGS = 4096
_STEPS = 5  # a gap is a jump of more than so many steps of the rate, unless the file says it


class Files(Frozen):
    """Files of one place: a path or pattern, and what to take from an archive, folder or HDF5."""

    path: Annotated[str, Field(min_length=1)]
    inside: Annotated[str, Field(min_length=1)] | None = None
    part: str = ""


def _as_files(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class OwnTime(Frozen):
    """The time or cycle of a reading."""

    column: Annotated[str, Field(min_length=1)] | None = None
    form: Annotated[str, Field(min_length=1)] = "cycle"
    zone: str = "UTC"
    restarts: Annotated[bool, Strict()] = False

    @model_validator(mode="after")
    def _whole(self) -> OwnTime:
        known = ("cycle", "epoch_s", "epoch_ms", "iso")
        if self.form not in known and "%" not in self.form:
            msg = f"form is {self.form!r}: use {', '.join(known)}, or a pattern such as %d.%m.%Y"
            raise ValueError(msg)
        if self.column is None and self.form != "cycle":
            msg = f"form is {self.form!r}, but no column holds the time: give time.column"
            raise ValueError(msg)
        if self.restarts and self.column is None:
            msg = "restarts tells machines apart by a column that begins again: give time.column"
            raise ValueError(msg)
        return self


class Channel(Frozen):
    """A channel, the column that holds it, and the unit that the student reads."""

    name: Name
    unit: Label
    column: Annotated[str, Field(min_length=1)] | None = None
    to: Label | None = None

    @model_validator(mode="after")
    def _converts(self) -> Channel:
        if self.to is not None:
            try:
                convert(self.unit, self.to)
            except (UnitMismatch, UnknownUnit) as exc:
                raise ValueError(str(exc)) from exc
        return self

    @property
    def header(self) -> str:
        """Name of the column in the files."""
        return self.name if self.column is None else self.column

    @property
    def factors(self) -> tuple[float, float]:
        """Scale and offset from the unit of the file to that of the student."""
        return (1.0, 0.0) if self.to is None else convert(self.unit, self.to)


class Rul(Frozen):
    """Where the remaining useful life comes from: the end of a device, labels, or a column."""

    end: Literal["failure"] | None = None
    column: Annotated[str, Field(min_length=1)] | None = None
    labels: Annotated[str, Field(min_length=1)] | None = None
    censored: tuple[str, ...] = ()
    censored_column: Annotated[str, Field(min_length=1)] | None = None
    cap: Annotated[int, Strict(), Field(ge=2, le=100_000)] = MAX_RUL
    unit: Label | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Rul:
        given = [key for key in ("end", "column", "labels") if getattr(self, key) is not None]
        if len(given) != 1:
            msg = (
                f"give one of end, column and labels, not {' and '.join(given) or 'none'}: "
                'end = "failure" says that each device ends with its failure'
            )
            raise ValueError(msg)
        if given != ["end"] and (self.censored or self.censored_column):
            msg = f"censored devices are for end, not for {given[0]}, which says it by itself"
            raise ValueError(msg)
        if self.column is None and self.unit not in (None, "cycles", "hours"):
            msg = f"unit is {self.unit!r}: life that is counted down is in cycles or hours"
            raise ValueError(msg)
        return self


class Activity(Frozen):
    """Where the class of a reading comes from: a column, or marked spans of time."""

    column: Annotated[str, Field(min_length=1)] | None = None
    labels: Annotated[str, Field(min_length=1)] | None = None
    classes: Annotated[tuple[ClassLabel, ...], Field(min_length=2)] | None = None
    ignore: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Activity:
        if (self.column is None) == (self.labels is None):
            msg = "give one of column (a class in every line) and labels (labels.jsonl with spans)"
            raise ValueError(msg)
        if self.classes is not None:
            require_unique("classes", self.classes)
        return self


class Window(Frozen):
    """The windows of the student."""

    length: Annotated[int, Strict(), Field(ge=2, le=_MOST_READINGS)] = 30
    hop: Annotated[int, Strict(), Field(ge=1)] = 1
    rate_hz: Annotated[float, Strict(), Field(gt=0, le=MOST_HZ)] | None = None
    gap_ms: Annotated[int, Strict(), Field(ge=1)] | None = None
    min_readings: Annotated[int, Strict(), Field(ge=1)] | None = None
    every: Annotated[int, Strict(), Field(ge=1)] = 1

    @model_validator(mode="after")
    def _fits(self) -> Window:
        if self.min_readings is not None and self.min_readings > self.length:
            msg = f"min_readings is {self.min_readings}, more than the length {self.length}"
            raise ValueError(msg)
        if self.min_readings is not None and (self.hop > 1 or self.longest_gap_ms is not None):
            msg = "min_readings, for windows padded in front, needs hop = 1 and no gap or rate"
            raise ValueError(msg)
        return self

    @property
    def longest_gap_ms(self) -> int | None:
        """Jump of time that breaks a window; None for none."""
        if self.gap_ms is not None or self.rate_hz is None:
            return self.gap_ms
        return max(round(_STEPS * 1000 / self.rate_hz), 1)


class Test(Frozen):
    """The test part, which no training reads: groups, or files of its own."""

    __test__ = False  # no test of pytest

    groups: tuple[str, ...] = ()
    files: tuple[Files, ...] = ()
    remaining: Files | None = None

    @model_validator(mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return _with_files(value, "remaining")

    @model_validator(mode="after")
    def _one(self) -> Test:
        if bool(self.groups) == bool(self.files):
            msg = "give one of groups and files"
            raise ValueError(msg)
        if self.remaining and not self.files:
            msg = "remaining says what is left of the devices of test.files: give them"
            raise ValueError(msg)
        return self


class Own(Frozen):
    """A description of own labelled data."""

    name: Name
    task: str
    stream: Name
    files: Annotated[tuple[Files, ...], Field(min_length=1)]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=256)]
    device_column: Annotated[tuple[str, ...], Field(max_length=4)] = ()
    group_column: Annotated[str, Field(min_length=1)] | None = None
    word: Label | None = None
    subject: Literal["machine", "person"] | None = None
    time: OwnTime = OwnTime()
    rul: Rul | None = None
    activity: Activity | None = None
    window: Window = Window()
    test: Test | None = None
    scaling: Literal["minmax", "zscore", "conditions"] | None = None
    title: Text = ""
    terms: Text = "trained on readings of the operator"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Annotated[str, Field(pattern=r"^[.,]$")] = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = Notation().missing
    header: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return _with_files(value)

    @field_validator("device_column", mode="before")
    @classmethod
    def _one_column(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Own:
        require_unique("channels", tuple(channel.name for channel in self.channels))
        if self.task not in ("rul", "activity"):
            msg = f"task is {self.task!r}: use rul or activity"
            raise ValueError(msg)
        other = "activity" if self.task == "rul" else "rul"
        if getattr(self, self.task) is None or getattr(self, other) is not None:
            msg = f"task {self.task} needs the table [{self.task}], and not [{other}]"
            raise ValueError(msg)
        answer = self.rul or self.activity
        needs_time = answer is not None and answer.labels is not None
        if self.time.form == "cycle":
            counts_hours = self.rul is not None and not self.rul.column and self.rul.unit == "hours"
            if needs_time or counts_hours:
                msg = "labels and hours need times: give time.column and time.form"
                raise ValueError(msg)
            if self.window.rate_hz is not None or self.window.gap_ms is not None:
                msg = "rate_hz and gap_ms need times: give time.column and time.form"
                raise ValueError(msg)
        if self.decimal == self.separator:
            msg = f"separator and decimal are both {self.decimal!r}: correct one"
            raise ValueError(msg)
        if self.scaling == "conditions" and len(self.channels) < 4:
            msg = "scaling by conditions takes the first three channels as settings, so give more"
            raise ValueError(msg)
        return self

    @property
    def notation(self) -> Notation:
        """How the text files are written."""
        return Notation(self.separator, self.decimal, self.encoding, self.missing, self.header)

    @property
    def group_word(self) -> str:
        """Noun for a group."""
        return self.word or self.subject or find_task(self.task).subject

    @property
    def life_unit(self) -> str:
        """Unit of the remaining useful life: as stated, hours where there are times, or cycles."""
        if self.rul is None or self.time.form == "cycle" or self.rul.column is not None:
            return (self.rul and self.rul.unit) or "cycles"
        return self.rul.unit or "hours"

    @property
    def task_name(self) -> str:
        """Name of the task in the registry of tasks."""
        return find_task(self.task).name


def _with_files(value: Any, *single: str) -> Any:
    """Let a path stand for a table with the path only."""
    if not isinstance(value, dict):
        return value
    changed = dict(value)
    if isinstance(changed.get("files"), (list, tuple)):
        changed["files"] = [_as_files(one) for one in changed["files"]]
    for key in single:
        if key in changed:
            changed[key] = _as_files(changed[key])
    return changed


def described(path: Path) -> Path:
    """Return the description in a folder of data, if it has one; else the path itself."""
    return inside if (inside := path / "dataset.toml").is_file() else path


def is_own(path: Path) -> bool:
    """Whether a path is that of a description of labelled data: a `.toml` that has no `step_s`.

    A description of series, for a forecast, states that distance between two readings.
    """
    if path.suffix.lower() != ".toml":
        return False
    try:
        return "step_s" not in tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # reading it says what is wrong


def read_own_description(path: Path) -> Own:
    """Read a description file.

    Raises:
        DataSetError: The file cannot be read, is not TOML, or has wrong fields; a line for each.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        msg = f"cannot read the description {path}: {exc.strerror}: check --data"
        raise DataSetError(msg) from exc
    except UnicodeDecodeError as exc:
        msg = f"{path} is not UTF-8 text: save it as UTF-8"
        raise DataSetError(msg) from exc
    except tomllib.TOMLDecodeError as exc:
        msg = f"{path} is not TOML: {exc}: correct that line"
        raise DataSetError(msg) from exc
    try:
        return Own.model_validate(table)
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_url=False)]
        raise DataSetError(several_faults(str(path), faults)) from exc


def several_faults(place: str, faults: list[str]) -> str:
    """Tell one fault on a line, or several on a line each."""
    if len(faults) == 1:
        return f"{place}: {faults[0]}"
    return "\n  ".join([f"{place} has {len(faults)} faults:", *faults])


def _fault(error: Any) -> str:
    """Say where a field is wrong and what to do."""
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in error["loc"])
    advice = {
        "missing": "it is missing: add it",
        "extra_forbidden": "there is no such field: correct its name or remove it",
    }
    text = advice.get(error["type"])
    if text is None:
        text = str(error["msg"]).removeprefix("Value error, ")
        if isinstance(error.get("input"), (str, int, float)):
            text = f"{text}, found {error['input']!r}"
    return f"{where}: {text}" if where else text
