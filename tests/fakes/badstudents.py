"""Students with one fault each, made of a sound student by nodes behind its graph.

They pass every check of an artifact and the self-test, as a bad student in the field would: the
fault shows only in the windows that come. Needs the package `onnx`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.artifact import Artifact, write_artifact
from models.manifest import Draft

FAULTS = ("nan", "constant", "slow", "shifted", "labels", "raises")
SOUND = "reordered"
"""No fault: the labels have another order, in the graph and in the manifest alike."""


@dataclass(frozen=True)
class Trap:
    """The windows over which a student fails: their newest scaled reading of a channel is inside.

    Attributes:
        channel: Index of the channel.
        low: Lower end, in scaled units.
        high: Upper end.
    """

    channel: int
    low: float
    high: float


def write_bad(
    path: Path,
    sound: Artifact,
    fault: str,
    *,
    version: int,
    trap: Trap | None = None,
    shift: float | NDArray[np.float32] = 0.0,
    work: int = 64,
) -> Artifact:
    """Write a student with a fault.

    Args:
        path: Directory of the artifact.
        sound: The student that it is made of.
        fault: One of `FAULTS`, or `SOUND`.
        version: Version of the new student.
        trap: The windows over which `nan` and `raises` fail.
        shift: What `shifted` adds to the outputs; broadcasts to [batch, ...].
        work: Products of matrices that `slow` adds to each run.
    """
    manifest = sound.manifest
    model = onnx.load_from_string(sound.onnx_bytes)
    graph = model.graph
    made = _Nodes(graph, manifest.input, (manifest.window.length, len(manifest.channels)))
    for output in list(graph.output):
        dims = [dim.dim_value for dim in output.type.tensor_type.shape.dim][1:]
        made.rename(output.name, f"{output.name}_sound")
        made.add_fault(fault, f"{output.name}_sound", output.name, dims, trap, shift, work)
    decoding = manifest.decoding
    if fault == SOUND:
        labels = tuple(np.roll(decoding.labels, 1).tolist())  # type: ignore[attr-defined]
        decoding = decoding.model_copy(update={"labels": labels})
    fields = {name: getattr(manifest, name) for name in Draft.model_fields}
    draft = Draft(**fields | {"version": version, "decoding": decoding})
    return write_artifact(path, draft, model.SerializeToString())


class _Nodes:
    def __init__(self, graph: Any, source: str, shape: tuple[int, int]) -> None:
        self.graph, self.source, self.shape = graph, source, shape
        self.count = 0

    def rename(self, name: str, new: str) -> None:
        for node in self.graph.node:
            node.output[:] = [new if out == name else out for out in node.output]
            node.input[:] = [new if given == name else given for given in node.input]

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        self.count += 1
        output = output or f"fault_{self.count}"
        self.graph.node.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def tensor(self, values: Any, dtype: Any = np.float32) -> str:
        self.count += 1
        name = f"fault_{self.count}"
        found = np.asarray(values, dtype=dtype)
        self.graph.initializer.append(numpy_helper.from_array(found, name))
        return name

    def add_fault(
        self,
        fault: str,
        sound: str,
        output: str,
        dims: list[int],
        trap: Trap | None,
        shift: float | NDArray[np.float32],
        work: int,
    ) -> None:
        column = self.tensor([-1] + [1] * len(dims), np.int64)  # the shape of one number a window
        if fault == "constant":
            nothing = self.add("Mul", [sound, self.tensor(0)])
            self.add("Add", [nothing, self.tensor(_constant(dims))], output)
        elif fault == "shifted":
            moved = self.add("Add", [sound, self.tensor(shift)])
            # Within the bounds of a number, or the self-test finds it.
            limit = self.tensor(125.0 if not dims else np.finfo(np.float32).max)
            self.add("Min", [moved, limit], output)
        elif fault in ("labels", SOUND):
            order = self.tensor(np.roll(np.arange(dims[0]), 1), np.int64)
            self.add("Gather", [sound, order], output, axis=1)
        elif fault == "slow":
            idle = self.add("Reshape", [self._idle(work), column])
            self.add("Add", [sound, idle], output)
        elif fault == "nan":
            caught = self.add("Reshape", [self._caught(trap), column])
            self.add("Where", [caught, self.tensor(np.nan), sound], output)
        elif fault == "raises":
            caught = self.add("Cast", [self._caught(trap)], to=onnx.TensorProto.INT64)
            place = self.add("Mul", [caught, self.tensor(1000, np.int64)])
            nothing = self.add("Gather", [self.tensor([0.0]), place], axis=0)
            self.add("Add", [sound, self.add("Reshape", [nothing, column])], output)
        else:
            raise ValueError(fault)

    def _caught(self, trap: Trap | None) -> str:
        assert trap is not None
        flat = self.add("Flatten", [self.source])
        index = self.tensor((self.shape[0] - 1) * self.shape[1] + trap.channel, np.int64)
        newest = self.add("Gather", [flat, index], axis=1)
        above = self.add("Greater", [newest, self.tensor(trap.low)])
        below = self.add("Less", [newest, self.tensor(trap.high)])
        return self.add("And", [above, below])

    def _idle(self, work: int) -> str:
        """Products of matrices that add up to nothing, [batch]."""
        size, rng = 128, np.random.default_rng(0)
        wide = rng.normal(0, 1e-3, (self.shape[0] * self.shape[1], size))
        found = self.add("MatMul", [self.add("Flatten", [self.source]), self.tensor(wide)])
        square = self.tensor(rng.normal(0, 1 / size, (size, size)))
        for _ in range(work):
            found = self.add("MatMul", [found, square])
        first = self.add("Gather", [found, self.tensor(0, np.int64)], axis=1)
        return self.add("Mul", [first, self.tensor(0)])


def _constant(dims: list[int]) -> NDArray[np.float32]:
    if not dims:
        return np.array(60.0, dtype=np.float32)
    if len(dims) == 1:  # probabilities of classes: always the first one
        found = np.full(dims, 0.1 / (dims[0] - 1), dtype=np.float32)
        found[0] = 0.9
        return found
    return np.zeros(dims, dtype=np.float32) + np.array([-1, 0, 1], dtype=np.float32)
