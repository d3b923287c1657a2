"""A first description of data of every form is guessed, says what it could not know, and reads."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.training.datasets.own_files import (
    HEADER,
    START_MS,
    machine_rows,
    people_rows,
    to_csv,
)
from training.datasets.own import read_own
from training.init import init
from training.recipes import read_recipe

ROWS = machine_rows(6)


def call(folder: Path, source: Path | str, *words: str):
    return CliRunner().invoke(init, ["--from", str(source), "--folder", str(folder), *words])


def made(folder: Path, source: Path | str, *words: str) -> tuple[str, str]:
    """Run it, and return what it printed and the description."""
    done = call(folder, source, *words)
    assert done.exit_code == 0, done.output
    return done.output, (folder / "dataset.toml").read_text()


def test_a_table_of_machines(tmp_path):
    (tmp_path / "pumps.csv").write_text(to_csv([[*row, 7.0] for row in ROWS], (*HEADER, "always")))
    told, text = made(tmp_path, tmp_path / "pumps.csv")
    assert "devices are in column 'pump'; 2 columns of readings" in told
    assert "left out, because they never move: always" in told
    assert f"6 pumps, {len(ROWS) - 6 * 29} windows" in told
    assert "whether every machine ran until it failed" in told
    assert "the units of the channels" in told
    assert 'unit = "m3/h"\ncolumn = "Flow [m3/h]"' in text
    assert read_own(tmp_path / "dataset.toml").data.channels[0].name == "Flow"
    recipe = read_recipe(tmp_path / "recipe.toml")
    assert (recipe.task, recipe.folds) == ("rul", 5)


def test_text_without_a_header(tmp_path):
    rows = [[int(str(row[0])[2:]), *row[1:]] for row in ROWS]
    (tmp_path / "train.txt").write_text(to_csv(rows, None, separator=" "))
    told, text = made(tmp_path, tmp_path / "train.txt")
    assert 'separator = " "' in text
    assert 'device_column = "column_1"' in text
    assert "the file has no header line, so name them" in told
    assert len(read_own(tmp_path / "dataset.toml").data.train) == len(ROWS) - 6 * 29


def test_a_spreadsheet_with_decimal_commas_and_times(tmp_path):
    begin = datetime(2024, 5, 1, tzinfo=timezone.utc)
    rows = [
        [row[0], f"{begin + timedelta(hours=int(str(row[1]))):%d.%m.%Y %H:%M}", *row[2:]]
        for row in ROWS
    ]
    text = to_csv(rows, ("machine", "time", "Fluss", "Wärme"), separator=";").replace(".5,", ",5,")
    body = "\n".join(
        line
        if place == 0
        else ";".join(
            [*line.split(";")[:2], *(cell.replace(".", ",") for cell in line.split(";")[2:])]
        )
        for place, line in enumerate(text.splitlines())
    )
    (tmp_path / "maschinen.csv").write_bytes(body.encode("latin-1"))
    told, text = made(tmp_path, tmp_path / "maschinen.csv")
    for line in (
        'separator = ";"',
        'decimal = ","',
        'encoding = "latin-1"',
        'form = "%d.%m.%Y %H:%M"',
        'name = "W_rme"',
        'column = "Wärme"',
    ):
        assert line in text
    assert "the zone of times without an offset" in told
    assert read_own(tmp_path / "dataset.toml").data.new_decoding().unit == "hours"


def test_people_with_classes(tmp_path):
    (tmp_path / "yard.csv").write_text(to_csv(people_rows(4), ("person", "ts", "acc", "activity")))
    told, text = made(tmp_path, tmp_path / "yard.csv", "--size", "small", "--name", "yard people")
    assert "classes are in column 'activity', such as rest, walk" in told
    for line in (
        'name = "yard_people"',
        'task = "activity"',
        'form = "epoch_ms"',
        "rate_hz = 20",
        "length = 51",
    ):
        assert line in text
    data = read_own(tmp_path / "dataset.toml").data
    assert data.labels == ("rest", "walk")
    assert "A small student" in (tmp_path / "recipe.toml").read_text()


def test_blocks_milliseconds_and_machines_that_still_run(tmp_path):
    rows = [[row[0], 250 * int(str(row[1])), *row[2:], "no"] for row in ROWS]
    (tmp_path / "a.csv").write_text(to_csv(rows, ("Presse", "ms", "a", "b", "censored")))
    told, text = made(tmp_path, tmp_path / "a.csv")
    assert 'device_column = "Presse"' in text
    assert 'column = "ms"\nform = "epoch_ms"' in text
    assert 'censored_column = "censored"' in text
    assert "6 machines" in told


@pytest.mark.parametrize(("yes", "no"), [("yes", "no"), ("1", "0")])
def test_dates_and_failures_in_plain_words(tmp_path, yes, no):
    begin = datetime(2025, 1, 6, 8, tzinfo=timezone.utc)
    rows = [
        [machine, f"{begin + timedelta(hours=hour):%d.%m.%Y %H:%M}", hour % 7, "auto", failed]
        for machine, failed in (("Press 1", yes), ("Press 2", no), ("Press 3", yes))
        for hour in range(60)
    ]
    header = ("Machine", "Measured on", "Current [A]", "Mode", "Failed")
    (tmp_path / "presses.csv").write_text(to_csv(rows, header, separator=";"))
    told, text = made(tmp_path, tmp_path / "presses.csv")
    assert 'column = "Measured on"\nform = "%d.%m.%Y %H:%M"' in text
    assert 'censored = ["Press 2"]' in text
    assert "machines that have not failed: 1 (rul.censored)" in told
    assert "left out, because they are not numbers: Mode" in told
    assert [one.name for one in read_own(tmp_path / "dataset.toml").data.channels] == ["Current"]


def test_machines_that_only_the_cycle_tells_apart(tmp_path):
    rows = [row[1:] for row in ROWS]
    (tmp_path / "cells.csv").write_text(to_csv(rows, ("Cycle_Index", "a", "b")))
    told, text = made(tmp_path, tmp_path / "cells.csv")
    assert "restarts = true" in text
    assert "6 machines" in told
    data = read_own(tmp_path / "dataset.toml").data
    assert data.group_names == {n: f"cells-{n}" for n in range(1, 7)}
    assert len(data.train) == len(ROWS) - 6 * 29


def test_recordings_with_labels(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    day = tmp_path / "recordings" / "imu" / "2024-05-01"
    day.mkdir(parents=True)
    rows = people_rows(3)
    columns = {
        "ts_ms": [row[1] for row in rows],
        "recv_ms": [row[1] for row in rows],
        "site": ["yard"] * len(rows),
        "device": [row[0] for row in rows],
        "acc": [row[2] for row in rows],
    }
    parquet.write_table(arrow.table(columns), day / "part-00000001.parquet")
    spans = [
        {
            "id": f"s{who}-{turn}",
            "kind": "span",
            "device": f"person-{who}",
            "stream": "imu",
            "site": "yard",
            "recv_ms": 1,
            "label": "walk" if turn % 2 else "rest",
            "from_ms": START_MS + turn * 10_000,
            "to_ms": START_MS + (turn + 1) * 10_000,
        }
        for who in range(3)
        for turn in range(4)
    ]
    failed = {key: spans[0][key] for key in ("site", "device", "recv_ms")}
    failed |= {"id": "f", "kind": "failed", "stream": "pump", "at_ms": START_MS, "label": ""}
    lines = [json.dumps(one) for one in (failed, *spans)]  # of another stream: says nothing here
    (tmp_path / "recordings" / "labels.jsonl").write_text("\n".join(lines))
    told, text = made(tmp_path, tmp_path / "recordings")
    assert 'stream = "imu"\nfiles = ["recordings/imu"]' in text
    assert 'labels = "recordings/labels.jsonl"' in text
    assert "3 persons" in told
    assert "Not ready to train and publish yet:" in told  # three are too few to publish
    assert read_own(tmp_path / "dataset.toml").data.labels == ("rest", "walk")
    (tmp_path / "recordings" / "other" / "2024-05-01").mkdir(parents=True)
    (tmp_path / "recordings" / "other" / "2024-05-01" / "part-1.parquet").write_bytes(b"PAR1")
    several = call(tmp_path / "new", tmp_path / "recordings")
    assert several.exit_code == 2
    assert "recordings of 2 streams" in several.output


def test_hdf5_as_n_cmapss_has_it(tmp_path):
    h5py = pytest.importorskip("h5py")
    import numpy as np

    with h5py.File(tmp_path / "DS.h5", "w") as file:
        for part in ("dev", "test"):
            file[f"A_{part}"] = np.array(
                [[float(str(row[0])[2:]), int(str(row[1])) // 10, 1.0] for row in ROWS]
            )
            file[f"W_{part}"] = np.array([[row[1]] for row in ROWS], dtype=np.float64)
            file[f"X_v_{part}"] = file[f"T_{part}"] = np.array([[row[1]] for row in ROWS])
            file[f"X_s_{part}"] = np.array([row[2:] for row in ROWS], dtype=np.float64)
            file[f"Y_{part}"] = np.array([[100 - row[1]] for row in ROWS], dtype=np.float64)
        file["A_var"] = np.array([b"unit", b"cycle", b"hs"])
        file["W_var"], file["X_v_var"], file["T_var"] = [b"alt"], [b"T40"], [b"fan_eff_mod"]
        file["X_s_var"] = np.array([b"T24", b"T30"])
    told, text = made(tmp_path, tmp_path / "DS.h5")
    assert 'files = [{ path = "DS.h5", part = "dev" }]' in text
    assert 'device_column = "unit"' in text
    assert len(read_own(tmp_path / "dataset.toml").data.train) > 0
    assert "3 columns of readings" in told
    assert "column 'cycle' repeats within a device, so it is not the time" in told
    names = [channel.name for channel in read_own(tmp_path / "dataset.toml").data.channels]
    assert sorted(names) == ["T24", "T30", "alt"]  # none of what a simulation knows by itself


@pytest.mark.parametrize("name", ["dataset.toml", "recipe.toml"])
def test_nothing_is_overwritten(tmp_path, name):
    (tmp_path / "pumps.csv").write_text(to_csv(ROWS))
    (tmp_path / name).write_text("mine")
    done = call(tmp_path, tmp_path / "pumps.csv")
    assert done.exit_code == 2
    assert f"{name} exists, and nothing is overwritten" in done.output
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == [name]


FAULTS = {
    "no such file": (None, "does not exist: check --from"),
    "empty": (b"", "pumps.csv"),
    "no numbers": (b"a,b\nx,y\nu,v\n", "no column of numbers that moves"),
    "cut Parquet": (b"PAR1abc", "pumps.csv is damaged"),
}


@pytest.mark.parametrize(
    ("name", "kind"), [("p.parquet", "Parquet"), ("p.H5", "HDF5"), ("p.hdf5", "HDF5")]
)
def test_a_file_that_is_not_what_its_name_says_is_not_read_as_text(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"pump,cycle,flow\n" + bytes(range(200)))
    done = call(tmp_path / "out", tmp_path / name)
    assert done.exit_code == 2, done.output
    assert f"{name} does not begin as {kind} does" in done.output


@pytest.mark.parametrize(("content", "told"), FAULTS.values(), ids=FAULTS)
def test_a_source_that_cannot_be_read_is_refused(tmp_path, content, told):
    if content is not None:
        (tmp_path / "pumps.csv").write_bytes(content)
    done = call(tmp_path / "out", tmp_path / "pumps.csv")
    assert done.exit_code == 2, done.output
    assert told in done.output
    assert not (tmp_path / "out").exists()
