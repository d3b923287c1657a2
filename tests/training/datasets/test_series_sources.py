import pytest

from training.datasets.series_sources import SERIES, read_series, read_series_file
from training.errors import DataSetError


def test_the_made_up_set_needs_no_file(tmp_path):
    assert read_series("dummy-forecast", tmp_path).name == "dummy-forecast"


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(DataSetError, match=r"'Traffic' is not one of ETTh1, .*dummy-forecast"):
        read_series("Traffic", tmp_path)
    with pytest.raises(DataSetError, match="'FD001' is not one of ETTh1"):
        read_series_file(tmp_path, "FD001")


def test_every_archive_and_description_has_a_reader(tmp_path):
    for name in set(SERIES) - {"dummy-forecast"}:
        with pytest.raises(DataSetError, match=r"\.zip"):
            read_series(name, tmp_path)
    with pytest.raises(DataSetError, match=r"cannot read the description .*own\.toml"):
        read_series(str(tmp_path / "own.toml"), tmp_path)
    with pytest.raises(DataSetError, match=r"own\.toml"):
        read_series_file(tmp_path / "own.toml", "ETTh1")


@pytest.mark.needs_data
def test_an_archive_is_read_by_name(data_dir):
    assert read_series("ILI", data_dir).name == "ILI"
    assert read_series_file(data_dir / "ltsf_small.zip", "ILI").period == 52
