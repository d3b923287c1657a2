from datetime import datetime, timezone

import numpy as np
import pytest

from training.datasets.csv_series import read_csv_series
from training.errors import DataSetError

DESCRIPTION = """
name = "pumps"
stream = "pump"
files = ["pumps/*.csv"]
step_s = 60
period_s = 600
longest_gap_s = 120
time = { column = "when" }
channels = [
    { name = "flow", unit = "m3/h", column = "Flow [m3/h]" },
    { name = "head", unit = "m" },
]
"""


def write(folder, text=DESCRIPTION, **files):
    (folder / "pumps").mkdir(exist_ok=True)
    for name, lines in files.items():
        (folder / "pumps" / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "pumps.toml"
    path.write_text(text, encoding="utf-8")
    return path


def make_lines(minutes, skip=(), head="when,Flow [m3/h],head"):
    return [
        head,
        *(
            f"2024-05-01T{minute // 60:02}:{minute % 60:02}:00Z,{minute},{minute / 2}"
            for minute in range(minutes)
            if minute not in skip
        ),
    ]


def test_each_file_is_a_device_and_parts_end_at_the_same_time(tmp_path):
    files = {"p1": make_lines(200), "p2": make_lines(200, skip=range(20))}
    data = read_csv_series(write(tmp_path, **files))
    assert data.devices == ("p1", "p2")
    assert (data.step_ms, data.period, data.stream) == (60_000, 10, "pump")
    assert data.channel_names == ("flow", "head")
    assert data.channels[0].unit == "m3/h"
    assert data.borders == ((140, 160, 200), (120, 140, 180))
    assert data.series[1][0].tolist() == [20, 10]
    start = datetime(2024, 5, 1, tzinfo=timezone.utc).timestamp()
    assert data.times_ms[0][0] == start * 1000
    assert "operator" in data.terms


def test_short_gaps_are_filled_and_long_ones_cut(tmp_path):
    lines = make_lines(100, skip=(10, 11, 30, 31, 32))
    lines[1 + 5] = "2024-05-01T00:05:00Z,NA,2.5"
    data = read_csv_series(write(tmp_path, p1=lines))
    assert len(data.series[0]) == 97
    assert data.series[0][[5, 10, 11], 0].tolist() == [5, 10, 11]
    assert np.diff(data.times_ms[0]).max() == 4 * 60_000


def test_devices_share_a_file_in_any_order_with_another_notation(tmp_path):
    lines = ["name;at;value"]
    for second in reversed(range(50)):
        lines += [f"a;01.05.2024 12:00:{second:02};{second},5", f"b;01.05.2024 12:00:{second:02};-"]
    lines += [f"b;01.05.2024 12:01:{second:02};7,0" for second in range(20)]
    text = """
name = "other"
stream = "s"
files = ["pumps/*.csv"]
step_s = 1
device_column = "name"
separator = ";"
decimal = ","
missing = ["-"]
time = { column = "at", form = "%d.%m.%Y %H:%M:%S", zone = "Europe/Berlin" }
channels = [{ name = "value", unit = "1" }]
[split]
train_until = 2024-05-01T10:00:30Z
validation_until = 2024-05-01T10:00:40Z
"""
    data = read_csv_series(write(tmp_path, text, all=lines))
    assert data.devices == ("a", "b")
    assert data.series[0][:3, 0].tolist() == [0.5, 1.5, 2.5]
    assert data.borders == ((30, 40, 50), (0, 0, 20))
    assert data.period == 1


def test_epoch_times_are_read(tmp_path):
    text = DESCRIPTION.replace('"when"', '"when", form = "epoch_s"')
    lines = ["when,Flow [m3/h],head", *(f"{1.7e9 + 60 * i},1,{i}" for i in range(40))]
    data = read_csv_series(write(tmp_path, text, p1=lines))
    assert data.times_ms[0][0] == 1_700_000_000_000
    assert len(data.series[0]) == 40


def change(lines, place, text):
    return [*lines[:place], text, *lines[place + 1 :]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (change(make_lines(9), 3, "2024-05-01T00:02:00Z,x,1"), r"line 4: 'x' in column 'Flow"),
        (change(make_lines(9), 3, "yesterday,1,1"), r"line 4: 'yesterday' is no time of the form"),
        (change(make_lines(9), 3, "2024-05-01T00:02:00Z,1"), "line 4: it has 2 cells"),
        (make_lines(9, head="when,flow,head"), r"line 1: there is no column 'Flow \[m3/h\]'"),
        (["when,Flow [m3/h],head"], "no line below the header"),
        ([*make_lines(0), "2024-05-01T00:00:00Z,,1"], "device p1 has no time at which all"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, lines, message):
    with pytest.raises(DataSetError, match=message):
        read_csv_series(write(tmp_path, p1=lines))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("step_s = 60", "", "step_s: Field required"),
        ("step_s", "stepp_s", "stepp_s: Extra inputs"),
        ("pumps/*", "absent/*", r"no file matches 'absent/\*\.csv'"),
        ('"when"', '"when", zone = "Mars"', "'Mars' is unknown"),
        ("period_s = 600", "period_s = ", "is not TOML"),
        ("period_s", "split = { train = 0.9, validation = 0.2 }\nperiod_s", "more than the whole"),
        (
            "period_s",
            "split = { train_until = 2024-05-01T00:05:00Z }\nperiod_s",
            "give both or none",
        ),
        (
            "period_s",
            "split = { train_until = 2023-05-01T00:00:00Z, "
            "validation_until = 2023-06-01T00:00:00Z }\nperiod_s",
            "the readings lie between 2024-05-01",
        ),
    ],
)
def test_a_wrong_description_says_what_to_do(tmp_path, old, new, message):
    path = write(tmp_path, DESCRIPTION.replace(old, new), p1=make_lines(100))
    with pytest.raises(DataSetError, match=message):
        read_csv_series(path)


def test_a_missing_description_is_named(tmp_path):
    with pytest.raises(DataSetError, match=r"absent\.toml"):
        read_csv_series(tmp_path / "absent.toml")


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write(tmp_path, p1=["\ufeff" + make_lines(1)[0], *make_lines(200)[1:]])
    assert len(read_csv_series(path).series[0]) == 200


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3024-05-01T00:00:00Z,1,1", "device p1 has readings from 2024-05-01 .* to 3024-05-01"),
        ("2024-05-01T04:00:00Z,1e300,1", r"p1\.csv, line 202: '1e300' in column 'Flow"),
        ("2024-05-01T04:00:00Z,inf,1", r"p1\.csv, line 202: 'inf' in column 'Flow"),
    ],
)
def test_a_line_out_of_all_proportion_is_named(tmp_path, line, message):
    path = write(tmp_path, p1=[*make_lines(200), line])
    with pytest.raises(DataSetError, match=message):
        read_csv_series(path)


def test_milliseconds_read_as_seconds_are_named(tmp_path):
    text = DESCRIPTION.replace('{ column = "when" }', '{ column = "when", form = "epoch_s" }')
    path = write(tmp_path, text, p1=["when,Flow [m3/h],head", "1714521600000,1,1"])
    with pytest.raises(DataSetError, match=r"line 2.*are these milliseconds"):
        read_csv_series(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pumps/*.csv", "", "no file matches ''"),
        ("pumps/*.csv", ".", "no file matches '.'"),
        ("step_s = 60", 'step_s = 60\nencoding = "undefined"', "as CSV in 'undefined'"),
        ("step_s = 60", "step_s = 1e300", "step_s"),
        ('"head"', '"flow"', "'flow' more than once"),
    ],
)
def test_a_wrong_description_is_a_clear_error(tmp_path, old, new, message):
    path = write(tmp_path, DESCRIPTION.replace(old, new), p1=make_lines(200))
    with pytest.raises(DataSetError, match=message):
        read_csv_series(path)


def test_the_hour_that_summer_time_repeats_is_left_out(tmp_path):
    hours = (0, 1, 2, 2, 3, 4, 5)
    lines = [f"2024-10-27T{hour:02}:{minute:02},1,1" for hour in hours for minute in range(60)]
    text = DESCRIPTION.replace('"when" }', '"when", zone = "Europe/Berlin" }')
    data = read_csv_series(write(tmp_path, text, p1=["when,Flow [m3/h],head", *lines]))
    assert len(data.series[0]) == 5 * 60
    jumps = np.diff(data.times_ms[0]) // 60_000
    assert jumps[jumps != 1].tolist() == [121]


def test_an_hour_that_summer_time_skips_is_an_error(tmp_path):
    text = DESCRIPTION.replace('"when" }', '"when", zone = "Europe/Berlin" }')
    path = write(tmp_path, text, p1=["when,Flow [m3/h],head", "2024-03-31T02:30,1,1"])
    with pytest.raises(DataSetError, match=r"line 2.*summer time skips it"):
        read_csv_series(path)


@pytest.mark.parametrize("cell", ["1_000", "1e39", "-inf", "Infinity", "٣", "0x10"])
def test_a_cell_is_a_finite_number_of_single_precision(tmp_path, cell):
    lines = change(make_lines(9), 3, f"2024-05-01T00:02:00Z,{cell},1")
    with pytest.raises(DataSetError, match=r"line 4: .* is no number of single precision"):
        read_csv_series(write(tmp_path, p1=lines))


def test_nan_is_missing_only_where_the_description_says_so(tmp_path):
    lines = change(make_lines(40), 3, "2024-05-01T00:02:00Z,nan,1")
    assert len(read_csv_series(write(tmp_path, p1=lines)).series[0]) == 40
    text = DESCRIPTION.replace("step_s", 'missing = [""]\nstep_s')
    with pytest.raises(DataSetError, match=r"line 4: 'nan' in column .* add it to missing"):
        read_csv_series(write(tmp_path, text, p1=lines))


def test_a_point_between_thousands_is_no_decimal_sign(tmp_path):
    text = DESCRIPTION.replace("step_s", 'decimal = ","\nseparator = ";"\nstep_s')
    lines = [line.replace(",", ";").replace(".", ",") for line in make_lines(40)]
    assert read_csv_series(write(tmp_path, text, p1=lines)).series[0][1].tolist() == [1, 0.5]
    lines = change(lines, 3, "2024-05-01T00:02:00Z;1.234;1")
    with pytest.raises(DataSetError, match=r"'1\.234' .* with the decimal sign ','"):
        read_csv_series(write(tmp_path, text, p1=lines))


def test_of_two_columns_with_one_name_none_is_chosen(tmp_path):
    lines = make_lines(9, head="when,Flow [m3/h],head,head")
    with pytest.raises(DataSetError, match="line 1: two columns are named 'head'"):
        read_csv_series(write(tmp_path, p1=lines))


def test_two_files_of_one_name_are_not_one_device(tmp_path):
    text = DESCRIPTION.replace("pumps/*.csv", "**/*.csv")
    path = write(tmp_path, text, p1=make_lines(40))
    (tmp_path / "north").mkdir()
    (tmp_path / "north" / "p1.csv").write_text("\n".join(make_lines(40)))
    with pytest.raises(DataSetError, match=r"would both be the device 'p1': rename one, or name"):
        read_csv_series(path)


def test_a_file_that_two_patterns_match_is_read_once(tmp_path):
    text = DESCRIPTION.replace('"pumps/*.csv"', '"pumps/*.csv", "pumps/p1.csv"')
    assert read_csv_series(write(tmp_path, text, p1=make_lines(40))).devices == ("p1",)
