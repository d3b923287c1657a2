import zipfile

import numpy as np
import pytest

from training.datasets.ett import ETT, read_ett
from training.errors import DataSetError


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ETT)
def test_ett_has_the_window_counts_of_the_literature(data_dir, name):
    data = read_ett(data_dir / "ett.zip", name)
    factor = 1 if name[3] == "h" else 4
    assert len(data.series[0]) == (17420 if factor == 1 else 69680)
    assert data.borders == ((8640 * factor, 11520 * factor, 14400 * factor),)
    assert (np.diff(data.times_ms[0]) == data.step_ms).all()
    assert data.times_ms[0][0] == 1_467_331_200_000  # 2016-07-01T00:00Z
    counts = [len(data.windows(part, 96, 96)) for part in ("train", "validation", "test")]
    hourly = [8449, 2785, 2785]
    assert counts == (hourly if factor == 1 else [34369, 11425, 11425])


@pytest.mark.needs_data
def test_the_scale_of_etth1_is_the_one_of_its_first_12_months(data_dir):
    data = read_ett(data_dir / "ett.zip", "ETTh1")
    np.testing.assert_allclose(data.mean[[0, 6]], [7.9377, 17.1283], atol=1e-3)
    np.testing.assert_allclose(data.deviation[[0, 6]], [5.8127, 9.1765], atol=1e-3)
    assert data.series[0][0, 6] == np.float32(30.5310001373291)


def test_a_wrong_file_is_named(tmp_path):
    with pytest.raises(DataSetError, match=r"ETTh1\.csv"):
        read_ett(tmp_path, "ETTh1")
    path = tmp_path / "ett.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ETT-small/ETTh1.csv", "date,HUFL\n2016-07-01 00:00:00,1\n")
    with pytest.raises(DataSetError, match=r"ett\.zip, line 1: there is no column 'HULL'"):
        read_ett(path, "ETTh1")
    with pytest.raises(DataSetError, match="'ETTh3' is not one of"):
        read_ett(path, "ETTh3")
