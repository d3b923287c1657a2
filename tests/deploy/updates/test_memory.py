"""The memory of releases: every kind of damage is told, and none is dangerous."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.updates.memory import (
    MOST_FAILURES,
    MOST_NAMES,
    RolloutMemory,
    made_by,
    move_author,
    undone_by,
)
from deploy.updates.progress import Progress
from ingest.statefile import read_object, write_object
from models.pointer import Move
from tests.deploy.updates.test_phases import NEW, NOW, OLD, THIS, progress, release


def failed(number: int, digest: str, name: str = "rul-x") -> Progress:
    found = Progress.of(release(number, digest=digest, name=name), "failed", NOW + number, "slow")
    return found.model_copy(update={"is_taken": True})


def test_what_is_saved_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    memory = RolloutMemory(path)
    known = progress("probation", former=OLD, move="to")
    memory.save("rul-x", known)
    memory.save_added("rul-x", [2, 3])
    again = RolloutMemory(path)
    assert again.problem == ""
    assert again.names() == ["rul-x"]
    assert again.progress("rul-x") == known
    assert again.added("rul-x") == (2, 3)
    assert again.progress("other") is None


def test_same_progress_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    memory = RolloutMemory(path)
    memory.save("rul-x", progress("champion"))
    before = path.stat().st_ino
    memory.save("rul-x", progress("champion"))
    assert path.stat().st_ino == before


def test_failed_student_is_tried_again_in_a_later_release_only(tmp_path: Path) -> None:
    memory = RolloutMemory(tmp_path / "rollout.json")
    memory.save("rul-x", failed(7, NEW.digest))
    memory.save("rul-x", None)
    memory = RolloutMemory(tmp_path / "rollout.json")
    assert memory.failure(release(7)) is not None
    assert memory.failure(release(6)) is not None, "an older release of the same student"
    assert memory.failure(release(8)) is None
    assert memory.failure(release(7, digest=OLD.digest)) is None, "another student"


def test_failed_student_is_rejected_until_it_is_tried_again(tmp_path: Path) -> None:
    memory = RolloutMemory(tmp_path / "rollout.json")
    memory.save("rul-x", failed(7, NEW.digest))
    assert memory.rejected() == {NEW.digest: "slow"}
    memory.save("rul-x", Progress.of(release(8), "shadow", NOW))
    assert memory.rejected() == {}
    memory.save("rul-x", Progress.of(release(9, digest=OLD.digest), "shadow", NOW))
    assert memory.rejected() == {NEW.digest: "slow"}


def test_second_unexpected_start_on_probation_rejects_the_student(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    RolloutMemory(path).save("rul-x", progress("probation", former=OLD))
    first = RolloutMemory(path)
    first.begin()
    assert first.rejected() == {}
    second = RolloutMemory(path)
    second.begin()
    assert "2 times" in second.rejected()[NEW.digest]


def test_clean_stop_is_not_counted_and_keeps_the_time_of_the_phase(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    RolloutMemory(path).save("rul-x", progress("probation", former=OLD))
    for run in range(1, 6):
        memory = RolloutMemory(path)
        memory.begin()
        known = memory.progress("rul-x")
        assert known is not None
        assert known.starts == 1, "the first start was not expected, the later ones were"
        memory.end({"rul-x": 60 * run})
        known = RolloutMemory(path).progress("rul-x")
        assert known is not None
        assert known.spent_s == 60 * run


def test_start_and_stop_outside_probation_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    memory = RolloutMemory(path)
    memory.save("rul-x", progress("champion"))
    before = path.stat().st_ino
    memory.begin()
    memory.end({})
    assert path.stat().st_ino == before


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    target = path.with_name("elsewhere.json")
    path.rename(target)
    path.symlink_to(target)


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000)


def _changed(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    """Damage with a checksum that matches."""

    def damage(path: Path) -> None:
        found = read_object(path)
        assert found is not None
        change(found)
        write_object(path, found)

    return damage


def _inner(content: dict[str, object]) -> dict[str, object]:
    return content["students"]["rul-x"]["progress"]  # type: ignore[index, no-any-return]


@pytest.mark.parametrize(
    "damage",
    [
        _torn,
        _empty,
        _flipped,
        _pipe,
        _folder,
        _link,
        _deep,
        _changed(lambda found: found.pop("format")),
        _changed(lambda found: found.update(format=2)),
        _changed(lambda found: found.update(more=1)),
        _changed(lambda found: found.update(students=[])),
        _changed(lambda found: found.update(students={"../x": {}})),
        _changed(lambda found: _inner(found).update(phase="flying")),
        _changed(lambda found: _inner(found).update(version="2")),
        _changed(lambda found: _inner(found).update(former={"version": 0, "digest": "x"})),
        _changed(lambda found: _inner(found).update(since_s=-1)),
        _changed(lambda found: found.update(students={f"m{i}": {} for i in range(MOST_NAMES + 1)})),
    ],
)
def test_damage_is_told_and_the_memory_begins_anew(
    damage: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rollout.json"
    RolloutMemory(path).save("rul-x", progress("probation", former=OLD))
    damage(path)
    memory = RolloutMemory(path)
    assert str(path) in memory.problem
    assert memory.problem in caplog.text
    assert memory.names() == []
    assert memory.rejected() == {}


def test_damaged_file_is_written_anew_at_the_next_step(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    path.write_bytes(b"{")
    memory = RolloutMemory(path)
    assert memory.problem
    memory.save("rul-x", None)
    assert memory.problem == ""
    assert RolloutMemory(path).problem == ""


def test_missing_file_is_no_problem(tmp_path: Path) -> None:
    assert RolloutMemory(tmp_path / "rollout.json").problem == ""


def test_unwritable_file_is_told_and_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    memory = RolloutMemory(folder / "rollout.json")
    folder.write_text("not a folder")
    with pytest.raises(OSError, match="state"):
        memory.save("rul-x", progress("shadow"))
    assert "no student takes over" in memory.problem
    with pytest.raises(OSError, match="state"):
        memory.save("rul-x", progress("shadow"))
    folder.unlink()
    memory.save("rul-x", progress("shadow"))
    assert memory.problem == ""
    again = RolloutMemory(folder / "rollout.json").progress("rul-x")
    assert again == progress("shadow")


def test_start_goes_on_if_the_file_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rollout.json"
    RolloutMemory(path).save("rul-x", progress("probation", former=OLD, starts=1))
    memory = RolloutMemory(path)
    path.with_name("rollout.json.new").mkdir()
    memory.begin()
    assert NEW.digest in memory.rejected(), "this process counts although the file does not"
    assert "rollout.json" in caplog.text


def test_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "rollout.json"
    memory = RolloutMemory(path)
    for number in range(1, 2 * MOST_FAILURES):
        memory.save("rul-x", failed(number, f"{number:064x}"))
    kept = [each.release for each in memory.failures("rul-x")]
    assert kept == list(range(MOST_FAILURES, 2 * MOST_FAILURES))
    memory.save_added("rul-x", range(1, 2000))
    assert len(memory.added("rul-x")) == 200
    content = json.loads(path.read_text())
    one = content["students"]["rul-x"]
    write_object(path, {"format": 1, "students": {f"m-{i}": one for i in range(MOST_NAMES)}})
    memory = RolloutMemory(path)
    memory.save("rul-x", failed(99, NEW.digest))
    assert len(memory.names()) == MOST_NAMES
    assert "rul-x" in memory.names(), "the newest one stays"
    assert path.stat().st_size < 8_000_000
    assert RolloutMemory(path).problem == ""


def move(version: int, digest: str, who: str) -> Move:
    return Move(ts_ms=1, who=who, what="promote", version=version, digest=digest, previous=None)


def test_history_tells_what_a_lost_memory_would_have_said() -> None:
    first = move(1, OLD.digest, "somebody@machine")
    taken = move(2, NEW.digest, move_author(7))
    back = move(1, OLD.digest, move_author(7, "it is slow: very"))
    assert made_by([first, taken], THIS) == OLD
    assert made_by([first, taken, taken], THIS) == OLD
    assert made_by([first, taken, back], THIS) is None
    assert made_by([first, taken], release(8)) is None, "the student of another release"
    assert made_by([taken], THIS) is None, "nothing ran before"
    assert made_by([], THIS) is None
    assert undone_by([first, taken, back], THIS) == "it is slow: very"
    assert undone_by([first, taken, back], release(70)) == ""
    assert undone_by([first, taken], THIS) == ""
    assert undone_by([first, back], THIS) == "", "of another centre, which had the same number"
