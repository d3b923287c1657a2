"""Damaged files of students: refused with a typed error, or valid."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import read_artifact
from models.errors import ArtifactError, ModelError, PointerInvalid
from models.manifest import decode_manifest, encode_manifest
from models.onnxfile import inspect_onnx
from models.registry import Registry
from models.zoo import list_zoo, zoo_path
from tests.fuzz.limits import MEMORY, examples, within
from tests.fuzz.strategies import anything, nearly

STUDENTS = {
    name: (
        (zoo_path(name) / "manifest.json").read_bytes(),
        (zoo_path(name) / "model.onnx").read_bytes(),
    )
    for name in list_zoo()
}
students = st.sampled_from(sorted(STUDENTS))
odd = anything | st.sampled_from([2**70, float("nan"), float("inf"), "\x00", "../x", "a" * 5000])


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """Return a JSON document with one place replaced, removed or extended."""
    if isinstance(document, dict) and document and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(document)))
        match draw(st.integers(0, 9)):
            case 0:
                return {k: v for k, v in document.items() if k != key}
            case 1:
                return document | {draw(st.text(max_size=4)): draw(odd)}
            case _:
                return document | {key: draw(changed(document[key]))}
    if isinstance(document, list) and document and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(document) - 1))
        return [
            *document[:at],
            *([draw(changed(document[at]))] * draw(st.integers(0, 2))),
            *document[at + 1 :],
        ]
    return draw(odd)


@examples(120)
@given(students, st.data())
def test_a_manifest_is_refused_or_read(name: str, data: st.DataObject) -> None:
    good, _ = STUDENTS[name]
    if data.draw(st.booleans()):
        damaged = data.draw(nearly(good))
    else:
        damaged = json.dumps(data.draw(changed(json.loads(good)))).encode()
    with within(10):
        try:
            manifest = decode_manifest(damaged)
        except ModelError as refused:
            assert "manifest.json" in str(refused)
        else:
            assert decode_manifest(encode_manifest(manifest)) == manifest


@pytest.mark.parametrize(
    "damaged", [b"[" * 100_000, b'{"a":' * 50_000, b'{"format": ' + b"9" * 10**5]
)
def test_a_manifest_without_end_is_refused(damaged: bytes) -> None:
    with within(10), pytest.raises(ArtifactError):
        decode_manifest(damaged)


@examples(120)
@given(students, st.integers(0, 2**20), st.binary(min_size=1, max_size=8), st.booleans())
def test_a_graph_is_refused_or_walked(name: str, at: int, change: bytes, cut: bool) -> None:
    damaged = bytearray(STUDENTS[name][1])
    at %= len(damaged)
    damaged[at : at + len(change)] = change
    with within(10):
        try:
            found = inspect_onnx(bytes(damaged[:at] if cut else damaged))
        except ArtifactError as refused:
            assert "model.onnx" in str(refused)
        else:
            assert found.node_count > 0


@examples(100)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_graph(data: bytes) -> None:
    with within(10), pytest.raises(ArtifactError):
        inspect_onnx(data)


@examples(40)
@given(students, st.data())
def test_a_damaged_artifact_is_refused_and_its_neighbour_is_read(
    name: str, data: st.DataObject
) -> None:
    """Damage in one version of a registry; the digest in the pointer finds it."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, within(10):
        registry = Registry(Path(folder))
        registry.publish(zoo_path(name), stable=True)
        registry.publish(zoo_path(name), stable=True)
        pointer = registry.read_stable(name)
        assert pointer is not None
        path = registry.version_path(name, pointer.version)
        file = path / data.draw(st.sampled_from(["manifest.json", "model.onnx"]))
        good = file.read_bytes()
        damaged = bytearray(good)
        at = data.draw(st.integers(0, len(good) - 1))
        damaged[at] ^= data.draw(st.integers(1, 255))
        file.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            registry.read(name, pointer.version, pointer.digest)
        neighbour = registry.read(name, pointer.version - 1)
        assert hashlib.sha256(neighbour.onnx_bytes).hexdigest() == neighbour.manifest.onnx.sha256


@examples(60)
@given(st.data())
def test_a_damaged_pointer_is_reported_or_names_a_version(data: st.DataObject) -> None:
    name = list_zoo()[0]
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, within(10):
        registry = Registry(Path(folder))
        registry.publish(zoo_path(name), stable=True)
        for file in ("stable.json", "history.jsonl"):
            path = Path(folder) / name / file
            path.write_bytes(data.draw(nearly(path.read_bytes()) | st.binary(max_size=40)))
        try:
            pointer = registry.read_stable(name)
        except PointerInvalid:
            pass
        else:
            assert pointer is not None
            assert pointer.version >= 1
        assert all(move.version >= 1 for move in registry.history(name))
        registry.set_stable(name, 1)  # as the message says
        assert registry.read_stable(name) is not None


@examples(25)
@given(students, st.integers(0, 2**20), st.integers(1, 255))
def test_a_graph_that_others_signed_is_refused_or_runs(name: str, at: int, flip: int) -> None:
    """ONNX Runtime sees only inspected files; any error of it becomes a typed error."""
    from models.session import Student

    manifest, onnx = STUDENTS[name]
    damaged = bytearray(onnx)
    damaged[at % len(onnx)] ^= flip
    document = json.loads(manifest)
    document["onnx"]["sha256"] = hashlib.sha256(damaged).hexdigest()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, within(20):
        path = Path(folder) / "student"
        shutil.copytree(zoo_path(name), path, ignore=shutil.ignore_patterns("*.py", "__*"))
        (path / "model.onnx").write_bytes(damaged)
        (path / "manifest.json").write_text(json.dumps(document))
        try:
            Student(read_artifact(path)).self_test()
        except ModelError as refused:
            assert str(refused)
