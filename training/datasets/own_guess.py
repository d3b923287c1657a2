"""A first description of own data, guessed from the columns of its files.

What a file says by itself is taken over: which columns are numbers, which move, what looks like a
machine, a time, a class or a remaining life. What it cannot say is listed, and marked `CHECK` in
the description: the units, whether each machine ran until it failed, what a split must not cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ingest.recordings import RecordingError
from ingest.recordings.columns import Notation, column_names, read_columns
from ingest.recordings.tables import parse_number
from ingest.units import UnknownUnit, dimension
from training.datasets.own_description import Files
from training.datasets.own_files import open_files
from training.datasets.own_notation import guess_notation
from training.errors import DataSetError, reading_data

__all__ = ["Guess", "guess_description"]

_ROWS = 20_000
_DEVICES = """device unit unit_number unit_id engine engine_id machine machine_id asset asset_id
equipment unit_nr unitnumber battery_id cell_id battery cell pump bearing id subject subject_id
person user user_id participant who sequence run trial session""".split()
_GROUP_WORDS = {"engine": "engine", "bearing": "bearing", "pump": "pump", "subject": "subject"}
_TIMES = """ts_ms cycle cycle_index cycles time_in_cycles time_cycles cycle_number timestamp ts time
datetime date time_stamp date_time t epoch time_ms timestamp_ms ms milliseconds time_s seconds
sec""".split()
_LIVES = "y rul remaining_useful_life remaining_life ttf time_to_failure".split()
_CLASSES = "activity label class state status target".split()
_NO_CHANNEL = ("recv_ms", "index", "", "unnamed_0", "hs", "fc")  # the last two: N-CMAPSS
_FAILED = "failed failure has_failed".split()
_STOPPED = "censored suspended survived still_runs stopped".split()
_PATTERNS = """%Y.%m.%d.%H.%M.%S
%d.%m.%Y %H:%M:%S
%d.%m.%Y %H:%M
%d/%m/%Y %H:%M:%S
%m/%d/%Y %H:%M:%S""".splitlines()
_MS_FROM, _S_FROM = 1e11, 1e8  # later than 1973, as milliseconds or seconds
_MOST_CLASSES = 50
_SECONDS = 2.56  # of a window of movements, as in UCI HAR
_HEADER_UNIT = re.compile(r"^(.*?)\s*[\[(]\s*([^\])]+?)\s*[\])]\s*$")


@dataclass(slots=True)
class Guess:
    """What could be guessed.

    Attributes:
        text: The description, TOML.
        task: `rul` or `activity`.
        known: Sentences on what was found.
        unknown: Sentences on what nobody can read from the files.
    """

    text: str = ""
    task: str = "rul"
    known: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Look:
    """The first rows of one file: cells by column, and numbers where all cells are numbers."""

    notation: Notation
    cells: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]


@reading_data()
def guess_description(
    source: Path, folder: Path, *, task: str | None = None, name: str | None = None
) -> Guess:
    """Guess a description.

    Args:
        source: A file, an archive, or a folder, also one of recordings.
        folder: Folder of the description, to which its paths are relative.
        task: `rul` or `activity`, if it is known.
        name: Name of the data set; None for that of the source.

    Raises:
        DataSetError: The source cannot be read, or has no column of readings.
    """
    files, stream = _place(source)
    path = _relative(files, folder)
    _, content, part = next(iter(open_files(folder, [Files(path=path, part="")])))
    if content.startswith(b"\x89HDF"):
        part = "dev" if _has_part(content, "dev") else ""
    look = _look(content, files.name, part)
    guess = Guess()
    _write(
        guess,
        look,
        path,
        part,
        stream,
        task,
        name or stream or source.stem,
        folder,
        source,
        content_is_hdf5=content.startswith(b"\x89HDF"),
    )
    return guess


def _place(source: Path) -> tuple[Path, str | None]:
    """The files to read, and the stream if they are recordings."""
    if not source.exists():
        msg = f"{source} does not exist: check --from"
        raise DataSetError(msg)
    streams = sorted({part.parent.parent for part in source.glob("**/part-*.parquet")})
    if not source.is_dir() or not streams:
        return source, None
    if len(streams) > 1:
        paths = ", ".join(str(one) for one in streams)
        msg = f"{source} has recordings of {len(streams)} streams: choose one with --from: {paths}"
        raise DataSetError(msg)
    return streams[0], streams[0].name


def _relative(files: Path, folder: Path) -> str:
    place, home = files.resolve(), folder.resolve()
    return place.relative_to(home).as_posix() if place.is_relative_to(home) else str(place)


def _has_part(content: bytes, part: str) -> bool:
    try:
        return bool(column_names(content, "file", None, part))
    except RecordingError:
        return False


def _look(content: bytes, name: str, part: str) -> _Look:
    """Read the first rows as text, with the notation that fits them."""
    notation = guess_notation(content)
    names = list(dict.fromkeys(column_names(content, name, notation, part)))
    found = read_columns(content, name, texts=names, notation=notation, part=part, most_rows=_ROWS)
    numbers = {}
    for one, cells in found.texts.items():
        try:
            values = [
                np.nan if cell == "" else parse_number(cell.replace(notation.decimal, "."))
                for cell in cells
            ]
        except ValueError:
            continue
        numbers[one] = np.array(values)
    return _Look(notation, found.texts, numbers)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _find(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first column whose name is one of the known ones, in their order."""
    by_slug = {_slug(one): one for one in reversed(names)}
    return next((by_slug[one] for one in known if one in by_slug), None)


def _write(
    guess: Guess,
    look: _Look,
    path: str,
    part: str,
    stream: str | None,
    task: str | None,
    name: str,
    folder: Path,
    source: Path,
    *,
    content_is_hdf5: bool,
) -> None:
    names = list(look.cells)
    is_recording = stream is not None
    if look.notation.header and len(names) > 2:
        # Text without a header, as C-MAPSS: the engine, its cycle, then the readings.
        device: str | None = names[0]
        time: str | None = names[1]
        guess.unknown.append("what the columns are: the file has no header line, so name them")
    else:
        time = _find(names, _TIMES) or next((one for one in names if _is_moment(look, one)), None)
        device = _find(names, _DEVICES) or _find_blocks(look, [time])
    if time is not None and time == device:
        time = None
    restarts = device is None and time is not None and _restarts(look, time)
    if time is not None and not restarts and _repeats(look, time, device):
        guess.known.append(f"column {time!r} repeats within a device, so it is not the time")
        time, cycle = None, time
    else:
        cycle = None
    life = _find(names, _LIVES if content_is_hdf5 else _LIVES[1:])
    answer = _find([one for one in names if _is_class(look, one)], _CLASSES)
    homes = (source, source.parent, source.parent.parent)
    labels = next((at for home in homes if (at := home / "labels.jsonl").is_file()), None)
    kinds = _label_kinds(labels, stream)
    if task is None:
        spans = "span" in kinds and "failed" not in kinds
        task = "activity" if (answer is not None and life is None) or spans else "rul"
    guess.task = task
    failed = _find(names, _FAILED) if device is not None and life is None else None
    taken = {device, time, cycle, life, answer, failed} | ({"site"} if is_recording else set())
    channels = [
        one
        for one in names
        if one in look.numbers and one not in taken and _slug(one) not in _NO_CHANNEL
    ]
    still = [one for one in channels if not np.nanstd(look.numbers[one]) > 0]
    channels = [one for one in channels if one not in still]
    if not channels:
        msg = f"{source} has no column of numbers that moves: check --from"
        raise DataSetError(msg)
    form, rate_hz = _time_form(look, time, device, guess)
    word = next((w for key, w in _GROUP_WORDS.items() if device and key in _slug(device)), None)
    lines = [
        "# A first description, written by `train-redistill init`. Look at every CHECK.",
        f'name = "{_name(name)}"',
        f'task = "{task}"',
        f'stream = "{_name(stream or name)}"'
        + ("" if is_recording else "  # CHECK: of the gateway"),
        f"files = [{_files(path, part)}]",
    ]
    if is_recording:
        lines.append('device_column = ["site", "device"]')
    elif device is not None:
        lines.append(f"device_column = {_quoted(device)}")
    if word is not None:
        lines.append(f'word = "{word}"')
    lines += _notation_lines(look.notation)
    if restarts:
        guess.known.append(f"column {time!r} begins again, and each time it is another machine")
    if time is not None:
        lines += ["", "[time]", f"column = {_quoted(time)}", f"form = {_quoted(form)}"]
    if restarts:
        lines.append("restarts = true  # CHECK")
    running = _running(look, device, failed)
    lines += ["", *_answer_lines(guess, look, task, life, answer, labels, folder, form, running)]
    lines += ["", *_window_lines(look, task, device, rate_hz)]
    for one in channels:
        lines += ["", *_channel_lines(one, guess)]
    guess.text = "\n".join(lines) + "\n"
    where = "each file is one device" if device is None else f"devices are in column {device!r}"
    guess.known.append(f"{where}; {len(channels)} columns of readings")
    if still:
        guess.known.append(f"left out, because they never move: {', '.join(still)}")
    if texts := [one for one in names if one not in look.numbers and one not in taken]:
        guess.known.append(f"left out, because they are not numbers: {', '.join(texts)}")
    if device is None and not restarts:
        guess.unknown.append("whether each file is one machine or person; if not: device_column")
    if not is_recording:
        guess.unknown.append("the stream under which your gateway gets these readings: stream")


def _label_kinds(path: Path | None, stream: str | None) -> set[str]:
    """The kinds of the labels in a file; of a recording, those of its stream."""
    kinds = set()
    for line in path.read_text("utf-8", "replace").splitlines() if path is not None else ():
        with suppress(ValueError):
            label = json.loads(line)
            if isinstance(label, dict) and (stream is None or label.get("stream") == stream):
                kinds.add(str(label.get("kind")))
    return kinds


def _running(look: _Look, device: str | None, failed: str | None) -> list[str] | None:
    """The devices that a column of failures says have not failed; None: there is no column."""
    if device is None or failed is None:
        return None
    pairs = list(zip(look.cells[device], look.cells[failed], strict=True))
    ended = {name for name, cell in pairs if cell.lower() in ("1", "1.0", "true", "yes", "x")}
    return [name for name in dict.fromkeys(look.cells[device]) if name not in ended]


def _find_blocks(look: _Look, taken: Sequence[str | None]) -> str | None:
    """A text column whose cells stand in blocks, one after the other, as files of devices do."""
    for name, cells in look.cells.items():
        if name in look.numbers or name in taken or _slug(name) in _CLASSES:
            continue
        changes = sum(one != other for one, other in pairwise(cells))
        if 1 <= changes == len(set(cells)) - 1 and changes < len(cells) / 5:
            return name
    return None


def _restarts(look: _Look, time: str) -> bool:
    """Whether a column of cycles begins again now and then."""
    values = look.numbers.get(time, np.zeros(0))
    return 1 <= int((np.diff(values) < 0).sum()) < len(values) / 5


def _is_moment(look: _Look, column: str) -> bool:
    """Whether a column of text holds dates or times."""
    cells = [cell for cell in look.cells[column] if cell][:100]
    return column not in look.numbers and bool(cells) and _text_form(cells) is not None


def _repeats(look: _Look, time: str, device: str | None) -> bool:
    """Whether most readings of a device have the time of the one before."""
    cells = look.cells[time]
    devices = look.cells[device] if device is not None else [""] * len(cells)
    pairs = list(zip(devices, cells, strict=True))
    return len(set(pairs)) < len(pairs) / 2


def _is_class(look: _Look, column: str) -> bool:
    return 2 <= len(set(look.cells[column]) - {""}) <= _MOST_CLASSES


def _time_form(
    look: _Look, time: str | None, device: str | None, guess: Guess
) -> tuple[str, float | None]:
    """The form of the time column, and the rate where it is a time."""
    if time is None:
        guess.unknown.append("the time: no column looks like one, so lines count as cycles")
        return "cycle", None
    if time in look.numbers:
        values = look.numbers[time]
        largest = float(np.nanmax(values)) if len(values) else 0.0
        end = _slug(time).rpartition("_")[2]
        form = "epoch_ms" if largest > _MS_FROM else "epoch_s" if largest > _S_FROM else "cycle"
        if form == "cycle" and end in ("ms", "milliseconds"):
            form = "epoch_ms"
        elif form == "cycle" and end in ("s", "sec", "seconds"):
            form = "epoch_s"
        if form == "cycle":
            return form, None
        times = values if form == "epoch_ms" else 1000 * values
    else:
        found = _text_form([cell for cell in look.cells[time] if cell][:100])
        if found is None:
            guess.unknown.append(f"the form of the times in column {time!r}: time.form")
            return "iso", None
        form = found
        if form == "iso":
            moments = [
                datetime.fromisoformat(cell.replace("Z", "+00:00"))
                for cell in look.cells[time]
                if cell
            ]
        else:
            moments = [
                datetime.strptime(cell, form)  # noqa: DTZ007 (only distances are used)
                for cell in look.cells[time]
                if cell
            ]
        guess.unknown.append("the zone of times without an offset: time.zone (UTC if left out)")
        first = moments[0]
        times = np.array([(moment - first).total_seconds() * 1000 for moment in moments])
    cells = look.cells[device] if device is not None else [""] * len(times)
    same = np.array([one == other for one, other in pairwise(cells)], bool)
    steps = np.diff(times)[same[: len(times) - 1]]
    steps = steps[steps > 0]
    rate = 1000 / float(np.median(steps)) if len(steps) else None
    return form, None if rate is None else float(f"{rate:.4g}")


def _text_form(cells: list[str]) -> str | None:
    for form in ("iso", *_PATTERNS):
        try:
            for cell in cells:
                if form == "iso":
                    datetime.fromisoformat(cell.replace("Z", "+00:00"))
                else:
                    datetime.strptime(cell, form)  # noqa: DTZ007 (only whether it can be read)
        except ValueError:
            continue
        return form
    return None


def _answer_lines(
    guess: Guess,
    look: _Look,
    task: str,
    life: str | None,
    answer: str | None,
    labels: Path | None,
    folder: Path,
    form: str,
    running: list[str] | None,
) -> list[str]:
    if task == "activity":
        if answer is not None:
            found = sorted(set(look.cells[answer]) - {""})
            shown = ", ".join(found[:10])
            guess.known.append(f"classes are in column {answer!r}, such as {shown}")
            return ["[activity]", f"column = {_quoted(answer)}"]
        if labels is None:
            guess.unknown.append("where the classes are: activity.column or activity.labels")
        shown = "labels.jsonl" if labels is None else _relative(labels, folder)
        return ["[activity]", f"labels = {_quoted(shown)}" + "  # CHECK" * (labels is None)]
    lines = ["[rul]"]
    if life is not None:
        guess.known.append(f"the remaining life is in column {life!r}")
        lines.append(f"column = {_quoted(life)}")
        guess.unknown.append("the unit of that column (cycles if left out): rul.unit")
    elif labels is not None and form != "cycle":
        lines.append(f"labels = {_quoted(_relative(labels, folder))}")
    else:
        lines.append('end = "failure"  # CHECK: did every machine run until it failed?')
        stopped = _find(list(look.cells), _STOPPED)
        if stopped is not None:
            lines[-1] = 'end = "failure"'
            lines.append(f"censored_column = {_quoted(stopped)}  # CHECK: yes for those that run")
        elif running:
            guess.known.append(f"machines that have not failed: {len(running)} (rul.censored)")
            lines.append(f"censored = [{', '.join(map(_quoted, running))}]  # CHECK")
        else:
            lines.append("# censored = []  # the machines that still run, or were stopped before")
        guess.unknown.append("whether every machine ran until it failed: rul.censored")
    lines.append("cap = 125  # CHECK: above it, a student need not tell lives apart")
    guess.unknown.append("from which remaining life on it does not matter any more: rul.cap")
    return lines


def _window_lines(look: _Look, task: str, device: str | None, rate_hz: float | None) -> list[str]:
    if task == "activity" and rate_hz is not None:
        length = int(np.clip(round(_SECONDS * rate_hz), 8, 512))
        return [
            "[window]",
            f"length = {length}",
            f"hop = {max(length // 2, 1)}",
            f"rate_hz = {rate_hz:g}",
        ]
    cells = look.cells[device] if device is not None else [""] * _ROWS
    counts = np.unique(np.array(cells), return_counts=True)[1]
    shortest = int(counts[:-1].min()) if len(counts) > 1 else int(counts.min())
    length = int(np.clip(shortest // 2, 5, 30))
    return ["[window]", f"length = {length}"]


def _channel_lines(header: str, guess: Guess) -> list[str]:
    match = _HEADER_UNIT.match(header)
    name, unit = (match[1], match[2]) if match else (header, None)
    if unit is not None:
        try:
            dimension(unit)
        except UnknownUnit:
            guess.unknown.append(f"the unit of {header!r}: is {unit!r} what you mean?")
    lines = ["[[channels]]", f'name = "{_name(name)}"']
    if unit is None:
        lines.append('unit = "1"  # CHECK')
        if not any("units" in text for text in guess.unknown):
            guess.unknown.append("the units of the channels: unit (1 stands for none)")
    else:
        lines.append(f"unit = {_quoted(unit)}")
    return lines if _name(name) == header else [*lines, f"column = {_quoted(header)}"]


def _notation_lines(notation: Notation) -> list[str]:
    usual, lines = Notation(), []
    for key in ("separator", "decimal", "encoding"):
        if getattr(notation, key) != getattr(usual, key):
            lines.append(f"{key} = {_quoted(getattr(notation, key))}")
    if notation.header:
        lines.append(f"header = [{', '.join(map(_quoted, notation.header))}]  # CHECK")
    return lines


def _files(path: str, part: str) -> str:
    if not part:
        return _quoted(path)
    return f'{{ path = {_quoted(path)}, part = "{part}" }}'


def _name(text: str) -> str:
    """A name of a stream, channel or data set."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:64] or "own"


def _quoted(text: str) -> str:
    """Write a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'"{escaped}"'
