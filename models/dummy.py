"""A student that knows nothing, built in a millisecond without any training library.

For tests, examples and a first try of the line: a linear layer with random weights, in the real
file format. The ONNX bytes are written by hand (field numbers: onnx/onnx.proto).
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact, write_artifact
from models.manifest import (
    Channel,
    ClassesDecoding,
    Draft,
    Interval,
    Lineage,
    RulDecoding,
    Scaler,
    WindowShape,
)

__all__ = ["dummy_draft", "dummy_onnx", "encode_field", "write_dummy"]

_CHANNELS = {
    "engine": (("T24", "R"), ("T30", "R"), ("Nf", "rpm")),
    "imu": (("acc_x", "g"), ("acc_y", "g"), ("acc_z", "g")),
}


def dummy_draft(task: str = "rul", *, name: str | None = None, version: int = 1) -> Draft:
    """A small, complete draft: three channels; length 4, hop 1 (rul) or length 8, hop 4.

    >>> dummy_draft("activity").channel_names
    ('acc_x', 'acc_y', 'acc_z')

    Raises:
        ValueError: `task` is neither "rul" nor "activity".
    """
    if task not in ("rul", "activity"):
        msg = f"no dummy for task {task!r}: use 'rul' or 'activity'"
        raise ValueError(msg)
    is_rul = task == "rul"
    stream = "engine" if is_rul else "imu"
    length, hop = (4, 1) if is_rul else (8, 4)
    return Draft(
        name=name or f"dummy-{task}",
        version=version,
        task="rul" if is_rul else "activity",
        stream=stream,
        channels=tuple(Channel(name=name, unit=unit) for name, unit in _CHANNELS[stream]),
        rate_hz=None if is_rul else 50.0,
        window=WindowShape(
            length=length, hop=hop, min_readings=length, gap_ms=None if is_rul else 100
        ),
        scaler=Scaler(kind="affine", scale=(0.5, 1.0, 2.0), offset=(0.0, -1.0, 0.25)),
        decoding=RulDecoding(kind="rul", output="rul", unit="cycles", max_rul=125.0)
        if is_rul
        else ClassesDecoding(
            kind="classes", output="probabilities", labels=("WALKING", "SITTING", "LAYING")
        ),
        interval=Interval(level=0.9, low=-20.0, high=15.0) if is_rul else None,
        metrics={"test": {"rmse": 40.0}} if is_rul else {"test": {"macro_f1": 0.3}},
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
        draft: gives length, channels and the decoding.
        seed: of the weights; another seed is another student.
        opset: version written into the file, of the standard domain.
        ir_version: written into the file.
        domain: of the MatMul node; anything but "" must be refused by readers.
    """
    shape = (draft.window.length, len(draft.channels))
    decoding = draft.decoding
    classes = () if isinstance(decoding, RulDecoding) else (len(decoding.labels),)
    weights = np.random.default_rng(seed).normal(0, 0.1, (shape[0] * shape[1], *classes))
    nodes = [
        _node("Flatten", ["windows"], "flat"),
        _node("MatMul", ["flat", "weights"], "logits", domain),
    ]
    tensors = [_tensor("weights", weights.astype(np.float32))]
    if isinstance(decoding, RulDecoding):
        tensors.append(_tensor("max_rul", np.array(decoding.max_rul, dtype=np.float32)))
        nodes.append(_node("Sigmoid", ["logits"], "share"))
        nodes.append(_node("Mul", ["share", "max_rul"], "rul"))
    else:
        nodes.append(_node("Softmax", ["logits"], "probabilities"))
    graph = b"".join(encode_field(1, node) for node in nodes)
    graph += encode_field(2, "dummy") + b"".join(encode_field(5, tensor) for tensor in tensors)
    graph += encode_field(11, _value("windows", shape))
    graph += encode_field(12, _value(decoding.output, classes))
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
) -> Artifact:
    """Write a dummy artifact directory; see `dummy_draft` and `dummy_onnx`."""
    draft = dummy_draft(task, name=name, version=version)
    return write_artifact(path, draft, dummy_onnx(draft, seed=seed))


def encode_field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message.

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
