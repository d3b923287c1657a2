import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from training.errors import TeacherError
from training.teachers.products import (
    ProductRequest,
    find_products,
    read_products,
    write_products,
)

REQUEST = ProductRequest(
    "llata", {"backbone": "smollm2", "seed": 1, "rate": 5e-4, "lora": True}, "ab" * 32, 8, 4, 2
)
FORECASTS = np.random.default_rng(0).normal(size=(5, 4, 3))
FEATURES = {"6": np.random.default_rng(1).normal(size=(5, 3, 16))}


def test_products_come_back_as_they_were_written(tmp_path):
    assert find_products(tmp_path, REQUEST) is None
    place = write_products(tmp_path, REQUEST, FORECASTS, FEATURES, backbone="smollm2", seconds=1.5)
    found = read_products(tmp_path, REQUEST)
    np.testing.assert_array_equal(found.forecasts, FORECASTS.astype(np.float16))
    np.testing.assert_array_equal(found.features["6"], FEATURES["6"].astype(np.float16))
    assert isinstance(found.forecasts, np.memmap)
    assert len(found) == found.header["windows"] == 5
    assert found.header["seconds"] == 1.5
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": "timellm"},
        {"config": {**REQUEST.config, "seed": 2}},
        {"config": {**REQUEST.config, "lora": False}},
        {"data_digest": "cd" * 32},
        {"length": 9},
        {"horizon": 5},
        {"stride": 1},
    ],
)
def test_every_part_of_a_request_counts(tmp_path, change):
    write_products(tmp_path, REQUEST, FORECASTS)
    other = replace(REQUEST, **change)
    assert other.key != REQUEST.key
    assert find_products(tmp_path, other) is None
    with pytest.raises(TeacherError, match="run the teacher first"):
        read_products(tmp_path, other)


def test_products_under_the_name_of_another_request_are_refused(tmp_path):
    place = write_products(tmp_path, REQUEST, FORECASTS)
    other = replace(REQUEST, stride=1)
    place.rename(other.place(tmp_path))
    with pytest.raises(TeacherError, match=r"another request.*'stride': 2"):
        read_products(tmp_path, other)


def test_a_changed_number_is_noticed(tmp_path):
    place = write_products(tmp_path, REQUEST, FORECASTS)
    values = np.load(place / "forecasts.npy")
    values[0, 0, 0] += 1
    np.save(place / "forecasts.npy", values)
    with pytest.raises(TeacherError, match=r"forecasts\.npy was changed"):
        read_products(tmp_path, REQUEST)


@pytest.mark.parametrize("name", ["header.json", "forecasts.npy"])
def test_a_damaged_file_is_refused(tmp_path, name):
    place = write_products(tmp_path, REQUEST, FORECASTS)
    (place / name).write_bytes(b"{")
    with pytest.raises(TeacherError, match=r"cannot be read.*delete"):
        read_products(tmp_path, REQUEST)


def test_an_array_that_would_be_unpickled_is_refused(tmp_path):
    place = write_products(tmp_path, REQUEST, FORECASTS)
    np.save(place / "forecasts.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(TeacherError, match="cannot be read"):
        read_products(tmp_path, REQUEST)


def test_a_failed_write_leaves_the_old_products(tmp_path, monkeypatch):
    write_products(tmp_path, REQUEST, FORECASTS)
    monkeypatch.setattr(json, "dumps", _broken(json.dumps))
    with pytest.raises(OSError, match="disk"):
        write_products(tmp_path, REQUEST, FORECASTS + 1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [REQUEST.place(tmp_path).name]
    np.testing.assert_array_equal(
        read_products(tmp_path, REQUEST).forecasts, FORECASTS.astype(np.float16)
    )


def _broken(dumps):
    def fail_on_header(content, **options):
        if "arrays" in content:
            msg = "disk full"
            raise OSError(msg)
        return dumps(content, **options)

    return fail_on_header


@pytest.mark.parametrize(
    ("forecasts", "features", "message"),
    [
        (FORECASTS[:, :3], None, "expected"),
        (FORECASTS * 1e6, None, "in float16"),
        (FORECASTS, {"6": FEATURES["6"][:4]}, "4 features-6, 5 forecasts"),
        (FORECASTS, {"6": FEATURES["6"][0]}, "expected"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, forecasts, features, message):
    with pytest.raises(TeacherError, match=message):
        write_products(tmp_path, REQUEST, forecasts, features)
    assert list(tmp_path.iterdir()) == []


def test_reading_imports_neither_torch_nor_a_language_model(tmp_path):
    write_products(tmp_path, REQUEST, FORECASTS)
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'gguf', 'training.teachers.backbones'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from training.teachers.products import ProductRequest, read_products\n"
        f"request = ProductRequest('llata', {dict(REQUEST.config)!r}, {'ab' * 32!r}, 8, 4, 2)\n"
        f"print(read_products(Path({str(tmp_path)!r}), request).forecasts.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "(5, 4, 3)\n", done.stderr
