"""What to do about a graph that a gateway refuses, by the tool that made it.

A model file names its tool (`producer_name`). The steps are those of torch 2, skl2onnx, tf2onnx and
the package onnx; for another tool the step that needs nothing but the package onnx is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["advice"]

_RESAVE = 'onnx.save(onnx.load("model.onnx"), "whole.onnx")'
_STEPS: Mapping[str, Mapping[str, str]] = {
    "opset": {
        "pytorch": "torch.onnx.export(..., opset_version=17)",
        "skl2onnx": "to_onnx(..., target_opset=17)",
        "tf2onnx": "python -m tf2onnx.convert ... --opset 17",
        "": "onnx.version_converter.convert_version(model, 17)",
    },
    "ir": {
        "skl2onnx": "to_onnx(..., target_opset=17), then model.ir_version = 10 before it is saved",
        "": "model = onnx.load(path); model.ir_version = 10; onnx.save(model, path)",
    },
    "external": {
        "pytorch": f"torch.onnx.export(..., external_data=False), or {_RESAVE}",
        "": _RESAVE,
    },
    "functions": {
        "pytorch": "torch.onnx.export(..., dynamo=False), or onnx.inliner.inline_local_functions",
        "": "onnx.inliner.inline_local_functions(model)",
    },
    "training": {"": "export the model in inference mode (torch: model.eval() first)"},
    "ml": {
        "": (
            "trees and other models of scikit-learn, LightGBM or XGBoost are not supported: train "
            "a network, for example with train-redistill"
        ),
    },
    "domain": {
        "onnx.quantize": (
            "onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ) without "
            "an optimised model"
        ),
        "": "use operators of the standard ONNX domain only; save the model before optimisation",
    },
    "op": {"": "export a graph without loops and random numbers"},
    "names": {
        "pytorch": 'torch.onnx.export(..., input_names=["windows"], output_names=[OUTPUTS])',
        "skl2onnx": 'to_onnx(..., initial_types=[("windows", ...)]), options={"zipmap": False}',
        "": "rename inputs and outputs in the graph with the package onnx, in its nodes too",
    },
    "batch": {
        "pytorch": 'torch.onnx.export(..., dynamic_axes={"windows": {0: "batch"}})',
        "tf2onnx": "give the signature a first dimension of None",
        "": 'graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch", and the outputs too',
    },
    "type": {"": "export with float32 inputs and outputs (a Cast at each end is enough)"},
    "shape": {"": "export with the shape that the manifest states, or correct the manifest"},
    "flat": {
        "pytorch": "put x.flatten(1) first, so that the graph takes [batch, length, channels]",
        "": (
            "put a Reshape to [-1, length * channels] first, so that the graph takes "
            "[batch, length, channels]"
        ),
    },
}


def advice(kind: str, producer: str, outputs: Sequence[str] = ()) -> str:
    """The step that mends a fault of a graph.

    Args:
        kind: Kind of the fault, as in `models.onnxfile.GraphSummary.faults` and
            `models.drafting`.
        producer: Name of the tool that made the file; "" if it names none.
        outputs: Names that the outputs need.

    >>> advice("opset", "skl2onnx")
    'to_onnx(..., target_opset=17)'
    """
    steps = _STEPS[kind]
    text = steps.get(producer.lower(), steps[""])
    return text.replace("OUTPUTS", ", ".join(f'"{name}"' for name in outputs))
