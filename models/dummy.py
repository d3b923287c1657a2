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
from models.tasks.number import BoundedNumber, Interval, NumberAnswer
from models.tasks.registry import find_task

__all__ = ["dummy_draft", "dummy_onnx", "encode_field", "write_dummy"]

_ENGINE = (("T24", "R"), ("T30", "R"), ("Nf", "rpm"))
_IMU = (("acc_x", "g"), ("acc_y", "g"), ("acc_z", "g"))
_LABELS = ("WALKING", "SITTING", "LAYING")


def dummy_draft(
    task: str = "rul", *, name: str | None = None, version: int = 1, stream: str | None = None
) -> Draft:
    """A small, complete draft with three channels for any registered task.

    A task that answers a number reads the stream `engine` with length 4, hop 1; one that answers a
    class reads `imu` with length 8, hop 4, and has three labels. `stream` replaces the name of the
    stream only.

    >>> dummy_draft("activity").channel_names
    ('acc_x', 'acc_y', 'acc_z')

    Raises:
        UnknownTask: No such task is registered.
    """
    contract = find_task(task)
    is_number = isinstance(contract.answer, NumberAnswer)
    length, hop = (4, 1) if is_number else (8, 4)
    headline = contract.headline
    return Draft(
        name=name or f"dummy-{task}",
        version=version,
        task=task,
        stream=stream or ("engine" if is_number else "imu"),
        channels=tuple(
            Channel(name=name, unit=unit) for name, unit in (_ENGINE if is_number else _IMU)
        ),
        rate_hz=None if is_number else 50.0,
        window=WindowShape(
            length=length, hop=hop, min_readings=length, gap_ms=None if is_number else 100
        ),
        scaler=Scaler(kind="affine", scale=(0.5, 1.0, 2.0), offset=(0.0, -1.0, 0.25)),
        decoding=contract.new_decoding(() if is_number else _LABELS, None),
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
    dims = answer.dims(draft.decoding)
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
    graph = b"".join(encode_field(1, node) for node in nodes)
    graph += encode_field(2, "dummy") + b"".join(encode_field(5, tensor) for tensor in tensors)
    graph += encode_field(11, _value("windows", shape))
    graph += encode_field(12, _value(output, dims))
    return (
        encode_field(1, ir_version)
        + encode_field(7, graph)
        + encode_field(8, encode_field(1, "") + encode_field(2, opset))
    )


def write_dummy(
    path: str | os.PathLike[str],
    task: str = "rul",
    *,
    name: str | None = None,
    version: int = 1,
    seed: int = 0,
    stream: str | None = None,
) -> Artifact:
    """Write a dummy artifact directory; see `dummy_draft` and `dummy_onnx`."""
    draft = dummy_draft(task, name=name, version=version, stream=stream)
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


def _value(name: str, dims: tuple[int, ...]) -> bytes:
    batch = encode_field(1, encode_field(2, "batch"))
    shape = batch + b"".join(encode_field(1, encode_field(1, size)) for size in dims)
    tensor = encode_field(1, 1) + encode_field(2, shape)
    return encode_field(1, name) + encode_field(2, encode_field(1, tensor))
