"""Tiny graphs that take all memory or all time of whoever runs them, in front of a gateway."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import _model, _node, _shape_tensor, _tensor, dummy_draft, write_dummy
from models.errors import SelfTestFailed
from models.registry import Registry
from models.trial import Budget, Trial, try_student
from models.zoo import STARTERS, zoo_path
from pipeline.scoring.rollover import ModelWatch
from pipeline.scoring.tried import TriedStudents
from tests.attack.account import Attack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the budget of memory needs /proc")

QUICK = Budget(cpu_s=1)


def write_greedy(folder: Path, sizes: list[int], products: int = 0, version: int = 1) -> Path:
    """An artifact of some hundred bytes that fills a tensor, and multiplies it with itself."""
    import numpy as np

    draft = dummy_draft("rul", version=version)
    length, channels = draft.window.length, len(draft.channels)
    nodes = [
        _node("Flatten", ["windows"], "flat"),
        _node("MatMul", ["flat", "weights"], "logits"),
        _node("ReduceMax", ["logits"], "one"),
        _node("Expand", ["one", "sizes"], "big0"),
    ]
    nodes += [_node("MatMul", [f"big{n}", f"big{n}"], f"big{n + 1}") for n in range(products)]
    nodes += [
        _node("ReduceMax", [f"big{products}"], "most"),
        _node("Sub", ["most", "most"], "nothing"),
        _node("Reshape", ["nothing", "single"], "zero"),
        _node("Add", ["logits", "zero"], "sum"),
        _node("Sigmoid", ["sum"], "share"),
        _node("Mul", ["share", "max_rul"], "rul"),
    ]
    tensors = [
        _tensor("weights", np.full(length * channels, 1e-4, np.float32)),
        _tensor("max_rul", np.array(125, np.float32)),
        _shape_tensor("sizes", sizes),
        _shape_tensor("single", [1]),
    ]
    onnx = _model(nodes, tensors, (length, channels), {"rul": ()}, 17, 8)
    write_artifact(folder, draft, onnx)
    return folder


def test_a_graph_that_takes_too_much_is_refused_and_the_running_student_stays(
    attack: Attack, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.publish(write_greedy(tmp_path / "modest", [2, 2]), stable=True)
    tried = TriedStudents(tmp_path / "tried.json", trial=lambda found: try_student(found, QUICK))
    watch = ModelWatch(registry, lambda: 0, tried.load)
    (change,) = watch.poll()
    assert change.what == "swapped", change
    greedy = {
        "memory": write_greedy(tmp_path / "memory", [1, 160_000_000]),
        "more memory than there is": write_greedy(tmp_path / "all", [100_000, 10_000_000]),
        "time": write_greedy(tmp_path / "time", [2_500, 2_500], products=60),
    }
    lost = []
    for name, folder in greedy.items():
        registry.publish(folder, stable=True)
        changes = watch.poll()
        refused = [change.error or "" for change in changes if change.what == "refused"]
        if len(refused) != 1 or watch.running["engine"].manifest.version != 1:
            lost.append(f"{name}: {changes}")
        attack.note(f"{name}: {refused[0].partition('failed: ')[2][:60] if refused else '?'}")
    attack.report(count=len(greedy), lost=len(lost), unit="greedy graphs")
    assert lost == []


def test_a_trial_tells_what_a_student_took_and_the_starters_stay_far_below(tmp_path: Path) -> None:
    taken = try_student(read_artifact(zoo_path(STARTERS[0])))
    assert 20 < taken.memory_mb < Budget().memory_mb / 2
    assert 0 < taken.cpu_s < Budget().cpu_s / 2


def test_a_child_that_ends_or_cannot_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = write_dummy(tmp_path / "student")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SelfTestFailed, match="without an answer"):
        try_student(artifact)
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    with pytest.raises(OSError, match="No such file"):
        try_student(artifact)


def test_one_trial_per_digest_also_after_a_restart(tmp_path: Path) -> None:
    first = write_dummy(tmp_path / "first")
    other = write_dummy(tmp_path / "other", task="activity")
    trials: list[str] = []

    def trial(artifact: object) -> Trial:
        trials.append(artifact.manifest.name)  # type: ignore[attr-defined]
        return Trial(1.0, 0.1)

    path = tmp_path / "tried.json"
    for _ in range(2):
        tried = TriedStudents(path, frozenset({other.digest}), trial)
        for artifact in (first, other, first):
            assert tried.load(artifact).digest == artifact.digest
    assert trials == ["dummy-rul"]
    for damaged in (b"{", b"[]", b'{"onnxruntime": "0.1", "passed": []}', b"\xff"):
        path.write_bytes(damaged)
        TriedStudents(path, trial=trial).load(first)
    assert len(trials) == 5
