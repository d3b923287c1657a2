"""A model from elsewhere becomes a student, or everything that is wrong is said at once."""

from __future__ import annotations

import io

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from deploy.cli import main
from models.artifact import read_artifact
from models.drafting import Facts, Incomplete, draft_of
from models.dummy import dummy_draft, dummy_onnx
from models.errors import GraphRefused
from models.session import Student

RUL = dummy_onnx(dummy_draft("rul"))
ACTIVITY = dummy_onnx(dummy_draft("activity"))
FACTS = Facts(
    name="rul-pumps",
    stream="pump",
    channels=(("p", "bar"), ("q", "l/s"), ("t", "degC")),
    unit="hours",
    most=200.0,
    licence="Apache-2.0",
)


def _faults(data: bytes, facts: Facts = FACTS) -> str:
    with pytest.raises(Incomplete) as caught:
        draft_of(data, facts, now_ms=1)
    return str(caught.value)


def _changed(data: bytes, change) -> bytes:
    model = onnx.load_from_string(data)
    change(model)
    return model.SerializeToString()


def test_everything_that_only_the_maker_knows_is_asked_for_at_once():
    assert _faults(RUL, Facts()).splitlines() == [
        "- --name: say how the student is called, such as rul-pumps",
        "- --stream: say which stream it scores, the last level of the MQTT topic",
        "- --licence: say under which licence the student is, such as Apache-2.0",
        "- --channel NAME:UNIT: give it 3 times, in the order of the columns of the window",
        "- --unit: say in which unit it answers, such as cycles or hours",
        "- --most: say the largest number that the graph gives",
    ]
    assert "--label: give it once a class" in _faults(ACTIVITY)


def test_the_graph_says_task_length_and_classes():
    draft = draft_of(RUL, FACTS, now_ms=1)
    assert (draft.task, draft.window.length, draft.window.hop) == ("rul", 4, 1)
    facts = Facts("act", "", "imu", FACTS.channels, ("up", "down", "still"), licence="MIT")
    draft = draft_of(ACTIVITY, facts, now_ms=1)
    assert (draft.task, draft.window.length, draft.window.hop) == ("activity", 8, 4)


@pytest.mark.parametrize(
    ("producer", "change", "words"),
    [
        ("pytorch", lambda m: setattr(m.opset_import[0], "version", 23), "opset_version=17"),
        ("skl2onnx", lambda m: setattr(m.opset_import[0], "version", 23), "target_opset=17"),
        ("tf2onnx", lambda m: setattr(m.opset_import[0], "version", 23), "--opset 17"),
        ("mine", lambda m: setattr(m.opset_import[0], "version", 23), "version_converter"),
        ("mine", lambda m: setattr(m, "ir_version", 13), "model.ir_version = 10"),
        (
            "pytorch",
            lambda m: setattr(m.graph.initializer[0], "data_location", 1),
            "external_data=False",
        ),
        ("skl2onnx", lambda m: setattr(m.graph.node[0], "domain", "ai.onnx.ml"), "not supported"),
        (
            "pytorch",
            lambda m: setattr(m.graph.output[0], "name", "output"),
            'output_names=["rul"]',
        ),
        (
            "pytorch",
            lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 1),
            "dynamic_axes",
        ),
        ("mine", lambda m: m.graph.input[0].type.tensor_type.shape.dim.pop(), "Reshape"),
        (
            "mine",
            lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 11),
            "float32 inputs and outputs",
        ),
    ],
)
def test_a_refusal_says_the_step_for_the_tool_that_made_the_model(producer, change, words):
    def with_producer(model):
        model.producer_name = producer
        change(model)

    assert words in _faults(_changed(RUL, with_producer), Facts(**_with_task("rul")))


def _with_task(task):
    return {**{name: getattr(FACTS, name) for name in FACTS.__slots__}, "task": task}


def test_several_faults_of_one_graph_are_named_together():
    def break_twice(model):
        model.ir_version = 13
        model.opset_import[0].version = 23
        model.graph.node[0].domain = "ai.onnx.ml"

    text = _faults(_changed(RUL, break_twice))
    for words in ("IR version 13", "opset 23", "'ai.onnx.ml'"):
        assert words in text


def test_a_batch_of_minus_one_is_any_batch():
    def minus_one(model):
        for tensor in (*model.graph.input, *model.graph.output):
            tensor.type.tensor_type.shape.dim[0].dim_value = -1

    assert draft_of(_changed(RUL, minus_one), FACTS, now_ms=1).task == "rul"


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(GraphRefused):
        draft_of(b"no model", FACTS, now_ms=1)


OPTIONS = [
    *("--name", "rul-pumps", "--stream", "pump", "--unit", "hours", "--most", "200"),
    *("--licence", "Apache-2.0", "--channel", "p:bar", "--channel", "q:l/s"),
]


def _init(*words: str):
    return CliRunner().invoke(main, ["models", "init", *words])


def test_the_command_makes_a_student_that_can_be_published(tmp_path):
    (tmp_path / "model.onnx").write_bytes(RUL)
    where = (str(tmp_path / "model.onnx"), str(tmp_path / "student"))
    short = _init(*where, *OPTIONS)
    assert short.exit_code == 2
    assert "2 given, the graph has 3" in short.output
    assert not (tmp_path / "student").exists()
    done = _init(*where, *OPTIONS, "--channel", "t:degC")
    assert done.exit_code == 0, done.output
    assert "models publish" in done.output
    student = Student(read_artifact(tmp_path / "student"))
    student.self_test()
    assert student.score(np.ones((1, 4, 3), np.float32)).valid.all()
    registry = ["models", "--registry", str(tmp_path / "registry")]
    published = CliRunner().invoke(main, [*registry, "publish", where[1], "--stable"])
    assert "rul-pumps v1 is stable" in published.output


def test_a_student_that_fails_its_trial_leaves_nothing_behind(tmp_path):
    (tmp_path / "model.onnx").write_bytes(RUL)
    where = (str(tmp_path / "model.onnx"), str(tmp_path / "student"))
    done = _init(*where, *OPTIONS, "--channel", "t:degC", "--most", "0.001")
    assert done.exit_code == 1
    assert "self-test" in done.output
    assert not (tmp_path / "student").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_of_torch_makes_a_student(tmp_path):
    torch = pytest.importorskip("torch", reason="torch comes with the [training] extra")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(12, 1)

        def forward(self, x):
            return 200 * torch.sigmoid(self.inner(x.flatten(1))).squeeze(1)

    file = io.BytesIO()
    names = {"input_names": ["windows"], "output_names": ["rul"], "opset_version": 17}
    axes = {"windows": {0: "batch"}, "rul": {0: "batch"}}
    torch.onnx.export(
        Net().eval(), (torch.ones(2, 4, 3),), file, dynamo=False, dynamic_axes=axes, **names
    )
    (tmp_path / "model.onnx").write_bytes(file.getvalue())
    done = _init(
        str(tmp_path / "model.onnx"), str(tmp_path / "student"), *OPTIONS, "--channel", "t:degC"
    )
    assert done.exit_code == 0, done.output
    assert read_artifact(tmp_path / "student").manifest.lineage.method == "imported (pytorch)"
