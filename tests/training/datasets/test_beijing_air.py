import numpy as np
import pytest

from training.datasets.beijing_air import read_beijing_air
from training.errors import DataSetError

HEAD = "No,year,month,day,hour,PM2.5,PM10,SO2,NO2,CO,O3,TEMP,PRES,DEWP,RAIN,wd,WSPM,station\n"


def write_station(folder, name, hours, missing=()):
    lines = [
        f"{hour},2013,3,{1 + hour // 24},{hour % 24},{'NA' if hour in missing else hour},1,1,1,1,1,"
        f'1,1,1,0,"NNW",2,{name}\n'
        for hour in range(hours)
    ]
    path = folder / f"PRSA_Data_{name}_20130301-20170228.csv"
    path.write_text(HEAD + "".join(lines), encoding="utf-8")


def test_stations_are_devices_with_the_same_calendar_borders(tmp_path):
    write_station(tmp_path, "Wanliu", 100, missing=(10, 11, 12))
    write_station(tmp_path, "Gucheng", 100, missing=(20, 21, 22, 23))
    data = read_beijing_air(tmp_path)
    assert data.devices == ("Gucheng", "Wanliu")
    assert [len(rows) for rows in data.series] == [96, 100]
    assert data.borders == ((66, 76, 96), (70, 80, 100))
    border = {int(t[ends[0]]) for t, ends in zip(data.times_ms, data.borders, strict=True)}
    assert len(border) == 1
    assert data.series[1][10:13, 0].tolist() == [10, 11, 12]
    assert data.times_ms[1][0] == np.datetime64("2013-02-28T16", "ms").astype(np.int64)


def test_stations_with_other_hours_are_refused(tmp_path):
    write_station(tmp_path, "Wanliu", 100)
    write_station(tmp_path, "Gucheng", 90)
    with pytest.raises(DataSetError, match="all with the same hours"):
        read_beijing_air(tmp_path)


def test_a_folder_without_stations_is_refused(tmp_path):
    with pytest.raises(DataSetError, match=r"beijing_air\.zip"):
        read_beijing_air(tmp_path)


@pytest.mark.needs_data
def test_the_real_stations_keep_most_hours(data_dir):
    data = read_beijing_air(data_dir / "beijing_air.zip")
    assert len(data.devices) == 12
    assert {int(times[-1]) for times in data.times_ms} == {1488294000000}  # 2017-02-28T15:00Z
    assert sum(len(rows) for rows in data.series) == 395464
    assert min(len(rows) for rows in data.series) == 31029
