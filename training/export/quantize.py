"""The eight-bit form of a student: quantised weights and activations, in plain ONNX.

Only convolutions and dense layers of the encoder are quantised (QuantizeLinear and DequantizeLinear
around them, weights per channel). Scaling per condition, the fixed matrices of statistics and
spectrum, anchors, vote and softmax stay in float32, because their numbers span too many decades for
eight bits, and they are few.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import MissingExtraError

__all__ = ["quantize"]

_LAYERS = ["Conv", "Gemm"]
_BATCH = 64


def quantize(onnx_bytes: bytes, scaled: NDArray[np.float32]) -> bytes:
    """Quantise a graph of `training.export.artifact.export_onnx`.

    Args:
        onnx_bytes: Graph in float32.
        scaled: Windows `[n, length, channels]` as the graph gets them, of groups the student has
            learned from; they give the ranges of the activations.

    Raises:
        MissingExtraError: The package onnx is not installed.
    """
    try:
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
            )
        finally:
            root.setLevel(level)
        return target.read_bytes()
