import hashlib
import json
import os
from pathlib import Path

import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx, write_dummy
from models.errors import (
    ArtifactError,
    ArtifactMissing,
    DigestMismatch,
    GraphRefused,
    ManifestInvalid,
    ShapeMismatch,
    TooLarge,
    UnexpectedFile,
)
from models.manifest import Draft, encode_manifest


@pytest.fixture
def folder(tmp_path) -> Path:
    write_dummy(tmp_path / "student")
    return tmp_path / "student"


def rewrite(folder: Path, **changes: object) -> None:
    """Change top-level fields of the manifest, keeping the digest of the graph right."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def replace_graph(folder: Path, data: bytes, opset: int = 17) -> None:
    (folder / "model.onnx").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    rewrite(folder, onnx={"sha256": sha256, "size_bytes": len(data), "opset": opset})


def test_a_written_artifact_is_read_with_its_digest(folder):
    artifact = read_artifact(folder)
    data = (folder / "manifest.json").read_bytes()
    assert artifact.digest == hashlib.sha256(data).hexdigest()
    assert artifact.manifest_bytes == data == encode_manifest(artifact.manifest)
    assert artifact.onnx_bytes == (folder / "model.onnx").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]


def test_writing_again_replaces_the_artifact(folder):
    first = read_artifact(folder)
    second = write_dummy(folder, seed=1)
    assert read_artifact(folder).digest == second.digest != first.digest


def test_writing_refuses_before_it_writes(tmp_path):
    draft = dummy_draft()
    with pytest.raises(ShapeMismatch):
        write_artifact(tmp_path / "a", draft, dummy_onnx(dummy_draft("activity")))
    with pytest.raises(TooLarge):
        write_artifact(tmp_path / "a", draft, bytes(4_000_001))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ArtifactMissing, match=name):
        read_artifact(folder)


@pytest.mark.parametrize("path", ["nowhere", "student/model.onnx", "a\0b"])
def test_a_path_that_is_no_directory_is_refused(folder, path):
    with pytest.raises(ArtifactMissing):
        read_artifact(folder.parent / path)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_links_pipes_and_folders_are_refused(folder, name):
    content = (folder / name).read_bytes()
    outside = folder.parent / "outside"
    outside.write_bytes(content)
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    with pytest.raises(UnexpectedFile, match="symbolic link"):
        read_artifact(folder)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UnexpectedFile, match="not a plain file"):
        read_artifact(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UnexpectedFile):
        read_artifact(folder)


def test_a_link_to_the_directory_is_refused(folder):
    (folder.parent / "link").symlink_to(folder)
    with pytest.raises(UnexpectedFile, match="symbolic link"):
        read_artifact(folder.parent / "link")


@pytest.mark.parametrize("name", ["weights.bin", ".hidden", "model.onnx.data"])
def test_an_unexpected_file_is_named(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(UnexpectedFile, match=name):
        read_artifact(folder)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_huge_file_is_refused_without_reading_it(folder, name):
    os.truncate(folder / name, 10**12)  # sparse
    with pytest.raises(TooLarge, match="1000000000000 bytes"):
        read_artifact(folder)


def test_a_graph_cut_at_any_place_is_refused(folder):
    whole = (folder / "model.onnx").read_bytes()
    for size in range(0, len(whole), 13):
        (folder / "model.onnx").write_bytes(whole[:size])
        with pytest.raises(DigestMismatch, match=f"{size} bytes"):
            read_artifact(folder)


def test_a_bit_flip_anywhere_in_the_graph_is_refused(folder):
    whole = (folder / "model.onnx").read_bytes()
    for at in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        (folder / "model.onnx").write_bytes(damaged)
        with pytest.raises(DigestMismatch, match="SHA-256"):
            read_artifact(folder)


def test_a_bit_flip_anywhere_in_the_manifest_is_refused_or_changes_the_digest(folder):
    before = read_artifact(folder).digest
    whole = (folder / "manifest.json").read_bytes()
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        (folder / "manifest.json").write_bytes(damaged)
        try:
            assert read_artifact(folder).digest != before
        except ArtifactError:
            pass


def test_a_channel_too_many_in_the_manifest_is_a_shape_mismatch(folder):
    content = json.loads((folder / "manifest.json").read_bytes())
    content["channels"].append({"name": "P30", "unit": "psia"})
    for part in ("scale", "offset"):
        content["scaler"][part].append(1.0)
    rewrite(folder, **content)
    with pytest.raises(ShapeMismatch, match=r"\['batch', 4, 3\].*\['batch', 4, 4\]"):
        read_artifact(folder)


def test_another_length_is_a_shape_mismatch(folder):
    rewrite(folder, window={"length": 5, "hop": 1, "min_readings": 5, "gap_ms": None})
    with pytest.raises(ShapeMismatch, match="windows"):
        read_artifact(folder)


def test_a_label_too_many_is_a_shape_mismatch(tmp_path):
    draft = dummy_draft("activity")
    content = draft.model_dump()
    content["decoding"]["labels"] = ["A", "B", "C", "D"]
    with pytest.raises(ShapeMismatch, match="probabilities"):
        write_artifact(tmp_path / "a", Draft.model_validate(content), dummy_onnx(draft))


def test_nan_in_the_scaler_is_refused(folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"0.25", b"NaN"))
    with pytest.raises(ManifestInvalid, match=r"scaler\.offset\.2"):
        read_artifact(folder)


def test_another_opset_in_manifest_and_graph_is_refused(folder):
    replace_graph(folder, dummy_onnx(dummy_draft(), opset=18), opset=17)
    with pytest.raises(ShapeMismatch, match="17 in the manifest, 18 in the graph"):
        read_artifact(folder)


def test_the_graph_is_inspected(folder):
    replace_graph(folder, dummy_onnx(dummy_draft(), domain="com.microsoft"))
    with pytest.raises(GraphRefused, match=r"com\.microsoft"):
        read_artifact(folder)
