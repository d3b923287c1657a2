"""A student without knowledge, built in a millisecond without any training library.

It serves tests, examples and a first try of the pipeline: a linear layer with random weights, in
the real file format. The ONNX bytes are assembled here field by field (numbers: onnx/onnx.proto).
"""

from __future__ import annotations

import os
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact, write_artifact
from models.manifest import Channel, Draft, Lineage, Scaler, WindowShape
from models.tasks.anomaly import LEVELS, STATISTICS, AnomalyTable
from models.tasks.classfeatures import FEATURES, ClassFeatures, pack_classes, pack_vectors
from models.tasks.contract import Task
from models.tasks.fields import Decoding
from models.tasks.number import BoundedNumber, Interval, NumberAnswer
from models.tasks.quantiles import ForecastDecoding, QuantilesAnswer
from models.tasks.registry import find_task

__all__ = ["dummy_draft", "dummy_onnx", "encode_field", "write_dummy"]

_ENGINE = (("T24", "R"), ("T30", "R"), ("Nf", "rpm"))
_IMU = (("acc_x", "g"), ("acc_y", "g"), ("acc_z", "g"))
_LABELS = ("WALKING", "SITTING", "LAYING")
_POWER = (("HUFL", "MW"), ("LUFL", "MW"), ("OT", "degC"))
_SHAPES: dict[type, tuple[str, tuple[tuple[str, str], ...], float | None, int, int, int | None]] = {
    NumberAnswer: ("engine", _ENGINE, None, 4, 1, None),
    QuantilesAnswer: ("power", _POWER, 1.0, 8, 1, 2_500),
}
"""Stream, channels, rate, length, hop and gap of a dummy by kind of answer."""
_CLASS_SHAPE = ("imu", _IMU, 50.0, 8, 4, 100)


def dummy_draft(
    task: str = "rul", *, name: str | None = None, version: int = 1, stream: str | None = None
) -> Draft:
    """A small, complete draft with three channels for any registered task.

    A task that answers a number reads the stream `engine` with length 4, hop 1; one that answers a
    class reads `imu` with length 8, hop 4, and has three labels; one that answers quantiles reads
    `power` with length 8, hop 1: six readings to look back on and a backtest of two. `stream`
    replaces the name of the stream only.

    >>> dummy_draft("activity").channel_names
    ('acc_x', 'acc_y', 'acc_z')

    Raises:
        UnknownTask: No such task is registered.
    """
    contract = find_task(task)
    shape = _SHAPES.get(type(contract.answer), _CLASS_SHAPE)
    own_stream, channels, rate_hz, length, hop, gap_ms = shape
    headline = contract.headline
    return Draft(
        name=name or f"dummy-{task}",
        version=version,
        task=task,
        stream=stream or own_stream,
        channels=tuple(Channel(name=name, unit=unit) for name, unit in channels),
        rate_hz=rate_hz,
        window=WindowShape(length=length, hop=hop, min_readings=length, gap_ms=gap_ms),
        scaler=Scaler(kind="affine", scale=(0.5, 1.0, 2.0), offset=(0.0, -1.0, 0.25)),
        decoding=_decoding(contract),
        interval=Interval(level=0.9, low=-20.0, high=15.0)
        if contract.answer.has_interval
        else None,
        metrics={"test": {headline.name: 40.0 if headline.better == "smaller" else 0.3}},
        lineage=Lineage(
            teacher=None,
            method="dummy",
            data="none",
            data_digest="none",
            code_revision="none",
            seed=0,
            created_ms=0,
            command="models.dummy",
        ),
        licence="Apache-2.0",
    )


def dummy_onnx(
    draft: Draft, *, seed: int = 0, opset: int = 17, ir_version: int = 8, domain: str = ""
) -> bytes:
    """ONNX bytes of a random linear student that fits a draft.

    Args:
        draft: Gives length, channels and the decoding.
        seed: Seed of the weights; another seed makes another student.
        opset: Version of the standard domain that is written into the file.
        ir_version: IR version that is written into the file.
        domain: Domain of the MatMul node; readers must refuse anything but "".
    """
    shape = (draft.window.length, len(draft.channels))
    answer = find_task(draft.task).answer
    outputs = answer.outputs(draft.decoding)
    if isinstance(answer, QuantilesAnswer):
        nodes, tensors = _forecast_nodes(cast(ForecastDecoding, draft.decoding), seed, domain)
        return _model(nodes, tensors, shape, outputs, opset, ir_version)
    dims = outputs[draft.decoding.output]
    weights = np.random.default_rng(seed).normal(0, 0.1, (shape[0] * shape[1], *dims))
    nodes = [
        _node("Flatten", ["windows"], "flat"),
        _node("MatMul", ["flat", "weights"], "logits", domain),
    ]
    tensors = [_tensor("weights", weights.astype(np.float32))]
    output = draft.decoding.output
    if isinstance(answer, NumberAnswer):
        low, high = cast(BoundedNumber, draft.decoding).bounds
        tensors.append(_tensor("max_rul", np.array(high - low, dtype=np.float32)))
        nodes.append(_node("Sigmoid", ["logits"], "share"))
        if low == 0:
            nodes.append(_node("Mul", ["share", "max_rul"], output))
        else:
            tensors.append(_tensor("low", np.array(low, dtype=np.float32)))
            nodes.append(_node("Mul", ["share", "max_rul"], "above"))
            nodes.append(_node("Add", ["above", "low"], output))
    else:
        nodes.append(_node("Softmax", ["logits"], output))
    if FEATURES in outputs:
        matrix = np.random.default_rng(seed + 1).normal(0, 1, (len(weights), *outputs[FEATURES]))
        tensors.append(_tensor("matrix", matrix.astype(np.float32)))
        nodes.append(_node("MatMul", ["flat", "matrix"], "hidden", domain))
        nodes.append(_node("LpNormalization", ["hidden"], FEATURES))
    return _model(nodes, tensors, shape, outputs, opset, ir_version)


def write_dummy(
    path: str | os.PathLike[str],
    task: str = "rul",
    *,
    name: str | None = None,
    version: int = 1,
    seed: int = 0,
    stream: str | None = None,
    features: bool = False,
) -> Artifact:
    """Write a dummy artifact directory; see `dummy_draft` and `dummy_onnx`.

    With `features`, a student of classes has the output `features`, in which known windows lie
    around the axes; the seed decides where a window lies.
    """
    draft = dummy_draft(task, name=name, version=version, stream=stream)
    if features:
        decoding = draft.decoding.model_copy(update={"features": _features()})
        draft = draft.model_copy(update={"decoding": decoding})
    return write_artifact(path, draft, dummy_onnx(draft, seed=seed))


def encode_field(number: int, value: int | str | bytes) -> bytes:
    """Encode one field of a protobuf message.

    >>> encode_field(1, 150).hex()
    '089601'
    """
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode("utf-8") if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _decoding(task: Task) -> Decoding:
    if isinstance(task.answer, NumberAnswer):
        return task.new_decoding((), None)
    if not isinstance(task.answer, QuantilesAnswer):
        return task.new_decoding(_LABELS, None)
    table = AnomalyTable(
        windows=1000,
        channels=(((tuple(2 * level for level in LEVELS)),) * len(STATISTICS),) * len(_POWER),
        combined=LEVELS,
        alarm=0.99,
    )
    return ForecastDecoding(
        kind="forecast",
        output="forecast",
        step_ms=1000,
        length=6,
        horizon=4,
        backtest=2,
        leads=(1, 4),
        channels=tuple(name for name, _ in _POWER),
        spread=(2.0, 1.0, 0.5),
        anomaly=table,
    )


def _features() -> ClassFeatures:
    classes = np.repeat(np.arange(len(_LABELS)), 20)
    around = np.eye(len(_LABELS), 8)[classes]
    around += np.random.default_rng(0).normal(0, 0.1, around.shape)
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    return ClassFeatures(
        output="features",
        size=8,
        centres=pack_vectors(np.eye(len(_LABELS), 8)),
        weights=(5.0,) * len(_LABELS),
        sample=pack_vectors(around),
        sample_classes=pack_classes(classes),
        share=0.05,
        sample_share=0.05,
        softness=4.0,
    )


def _forecast_nodes(
    decoding: ForecastDecoding, seed: int, domain: str
) -> tuple[list[bytes], list[bytes]]:
    """One linear map applied to two look-backs; p10 and p90 are one unit from p50."""
    channels, look_back = len(decoding.channels), decoding.length * len(decoding.channels)
    ahead = decoding.horizon * channels
    weights = np.random.default_rng(seed).normal(0, 0.1, (look_back, ahead)).repeat(3, axis=1)
    older = np.zeros((decoding.backtest * channels, weights.shape[1]))
    shorter = weights[:, : decoding.backtest * channels * 3]
    nodes = [_node("Flatten", ["windows"], "flat")]
    tensors = []
    for name, steps, matrix in (
        ("forecast", decoding.horizon, np.concatenate([older, weights])),
        ("backtest", decoding.backtest, np.concatenate([shorter, older[:, : shorter.shape[1]]])),
    ):
        tensors += [
            _tensor(f"{name}_weights", matrix.astype(np.float32)),
            _tensor(f"{name}_offset", np.tile([-1, 0, 1], steps * channels).astype(np.float32)),
            _shape_tensor(f"{name}_shape", [-1, steps, channels, 3]),
        ]
        nodes += [
            _node("MatMul", ["flat", f"{name}_weights"], f"{name}_middle", domain),
            _node("Add", [f"{name}_middle", f"{name}_offset"], f"{name}_flat"),
            _node("Reshape", [f"{name}_flat", f"{name}_shape"], name),
        ]
    return nodes, tensors


def _model(
    nodes: list[bytes],
    tensors: list[bytes],
    shape: tuple[int, ...],
    outputs: dict[str, tuple[int, ...]],
    opset: int,
    ir_version: int,
) -> bytes:
    graph = b"".join(encode_field(1, node) for node in nodes)
    graph += encode_field(2, "dummy") + b"".join(encode_field(5, tensor) for tensor in tensors)
    graph += encode_field(11, _value("windows", shape))
    graph += b"".join(encode_field(12, _value(name, dims)) for name, dims in outputs.items())
    return (
        encode_field(1, ir_version)
        + encode_field(7, graph)
        + encode_field(8, encode_field(1, "") + encode_field(2, opset))
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _node(op_type: str, inputs: list[str], output: str, domain: str = "") -> bytes:
    names = b"".join(encode_field(1, name) for name in inputs)
    return names + encode_field(2, output) + encode_field(4, op_type) + encode_field(7, domain)


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    dims = b"".join(encode_field(1, size) for size in values.shape)
    return dims + encode_field(2, 1) + encode_field(8, name) + encode_field(9, values.tobytes())


def _shape_tensor(name: str, sizes: list[int]) -> bytes:
    values = np.array(sizes, dtype="<i8")
    head = encode_field(1, len(sizes)) + encode_field(2, 7)
    return head + encode_field(8, name) + encode_field(9, values.tobytes())


def _value(name: str, dims: tuple[int, ...]) -> bytes:
    batch = encode_field(1, encode_field(2, "batch"))
    shape = batch + b"".join(encode_field(1, encode_field(1, size)) for size in dims)
    tensor = encode_field(1, 1) + encode_field(2, shape)
    return encode_field(1, name) + encode_field(2, encode_field(1, tensor))
