"""The signed repository of a centre, seen by a plain client with the pinned first root."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.rollout.errors import (
    CentreBusy,
    CentreMissing,
    ClockRefused,
    KeyRefused,
    ReleaseRefused,
    RepositoryDamaged,
)
from deploy.rollout.release import WHOLE, Plan, Release, ReleaseIndex
from deploy.rollout.repository import CentreRepository, Lifetimes
from models.artifact import Artifact
from tests.fakes.centre import dummy_artifact, make_centre, now_s, root_bytes
from tests.fakes.tufclient import fetch_index, fetch_target, updater

DAY_S = 86_400


class Clock:
    def __init__(self) -> None:
        self.shift_s = 0

    def __call__(self) -> int:
        return now_s() + self.shift_s


def with_release(index: ReleaseIndex, artifact: Artifact) -> ReleaseIndex:
    release = Release(
        number=1,
        name=artifact.manifest.name,
        version=artifact.manifest.version,
        digest=artifact.digest,
        plan=Plan(),
        step_since_s=0,
        cutoff=WHOLE,
        created_s=0,
    )
    return index.model_copy(update={"releases": (release,)})


def test_a_client_with_the_pinned_root_reads_a_release_and_its_student(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path)
    assert centre.publish(artifact)
    written = centre.write_index(lambda index: with_release(index, artifact))
    client = updater(centre.folder.repository, tmp_path / "state", root_bytes(centre))
    manifest, graph = written.releases[0].targets
    assert fetch_target(client, manifest) == artifact.manifest_bytes
    assert fetch_target(client, graph) == artifact.onnx_bytes
    assert centre.index() == written


def test_the_same_change_again_makes_no_new_version(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path)
    centre.publish(artifact)
    first = centre.write_index(lambda index: with_release(index, artifact))
    files = sorted(centre.folder.repository.rglob("*"))
    assert not centre.publish(artifact)
    assert centre.write_index(lambda index: with_release(index, artifact)) == first
    assert sorted(centre.folder.repository.rglob("*")) == files
    assert centre.refresh_timestamp() == []


def test_a_published_version_keeps_its_content(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    centre.publish(dummy_artifact(tmp_path, seed=1))
    with pytest.raises(ReleaseRefused, match="under a new version"):
        centre.publish(dummy_artifact(tmp_path, seed=2))


def test_files_past_half_of_their_life_are_renewed(tmp_path: Path) -> None:
    clock = Clock()
    centre = make_centre(tmp_path / "centre", clock)
    lifetimes = Lifetimes()
    clock.shift_s = (lifetimes.timestamp * DAY_S) // 2 + 60
    assert centre.refresh_timestamp() == ["timestamp"]
    assert centre.refresh_timestamp() == []
    clock.shift_s = (lifetimes.targets * DAY_S) // 2 + 60
    assert centre.refresh_timestamp() == ["targets", "snapshot", "timestamp"]
    assert centre.refresh_timestamp() == []
    state = centre.state()
    assert (state.targets.version, state.snapshot.version, state.timestamp.version) == (2, 2, 3)


def test_a_clock_before_the_newest_index_signs_nothing(tmp_path: Path) -> None:
    clock = Clock()
    centre = make_centre(tmp_path / "centre", clock)
    clock.shift_s = -2 * DAY_S
    with pytest.raises(ClockRefused, match="set the clock"):
        centre.refresh_timestamp()


def test_old_states_are_removed_and_the_newest_still_verifies(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path)
    centre.publish(artifact)

    def reason(number: int) -> None:
        def change(index: ReleaseIndex) -> ReleaseIndex:
            release = with_release(index, artifact).releases[0]
            changed = release.model_copy(update={"reason": f"change {number}"})
            return index.model_copy(update={"releases": (changed,)})

        centre.write_index(change)

    for number in range(60):
        reason(number)
    metadata = [path.name for path in centre.folder.metadata.iterdir()]
    assert len(metadata) == 2 + 50 + 50  # root, timestamp, targets, snapshots
    assert len(list((centre.folder.repository / "targets").glob("*.json"))) == 50
    index = fetch_index(centre.folder.repository, tmp_path / "state", root_bytes(centre))
    assert index.releases[0].reason == "change 59"


def test_old_versions_of_a_student_go_and_released_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.rollout.repository._KEPT_VERSIONS", 3)
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path, version=1)
    centre.publish(artifact)
    centre.write_index(lambda index: with_release(index, artifact))
    for version in range(2, 7):
        centre.publish(dummy_artifact(tmp_path, version=version))
    folder = centre.folder.repository / "targets" / "students" / "dummy-rul"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "4", "5", "6"]
    assert fetch_index(centre.folder.repository, tmp_path / "state", root_bytes(centre))


def test_a_folder_without_a_centre_names_the_command_that_makes_one(tmp_path: Path) -> None:
    centre = CentreRepository(tmp_path, now_s, lambda: None)
    with pytest.raises(CentreMissing, match="kpstream centre init"):
        centre.index()


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    centre = make_centre(tmp_path / "centre")
    path = centre.folder.metadata / name
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2', 1))
    with pytest.raises(RepositoryDamaged, match=name):
        centre.index()


def test_a_key_that_others_may_read_signs_nothing(tmp_path: Path) -> None:
    make_centre(tmp_path / "centre")
    centre = CentreRepository(tmp_path / "centre", now_s, lambda: None, Lifetimes(timestamp=90))
    (key,) = centre.folder.keys.glob("timestamp-*.pem")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(KeyRefused, match="chmod 600"):
        centre.refresh_timestamp()


def test_a_missing_key_names_its_file_and_the_way_out(tmp_path: Path) -> None:
    make_centre(tmp_path / "centre")
    centre = CentreRepository(tmp_path / "centre", now_s, lambda: None, Lifetimes(snapshot=900))
    (key,) = centre.folder.keys.glob("snapshot-*.pem")
    key.unlink()
    with pytest.raises(KeyRefused, match=f"{key.name}.*kpstream centre rotate snapshot"):
        centre.refresh_timestamp()
    assert centre.state().snapshot.version == 1


def test_an_invalid_index_is_not_signed(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    artifact = dummy_artifact(tmp_path)

    def change(index: ReleaseIndex) -> ReleaseIndex:
        release = with_release(index, artifact).releases[0]
        return index.model_copy(
            update={"releases": (release.model_copy(update={"reason": "x" * 501}),)}
        )

    with pytest.raises(ReleaseRefused, match=r"releases\.0\.reason"):
        centre.write_index(change)
    assert centre.state().timestamp.version == 1


HOLD = """
import sys
from pathlib import Path
from deploy.rollout.changes import set_policy
from deploy.rollout.repository import CentreRepository
from tests.fakes.centre import now_s
centre = CentreRepository(Path(sys.argv[1]), now_s, lambda: None)
for number in range(6):
    name = f"{sys.argv[2]}-{number}"
    centre.write_index(
        lambda index: set_policy(index, name, "", lambda old: old.model_copy(update={"hold": True}))
    )
"""


def test_two_processes_lose_no_change_of_each_other(tmp_path: Path) -> None:
    centre = make_centre(tmp_path / "centre")
    workers = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "centre"), name])
        for name in ("a", "b")
    ]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert len(centre.index().policies) == 12
    assert centre.state().timestamp.version == 13


def test_a_lock_that_is_held_too_long_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.rollout.folder._LOCK_SECONDS", 0.0)
    centre = make_centre(tmp_path / "centre")
    with centre.locked(), pytest.raises(CentreBusy, match="try again later"):
        centre.refresh_timestamp()
