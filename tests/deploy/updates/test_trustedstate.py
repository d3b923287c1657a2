"""What a gateway trusts survives deletion, older copies, damage, as far as docs/rollout.md says.

"Replay" below is an older state of the centre whose signatures are all valid and not expired.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.updates.fetch import FetchFailed
from tests.fakes.rolloutworld import World, world_of

FILES = ("timestamp.json", "snapshot.json", "targets.json", "root_history/1.root.json")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The gateway has fetched releases 1 and 2; `recorded` is the centre at release 1."""
    with world_of(tmp_path, "folder") as world:
        world.recorded = world.honest  # type: ignore[attr-defined]
        world.fetcher().fetch_index()
        shutil.copytree(world.state, tmp_path / "older-state", symlinks=True)
        world.publish(2)
        world.fetcher().fetch_index()
        yield world


@pytest.fixture
def marks(world: World) -> Path:
    return world.state.with_name("rollout-marks.json")


def replay(world: World) -> None:
    world.made.restore(world.recorded)  # type: ignore[attr-defined]


def assert_replay_is_refused(world: World, words: str) -> None:
    replay(world)
    for _ in range(2):  # what the refused fetch left behind opens nothing
        with pytest.raises(FetchFailed, match=words) as refused:
            world.fetcher().fetch_index()
        assert refused.value.state == "refused"
    assert_the_next_release_arrives(world)


def assert_the_next_release_arrives(world: World) -> None:
    world.made.restore(world.honest)
    world.publish(3)
    assert world.fetcher().fetch_index().releases == (world.release,)
    assert world.fetcher().fetch_student(world.release)


def put_back_the_older_copy(world: World) -> None:
    shutil.rmtree(world.state)
    shutil.copytree(world.folder / "older-state", world.state, symlinks=True)


def test_a_deleted_state_folder_does_not_open_a_replay(world):
    shutil.rmtree(world.state)
    assert_replay_is_refused(world, "rollback of timestamp: the repository offers version 2")


def test_an_older_copy_of_the_state_folder_does_not_open_a_replay(world):
    put_back_the_older_copy(world)
    assert_replay_is_refused(world, "rollback of timestamp: .* version 3 was verified here before")


def test_without_the_marks_tuf_alone_refuses_a_replay(world, marks):
    marks.unlink()
    assert_replay_is_refused(world, "rollback of the timestamp")


def test_without_state_folder_and_marks_only_the_expiry_bounds_a_replay(world, marks):
    """The documented end of the reach: nothing here remembers release 2."""
    shutil.rmtree(world.state)
    marks.unlink()
    replay(world)
    assert [release.number for release in world.fetcher().fetch_index().releases] == [1]
    world.now_s += 2 * 86_400
    with pytest.raises(FetchFailed, match=r"timestamp\.json ran out"):
        world.fetcher().fetch_index()
    world.now_s -= 2 * 86_400
    assert_the_next_release_arrives(world)


def test_a_deleted_state_folder_does_not_bring_a_revoked_root_back(world):
    stolen = world.made.twin()
    world.made.rotate("root", "timestamp")
    world.publish(3)
    world.fetcher().fetch_index()
    shutil.rmtree(world.state)
    world.made.restore(world.folder / "honest-2")
    stolen.signed("timestamp").version = 50
    stolen.write("timestamp")
    with pytest.raises(FetchFailed, match="rollback of root: the repository offers version 1"):
        world.fetcher().fetch_index()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage", ["half", "empty", "noise", "gone", "named pipe", "huge", "folder"]
)
def test_a_damaged_file_of_the_trusted_metadata_is_replaced(world, file, damage):
    path = world.state / "metadata" / file
    content = path.read_bytes()
    path.unlink()
    if damage == "named pipe":
        os.mkfifo(path)
    elif damage == "folder":
        path.mkdir()
    elif damage != "gone":
        kinds = {"half": content[: len(content) // 2], "empty": b"", "noise": content[::-1]}
        path.write_bytes(kinds.get(damage, bytes(9_000_000)))
    assert world.fetcher().fetch_index().releases == (world.release,)
    assert_replay_is_refused(world, "rollback of the timestamp")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"crc32": 1, "root": 9}', b'{"root": "many"}'])
def test_damaged_marks_are_said_and_written_anew(world, marks, caplog, damage):
    marks.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert world.fetcher().fetch_index().releases == (world.release,)
    assert f"{marks} is unusable and ignored" in caplog.text
    shutil.rmtree(world.state)
    assert_replay_is_refused(world, "rollback of timestamp")


def test_a_named_pipe_in_place_of_the_marks_delays_nothing(world, marks, caplog):
    marks.unlink()
    os.mkfifo(marks)
    with caplog.at_level(logging.WARNING):
        assert world.fetcher().fetch_index().releases == (world.release,)
    assert "is a named pipe" in caplog.text
    assert marks.is_file()


def test_a_new_pinned_root_starts_the_marks_of_the_root_anew(world, tmp_path):
    """A person installs another centre with keys of its own: nothing of the old one counts."""
    world.made.rotate("root")
    world.publish(3)
    world.fetcher().fetch_index()
    other = World(tmp_path / "other", None)
    (world.folder / "root.json").write_bytes(other.made.pinned)
    world.made = other.made
    assert world.fetcher().fetch_index().releases == (other.release,)


def test_a_file_that_changes_after_the_child_verified_it_is_not_handed_out(world):
    child = world.child

    def swapped(request):
        answer = child(request)
        for path in (world.state / "files").iterdir():
            path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":7'))
        return answer

    world.child = swapped
    with pytest.raises(FetchFailed, match="was changed or removed before it was read"):
        world.fetcher().fetch_index()
    world.child = child
    assert_the_next_release_arrives(world)


def test_a_gateway_writes_nothing_else_than_it_says(world):
    world.fetcher().fetch_student(world.release)
    found = {path.name for path in world.state.parent.iterdir()}
    assert found == {"rollout", "rollout-marks.json"}
    assert {path.name for path in world.state.iterdir()} == {"metadata", "partial", "files"}
    assert list((world.state / "partial").iterdir()) == []
