"""The eight-bit form: smaller, plain ONNX, and close to its float student."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")

from models.artifact import write_artifact
from models.features import scale
from models.manifest import Draft
from models.onnxfile import inspect_onnx
from models.session import Student
from training.candidate import train_candidate
from training.datasets.dummy import make_dummy
from training.export.artifact import score_raw
from training.export.quantize import quantize
from training.recipes import shipped_recipe
from training.starters.latency import measure_latency

pytestmark = pytest.mark.needs_training
LAYERS = {
    "conv": ("rul", {"method": "kp"}),
    "statistics": ("rul", {"method": "none", "members": 2}),
    "spectral": ("activity", {"method": "kp", "calibrate": True}),
}


@pytest.fixture(scope="module", params=LAYERS)
def pair(request, tmp_path_factory):
    task, changes = LAYERS[request.param]
    name = "rul-fd001" if task == "rul" else "har-waist"
    changes = {"epochs": 3, "noise": 0.0, "calibration_folds": 0, **changes}
    recipe = shipped_recipe(name, student=request.param, **changes)
    data = make_dummy(task, groups=5)
    folder = tmp_path_factory.mktemp("quantized")
    whole = train_candidate(data, recipe, name, folder, command="test").artifact
    onnx = quantize(whole.onnx_bytes, scale(data.train.windows, whole.manifest.scaler))
    content = {field: getattr(whole.manifest, field) for field in Draft.model_fields}
    small = write_artifact(folder / "int8", Draft(**content), onnx)
    return Student(whole), Student(small), whole, small, data.train.windows


def test_the_eight_bit_graph_is_smaller_and_passes_every_check_of_a_gateway(pair):
    _, student, whole, small, _ = pair
    student.self_test()
    assert small.manifest.onnx.size_bytes < 0.7 * whole.manifest.onnx.size_bytes
    found = inspect_onnx(small.onnx_bytes)
    assert {"QuantizeLinear", "DequantizeLinear"} <= found.op_types
    assert found.opset == whole.manifest.onnx.opset


def test_the_eight_bit_student_scores_nearly_as_its_float_student(pair):
    whole, small, _, artifact, windows = pair
    apart = np.abs(score_raw(whole, windows) - score_raw(small, windows))
    assert 0 < apart.mean() < (3.0 if artifact.manifest.task == "rul" else 0.03)


def test_the_eight_bit_features_lie_where_those_of_the_float_student_lie(pair):
    whole, small, _, _, windows = pair
    if not whole.has_features:
        return
    one, other = (each.score_with_features(windows)[1] for each in (whole, small))
    assert np.median((one * other).sum(axis=1)) > 0.98


def test_latency_is_that_of_single_windows(pair):
    student, _, _, _, windows = pair
    found = measure_latency(student, windows[:7])
    assert 0 < found["p50_ms"] <= found["p99_ms"]
