import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.artifact import read_artifact, write_artifact
from models.dummy import dummy_draft, dummy_onnx, write_dummy
from models.errors import (
    ArtifactError,
    ArtifactMissing,
    DigestMismatch,
    Misfit,
    NameRefused,
    PointerInvalid,
    VersionMissing,
    VersionTaken,
)
from models.manifest import Draft
from models.registry import Registry

NAME = "dummy-rul"


@pytest.fixture
def registry(tmp_path) -> Registry:
    ticks = iter(range(1000, 2000))
    return Registry(tmp_path / "registry", now_ms=lambda: next(ticks))


@pytest.fixture
def student(tmp_path) -> Path:
    write_dummy(tmp_path / "student")
    return tmp_path / "student"


def test_an_unknown_name_is_empty(registry):
    assert registry.names() == []
    assert registry.list_versions(NAME) == []
    assert registry.read_stable(NAME) is None
    assert registry.stable_stamp(NAME) is None
    assert registry.history(NAME) == []


def test_a_published_version_is_the_artifact_byte_for_byte(registry, student):
    assert registry.publish(student) == 1
    assert registry.read(NAME, 1).digest == read_artifact(student).digest
    assert registry.names() == [NAME]
    assert registry.read_stable(NAME) is None


def test_numbers_only_grow_and_are_written_into_the_manifest(registry, student, tmp_path):
    assert [registry.publish(student) for _ in range(3)] == [1, 2, 3]
    assert registry.read(NAME, 3).manifest.version == 3
    write_dummy(tmp_path / "seven", version=7)
    assert registry.publish(tmp_path / "seven") == 7
    assert registry.publish(student) == 8
    assert registry.list_versions(NAME) == [1, 2, 3, 7, 8]


def test_numbers_of_deleted_versions_are_not_used_again(registry, student):
    registry.publish(student)
    registry.publish(student, stable=True)
    for file in (path := registry.version_path(NAME, 2)).iterdir():
        file.unlink()
    path.rmdir()
    assert registry.publish(student) == 3


def test_publishing_under_another_name(registry, student):
    assert registry.publish(student, name="spare", stable=True) == 1
    assert registry.read("spare", 1).manifest.name == "spare"
    assert registry.names() == ["spare"]


@pytest.mark.parametrize("content", [None, b"", b"x", b"-5", b"9" * 20_000])
def test_the_number_of_a_version_that_was_never_stable_does_not_come_back(
    registry, student, content
):
    assert [registry.publish(student) for _ in range(3)] == [1, 2, 3]
    shutil.rmtree(registry.version_path(NAME, 3))
    if content is None:
        assert registry.publish(student) == 4
    else:  # a damaged note costs no publication; what is there and the history still count
        (registry.root / NAME / ".last-number").write_bytes(content)
        assert registry.publish(student) == 3


def test_the_pointer_names_version_and_digest_and_its_moves_are_kept(registry, student):
    registry.publish(student)
    registry.publish(student)
    registry.set_stable(NAME, 1, who="anna")
    registry.set_stable(NAME, 2, who="ben")
    pointer = registry.set_stable(NAME, 1)
    assert pointer == registry.read_stable(NAME)
    assert pointer.digest == registry.read(NAME, 1, pointer.digest).digest
    moves = registry.history(NAME)
    assert [(m.what, m.version, m.previous) for m in moves] == [
        ("promote", 1, None),
        ("promote", 2, 1),
        ("rollback", 1, 2),
    ]
    assert [m.who for m in moves[:2]] == ["anna", "ben"]
    assert moves[0].ts_ms < moves[1].ts_ms
    stored = json.loads((registry.root / NAME / "stable.json").read_bytes())
    assert set(stored) == {"version", "digest"}


def test_every_move_changes_the_stamp(registry, student):
    stamps = {registry.stable_stamp(NAME)}
    for _ in range(5):
        registry.publish(student, stable=True)
        stamps.add(registry.stable_stamp(NAME))
    assert len(stamps) == 6


def test_a_version_that_is_not_there_cannot_be_stable(registry, student):
    with pytest.raises(VersionMissing, match="published versions: none"):
        registry.set_stable(NAME, 1)
    registry.publish(student)
    with pytest.raises(VersionMissing, match="published versions: 1"):
        registry.set_stable(NAME, 2)
    assert registry.read_stable(NAME) is None


def test_an_artifact_that_read_artifact_refuses_is_not_published(registry, student):
    (student / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ArtifactError):
        registry.publish(student)
    assert registry.names() == []


def test_a_version_that_gateways_would_refuse_is_not_made_stable(registry, student, tmp_path):
    registry.publish(student, stable=True)
    content = dummy_draft().model_dump()
    content["window"]["hop"] = 2
    draft = Draft.model_validate(content)
    write_artifact(tmp_path / "odd", draft, dummy_onnx(draft))
    with pytest.raises(Misfit, match=r"window\.hop is 2.*v1 has 1"):
        registry.publish(tmp_path / "odd", stable=True)
    assert registry.list_versions(NAME) == [1]
    assert registry.publish(tmp_path / "odd") == 2
    with pytest.raises(Misfit):
        registry.set_stable(NAME, 2)
    assert registry.read_stable(NAME).version == 1


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\0", "a\n", ".lock", "x" * 65, "ü", None, 3]
)
def test_a_name_never_leads_outside_the_registry(registry, name):
    for call in (registry.list_versions, registry.read_stable, registry.history):
        with pytest.raises(NameRefused):
            call(name)
    with pytest.raises(NameRefused):
        registry.set_stable(name, 1)


@pytest.mark.parametrize("version", [0, -1, "1", "../1", 1.0, True, None])
def test_a_version_never_leads_outside_the_registry(registry, student, version):
    registry.publish(student)
    with pytest.raises(NameRefused):
        registry.read(NAME, version)


def test_the_name_to_publish_under_is_checked(registry, student):
    with pytest.raises(NameRefused):
        registry.publish(student, name="../outside")
    assert not registry.root.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff", b'{"version": 1}', b'{"version": "1", "digest": "00"}', b"[" * 9999],
)
def test_a_damaged_pointer_is_reported_and_can_be_set_again(registry, student, content):
    registry.publish(student, stable=True)
    (registry.root / NAME / "stable.json").write_bytes(content)
    with pytest.raises(PointerInvalid, match=r"stable\.json is damaged"):
        registry.read_stable(NAME)
    registry.publish(student, stable=True)
    assert registry.read_stable(NAME).version == 2
    assert registry.history(NAME)[-1].previous == 1


def test_a_version_changed_or_copied_manually_is_refused(registry, student):
    registry.publish(student)
    registry.publish(student)
    pointer = registry.set_stable(NAME, 2)
    path = registry.version_path(NAME, 2)
    write_dummy(path, version=2, seed=9)
    with pytest.raises(DigestMismatch, match="the pointer says"):
        registry.read(NAME, 2, pointer.digest)
    write_dummy(path, version=1)
    with pytest.raises(DigestMismatch, match="says it is dummy-rul v1"):
        registry.read(NAME, 2)
    with pytest.raises(ArtifactMissing):
        registry.read(NAME, 3)


def test_leftovers_of_a_killed_publisher_are_no_version_and_are_removed(registry, student):
    registry.publish(student)
    leftover = registry.root / NAME / "versions" / ".publishing-1-2"
    leftover.mkdir()
    (leftover / "model.onnx").write_bytes(b"half")
    assert registry.list_versions(NAME) == [1]
    assert registry.publish(student) == 2
    assert not leftover.exists()


def test_a_history_line_cut_by_a_power_loss_is_skipped(registry, student):
    registry.publish(student, stable=True)
    path = registry.root / NAME / "history.jsonl"
    path.write_bytes(path.read_bytes() + b'{"ts_ms": 12, "wh')
    registry.publish(student, stable=True)
    assert [move.version for move in registry.history(NAME)] == [1, 2]


def test_concurrent_publishers_get_different_numbers_and_a_whole_registry(registry, student):
    def publish(_: int) -> int:
        return Registry(registry.root).publish(student, stable=True)

    with ThreadPoolExecutor(8) as pool:
        versions = sorted(pool.map(publish, range(24)))
    assert versions == list(range(1, 25))
    assert registry.read_stable(NAME).version == 24
    assert [move.version for move in registry.history(NAME)] == versions
    assert all(move.what == "promote" for move in registry.history(NAME))


def test_a_reader_never_sees_half_of_a_publication(registry, student):
    registry.publish(student, stable=True)
    stop = threading.Event()
    seen: set[int] = set()

    def read() -> None:
        while not stop.is_set():
            pointer = registry.read_stable(NAME)
            assert pointer is not None
            registry.read(NAME, pointer.version, pointer.digest)
            seen.add(pointer.version)

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for _ in range(20):
            registry.publish(student, stable=True)
        stop.set()
        reader.result()
    assert seen


def test_seeding_happens_once(registry, student):
    assert registry.seed(student) is True
    assert registry.seed(student) is False
    assert registry.list_versions(NAME) == [1]
    assert registry.read_stable(NAME).version == 1


def test_other_users_can_read_published_versions(registry, student):
    registry.publish(student, stable=True)
    umask = os.umask(0)
    os.umask(umask)
    for path in [registry.version_path(NAME, 1), registry.root / NAME]:
        assert path.stat().st_mode & 0o777 == 0o777 & ~umask


PUBLISH_FOREVER = """
import sys
from pathlib import Path
from models.registry import Registry
registry = Registry(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    registry.publish(sys.argv[2], stable=True)
"""


def test_six_publishers_at_once_get_different_numbers(registry, student):
    """Six processes, as six training machines over one folder."""
    code = PUBLISH_FOREVER.replace("while True", "for _ in range(4)").replace(
        'print("ready", flush=True)', 'print("ready", flush=True); sys.stdin.read()'
    )
    command = [sys.executable, "-c", code, str(registry.root), str(student)]
    pipe = subprocess.PIPE
    publishers = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(6)]
    for publisher in publishers:
        publisher.stdout.readline()
    for publisher in publishers:  # all at once
        publisher.stdin.close()
    for publisher in publishers:
        publisher.stdout.close()
        assert publisher.wait() == 0
    assert registry.list_versions(NAME) == list(range(1, 25))
    assert [move.version for move in registry.history(NAME)] == list(range(1, 25))
    assert registry.read_stable(NAME).version == 24


def test_a_publisher_killed_at_any_moment_leaves_a_whole_registry(registry, student):
    registry.publish(student, stable=True)
    for delay_ms in (3, 17, 31, 58):
        command = [sys.executable, "-c", PUBLISH_FOREVER, str(registry.root), str(student)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as publisher:
            assert publisher.stdout is not None
            publisher.stdout.readline()
            time.sleep(delay_ms / 1000)  # the moment of the kill, not a wait for something
            publisher.kill()
        pointer = registry.read_stable(NAME)
        registry.read(NAME, pointer.version, pointer.digest)
        for version in registry.list_versions(NAME):
            registry.read(NAME, version)
        number = registry.publish(student, stable=True)
        assert number > pointer.version
        assert [m.version for m in registry.history(NAME)][-1] == number


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_move_that_was_interrupted_counts_once_the_history_has_it(
    registry, student, monkeypatch, first, recorded
):
    """The moments around the line of the history, at which a kill used to leave an older copy."""
    before = None
    if not first:
        registry.publish(student, stable=True)
        before = registry.read_stable(NAME)
    append = Registry._append_history

    def append_and_die(self, name, move):
        if recorded:
            append(self, name, move)
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "_append_history", append_and_die)
    with pytest.raises(KeyboardInterrupt):
        registry.publish(student, stable=True)
    monkeypatch.undo()
    number = 1 if first else 2
    found = registry.read_stable(NAME)
    assert (found.version if recorded else found) == (number if recorded else before)
    assert registry.publish(student, stable=True) == number + 1
    assert registry.read_stable(NAME).version == number + 1
    assert not (registry.root / NAME / "stable.next.json").exists()


def test_a_retired_name_is_gone_and_nothing_of_it_is_deleted(registry, student):
    registry.publish(student, stable=True)
    aside = registry.retire(NAME)
    assert registry.names() == []
    assert registry.read_stable(NAME) is None
    assert read_artifact(aside / "versions" / "1").manifest.name == NAME
    assert registry.publish(student, stable=True) == 1
    assert registry.retire(NAME) != aside
    with pytest.raises(VersionMissing, match="it has: nothing"):
        registry.retire(NAME)
    with pytest.raises(NameRefused):
        registry.retire("../elsewhere")


def files_of(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "manifest.json").read_bytes(), (folder / "model.onnx").read_bytes()


@pytest.fixture
def signed(tmp_path) -> tuple[bytes, bytes]:
    """The files of a version 7 as a centre signed them."""
    write_dummy(tmp_path / "signed", version=7)
    return files_of(tmp_path / "signed")


def test_a_verified_version_keeps_number_and_digest_and_moves_no_pointer(registry, student, signed):
    registry.publish(student, stable=True)
    added = registry.add_verified(*signed)
    assert (added.manifest_bytes, added.onnx_bytes) == signed
    assert added.path == registry.version_path(NAME, 7)
    assert registry.read_stable(NAME).version == 1
    assert registry.publish(student) == 8


def test_a_verified_version_is_added_once(registry, signed):
    registry.add_verified(*signed)
    stamp = (registry.version_path(NAME, 7) / "manifest.json").stat().st_mtime_ns
    assert registry.add_verified(*signed).manifest.version == 7
    assert (registry.version_path(NAME, 7) / "manifest.json").stat().st_mtime_ns == stamp


def test_a_verified_version_below_the_newest_one_is_added(registry, signed, tmp_path):
    write_dummy(tmp_path / "nine", version=9)
    registry.publish(tmp_path / "nine")
    registry.add_verified(*signed)
    assert registry.list_versions(NAME) == [7, 9]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_known_number_with_another_content_is_refused(registry, signed, tmp_path, deleted):
    write_dummy(tmp_path / "own", version=7)
    manifest = json.loads((tmp_path / "own" / "manifest.json").read_text())
    (tmp_path / "own" / "manifest.json").write_text(json.dumps(manifest, indent=7))
    registry.publish(tmp_path / "own", stable=True)
    before = registry.read(NAME, 7).digest
    if deleted:  # the history still knows what gateways ran under this number
        registry.version_path(NAME, 7).rename(tmp_path / "gone")
    with pytest.raises(VersionTaken, match="v7 exists in this registry with another content"):
        registry.add_verified(*signed)
    assert registry.list_versions(NAME) == ([] if deleted else [7])
    assert deleted or registry.read(NAME, 7).digest == before


def test_verified_bytes_that_are_no_artifact_leave_the_registry_as_it_was(registry, signed):
    manifest_bytes, onnx_bytes = signed
    with pytest.raises(DigestMismatch, match="copy it again"):
        registry.add_verified(manifest_bytes, onnx_bytes + b"x")
    assert registry.list_versions(NAME) == []
    assert list((registry.root / NAME / "versions").iterdir()) == []
