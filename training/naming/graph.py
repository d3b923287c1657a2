"""Graphs of extended students: the student's own graph, unchanged, and the new head behind it."""

from __future__ import annotations

import io
import warnings

import onnx
import torch
from onnx import compose, helper, version_converter
from torch import nn

from models.tasks.classfeatures import FEATURES
from training.errors import ExportError

__all__ = ["extend_graph"]

_KNOWN = "known_"
_HEAD = "named_"


def extend_graph(
    onnx_bytes: bytes,
    head: nn.Module,
    length: int,
    channels: int,
    classes: int,
    output: str,
    features: int | None,
) -> bytes:
    """Put a `training.naming.module.NamingHead` behind a student's graph.

    The student's nodes stay as they are, also quantised ones; only their names get a prefix.

    Args:
        onnx_bytes: Graph of the student.
        head: Windows, probabilities and, with `features`, features to the new probabilities.
        length: Readings in a window.
        channels: Channels of a reading.
        classes: Classes of the student before.
        output: Name of the output with the probabilities, before and after.
        features: Width of the features that the head reads; None if it reads none.

    Raises:
        ExportError: The graphs cannot be joined.
    """
    known = onnx.load_from_string(onnx_bytes)
    opset = next(one.version for one in known.opset_import if one.domain in ("", "ai.onnx"))
    added = _export(head, length, channels, classes, features, opset)
    outputs = [one.name for one in known.graph.output]
    known = compose.add_prefix(known, _prefix(known), rename_inputs=False)
    prefix = _prefix_of(known, outputs)
    added = compose.add_prefix(added, _HEAD, rename_inputs=False, rename_outputs=False)
    wires = {"probabilities_before": prefix + output, "features_before": prefix + FEATURES}
    for node in added.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = wires.get(name, name)
    nodes = [*known.graph.node, *added.graph.node]
    kept = []
    for value in known.graph.output:
        name = value.name.removeprefix(prefix)
        if name == output:
            kept.append(added.graph.output[0])
        else:
            nodes.append(helper.make_node("Identity", [value.name], [name]))
            value.name = name
            kept.append(value)
    graph = helper.make_graph(
        nodes,
        known.graph.name,
        list(known.graph.input),
        kept,
        [*known.graph.initializer, *added.graph.initializer],
    )
    joined = helper.make_model(
        graph, opset_imports=list(known.opset_import), producer_name=known.producer_name
    )
    joined.ir_version = known.ir_version
    try:
        onnx.checker.check_model(joined)
    except onnx.checker.ValidationError as exc:
        msg = f"the graph of the student and the new class do not fit together: {exc}"
        raise ExportError(msg) from exc
    return bytes(joined.SerializeToString())


def _prefix(model: onnx.ModelProto) -> str:
    """A prefix that no name of the graph has: a student may be extended again."""
    prefix = _KNOWN
    while any(node.output[0].startswith(prefix) for node in model.graph.node if node.output):
        prefix += _KNOWN
    return prefix


def _prefix_of(model: onnx.ModelProto, outputs: list[str]) -> str:
    return str(model.graph.output[0].name).removesuffix(outputs[0])


def _export(
    head: nn.Module, length: int, channels: int, classes: int, features: int | None, opset: int
) -> onnx.ModelProto:
    inputs = [torch.zeros(2, length, channels), torch.full((2, classes), 1 / classes)]
    names = ["windows", "probabilities_before"]
    if features is not None:
        inputs.append(torch.zeros(2, features))
        names.append("features_before")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # see export.artifact
        torch.onnx.export(
            head,
            tuple(inputs),
            buffer,  # type: ignore[arg-type]  # a file object works, the stubs know paths only
            input_names=names,
            output_names=["probabilities"],
            dynamic_axes={name: {0: "batch"} for name in (*names, "probabilities")},
            opset_version=min(opset, 17),
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    return version_converter.convert_version(model, opset) if opset > 17 else model
