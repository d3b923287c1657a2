"""A student becomes stable only if a gateway would run it, and alone on its stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.acceptance import promote, publish_stable, rivals
from models.artifact import write_artifact
from models.dummy import dummy_draft, dummy_onnx
from models.errors import Misfit, SelfTestFailed, VersionMissing
from models.registry import Registry
from models.trial import Trial

NAME = "dummy-rul"


def _passes(_artifact) -> Trial:
    return Trial(1.0, 0.1)


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def make(tmp_path):
    """Makes an artifact of the dummy student; `change` alters the graph."""

    def made(name=NAME, change=lambda graph: None):
        draft = dummy_draft("rul", name=name)
        graph = onnx.load_from_string(dummy_onnx(draft))
        change(graph)
        folder = tmp_path / f"artifact-{len(list(tmp_path.iterdir()))}"
        return write_artifact(folder, draft, graph.SerializeToString()).path

    return made


def _poison(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            poisoned = np.full_like(values, np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(poisoned, tensor.name))


def test_a_student_that_a_gateway_would_refuse_does_not_become_stable(registry, make):
    publish_stable(registry, make())
    with pytest.raises(SelfTestFailed, match=r"not finite|output of window|is nan"):
        publish_stable(registry, make(change=_poison))
    assert registry.list_versions(NAME) == [1]
    version = registry.publish(make(change=_poison))
    with pytest.raises(SelfTestFailed):
        promote(registry, NAME, version)
    assert registry.read_stable(NAME).version == 1
    assert [move.version for move in registry.history(NAME)] == [1]


def test_a_second_student_for_a_stream_is_refused_or_replaces_the_first(registry, make):
    publish_stable(registry, make(), trial=_passes)
    with pytest.raises(Misfit, match=r"dummy-rul already scores the stream .* add --replace"):
        publish_stable(registry, make("other"), trial=_passes)
    assert registry.names() == [NAME]
    registry.publish(make("other"))
    with pytest.raises(Misfit, match="add --replace"):
        promote(registry, "other", 1, trial=_passes)
    accepted = promote(registry, "other", 1, replace=True, trial=_passes)
    assert list(accepted.retired) == [NAME]
    assert accepted.retired[NAME].is_dir()
    assert registry.names() == ["other"]
    assert rivals(registry, "engine", besides="other") == []


def test_a_version_that_is_not_there_is_named(registry, make):
    publish_stable(registry, make(), trial=_passes)
    with pytest.raises(VersionMissing, match="published versions: 1"):
        promote(registry, NAME, 7, trial=_passes)


def test_the_trial_comes_before_anything_changes(registry, make):
    def fails(_artifact):
        raise OSError("no process could be started")

    with pytest.raises(OSError, match="no process"):
        publish_stable(registry, make(), trial=fails)
    assert registry.names() == []


def test_only_this_module_and_a_rollout_make_a_student_stable():
    """One check in one place: nobody else in the product moves a pointer."""
    allowed = {"models/registry.py", "models/acceptance.py"}
    root = Path(__file__).parents[2]
    movers = set()
    for package in ("models", "pipeline", "deploy", "training", "dashboards", "ingest"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            if "stable=True" in text or ".set_stable(" in text:
                movers.add(path.relative_to(root).as_posix())
    gateways = {name for name in movers if name.startswith("deploy/updates/")}
    assert movers - gateways == allowed
