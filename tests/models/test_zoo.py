import re

import numpy as np
import onnxruntime as ort
import pytest

from models.artifact import read_artifact
from models.errors import NameRefused
from models.manifest import encode_manifest
from models.registry import Registry
from models.session import Student
from models.zoo import STARTERS, list_zoo, zoo_digest, zoo_manifest, zoo_path

ZOO = {
    "forecast-transformer": ("forecast", "transformer", 7),
    "har-upright": ("activity", "imu", 9),
    "har-waist": ("activity", "imu", 9),
    "har-wrist": ("activity", "wrist", 3),
    "rul-engines": ("rul", "engine", 17),
    "rul-fd001": ("rul", "engine", 14),
    "rul-fd001-long": ("rul", "engine", 14),
    "rul-fd003": ("rul", "engine", 14),
    "rul-lifelong": ("rul", "engine", 14),
}

# Largest change of a score with the batch around it.
TOLERANCE = {
    "rul": lambda decoding: 125e-5,
    "activity": lambda decoding: 1e-4,
    "forecast": lambda decoding: 1e-4 * np.array(decoding.spread)[:, None],
}


def test_the_zoo_is_complete_each_student_with_its_eight_bit_form():
    assert list_zoo() == sorted([*ZOO, *(f"{name}-int8" for name in ZOO)])
    assert set(STARTERS) < set(ZOO)
    assert sum(read_artifact(zoo_path(name)).manifest.onnx.size_bytes for name in ZOO) < 3_000_000


@pytest.mark.parametrize("name", list_zoo())
def test_a_shipped_student_is_small_complete_and_fit_for_its_stream(name):
    artifact = read_artifact(zoo_path(name))
    manifest = artifact.manifest
    kind = (manifest.task, manifest.stream, len(manifest.channels))
    assert kind == ZOO[name.removesuffix("-int8")]
    assert (manifest.name, manifest.version) == (name, 1)
    assert manifest.onnx.size_bytes < 400_000
    metric = {"rul": "rmse", "activity": "macro_f1", "forecast": "mse"}[manifest.task]
    assert metric in manifest.metrics["test"]
    assert manifest.lineage.command
    assert not manifest.lineage.code_revision.endswith("-dirty")
    assert not re.search(rb"/work|/root|/home", artifact.manifest_bytes + artifact.onnx_bytes)


@pytest.mark.parametrize("name", list_zoo())
def test_the_manifest_of_a_shipped_student_keeps_its_bytes(name):
    artifact = read_artifact(zoo_path(name))
    assert encode_manifest(artifact.manifest) == artifact.manifest_bytes
    assert zoo_manifest(name) == artifact.manifest
    assert zoo_digest(name) == artifact.digest


@pytest.mark.parametrize("name", list_zoo())
def test_a_shipped_student_states_its_uncertainty(name):
    manifest = read_artifact(zoo_path(name)).manifest
    if manifest.task == "rul":
        table = manifest.interval.table
        widths = np.array(table.high) - np.array(table.low)
        assert widths[0] < 0.5 * widths.max()  # near the end of life it is surer
        assert manifest.metrics["test"]["interval_coverage"] >= 0.87
    elif manifest.task == "forecast":
        assert 0.9 <= manifest.decoding.anomaly.alarm < 1
        leads = [manifest.metrics["test"][f"coverage_{lead}"] for lead in manifest.decoding.leads]
        assert min(leads) > 0.7
        assert max(leads) < 0.9
    else:
        assert 0.3 < manifest.decoding.unknown.threshold < 1
        limit = 0.06 if "wrist" in name else 0.03  # 362 test windows at the wrist
        assert manifest.metrics["test"]["calibration_error"] < limit


@pytest.mark.parametrize("name", sorted(ZOO))
def test_eight_bits_are_smaller_and_cost_little(name):
    whole, small = (read_artifact(zoo_path(one)).manifest for one in (name, f"{name}-int8"))
    # Most of har-upright are Fourier matrices, which stay in float32.
    share = 0.9 if name == "har-upright" else 0.65
    assert small.onnx.size_bytes < share * whole.onnx.size_bytes
    assert small.lineage == whole.lineage
    if whole.task == "rul":
        assert small.metrics["test"]["rmse"] < whole.metrics["test"]["rmse"] + 0.25
    elif whole.task == "forecast":
        assert small.metrics["test"]["mse"] < 1.01 * whole.metrics["test"]["mse"]
    else:
        assert small.metrics["test"]["macro_f1"] > whole.metrics["test"]["macro_f1"] - 0.01


@pytest.mark.parametrize("name", [name for name, of in ZOO.items() if of[0] == "activity"])
def test_eight_bits_carry_windows_of_people_held_out_where_float32_does(name):
    """A student calibrated in folds has learned from all people: none are apart from the others."""
    whole, small = (read_artifact(zoo_path(one)).manifest for one in (name, f"{name}-int8"))
    assert (small.decoding.features.learned is None) == (whole.decoding.features.learned is None)


@pytest.mark.parametrize("name", list_zoo())
def test_a_shipped_student_passes_its_self_test_and_scores_alike_in_any_batch(name):
    student = Student(read_artifact(zoo_path(name)))
    student.self_test()
    manifest = student.manifest
    shape = (100, manifest.window.length, len(manifest.channels))
    scale = np.array(manifest.scaler.scale, np.float32)
    middle = -np.array(manifest.scaler.offset, np.float32) / scale
    windows = middle + np.random.default_rng(0).normal(0, 1, shape).astype(np.float32) / scale
    windows = windows.astype(np.float32)
    whole = student.score(windows)
    singles = np.concatenate([student.score(w[None]).values for w in windows])
    limit = np.broadcast_to(TOLERANCE[manifest.task](manifest.decoding), singles.shape)
    assert (np.abs(whole.values - singles) <= limit).all()


@pytest.mark.parametrize("name", sorted(STARTERS))
def test_a_starter_seeds_a_registry(name, tmp_path):
    registry = Registry(tmp_path)
    assert registry.seed(zoo_path(name))
    assert registry.read(name, 1).digest == read_artifact(zoo_path(name)).digest


@pytest.mark.parametrize("name", ["nothing", "../zoo", ""])
def test_an_unknown_starter_is_refused(name):
    with pytest.raises(NameRefused, match="ships with kpstream"):
        zoo_path(name)


_LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
_STEP = {"rul": 1.0, "activity": 0.05, "forecast": 0.05}
"""Most that a score moves if a last bit decides between two steps of eight bits: cycles,
probability, scaled deviations. A saturated kernel moves all windows, some by several cycles."""


@pytest.mark.parametrize("name", list_zoo())
def test_a_student_is_one_student_at_every_optimisation_level(name: str) -> None:
    """Fused kernels differ from plain ones on processors without VNNI unless told not to."""
    artifact = read_artifact(zoo_path(name))
    manifest = artifact.manifest
    shape = (32, manifest.window.length, len(manifest.channels))
    steps = np.random.default_rng(0).normal(0, 1, shape).cumsum(axis=1)
    scaled = (steps / np.sqrt(np.arange(1, shape[1] + 1))[:, None]).astype(np.float32)
    outputs = [_run_at(artifact.onnx_bytes, level, scaled) for level in _LEVELS]
    for output in outputs[:-1]:
        apart = np.abs(output - outputs[-1]).max(axis=1)
        is_moved = apart > 1e-4
        assert is_moved.mean() <= (0.05 if name.endswith("-int8") else 0)
        assert apart.max() <= _STEP[manifest.task]


def _run_at(onnx_bytes: bytes, level: str, scaled: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.add_session_config_entry("session.x64quantprecision", "1")  # as a gateway
    session = ort.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"windows": scaled})
    return np.concatenate([output.reshape(len(scaled), -1) for output in found], axis=1)
