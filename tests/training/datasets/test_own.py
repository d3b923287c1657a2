"""Own data: one content in every format, faults told all at once, labels, runs and groups."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.windows.resample import resample_series
from tests.training.datasets.own_files import (
    ACTIVITY_TOML,
    HEADER,
    RUL_TOML,
    START_MS,
    machine_rows,
    people_rows,
    to_csv,
    write_machines,
    write_people,
)
from training.datasets.own import read_own
from training.errors import DataSetError

ROWS = machine_rows(4)


def write_parquet(path: Path, rows: list[list[object]], header: tuple[str, ...] = HEADER) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    parquet.write_table(arrow.table(columns), path)


def as_csv(folder: Path) -> str:
    (folder / "pumps.csv").write_text(to_csv(ROWS))
    return RUL_TOML.replace("{files}", "pumps.csv")


def as_semicolons(folder: Path) -> str:
    text = to_csv(ROWS, separator=";").replace(".", ",")
    (folder / "pumps.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return 'separator = ";"\ndecimal = ","\n' + RUL_TOML.replace("{files}", "pumps.csv")


def as_blanks_without_header(folder: Path) -> str:
    text = to_csv(ROWS, None, separator=" ")
    (folder / "pumps.txt").write_text(text.replace(" ", "  "))
    names = json.dumps(list(HEADER))
    return f'separator = " "\nheader = {names}\n' + RUL_TOML.replace("{files}", "pumps.txt")


def as_one_file_a_device(folder: Path) -> str:
    (folder / "all").mkdir()
    for name in dict.fromkeys(row[0] for row in ROWS):
        rows = [row for row in ROWS if row[0] == name]
        (folder / "all" / f"{name}.csv").write_text(to_csv(rows))
    text = RUL_TOML.replace("{files}", "all/*.csv")
    return text.replace('device_column = "pump"\n', "")


def as_parts_of_a_device(folder: Path) -> str:
    (folder / "part-1.csv").write_text(to_csv(ROWS[100:]))
    (folder / "part-2.csv").write_text(to_csv(ROWS[:100]))
    return RUL_TOML.replace("{files}", "part-*.csv")


def as_zip(folder: Path) -> str:
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("deep/train.csv", to_csv(ROWS))
        archive.writestr("deep/readme.csv", "no,such\n1,2\n")
    return RUL_TOML.replace('"{files}"', '{ path = "data.zip", inside = "train.csv" }')


def as_parquet(folder: Path) -> str:
    write_parquet(folder / "pumps.parquet", ROWS)
    return RUL_TOML.replace("{files}", "pumps.parquet")


def as_recordings(folder: Path) -> str:
    for number, rows in enumerate((ROWS[:150], ROWS[150:])):
        place = folder / "recordings" / "pump" / f"2024-05-0{number + 1}"
        place.mkdir(parents=True)
        write_parquet(place / "part-0.parquet", rows)
    return RUL_TOML.replace("{files}", "recordings/pump")


def as_hdf5(folder: Path) -> str:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "pumps.h5", "w") as file:
        file["A_dev"] = np.array([[float(str(row[0])[2:]), row[1]] for row in ROWS])
        file["A_var"] = np.array([b"pump", b"cycle"])
        file["X_s_dev"] = np.array([row[2:] for row in ROWS], dtype=np.float64)
        file["X_s_var"] = np.array([b"Flow [m3/h]", b"heat"])
        file["X_s_test"] = np.zeros((3, 2))
        file["A_test"] = np.zeros((3, 2))
    return RUL_TOML.replace('"{files}"', '{ path = "pumps.h5", part = "dev" }')


FORMS = {
    one.__name__[3:]: one
    for one in (
        as_csv,
        as_semicolons,
        as_blanks_without_header,
        as_one_file_a_device,
        as_parts_of_a_device,
        as_zip,
        as_parquet,
        as_recordings,
        as_hdf5,
    )
}


def read(folder: Path, text: str, **options: bool):
    path = folder / "dataset.toml"
    path.write_text(text)
    return read_own(path, **options)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_same_readings_gives_the_same_windows(tmp_path, form):
    made = read(tmp_path, form(tmp_path)).data
    (tmp_path / "plain").mkdir()
    plain = read(tmp_path / "plain", as_csv(tmp_path / "plain")).data
    assert made.digest == plain.digest
    assert made.train.windows.shape == (len(ROWS) - 4 * 19, 20, 2)


def test_life_counts_down_to_the_failure_and_is_capped(tmp_path):
    data = read(tmp_path, as_csv(tmp_path)).data
    own = data.train.of_groups(np.array([1]))
    assert own.labels[-3:].tolist() == [2, 1, 0]
    assert own.labels.max() == 60
    assert (data.largest, data.num_answers) == (60, 61)
    decoding = data.new_decoding()
    assert (decoding.max_rul, decoding.unit) == (60, "cycles")
    assert data.name_groups(np.array([1, 4])) == ["P-01", "P-04"]


def test_of_a_machine_that_still_runs_only_what_is_certain_counts(tmp_path):
    whole = read(tmp_path, as_csv(tmp_path)).data
    text = as_csv(tmp_path).replace('end = "failure"', 'end = "failure"\ncensored = ["P-02"]')
    found = read(tmp_path, text)
    of_it = found.data.train.of_groups(np.array([2]))
    kept = whole.train.of_groups(np.array([2]))
    assert np.array_equal(of_it.windows, kept.windows[kept.labels == 60])
    assert set(of_it.labels.tolist()) == {60}
    assert "60 windows are left out: nobody knows when that machine will fail" in found.notes
    rows = [[*row, "no" if row[0] != "P-02" else "yes"] for row in ROWS]
    (tmp_path / "pumps.csv").write_text(to_csv(rows, (*HEADER, "runs")))
    text = RUL_TOML.replace("{files}", "pumps.csv").replace(
        'end = "failure"', 'end = "failure"\ncensored_column = "runs"'
    )
    assert read(tmp_path, text).data.digest == found.data.digest


def test_units_of_the_file_become_those_of_the_student(tmp_path):
    plain = read(tmp_path, as_csv(tmp_path)).data
    text = as_csv(tmp_path).replace('unit = "degC"', 'unit = "degC"\nto = "K"')
    made = read(tmp_path, text).data
    assert [channel.unit for channel in made.channels] == ["m3/h", "K"]
    wanted = plain.train.windows[..., 1] + np.float32(273.15)
    assert np.allclose(made.train.windows[..., 1], wanted, atol=1e-4)
    assert np.array_equal(made.train.windows[..., 0], plain.train.windows[..., 0])


def test_a_column_may_state_the_remaining_life(tmp_path):
    ends = {name: max(row[1] for row in ROWS if row[0] == name) for name in {r[0] for r in ROWS}}
    rows = [[*row, ends[row[0]] - row[1]] for row in ROWS]
    (tmp_path / "pumps.csv").write_text(to_csv(rows, (*HEADER, "RUL")))
    text = RUL_TOML.replace("{files}", "pumps.csv").replace('end = "failure"', 'column = "RUL"')
    stated = read(tmp_path, text.replace("cap = 60", 'cap = 60\nunit = "km"')).data
    assert stated.new_decoding().unit == "km"
    assert stated.digest == read(tmp_path, as_csv(tmp_path)).data.digest


TIMED = RUL_TOML.replace('column = "cycle"', 'column = "cycle"\nform = "epoch_ms"').replace(
    'end = "failure"', 'labels = "labels.jsonl"'
)
HOUR_MS = 3_600_000


def timed_rows() -> list[list[object]]:
    """One machine, hourly."""
    return [["P-01", START_MS + hour * HOUR_MS, 30 + hour / 100, 60] for hour in range(200)]


def label(number: int, kind: str, hour: float, **more: object) -> str:
    at_ms = START_MS + int(hour * HOUR_MS)
    record = {"id": f"a{number}", "kind": kind, "at_ms": at_ms, "device": "P-01"}
    return json.dumps(record | more)


def test_labels_split_a_machine_into_runs_and_count_hours(tmp_path):
    (tmp_path / "pumps.csv").write_text(to_csv(timed_rows()))
    lines = [
        label(1, "failed", 80),
        label(2, "replaced", 100),
        label(3, "failed", 170),
        label(4, "failed", 50),  # a slip, taken back below
        label(4, "failed", 50, revoked=True),
        label(5, "failed", 10, stream="another"),
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines) + "\n")
    found = read(tmp_path, TIMED.replace("{files}", "pumps.csv"))
    # Hours 0 to 79 and 100 to 169; what follows the failures is left out.
    assert len(found.data.train) == (80 - 19) + (70 - 19)
    assert found.data.train.labels[60] == 1
    assert found.data.train.labels[-1] == 1
    assert found.data.new_decoding().unit == "hours"
    assert "50 readings are left out: they lie between a failure and `replaced`" in found.notes


def test_recordings_of_two_sites_and_of_other_channels_are_told_apart(tmp_path):
    header = ("ts_ms", "recv_ms", "site", "device", "Flow [m3/h]", "heat")
    for site, shift in (("north", 0.0), ("south", 5.0)):
        rows = [[row[1], row[1], site, "P-01", row[2] + shift, 60.0] for row in timed_rows()]
        place = tmp_path / "recordings" / "pump" / f"2024-05-{site}"
        place.mkdir(parents=True)
        write_parquet(place / "part-00000001.parquet", rows, header)
    old = [[row[1] - 1000 * HOUR_MS, 0, "north", "P-01", 1.0] for row in timed_rows()]
    write_parquet(place / "part-00000002.parquet", old, header[:-1])
    fields = {"site": "south", "stream": "pump", "recv_ms": START_MS}
    (tmp_path / "labels.jsonl").write_text(label(1, "failed", 150, **fields))
    text = TIMED.replace("{files}", "recordings/pump").replace('"cycle"', '"ts_ms"')
    text = text.replace('device_column = "pump"', 'device_column = ["site", "device"]')
    found = read(tmp_path, text)
    assert found.data.group_names == {1: "north/P-01", 2: "south/P-01"}
    assert found.data.train.of_groups(np.array([2])).labels[-1] == 1
    assert set(found.data.train.of_groups(np.array([1])).labels.tolist()) == {60}
    assert "1 files are left out: their messages lack a channel" in found.notes


def test_wrong_lines_of_labels_are_told_at_once(tmp_path):
    (tmp_path / "pumps.csv").write_text(to_csv(timed_rows()))
    lines = ["{", '{"kind": "burnt"}', label(1, "failed", 3, at_ms="x"), "[1]"]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataSetError) as told:
        read(tmp_path, TIMED.replace("{files}", "pumps.csv"))
    text = str(told.value)
    assert "labels.jsonl has 4 faults" in text
    for place in ("line 1: it is not JSON", "line 2: it is no", "line 3: ", "line 4: it is no"):
        assert place in text


def test_a_class_may_come_from_a_column_or_from_spans(tmp_path):
    by_column = read_own(write_people(tmp_path / "column")).data
    assert by_column.labels == ("rest", "walk")
    assert by_column.train.windows.shape == (6 * 79, 20, 1)
    assert (by_column.rate_hz, by_column.gap_ms) == (20, 250)
    text = ACTIVITY_TOML.replace('column = "doing"', 'labels = "labels.jsonl"')
    path = write_people(tmp_path / "spans", description=text)
    spans = [
        {
            "id": f"{who}-{turn}",
            "kind": "span",
            "device": f"person-{who}",
            "stream": "imu",
            "from_ms": START_MS + turn * 10_000,
            "to_ms": START_MS + (turn + 1) * 10_000,
            "label": "walk" if turn % 2 else "rest",
        }
        for who in range(6)
        for turn in range(4)
    ]
    (path.parent / "labels.jsonl").write_text("\n".join(map(json.dumps, spans)))
    assert read_own(path).data.digest == by_column.digest
    (path.parent / "labels.jsonl").write_text("\n".join(map(json.dumps, spans[:-1])))
    fewer = read_own(path)
    assert len(fewer.data.train) < len(by_column.train)
    assert any("a reading without a class" in note for note in fewer.notes)


def test_a_gap_breaks_a_window_and_readings_that_the_stream_refuses_are_counted(tmp_path):
    rows = [row for row in people_rows(2) if row[0] == "person-0"][:100]
    others = [row for row in people_rows(2) if row[0] == "person-1"]
    broken = [
        [row[0], row[1] + (1000 if place >= 50 else 0), *row[2:]] for place, row in enumerate(rows)
    ]
    broken[10][2] = ""
    broken.append(broken[20])
    header = ("who", "ms", "acc", "doing")
    path = write_people(tmp_path)
    (tmp_path / "yard.csv").write_text(to_csv([*broken, *others], header))
    found = read_own(path)
    # 49 readings, and between them one at the time of the one that is left out; 50 behind the gap.
    assert len(found.data.train.of_groups(np.array([1]))) == 4 + 4
    assert any("1 readings are made up between others" in note for note in found.notes)
    assert "1 readings are left out: a channel is missing" in found.notes
    assert "1 readings are left out: another one has their time" in found.notes


def test_files_of_another_rate_are_brought_to_that_of_the_student(tmp_path):
    slower = read_own(write_people(tmp_path, description=ACTIVITY_TOML)).data
    text = ACTIVITY_TOML.replace("rate_hz = 20", "rate_hz = 10")
    (tmp_path / "dataset.toml").write_text(text)
    halved = read_own(tmp_path / "dataset.toml")
    assert len(halved.data.train) == 6 * 38  # 399 whole cells a person instead of 800 readings
    times = np.arange(800) * 50 + START_MS
    rows = [row for row in people_rows(6) if row[0] == "person-0"]
    values = np.array([[row[2]] for row in rows], dtype=np.float32)
    made = resample_series(times, values, 10)
    own = halved.data.train.of_groups(np.array([1]))
    assert np.array_equal(own.windows[3], made.values[30:50])
    text = ACTIVITY_TOML.replace("rate_hz = 20", "rate_hz = 40")
    (tmp_path / "dataset.toml").write_text(text)
    notes = read_own(tmp_path / "dataset.toml").notes
    assert f"{6 * 799} readings are made up between others" in notes[0]
    assert slower.rate_hz == 20


def test_the_test_part_is_read_only_if_asked_and_changes_nothing(tmp_path):
    text = as_csv(tmp_path) + '\n[test]\ngroups = ["P-03"]\n'
    without = read(tmp_path, text).data
    assert without.test is None
    with_test = read(tmp_path, text, with_test=True).data
    assert with_test.digest == without.digest
    assert "P-03" not in with_test.group_names.values()
    assert len(with_test.test) == sum(row[0] == "P-03" for row in ROWS) - 19
    (tmp_path / "test.csv").write_text(to_csv(ROWS[:60]))
    (tmp_path / "left.txt").write_text("7\n")
    text = as_csv(tmp_path) + '\n[test]\nfiles = ["test.csv"]\nremaining = "left.txt"\n'
    asked = read(tmp_path, text, with_test=True).data
    assert asked.test.labels.tolist() == [7]
    assert asked.digest == read(tmp_path, text).data.digest


# -- faults ---------------------------------------------------------------------------------------


def changed(old: str, new: str) -> str:
    text = RUL_TOML.replace("{files}", "pumps.csv")
    assert old in text
    return text.replace(old, new)


FAULTS = {
    "not TOML": (changed('task = "rul"', 'task = "rul'), ["is not TOML", "correct that line"]),
    "several at once": (
        changed('stream = "pump"', 'stream = "a b"\nfoo = 1').replace("length = 20", "length = 0"),
        ["has 3 faults", "stream: ", "foo: there is no such field", "window.length: "],
    ),
    "text for a number": (changed("length = 20", 'length = "20"'), ["window.length: "]),
    "another task": (changed('task = "rul"', 'task = "cluster"'), ["use rul or activity"]),
    "no source of the life": (changed('end = "failure"', ""), ["rul: give one of end, column"]),
    "two sources": (changed("cap = 60", 'column = "x"'), ["rul: give one of end, column"]),
    "the table of the other task": (changed("[rul]", "[activity]"), ["activity."]),
    "hours of cycles": (changed("cap = 60", 'unit = "hours"'), ["need times"]),
    "rate of cycles": (changed("length = 20", "length = 20\nrate_hz = 5.0"), ["need times"]),
    "a form that is none": (
        changed('column = "cycle"', 'column = "cycle"\nform = "unix"'),
        ["time: form is 'unix'", "epoch_ms"],
    ),
    "padding with a gap": (
        changed("length = 20", "length = 20\nmin_readings = 5\nhop = 2"),
        ["window: min_readings"],
    ),
    "units of two dimensions": (
        changed('unit = "degC"', 'unit = "degC"\nto = "bar"'),
        ["channels.2: ", "degC", "bar"],
    ),
    "a life in bananas": (changed("cap = 60", 'unit = "bananas"'), ["cycles or hours"]),
    "one name twice": (changed('name = "heat"', 'name = "Flow"'), ["channels names"]),
    "no such file": (changed('"pumps.csv"', '"none-*.csv"'), ["no file matches 'none-*.csv'"]),
    "no such column": (
        changed('column = "Flow [m3/h]"', 'column = "Flow"'),
        ["pumps.csv: there is no column 'Flow', only 'pump', 'cycle'"],
    ),
    "unknown censored machine": (
        changed("cap = 60", 'censored = ["P-99"]'),
        ["rul.censored names 'P-99', which no file has", "'P-01'"],
    ),
    "window longer than any run": (changed("length = 20", "length = 900"), ["no window is left"]),
}


@pytest.mark.parametrize(("text", "told"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_description_is_refused_with_place_and_advice(tmp_path, text, told):
    as_csv(tmp_path)
    with pytest.raises(DataSetError) as refused:
        read(tmp_path, text)
    for part in told:
        assert part in str(refused.value)


CELLS = {
    "a word": ("warm", "'warm' is not a finite number"),
    "infinite": ("inf", "'inf' is not a finite number"),
    "too large": ("1e39", "'1e39' is not a finite number"),
    "grouped": ("1_000", "'1_000' is not a finite number"),
}


@pytest.mark.parametrize(("cell", "told"), CELLS.values(), ids=CELLS)
def test_a_cell_that_is_no_number_is_told_with_its_line(tmp_path, cell, told):
    text = as_csv(tmp_path)
    lines = to_csv(ROWS).splitlines()
    lines[4] = f"P-01,4,{cell},60"
    lines[9] = "P-01,9,30,burning"
    (tmp_path / "pumps.csv").write_text("\n".join(lines))
    with pytest.raises(DataSetError) as refused:
        read(tmp_path, text)
    assert f"line 5, column 'Flow [m3/h]': {told}" in str(refused.value)
    assert "line 10, column 'heat': 'burning'" in str(refused.value)


DAMAGE = {
    "empty": b"",
    "header only": to_csv([]).encode(),
    "other bytes": b"pump,cycle\n\xff\xfe\x00",
    "a line too short": to_csv(ROWS[:3]).encode() + b"P-01,4\n",
    "cut Parquet": b"PAR1" + bytes(100),
    "cut HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "no device": to_csv([["", 1, 2, 3]]).encode(),
    "no time": to_csv([["P-01", "", 2, 3]]).encode(),
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    text = as_csv(tmp_path)
    (tmp_path / "pumps.csv").write_bytes(content)
    with pytest.raises(DataSetError, match=r"pumps\.csv"):
        read(tmp_path, text)


def test_parquet_and_hdf5_with_text_or_infinity_are_refused_by_column(tmp_path):
    write_parquet(tmp_path / "pumps.parquet", [["P-01", 1, "x", 2.0], ["P-01", 2, "y", np.inf]])
    with pytest.raises(DataSetError) as refused:
        read(tmp_path, RUL_TOML.replace("{files}", "pumps.parquet"))
    assert "column 'Flow [m3/h]' is string, expected numbers" in str(refused.value)
    assert "row 2, column 'heat': inf is not a finite number" in str(refused.value)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "pumps.h5", "w") as file:
        file["pump"] = np.array([1, 1])
        file["cycle"] = np.array([1, 2])
        file["X"] = np.array([[1.0], [np.inf]])
        file["heat"] = np.array([b"a", b"b"])
    with pytest.raises(DataSetError) as refused:
        read(tmp_path, RUL_TOML.replace("{files}", "pumps.h5").replace("Flow [m3/h]", "X"))
    assert "column 'X': inf" in str(refused.value)
    assert "column 'heat' is |S1, expected numbers" in str(refused.value)


def test_a_short_list_of_the_devices_of_the_test_part_is_told(tmp_path):
    text = as_csv(tmp_path) + '\n[test]\nfiles = ["pumps.csv"]\nremaining = "left.txt"\n'
    (tmp_path / "left.txt").write_text("7\n8\n")
    with pytest.raises(DataSetError, match="2 numbers for 4 devices"):
        read(tmp_path, text, with_test=True)
    with pytest.raises(DataSetError, match=r"test\.groups names 'P-44'"):
        read(tmp_path, as_csv(tmp_path) + '\n[test]\ngroups = ["P-44"]\n')


def test_machines_of_another_folder_are_found_by_an_absolute_path(tmp_path):
    path = write_machines(tmp_path / "a", count=3)
    text = path.read_text().replace('"pumps.csv"', json.dumps(str(tmp_path / "a" / "pumps.csv")))
    (tmp_path / "b").mkdir()
    assert read(tmp_path / "b", text).data.digest == read_own(path).data.digest
