"""Copies of a repository: what is refused, and what puts a damaged one right."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from deploy.rollout.ceremony import rotate_online
from deploy.rollout.errors import RepositoryDamaged
from deploy.rollout.folder import CentreFolder
from deploy.rollout.release import Policy, ReleaseIndex
from deploy.rollout.repository import CentreRepository
from deploy.rollout.transfer import export_repository, import_repository
from tests.fakes.centre import dummy_artifact, make_centre, now_s, root_bytes, root_signers
from tests.fakes.tufclient import fetch_index


def hold(centre: CentreRepository, gateway: str) -> None:
    def change(index: ReleaseIndex) -> ReleaseIndex:
        policies = (*index.policies, Policy(gateway=gateway, hold=True))
        return index.model_copy(update={"policies": policies})

    centre.write_index(change)


@pytest.fixture
def centre(tmp_path: Path) -> CentreRepository:
    centre = make_centre(tmp_path / "centre")
    centre.publish(dummy_artifact(tmp_path))
    return centre


@pytest.fixture
def stick(tmp_path: Path, centre: CentreRepository) -> Path:
    export_repository(centre.folder, tmp_path / "stick")
    return tmp_path / "stick"


@pytest.fixture
def mirror(tmp_path: Path, centre: CentreRepository, stick: Path) -> CentreFolder:
    folder = CentreFolder(tmp_path / "mirror")
    first = centre.folder.metadata / "1.root.json"
    assert import_repository(folder, stick, first) == "newer"
    return folder


def newest(folder: CentreFolder) -> int:
    return CentreRepository(folder.path, now_s, lambda: None).state().timestamp.version


def test_a_copy_holds_the_newest_state_only_and_no_key(
    tmp_path: Path, centre: CentreRepository, stick: Path
) -> None:
    for number in range(4):
        hold(centre, f"gw-{number}")
    assert export_repository(centre.folder, stick) == "newer"
    assert export_repository(centre.folder, stick) == "same"
    names = sorted(path.name.partition(".")[2] for path in stick.rglob("*") if path.is_file())
    assert names == [
        "json",  # timestamp.json
        "manifest.json",
        "model.onnx",
        "releases.json",
        "root.json",
        "snapshot.json",
        "targets.json",
    ]
    assert fetch_index(stick, tmp_path / "state", root_bytes(centre)) == centre.index()


def test_an_older_copy_is_refused(
    tmp_path: Path, centre: CentreRepository, stick: Path, mirror: CentreFolder
) -> None:
    shutil.copytree(stick, tmp_path / "old")
    hold(centre, "gw-1")
    export_repository(centre.folder, stick)
    import_repository(mirror, stick)
    with pytest.raises(RepositoryDamaged, match="is older than"):
        import_repository(mirror, tmp_path / "old")
    assert newest(mirror) == centre.state().timestamp.version


def test_an_older_centre_does_not_overwrite_a_newer_copy(
    tmp_path: Path, centre: CentreRepository, stick: Path
) -> None:
    shutil.copytree(centre.folder.path, tmp_path / "backup")
    hold(centre, "gw-1")
    export_repository(centre.folder, stick)
    with pytest.raises(RepositoryDamaged, match="is older than"):
        export_repository(CentreFolder(tmp_path / "backup"), stick)


def test_two_centres_that_signed_from_one_backup_are_told(
    tmp_path: Path, centre: CentreRepository, stick: Path
) -> None:
    shutil.copytree(centre.folder.path, tmp_path / "twin")
    hold(CentreRepository(tmp_path / "twin", now_s, lambda: None), "gw-2")
    hold(centre, "gw-1")
    export_repository(centre.folder, stick)
    with pytest.raises(RepositoryDamaged, match="two copies of the centre have signed"):
        export_repository(CentreFolder(tmp_path / "twin"), stick)


def test_the_repository_of_another_centre_is_refused_both_ways(
    tmp_path: Path, centre: CentreRepository, stick: Path, mirror: CentreFolder
) -> None:
    other = make_centre(tmp_path / "other")
    with pytest.raises(RepositoryDamaged, match="another centre"):
        export_repository(other.folder, stick)
    export_repository(other.folder, tmp_path / "other-stick")
    with pytest.raises(RepositoryDamaged, match="another centre"):
        import_repository(mirror, tmp_path / "other-stick")
    with pytest.raises(RepositoryDamaged, match="another centre"):
        first = centre.folder.metadata / "1.root.json"
        import_repository(CentreFolder(tmp_path / "new"), tmp_path / "other-stick", first)
    assert newest(mirror) == centre.state().timestamp.version


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "releases.json", "targets.json"])
def test_a_changed_file_on_the_stick_is_refused_and_the_mirror_stays(
    tmp_path: Path, centre: CentreRepository, stick: Path, mirror: CentreFolder, name: str
) -> None:
    hold(centre, "gw-1")
    export_repository(centre.folder, stick)
    shutil.rmtree(mirror.repository / "targets" / "students")
    (path,) = stick.rglob(f"*.{name}")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = newest(mirror)
    with pytest.raises(RepositoryDamaged, match=r"does not verify"):
        import_repository(mirror, stick)
    assert newest(mirror) == before


def test_a_named_pipe_on_the_stick_is_refused_without_waiting(
    stick: Path, mirror: CentreFolder, centre: CentreRepository
) -> None:
    hold(centre, "gw-1")
    export_repository(centre.folder, stick)
    (stick / "metadata" / "timestamp.json").unlink()
    os.mkfifo(stick / "metadata" / "timestamp.json")
    with pytest.raises(RepositoryDamaged, match="is no file of a repository"):
        import_repository(mirror, stick)


def test_a_signed_name_that_leads_elsewhere_writes_nothing(
    tmp_path: Path, centre: CentreRepository, stick: Path, mirror: CentreFolder
) -> None:
    """Somebody with the keys of targets, snapshot and timestamp."""
    body = b"made up"
    with centre.locked():
        state = centre.state()
        odd = TargetFile.from_data("../../../elsewhere/a.json", body, ["sha256"])
        centre.commit(state, targets={**state.targets.targets, odd.path: odd})
    with pytest.raises(RepositoryDamaged, match=r"elsewhere.*rotate them"):
        export_repository(centre.folder, stick)
    assert not [path for path in tmp_path.rglob("*a.json") if body in path.read_bytes()]


def test_a_damaged_repository_is_put_right_from_a_copy(
    tmp_path: Path, centre: CentreRepository, stick: Path
) -> None:
    rotate_online(centre, "targets", root_signers(tmp_path / "centre/root"))
    export_repository(centre.folder, stick)
    (centre.folder.metadata / "timestamp.json").write_bytes(b"{}")
    with pytest.raises(RepositoryDamaged, match="kpstream centre import"):
        centre.index()
    assert import_repository(centre.folder, stick) == "repaired"
    hold(centre, "gw-1")
    assert fetch_index(centre.folder.repository, tmp_path / "state", root_bytes(centre))
