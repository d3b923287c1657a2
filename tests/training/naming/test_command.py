"""`kpstream models extend`: usage, refusals and exit codes."""

import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra [training]; make test installs it")
pytest.importorskip("onnx", reason="needs the extra [training]; make test installs it")

from deploy.cli import main
from training.naming import command
from training.naming.command import extend

pytestmark = pytest.mark.needs_training


def run(*words, code, registry):
    done = CliRunner().invoke(extend, [*words, "--registry", str(registry)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["har-waist", "--activity", "cycling", "--data", "dummy"], "--out FOLDER or --publish"),
        (
            ["nobody", "--activity", "cycling", "--data", "dummy", "--publish"],
            "there is no student 'nobody'",
        ),
        (
            ["har-waist", "--activity", "gliding", "--data", "dummy", "--publish"],
            "describe what a sensor would feel",
        ),
        (
            ["har-waist", "--activity", "SITTING", "--data", "dummy", "--publish"],
            "knows SITTING already",
        ),
        (
            ["rul-fd001", "--activity", "cycling", "--data", "dummy", "--publish"],
            "only classes can be named",
        ),
        (
            [
                *("har-waist", "--activity", "cycling", "--data", "dummy", "--publish"),
                *("--known-as", "SITTING"),
            ],
            "write LABEL=SENTENCE",
        ),
        (
            ["har-wrist", "--activity", "cycling", "--data", "dummy", "--publish"],
            "pass the data that this student was trained on",
        ),
    ],
)
def test_wrong_usage_says_what_to_do(words, message, tmp_path):
    assert message in run(*words, code=2, registry=tmp_path)


def test_the_program_of_kpstream_is_this_one(tmp_path, capfd):
    """`deploy` starts it as a program, with the registry of the group."""
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("models", "--registry", str(tmp_path), "extend"),
                *("nobody", "--activity", "cycling", "--data", "dummy", "--publish"),
            ]
        )
    assert ended.value.code == 2
    assert f"{tmp_path} has no student" in capfd.readouterr().err


@pytest.mark.parametrize("program", ["extend", "stress"])
def test_a_registry_given_to_the_program_counts(program, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        "subprocess.run",
        lambda words, check: ran.append(words) or SimpleNamespace(returncode=0),
    )
    for given in (["--registry", "mine"], ["--registry=mine"], []):
        CliRunner().invoke(main, ["models", "--registry", str(tmp_path), program, "x", *given])
        wanted = given or ["--registry", str(tmp_path)]
        assert ran[-1][4:] == wanted
    assert len(ran) == 3


def test_without_the_extra_the_command_says_where_it_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["models", "--registry", str(tmp_path), "extend", "x"])
    assert done.exit_code == 1
    assert "runs on the training machine" in done.output
    assert "[training]" in done.output


def test_known_as_takes_the_name_of_a_usual_activity():
    pairs = command._pairs(("S1=running", "S2=a red thing", "S2=which is still"))
    assert pairs["S2"] == ("a red thing", "which is still")
    assert len(pairs["S1"]) > 2
