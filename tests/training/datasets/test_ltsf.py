import zipfile

import numpy as np
import pytest

from training.datasets.ltsf import read_ltsf
from training.errors import DataSetError

COUNTS = {
    "Weather-published": (96, 96, [36696, 5175, 10444]),
    "Exchange": (96, 96, [5120, 665, 1422]),
    "ILI": (36, 24, [617, 74, 170]),
}


@pytest.mark.needs_data
@pytest.mark.parametrize("name", COUNTS)
def test_the_window_counts_are_those_of_the_literature(data_dir, name):
    data = read_ltsf(data_dir / "ltsf_small.zip", name)
    length, horizon, counts = COUNTS[name]
    parts = ("train", "validation", "test")
    assert [len(data.windows(part, length, horizon)) for part in parts] == counts
    assert data.borders[0][2] == len(data.series[0])


@pytest.mark.needs_data
def test_weather_has_no_failed_reading_and_no_repeated_time(data_dir):
    path = data_dir / "ltsf_small.zip"
    data, published = read_ltsf(path, "Weather"), read_ltsf(path, "Weather-published")
    assert (published.series[0] == -9999).sum() == 81
    assert data.series[0].min() > -200
    assert (np.diff(data.times_ms[0]) % data.step_ms == 0).all()
    # 366 days of 10 minutes; 9 of them are missing between 09:30 and 11:10 of 29 May.
    assert len(data.series[0]) == 52645 < 366 * 144
    jump = np.datetime64("2020-05-29T09:30", "ms").astype(np.int64)
    place = int(np.searchsorted(data.times_ms[0], jump))
    assert data.times_ms[0][place + 1] - data.times_ms[0][place] == 6_000_000
    assert published.deviation[-1] > 10 * data.deviation[-1]
    assert [channel.unit for channel in data.channels][16:18] == ["W/m2", "umol/m2/s"]


def test_a_wrong_file_is_named(tmp_path):
    path = tmp_path / "ltsf_small.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("illness/national_illness.csv", "date,OT\n2002-01-01 00:00:00,1\n")
    with pytest.raises(DataSetError, match=r"has 1 lines of 1 numbers, expected 966 of 7"):
        read_ltsf(path, "ILI")
    with pytest.raises(DataSetError, match=r"exchange_rate\.csv"):
        read_ltsf(path, "Exchange")
    with pytest.raises(DataSetError, match="'Traffic' is not one of Weather"):
        read_ltsf(path, "Traffic")
