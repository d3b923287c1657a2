"""A first manifest for a model from elsewhere: what its graph says, and what only its maker knows.

`draft_of` reads task, window length, number of channels and classes from the graph, checks the
graph as a gateway does, and collects everything that is wrong or missing, so that a person mends it
in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from models.artifact import tensor_faults
from models.errors import ModelError
from models.manifest import Channel, Draft, Lineage, Scaler, WindowShape
from models.onnxadvice import advice
from models.onnxfile import GraphSummary, TensorShape, survey_onnx
from models.tasks.classes import ClassAnswer
from models.tasks.contract import Subject, Task
from models.tasks.number import NumberAnswer
from models.tasks.registry import find_task, tasks

__all__ = ["Facts", "Incomplete", "draft_of"]


class Incomplete(ModelError):
    """A model cannot become a student yet; each of `faults` says one step."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(f"- {fault}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a graph does not say.

    Attributes:
        name: Name of the student.
        task: Name of the task; "" to take it from the outputs of the graph.
        stream: Stream that it scores.
        channels: Name and unit of each channel, in the order of the columns.
        labels: Labels of the classes, in the order of the columns.
        unit: Unit of a number, such as `cycles`.
        subject: What wears the sensors; None for what the task expects.
        most: Largest number that the graph gives; for a remaining useful life.
        rate_hz: Readings per second; None for a stream without a rate.
        hop: Readings between two windows; 0 for half a window, or 1 for a number.
        gap_ms: Longest time between two readings of a window; None for any.
        licence: Licence of the student.
        data: What it was trained on.
    """

    name: str = ""
    task: str = ""
    stream: str = ""
    channels: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()
    unit: str = ""
    subject: Subject | None = None
    most: float | None = None
    rate_hz: float | None = None
    hop: int = 0
    gap_ms: int | None = None
    licence: str = ""
    data: str = "unknown"


def draft_of(onnx_bytes: bytes, facts: Facts, *, now_ms: int) -> Draft:
    """The draft of a manifest for a model.

    The scaler is the identity, because a model from elsewhere takes raw units; there is no interval
    and there are no metrics.

    Args:
        onnx_bytes: The model.
        facts: What the graph does not say.
        now_ms: Time for the lineage, epoch milliseconds.

    Raises:
        GraphRefused: The bytes are no ONNX model.
        Incomplete: Facts are missing, or the graph cannot run on a gateway.
        UnknownTask: No task has this name.
    """
    graph = survey_onnx(onnx_bytes)
    faults = [f"{what}: {advice(kind, graph.producer)}" for kind, what in graph.faults.items()]
    task = find_task(facts.task) if facts.task else _task_of(graph.outputs)
    if task is None:
        known = ", ".join(repr(name) for name in map(_output_of, tasks()) if name)
        names = [tensor.name for tensor in graph.outputs]
        faults.append(f"--task: the outputs {names} are those of no task (they are called {known})")
        raise Incomplete([*faults, *_missing(facts, None, graph)])
    if not isinstance(task.answer, (NumberAnswer, ClassAnswer)):
        faults.append(
            f"--task: a student of the task {task.name!r} needs a table from its training: train "
            "it with train-redistill"
        )
        raise Incomplete(faults)
    faults += _missing(facts, task, graph)
    length, _ = _window(graph)
    faults += _shape_faults(facts, task, graph, length)
    if faults:
        raise Incomplete(faults)
    return _draft(facts, task, graph, length, now_ms)


def _task_of(outputs: Sequence[TensorShape]) -> Task | None:
    names = [tensor.name for tensor in outputs]
    return next((task for task in tasks() if names == [_output_of(task)]), None)


def _output_of(task: Task) -> str:
    """The name that the task gives to the output of its graphs; "" if it has several."""
    field = task.decoding.model_fields.get("output")
    named = () if field is None else get_args(field.annotation)
    return str(named[0]) if len(named) == 1 else ""


def _window(graph: GraphSummary) -> tuple[int, int]:
    """Length and channels of the input; 0 where the graph does not say."""
    dims = graph.inputs[0].dims if graph.inputs else ()
    if len(dims) != 3:
        return 0, 0
    length, channels = (dim if isinstance(dim, int) else 0 for dim in dims[1:])
    return length, channels


def _missing(facts: Facts, task: Task | None, graph: GraphSummary) -> list[str]:
    found = []
    length, width = _window(graph)
    if not facts.name:
        found.append("--name: say how the student is called, such as rul-pumps")
    if not facts.stream:
        found.append("--stream: say which stream it scores, the last level of the MQTT topic")
    if not facts.licence:
        found.append("--licence: say under which licence the student is, such as Apache-2.0")
    several = f"{width} times" if width else "once a column"
    if not facts.channels:
        found.append(
            f"--channel NAME:UNIT: give it {several}, in the order of the columns of the window"
        )
    elif width and len(facts.channels) != width:
        found.append(f"--channel NAME:UNIT: {len(facts.channels)} given, the graph has {width}")
    if graph.inputs and len(graph.inputs[0].dims) == 3 and not (length and width):
        found.append(
            f"input {graph.inputs[0].name!r} has the shape {list(graph.inputs[0].dims)}: export "
            "with a fixed length and number of channels"
        )
    if task is not None and isinstance(task.answer, ClassAnswer) and not facts.labels:
        found.append("--label: give it once a class, in the order of the columns of the output")
    if task is not None and isinstance(task.answer, NumberAnswer):
        if not facts.unit:
            found.append("--unit: say in which unit it answers, such as cycles or hours")
        if facts.most is None:
            found.append("--most: say the largest number that the graph gives")
    return found


def _shape_faults(facts: Facts, task: Task, graph: GraphSummary, length: int) -> list[str]:
    columns = len(facts.channels) or _window(graph)[1]
    classes = len(facts.labels)
    dims: tuple[int, ...] = ()
    if isinstance(task.answer, ClassAnswer):
        dims = (classes,)
        if not classes and graph.outputs and len(graph.outputs[0].dims) == 2:
            dim = graph.outputs[0].dims[1]
            dims = (dim if isinstance(dim, int) else 0,)
    outputs = {_output_of(task): dims}
    faults = [
        *tensor_faults("input", graph.inputs, {"windows": (length, columns)}),
        *tensor_faults("output", graph.outputs, outputs),
    ]
    return [f"{what}: {advice(kind, graph.producer, [*outputs])}" for kind, what in faults]


def _draft(facts: Facts, task: Task, graph: GraphSummary, length: int, now_ms: int) -> Draft:
    is_number = isinstance(task.answer, NumberAnswer)
    decoding: dict[str, Any] = {"kind": task.decoding_kind, "output": _output_of(task)}
    if is_number:
        decoding["unit"] = facts.unit
        fields = task.decoding.model_fields.items()
        bounds = {name for name, field in fields if field.default is not None} - set(decoding)
        decoding |= dict.fromkeys(bounds, facts.most)  # the one that is left is the largest number
    else:
        decoding["labels"] = facts.labels
    width = len(facts.channels)
    try:
        return Draft.model_validate(
            {
                "name": facts.name,
                "task": task.name,
                "stream": facts.stream,
                "subject": facts.subject,
                "channels": [Channel(name=name, unit=unit) for name, unit in facts.channels],
                "rate_hz": facts.rate_hz,
                "window": WindowShape(
                    length=length,
                    hop=facts.hop or (1 if is_number else max(1, length // 2)),
                    min_readings=length,
                    gap_ms=facts.gap_ms,
                ),
                "scaler": Scaler(kind="affine", scale=(1.0,) * width, offset=(0.0,) * width),
                "decoding": decoding,
                "interval": None,
                "metrics": {},
                "lineage": Lineage(
                    teacher=None,
                    method=f"imported ({graph.producer or 'unknown tool'})",
                    data=facts.data,
                    data_digest="unknown",
                    code_revision="unknown",
                    seed=0,
                    created_ms=now_ms,
                    command="kpstream models init",
                ),
                "licence": facts.licence,
            }
        )
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_context=False)
        raise Incomplete(
            [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors]
        ) from exc
