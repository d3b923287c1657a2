"""Versions that are deleted, as old ones of a centre are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.artifact import Artifact, read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx
from models.registry import Registry

NAME = "dummy-rul"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def signed(tmp_path: Path, version: int, author: str = "centre") -> Artifact:
    draft = dummy_draft()
    lineage = draft.lineage.model_copy(update={"method": author})
    named = draft.model_copy(update={"name": NAME, "version": version, "lineage": lineage})
    return write_artifact(tmp_path / f"{author}-{version}", named, dummy_onnx(named))


def add(registry: Registry, artifact: Artifact) -> Artifact:
    return registry.add_verified(artifact.manifest_bytes, artifact.onnx_bytes)


def test_removed_version_is_gone_and_the_pointer_keeps_its_own(
    registry: Registry, tmp_path: Path
) -> None:
    for version in (1, 2):
        add(registry, signed(tmp_path, version))
    registry.set_stable(NAME, 1)
    assert not registry.remove(NAME, 1), "the pointer names it"
    assert registry.remove(NAME, 2)
    assert not registry.remove(NAME, 2)
    assert registry.list_versions(NAME) == [1]
    folder = registry.version_path(NAME, 1).parent
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_removal_that_was_killed_leaves_no_half_version(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = signed(tmp_path, 2)
    add(registry, artifact)

    def die(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            registry.remove(NAME, 2)
    assert registry.list_versions(NAME) in ([], [2])
    add(registry, artifact)
    assert read_artifact(registry.version_path(NAME, 2)).digest == artifact.digest
