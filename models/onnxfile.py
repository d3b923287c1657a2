"""Inspection of an ONNX file before ONNX Runtime loads it.

The code walks the protobuf wire format of `ModelProto` (field numbers: onnx/onnx.proto), so that a
gateway needs neither the `onnx` package nor generated code. It reads all nodes, initializers,
attribute tensors and nested graphs, and refuses everything that it cannot follow. What it can
follow and must not run is collected, so that all faults of a model are named at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from models.errors import GraphRefused
from models.manifest import MAX_OPSET, MIN_OPSET
from models.onnxadvice import advice

__all__ = ["GraphSummary", "TensorShape", "inspect_onnx", "survey_onnx"]

MAX_IR_VERSION = 10  # the newest that ONNX Runtime 1.19 reads
_MAX_DEPTH = 8  # a node can hold a graph in an attribute, and so on
_MAX_NODES = 5_000
_FLOAT = 1  # TensorProto.FLOAT
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
# Loop and Scan may never end; the others give another score each time.
_REFUSED_OPS = frozenset(
    {
        "Bernoulli",
        "Loop",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Scan",
    }
)


@dataclass(frozen=True, slots=True)
class TensorShape:
    """Name, element type and dimensions of a tensor; a name or None stands for any size."""

    name: str
    is_float32: bool
    dims: tuple[int | str | None, ...]


@dataclass(slots=True)
class GraphSummary:
    """The findings of `survey_onnx`.

    Attributes:
        producer: Name of the tool that made the file; "" if it names none.
        inputs: Inputs of the main graph.
        outputs: Its outputs.
        faults: Kind of fault to what is wrong, without what to do; one of each kind.
    """

    producer: str = ""
    ir_version: int = 0
    opset: int = 0
    op_types: set[str] = field(default_factory=set)
    inputs: list[TensorShape] = field(default_factory=list)
    outputs: list[TensorShape] = field(default_factory=list)
    node_count: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    def add_fault(self, kind: str, what: str) -> None:
        """Note the first fault of a kind; see `models.onnxadvice`."""
        self.faults.setdefault(kind, what)


def inspect_onnx(data: bytes) -> GraphSummary:
    """Inspect an ONNX model and refuse one that must not run on a gateway.

    Raises:
        GraphRefused: The bytes are malformed, the IR version or opset is not supported, or the
            model has data outside the file, operators of foreign domains, operators that loop or
            draw random numbers, model-local functions or training graphs. The message names all
            faults, each with the step that mends it.
    """
    found = survey_onnx(data)
    if found.faults:
        _refuse(
            "; ".join(
                f"{what}: {advice(kind, found.producer)}" for kind, what in found.faults.items()
            )
        )
    return found


def survey_onnx(data: bytes) -> GraphSummary:
    """Read an ONNX model, and collect what a gateway would refuse in `faults`.

    Raises:
        GraphRefused: The bytes are malformed, or nested or repeated without end.
    """
    found = GraphSummary()
    graphs = 0
    for number, value in _fields(memoryview(data)):
        if number == 1:
            found.ir_version = _integer(value)
        elif number == 2:
            found.producer = _text(value)[:100]
        elif number == 8:
            _read_opset(_message(value), found)
        elif number == 7:
            graphs += 1
            _walk_graph(_message(value), found, depth=0)
        elif number in (20, 25):
            what = "training graphs" if number == 20 else "model-local functions"
            found.add_fault("training" if number == 20 else "functions", f"it has {what}")
    if graphs != 1:
        _refuse(f"it has {graphs} graphs instead of one: it is not an ONNX model")
    if not 3 <= found.ir_version <= MAX_IR_VERSION:
        found.add_fault("ir", f"IR version {found.ir_version} is outside 3..{MAX_IR_VERSION}")
    if not MIN_OPSET <= found.opset <= MAX_OPSET:
        found.add_fault("opset", f"opset {found.opset} is outside {MIN_OPSET}..{MAX_OPSET}")
    return found


def _read_opset(message: memoryview, found: GraphSummary) -> None:
    domain, version = "", 0
    for number, value in _fields(message):
        if number == 1:
            domain = _text(value)
        elif number == 2:
            version = _integer(value)
    if domain in _STANDARD_DOMAINS:
        if found.opset:
            _refuse(f"opset is given twice ({found.opset} and {version})")
        found.opset = version


def _walk_graph(message: memoryview, found: GraphSummary, depth: int) -> None:
    if depth > _MAX_DEPTH:
        _refuse(f"graphs are nested deeper than {_MAX_DEPTH}")
    for number, value in _fields(message):
        if number == 1:
            _walk_node(_message(value), found, depth)
        elif number == 5:
            _walk_tensor(_message(value), found)
        elif number == 15:
            _walk_sparse(_message(value), found)
        elif number in (11, 12) and depth == 0:
            (found.inputs if number == 11 else found.outputs).append(_shape(_message(value)))


def _walk_node(message: memoryview, found: GraphSummary, depth: int) -> None:
    op_type, domain = "", ""
    for number, value in _fields(message):
        if number == 4:
            op_type = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            for inner, attribute in _fields(_message(value)):
                if inner in (5, 10):
                    _walk_tensor(_message(attribute), found)
                elif inner in (6, 11):
                    _walk_graph(_message(attribute), found, depth + 1)
                elif inner in (22, 23):
                    _walk_sparse(_message(attribute), found)
    found.node_count += 1
    if found.node_count > _MAX_NODES:
        _refuse(f"it has more than {_MAX_NODES} nodes")
    if domain not in _STANDARD_DOMAINS:
        kind = "ml" if domain == "ai.onnx.ml" else "domain"
        found.add_fault(kind, f"operator {op_type[:80]!r} is of domain {domain[:80]!r}")
    if op_type in _REFUSED_OPS:
        found.add_fault("op", f"operator {op_type!r} may never end or draws random numbers")
    found.op_types.add(op_type)


def _walk_tensor(message: memoryview, found: GraphSummary) -> None:
    for number, value in _fields(message):
        # Any value but the default is refused: protobuf would truncate 2**32 + 1 to EXTERNAL.
        if number == 13 or (number == 14 and _integer(value) != 0):
            found.add_fault("external", "a tensor is stored as external data")


def _walk_sparse(message: memoryview, found: GraphSummary) -> None:
    for number, value in _fields(message):
        if number in (1, 2):
            _walk_tensor(_message(value), found)


def _shape(message: memoryview) -> TensorShape:
    name, is_float32 = "", False
    dims: list[int | str | None] = []
    for number, value in _fields(message):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor in _fields(_message(value)):
                if kind != 1:
                    continue
                for part, content in _fields(_message(tensor)):
                    if part == 1:
                        is_float32 = _integer(content) == _FLOAT
                    elif part == 2:
                        dims += [_dim(_message(d)) for n, d in _fields(_message(content)) if n == 1]
    return TensorShape(name, is_float32, tuple(dims))


def _dim(message: memoryview) -> int | str | None:
    dim: int | str | None = None
    for number, value in _fields(message):
        if number == 1:
            size = _integer(value)
            dim = size if 0 < size < 2**63 else None  # some tools write -1 for any size
        elif number == 2:
            dim = _text(value) or None
    return dim


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            _refuse("field number 0: the file is damaged")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            _refuse(f"wire type {wire} at field {number}: the file is damaged")
        if size > end - at:
            _refuse(f"field {number} ends after the end of the file: the file is truncated")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            _refuse("a number ends after the end of the file: the file is truncated")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    _refuse("a number is longer than ten bytes: the file is damaged")


def _integer(value: int | memoryview) -> int:
    if isinstance(value, int):
        return value
    _refuse("text in place of a number: the file is damaged")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        _refuse("a number in place of a message: the file is damaged")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_message(value)).decode("utf-8")
    except UnicodeDecodeError as exc:
        msg = f"model.onnx is refused: a name is not UTF-8: {exc}"
        raise GraphRefused(msg) from exc


def _refuse(reason: str) -> NoReturn:
    msg = f"model.onnx is refused: {reason}"
    raise GraphRefused(msg)
