import re

import numpy as np
import pytest

from models.artifact import read_artifact
from models.errors import NameRefused
from models.registry import Registry
from models.session import Student
from models.zoo import list_zoo, zoo_path

STARTERS = {"rul-fd001": ("rul", "engine", 14), "har-waist": ("activity", "imu", 9)}


def path_of(name: str):
    if name not in list_zoo():
        pytest.skip(f"the starter {name} is not in models/zoo yet (training adds it)")
    return zoo_path(name)


@pytest.mark.parametrize("name", sorted(STARTERS))
def test_a_starter_is_small_complete_and_fit_for_its_stream(name):
    artifact = read_artifact(path_of(name))
    manifest = artifact.manifest
    assert (manifest.task, manifest.stream, len(manifest.channels)) == STARTERS[name]
    assert (manifest.name, manifest.version) == (name, 1)
    assert manifest.onnx.size_bytes < 300_000
    metric = "rmse" if manifest.task == "rul" else "macro_f1"
    assert any(metric in metrics for metrics in manifest.metrics.values())
    assert manifest.lineage.command
    assert not re.search(rb"/work|/root|/home", artifact.manifest_bytes + artifact.onnx_bytes)


@pytest.mark.parametrize("name", sorted(STARTERS))
def test_a_starter_passes_its_self_test_and_scores_alike_in_any_batch(name):
    student = Student(read_artifact(path_of(name)))
    student.self_test()
    manifest = student.manifest
    shape = (100, manifest.window.length, len(manifest.channels))
    scale = np.array(manifest.scaler.scale, np.float32)
    middle = -np.array(manifest.scaler.offset, np.float32) / scale
    windows = middle + np.random.default_rng(0).normal(0, 1, shape).astype(np.float32) / scale
    windows = windows.astype(np.float32)
    whole = student.score(windows)
    column = "rul" if manifest.task == "rul" else "probabilities"
    singles = np.concatenate([getattr(student.score(w[None]), column) for w in windows])
    np.testing.assert_allclose(getattr(whole, column), singles, atol=1e-4)


@pytest.mark.parametrize("name", sorted(STARTERS))
def test_a_starter_seeds_a_registry(name, tmp_path):
    registry = Registry(tmp_path)
    assert registry.seed(path_of(name))
    assert registry.read(name, 1).digest == read_artifact(zoo_path(name)).digest


@pytest.mark.parametrize("name", ["nothing", "../zoo", ""])
def test_an_unknown_starter_is_refused(name):
    with pytest.raises(NameRefused, match="ships with kpstream"):
        zoo_path(name)
