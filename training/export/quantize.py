"""The eight-bit form of a student: quantised weights and activations, in plain ONNX.

Only convolutions and dense layers of the encoder are quantised (QuantizeLinear and DequantizeLinear
around them, weights per channel). Scaling per condition, the fixed matrices of statistics and
spectrum, anchors, vote and softmax stay in float32, because their numbers span too many decades for
eight bits, and they are few.

Calibration windows give the range of the activations, and what lies beyond it is clipped. Where the
first layers read a series that each window normalises, a quiet window with one jump lies far beyond
any calibrated range, so the graph may ask for float32 activations there (`float_inputs`): the
weights of these layers alone are in eight bits.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import models.runtime  # noqa: F401 - it silences ONNX Runtime before the import below
from training.errors import MissingExtraError

__all__ = ["quantize"]

_LAYERS = ["Conv", "Gemm"]
_WEIGHTED = {*_LAYERS, "MatMul"}
_BATCH = 64


def quantize(
    onnx_bytes: bytes, scaled: NDArray[np.float32], *, float_inputs: bool = False
) -> bytes:
    """Quantise a graph of `training.export.artifact.export_onnx`.

    Args:
        onnx_bytes: Graph in float32.
        scaled: Windows `[n, length, channels]` as the graph gets them, of groups the student has
            learned from; they give the ranges of the activations.
        float_inputs: Whether layers that read the window through no other layer keep float32
            activations.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as exc:
        module = "onnx"
        raise MissingExtraError(module) from exc

    class Windows(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.float32]] = iter(
                np.array_split(scaled, max(1, len(scaled) // _BATCH))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"windows": batch}

    first = _first_layers(onnx.load_model_from_string(onnx_bytes)) if float_inputs else []
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        source.write_bytes(onnx_bytes)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # onnxruntime recommends a preparation that has no effect here
        try:
            quantization.quantize_static(
                str(source),
                str(target),
                Windows(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=_LAYERS,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                nodes_to_exclude=first,
            )
        finally:
            root.setLevel(level)
        small = onnx.load_model(target)
    for name in first:
        _quantize_weights(small, name)
    found: bytes = small.SerializeToString()
    return found


def _first_layers(model: Any) -> list[str]:
    """Names of the layers whose data comes from the graph's input through no other layer."""
    makers = {output: node for node in model.graph.node for output in node.output}
    known: dict[str, bool] = {}

    def is_raw(tensor: str) -> bool:
        if tensor not in known:
            maker = makers.get(tensor)
            known[tensor] = maker is None or (
                maker.op_type not in _WEIGHTED and all(map(is_raw, maker.input))
            )
        return known[tensor]

    layers = [node for node in model.graph.node if node.op_type in _LAYERS]
    return [node.name for node in layers if is_raw(node.input[0])]


def _quantize_weights(model: Any, name: str) -> None:
    """Replace the weights of a layer by eight-bit ones and a node that multiplies them out."""
    from onnx import helper, numpy_helper

    graph = model.graph
    place, layer = next((place, node) for place, node in enumerate(graph.node) if node.name == name)
    weights = next(one for one in graph.initializer if one.name == layer.input[1])
    values = numpy_helper.to_array(weights)
    transposed = {one.name: one.i for one in layer.attribute}.get("transB", 0)
    axis = 0 if layer.op_type == "Conv" or transposed else 1
    others = tuple(place for place in range(values.ndim) if place != axis)
    scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-12) / 127
    parts = {
        "quantized": np.rint(values / scale).astype(np.int8),
        "scale": scale.reshape(-1).astype(np.float32),
        "zero_point": np.zeros(values.shape[axis], dtype=np.int8),
    }
    names = [f"{weights.name}_{part}" for part in parts]
    graph.initializer.extend(map(numpy_helper.from_array, parts.values(), names))
    layer.input[1] = f"{weights.name}_float"
    node = helper.make_node("DequantizeLinear", names, [layer.input[1]], name=f"{name}_weights")
    node.attribute.append(helper.make_attribute("axis", axis))
    graph.node.insert(place, node)
    if not any(weights.name in other.input for other in graph.node):
        graph.initializer.remove(weights)
