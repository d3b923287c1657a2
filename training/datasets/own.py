"""Own labelled data: what `training.datasets.own_description` describes, as a `DataSet`.

- **Readings** that the stream would refuse are left out and counted: one without a channel, and a
  second one of the same time. A jump of time beyond the gap breaks a window, and readings of
  another rate are brought to that of the student, both as in the stream.
- **Remaining useful life** counts down to the end of a run, in cycles or whole hours, up to a cap.
  A run that has not failed is **censored**: how long it would have lasted is unknown, except that
  it lasted until its end. So its windows count as long as their life is the cap at least, and the
  later ones are left out.
- **Classes**: a window has the most frequent class of its readings. A window with a reading of no
  class is left out.
- **Groups** are the devices, unless a column says what else a split must not cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings import RecordingError
from ingest.recordings.tables import parse_number
from models.features import pad_front
from models.manifest import Channel
from pipeline.windows.resample import resample_series
from training.datasets.contract import DataSet
from training.datasets.own_description import Own, read_own_description
from training.datasets.own_files import Device, Notes, open_files, read_devices
from training.datasets.own_labels import OwnLabel, of_device, read_labels
from training.errors import DataSetError, reading_data
from training.windows import WindowSet, digest_windows, slice_series

__all__ = ["OwnData", "read_own"]

_HOUR_MS = 3_600_000
_NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class OwnData:
    """A data set read from a description, and what was left out of it.

    Attributes:
        data: The data set.
        notes: Sentences about what was left out.
    """

    data: DataSet
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Readings of one run and the label of each.

    Attributes:
        device: The readings.
        labels: int64 `[n]`; `_NO_CLASS` where the label is unknown.
    """

    device: Device
    labels: NDArray[np.int64]


@reading_data()
def read_own(path: Path, *, with_test: bool = False) -> OwnData:
    """Read the data that a description file describes.

    Args:
        path: The description, usually `dataset.toml`.
        with_test: Read the test part too.

    Raises:
        DataSetError: The description is wrong, a file is missing, or its content is.
    """
    own = read_own_description(path)
    notes = Notes()
    texts = [own.activity.column] if own.activity else [own.rul.censored_column if own.rul else ""]
    numbers = [own.rul.column] if own.rul else []
    columns = {
        "texts": tuple(one for one in texts if one),
        "numbers": tuple(one for one in numbers if one),
    }
    devices = read_devices(path, own, own.files, notes, **columns)
    held_back: list[Device] = []
    if own.test is not None and own.test.groups:
        devices, held_back = _without(devices, own.test.groups, path)
    elif own.test is not None and with_test:
        held_back = read_devices(path, own, own.test.files, notes, **columns)
    classes = _classes(own, path, devices)
    _require_known(own, path, [*devices, *held_back])
    numbered = _number_groups(devices)
    train = _label_all(path, own, devices, classes, numbered, notes)
    if not len(train):
        msg = (
            f"{path}: no window is left: the longest of {len(devices)} devices has "
            f"{max(map(len, devices), default=0)} readings, and a window {own.window.length}. "
            "Shorten window.length, raise window.gap_ms, or check the labels"
            + "".join(f"; {line}" for line in notes.lines())
        )
        raise DataSetError(msg)
    test = None
    if held_back and with_test:
        left = _remaining(path, own, held_back)
        of_test = _number_groups(held_back)
        test = _label_all(path, own, held_back, classes, of_test, Notes(), left)
    return OwnData(_describe(own, train, test, classes, numbered), notes.lines())


def _describe(
    own: Own,
    train: WindowSet,
    test: WindowSet | None,
    classes: tuple[str, ...],
    numbered: dict[str, int],
) -> DataSet:
    decoding = {}
    if own.rul is not None:
        decoding = {"max_rul": float(own.rul.cap), "unit": own.life_unit}
    return DataSet(
        name=own.name,
        title=own.title or own.name,
        task=own.task_name,
        stream=own.stream,
        group_word=own.group_word,
        channels=tuple(Channel(name=one.name, unit=one.to or one.unit) for one in own.channels),
        rate_hz=own.window.rate_hz,
        length=own.window.length,
        hop=own.window.hop,
        gap_ms=own.window.longest_gap_ms,
        labels=classes or None,
        scaling=own.scaling or ("minmax" if own.rul is not None else "zscore"),
        train=train,
        test=test,
        digest=digest_windows(train),
        terms=own.terms,
        min_readings=own.window.min_readings,
        subject=own.subject,
        decoding=decoding,
        group_names={number: name for name, number in numbered.items()},
    )


def _without(
    devices: list[Device], groups: Sequence[str], path: Path
) -> tuple[list[Device], list[Device]]:
    known = {device.group for device in devices}
    if lost := [group for group in groups if group not in known]:
        msg = f"{path}: test.groups names {', '.join(map(repr, lost))}, which the files do not have"
        raise DataSetError(msg)
    return (
        [device for device in devices if device.group not in groups],
        [device for device in devices if device.group in groups],
    )


def _require_known(own: Own, path: Path, devices: Sequence[Device]) -> None:
    """Refuse a censored device that no file has: its name is misspelt."""
    known = {device.name for device in devices}
    censored = own.rul.censored if own.rul is not None else ()
    if lost := [name for name in censored if name not in known]:
        shown = ", ".join(map(repr, sorted(known)[:10]))
        msg = (
            f"{path}: rul.censored names {', '.join(map(repr, lost))}, which no file has: the "
            f"devices are {shown}{' ...' if len(known) > 10 else ''}"
        )
        raise DataSetError(msg)


def _number_groups(devices: Iterable[Device]) -> dict[str, int]:
    """Number the groups: by their own number if all have one, or else in order."""
    names = list(dict.fromkeys(device.group for device in devices))
    plain = [name.isdecimal() and name.isascii() and str(int(name)) == name for name in names]
    if all(plain) and all(len(name) < 16 for name in names):
        return {name: int(name) for name in names}
    return {name: number for number, name in enumerate(sorted(names), start=1)}


def _classes(own: Own, path: Path, devices: Sequence[Device]) -> tuple[str, ...]:
    """The classes: those of the description, or all that the training part has."""
    if own.activity is None:
        return ()
    ignored = {*own.activity.ignore, ""}
    if own.activity.column is not None:
        column = own.activity.column
        found = {str(one) for device in devices for one in np.unique(device.texts[column])}
    else:
        found = {record.label for record in _records(own, path)} - {""}
    found -= ignored
    if own.activity.classes is not None:
        if odd := sorted(found - set(own.activity.classes)):
            msg = (
                f"{path}: the labels {', '.join(map(repr, odd[:10]))} are not in activity.classes: "
                "add them there, or to activity.ignore"
            )
            raise DataSetError(msg)
        return own.activity.classes
    if len(found) < 2:
        shown = ", ".join(map(repr, sorted(found))) or "none"
        msg = f"{path}: the labels name {shown}: a student needs two classes to tell apart"
        raise DataSetError(msg)
    return tuple(sorted(found))


def _records(own: Own, path: Path) -> list[OwnLabel]:
    answer = own.activity or own.rul
    if answer is None or answer.labels is None:
        return []
    return read_labels(path.parent / answer.labels, own.stream)


def _label_all(
    path: Path,
    own: Own,
    devices: Sequence[Device],
    classes: tuple[str, ...],
    numbered: dict[str, int],
    notes: Notes,
    left: dict[str, float] | None = None,
) -> WindowSet:
    """Label and cut all devices; with `left`, only the newest window of each, as in C-MAPSS."""
    records = _records(own, path)
    parts = []
    for device in devices:
        if own.activity is not None:
            runs = [_label_classes(own, device, classes, records)]
        elif left is not None and own.rul is not None:
            runs = [_count_down(own, device, failed=True, after=left[device.name])]
        else:
            runs = _label_runs(own, device, records, notes)
        for run in runs:
            cut = _cut(own, run, numbered[device.group], notes)
            parts.append(cut if left is None else cut.where(np.arange(len(cut)) == len(cut) - 1))
    width = (0, own.window.length, len(own.channels))
    none = np.empty(0, dtype=np.int64)
    return WindowSet(
        np.concatenate([np.empty(width, np.float32), *(part.windows for part in parts)]),
        np.concatenate([none, *(part.labels for part in parts)]),
        np.concatenate([none, *(part.groups for part in parts)]),
    )


def _label_classes(
    own: Own, device: Device, classes: tuple[str, ...], records: Sequence[OwnLabel]
) -> _Labelled:
    labels = np.full(len(device), _NO_CLASS, dtype=np.int64)
    activity = own.activity
    if activity is not None and activity.column is not None:
        for number, name in enumerate(classes):
            labels[device.texts[activity.column] == name] = number
        return _Labelled(device, labels)
    for record in of_device(records, device.name):
        if record.kind == "span":
            inside = (device.times >= record.begin_ms) & (device.times < record.end_ms)
            known = record.label in classes
            labels[inside] = classes.index(record.label) if known else _NO_CLASS
    return _Labelled(device, labels)


def _label_runs(
    own: Own, device: Device, records: Sequence[OwnLabel], notes: Notes
) -> list[_Labelled]:
    """Split a machine into runs to failure, and count each of them down."""
    rul = own.rul
    if rul is None or not len(device):
        return []
    if rul.column is not None:
        left = device.numbers[rul.column]
        unknown = np.isnan(left)
        notes.add("{} readings are left out: their remaining life is missing", int(unknown.sum()))
        capped = np.minimum(np.maximum(left[~unknown], 0), rul.cap)
        return [_Labelled(device.where(~unknown), np.floor(capped).astype(np.int64))]
    if rul.end is not None:
        censored = device.name in rul.censored
        if rul.censored_column is not None:
            censored |= _is_true(device.texts[rul.censored_column])
        return [_count_down(own, device, failed=not censored)]
    return _runs_of_labels(own, device, records, notes)


def _runs_of_labels(
    own: Own, device: Device, records: Sequence[OwnLabel], notes: Notes
) -> list[_Labelled]:
    moments = sorted(
        (record.begin_ms, record.kind == "replaced")
        for record in of_device(records, device.name)
        if record.kind in ("failed", "replaced")
    )
    runs: list[_Labelled] = []
    begin, has_failed = -np.inf, False
    for at_ms, replaced in [*moments, (np.inf, True)]:
        if has_failed and not replaced:
            continue  # it can fail only once until it is replaced
        inside = device.where((device.times >= begin) & (device.times < at_ms))
        if has_failed:
            text = "{} readings are left out: they lie between a failure and `replaced`"
            notes.add(text, len(inside))
        elif len(inside):
            end_ms = None if replaced else at_ms
            runs.append(_count_down(own, inside, failed=not replaced, end_ms=end_ms))
        begin, has_failed = at_ms, not replaced
    return runs


def _count_down(
    own: Own,
    device: Device,
    *,
    failed: bool,
    after: float = 0.0,
    end_ms: float | None = None,
) -> _Labelled:
    """Label the readings of a run with the life left, up to the cap.

    Args:
        own: The description.
        device: The run.
        failed: Whether it ends with a failure; if not, life below the cap is unknown.
        after: Life left after the last reading.
        end_ms: Time of the failure; None for that of the last reading.
    """
    cap = own.rul.cap if own.rul is not None else 0
    if own.life_unit == "hours":
        end = device.times[-1] if end_ms is None else end_ms
        left = (end - device.times) / _HOUR_MS + after
    elif own.time.form == "cycle" and own.time.column is not None:
        left = device.times[-1] - device.times + after
    else:
        left = np.arange(len(device) - 1, -1, -1) * own.window.every + after
    labels = np.floor(np.clip(left, 0, cap)).astype(np.int64)
    if not failed:
        labels[labels < cap] = _NO_CLASS
    return _Labelled(device, labels)


def _is_true(cells: NDArray[np.str_]) -> bool:
    return str(cells[-1]).lower() in ("1", "true", "yes", "x")


def _cut(own: Own, run: _Labelled, group: int, notes: Notes) -> WindowSet:
    """Cut a run into windows; a gap breaks it."""
    window, times = own.window, run.device.times
    gap = window.longest_gap_ms
    breaks = np.flatnonzero(np.diff(times) > (np.inf if gap is None else gap)) + 1
    stretches = np.split(np.arange(len(times)), breaks)
    windows, labels = [], []
    for places in stretches:
        if len(places) < (window.min_readings or window.length):
            notes.add("{} stretches of readings are shorter than a window", int(len(places) > 0))
            continue
        series, answers = _at_rate(own, run, places, notes)
        cut = slice_series(series, window.length, window.hop)
        told = slice_series(answers[:, None].astype(np.float32), window.length, window.hop)[
            :, :, 0
        ].astype(np.int64)
        answer = told[:, -1] if own.rul is not None else _most_frequent(told)
        short = range(window.min_readings or window.length, min(window.length, len(places) + 1))
        if len(short):
            padded = np.stack([pad_front(series[:count], window.length) for count in short])
            cut = np.concatenate([padded, cut])
            answer = np.concatenate([answers[[count - 1 for count in short]], answer])
        windows.append(cut[answer != _NO_CLASS])
        labels.append(answer[answer != _NO_CLASS])
        unknown = int((answer == _NO_CLASS).sum())
        if own.rul is not None:
            notes.add("{} windows are left out: nobody knows when that machine will fail", unknown)
        else:
            notes.add("{} windows are left out: they hold a reading without a class", unknown)
    count = sum(map(len, labels))
    width = (0, window.length, len(own.channels))
    return WindowSet(
        np.concatenate([np.empty(width, np.float32), *windows]),
        np.concatenate([np.empty(0, np.int64), *labels]),
        np.full(count, group, dtype=np.int64),
    )


def _at_rate(
    own: Own, run: _Labelled, places: NDArray[np.int64], notes: Notes
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Bring a stretch to the rate of the student, as the gateway does."""
    rate_hz, values, labels = own.window.rate_hz, run.device.values[places], run.labels[places]
    if rate_hz is None:
        return values, labels
    times_ms = np.rint(run.device.times[places]).astype(np.int64)
    made = resample_series(times_ms, values, rate_hz)
    notes.add(
        "{} readings are made up between others: the files are slower than window.rate_hz",
        int((made.real == 0).sum()),
    )
    before = np.maximum(np.searchsorted(times_ms, made.ts_ms, "right") - 1, 0)
    return made.values, labels[before]


def _most_frequent(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most frequent class of each window; `_NO_CLASS` where a reading has none."""
    most = [
        _NO_CLASS if row.min() == _NO_CLASS else int(np.bincount(row).argmax()) for row in labels
    ]
    return np.array(most, dtype=np.int64)


def _remaining(path: Path, own: Own, devices: Sequence[Device]) -> dict[str, float] | None:
    """The life left after the last reading of each test device, in the order of the devices."""
    if own.test is None or own.test.remaining is None:
        return None
    ((name, content, _),) = open_files(path.parent, [own.test.remaining])
    numbers = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        for cell in line.replace(",", " ").split():
            try:
                numbers.append(parse_number(cell))
            except ValueError as exc:
                msg = f"{name}, line {number}: {cell[:40]!r} is no number: correct it"
                raise RecordingError(msg) from exc
    if len(numbers) != len(devices):
        msg = (
            f"{name} has {len(numbers)} numbers for {len(devices)} devices of the test files: give "
            "the life left after the last reading of each device, in their order"
        )
        raise DataSetError(msg)
    return {device.name: value for device, value in zip(devices, numbers, strict=True)}
