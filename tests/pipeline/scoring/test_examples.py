"""Examples in a file, the anchors that follow, and the scores of a batch with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dummy import write_dummy
from models.session import Student
from pipeline.errors import ExamplesError
from pipeline.scoring.anchoring import MOST_LABELS, MOST_NEW, Example, anchor_stream
from pipeline.scoring.batch import score_windows
from pipeline.scoring.examples import FILE_NAME, ExampleFile, Examples, KeptExample, Room
from pipeline.windows.windowbatch import WindowBatch

RANDOM = np.random.default_rng(5)
CLIMB = RANDOM.normal(0, 1, (8, 3)).astype(np.float32)
ROW = RANDOM.normal(0, 1, (8, 3)).astype(np.float32)


def student(folder: Path, seed: int = 0) -> Student:
    return Student(write_dummy(folder / f"student-{seed}", "activity", features=True, seed=seed))


def windows(*values: tuple[str, np.ndarray]) -> WindowBatch:
    """One window of each sender."""
    count = len(values)
    return WindowBatch(
        "imu",
        [("hall", name) for name, _ in values],
        np.zeros(count, np.int32),
        np.stack([each for _, each in values]),
        *(np.arange(count) + 100 * at for at in range(5)),
        made_up=np.zeros(count),
    )


def kept(
    label: str,
    window: np.ndarray,
    device: str = "ada",
    *,
    name: str = "span-1",
    for_all: bool = False,
    recv_ms: int = 1,
) -> KeptExample:
    several = np.stack([window] * 3)
    return KeptExample(f"hall/{device}/imu/{name}", for_all, label, recv_ms, (8, 3), several)


def labels_of(one: Student, examples: Examples, batch: WindowBatch) -> list[str]:
    scored = score_windows([batch], lambda _: one, 7, anchors=examples.of)
    assert not scored.unscored
    found = {}
    for part in scored.parts:
        for sender, end, record in zip(
            part.windows.senders, part.windows.end_ms, part.scores.records(), strict=True
        ):
            found[(sender[1], int(end))] = record["activity"]
            assert abs(sum(record["probabilities"].values()) - 1) < 1e-4
    return [
        found[(name, int(end))] for (_, name), end in zip(batch.senders, batch.end_ms, strict=True)
    ]


def test_examples_of_one_device_change_its_scores_only(tmp_path: Path) -> None:
    one = student(tmp_path)
    examples = Examples(ExampleFile(tmp_path), {"imu": one})
    assert not examples.of(one.manifest)
    batch = windows(("ada", CLIMB), ("bob", CLIMB), ("ada", ROW))
    before = labels_of(one, examples, batch)
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])  # another process
    assert examples.refresh()
    assert labels_of(one, examples, batch) == ["climbing", *before[1:]]
    assert not examples.refresh()
    ExampleFile(tmp_path).change([], ["hall/ada/imu/span-1"])
    assert examples.refresh()
    assert labels_of(one, examples, batch) == before


def test_scores_of_a_device_without_examples_have_no_field_for_a_new_name(tmp_path: Path) -> None:
    one = student(tmp_path)
    examples = Examples(ExampleFile(tmp_path), {"imu": one})
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])
    examples.refresh()
    scored = score_windows(
        [windows(("ada", ROW), ("bob", ROW))], lambda _: one, 7, anchors=examples.of
    )
    fields = {
        part.windows.senders[0][1]: list(part.scores.columns["probabilities"])
        for part in scored.parts
    }
    known = ["WALKING", "SITTING", "LAYING"]
    assert fields == {"ada": [*known, "climbing"], "bob": known}


def test_examples_for_all_hold_for_every_device_and_ones_own_come_first(tmp_path: Path) -> None:
    one = student(tmp_path)
    examples = Examples(ExampleFile(tmp_path), {"imu": one})
    ExampleFile(tmp_path).change(
        [kept("climbing", CLIMB, for_all=True), kept("Climbing", ROW, "bob", recv_ms=2)], []
    )
    examples.refresh()
    batch = windows(("ada", CLIMB), ("carl", CLIMB), ("bob", ROW))
    assert labels_of(one, examples, batch) == ["climbing"] * 3
    assert labels_of(one, examples, windows(("bob", CLIMB))) != ["climbing"]


def test_a_new_student_gets_anchors_in_its_own_space_and_none_of_the_former(tmp_path: Path) -> None:
    running = {"imu": student(tmp_path)}
    examples = Examples(ExampleFile(tmp_path), running)
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])
    examples.refresh()
    newer = running["imu"] = student(tmp_path, seed=9)
    assert examples.of(newer.manifest) is None  # not before they were made again
    batch = windows(("ada", CLIMB))
    assert labels_of(newer, examples, batch) != ["climbing"]
    assert examples.refresh()
    assert labels_of(newer, examples, batch) == ["climbing"]


def test_a_restart_brings_the_same_anchors(tmp_path: Path) -> None:
    one = student(tmp_path)
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])
    again = Examples(ExampleFile(tmp_path), {"imu": one})
    again.refresh()
    assert labels_of(one, again, windows(("ada", CLIMB))) == ["climbing"]
    assert again.status() == {"labels": 1, "windows": 3, "without_effect": []}


def test_a_student_without_features_says_why_examples_have_no_effect(tmp_path: Path) -> None:
    old = Student(write_dummy(tmp_path / "old", "activity"))
    examples = Examples(ExampleFile(tmp_path), {"imu": old})
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])
    examples.refresh()
    assert examples.of(old.manifest) is None
    assert "has no features" in examples.status()["without_effect"][0]


def test_windows_without_a_score_are_told_and_harm_no_other_label(tmp_path: Path) -> None:
    one = student(tmp_path)
    examples = Examples(ExampleFile(tmp_path), {"imu": one})
    odd = np.full_like(CLIMB, np.nan)
    ExampleFile(tmp_path).change([kept("climbing", CLIMB), kept("odd", odd, name="span-2")], [])
    examples.refresh()
    assert labels_of(one, examples, windows(("ada", CLIMB))) == ["climbing"]
    assert list(examples.faults()) == ["hall/ada/imu/span-2"]


def test_a_damaged_file_leaves_the_anchors_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = student(tmp_path)
    examples = Examples(ExampleFile(tmp_path), {"imu": one})
    ExampleFile(tmp_path).change([kept("climbing", CLIMB)], [])
    examples.refresh()
    (tmp_path / FILE_NAME).write_text("broken")
    examples.refresh()
    assert labels_of(one, examples, windows(("ada", CLIMB))) == ["climbing"]
    assert "the examples stay as they are" in caplog.text
    with pytest.raises(ExamplesError, match="move the file away"):
        ExampleFile(tmp_path).change([], [])


def test_the_file_is_bounded(tmp_path: Path) -> None:
    large = np.zeros((20, 800, 200), np.float32)
    many = KeptExample("hall/ada/imu/a", False, "a", 1, (800, 200), large)
    with pytest.raises(ExamplesError, match="revoke some labels"):
        ExampleFile(tmp_path).change([many], [])
    assert ExampleFile(tmp_path).read() == {}


def example(label: str, at: int, device: tuple[str, str] | None = ("hall", "ada")) -> Example:
    features = np.eye(8, dtype=np.float32)[[at % 8]]
    return Example(f"hall/ada/imu/{at}", device, label, at, features, CLIMB[None])


def test_a_name_has_one_spelling_in_all_stores(tmp_path: Path) -> None:
    one = student(tmp_path)
    both = np.stack([CLIMB])
    scores, features = one.score_with_features(both)
    for told, elsewhere, spelled in (
        ("Nordic Walking", [], "nordic walking"),
        ("Nordic Walking", ["Nordic_walking"], "Nordic_walking"),
        ("walking", ["Walking"], "WALKING"),
    ):
        some = Example("hall/ada/imu/a", None, told, 1, features, both)
        (_, found) = next(
            anchor_stream(one.manifest, [some], elsewhere).parts([("a", "b")], scores, both)
        )
        assert found.label(0) == spelled or spelled == "WALKING"
        assert spelled in found.labels


def test_a_name_is_one_however_its_accents_are_coded_and_fits_into_a_field(tmp_path: Path) -> None:
    manifest = student(tmp_path).manifest
    two = anchor_stream(manifest, [example("caf\u00e9", 0), example("CAFE\u0301", 1)])
    (found,) = two._own.values()
    assert found.labels[-1] == "caf\u00e9"
    assert len(found.labels) == 4
    grows = anchor_stream(manifest, [example("\u0130" * 40, 0)])  # 80 characters in lower case
    assert "at most 64 characters" in grows.faults["hall/ada/imu/0"]


def test_room_is_shared_by_devices_and_counts_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.scoring.examples._MOST_BYTES", 5 * 8 * 3 * 4)
    room = Room([kept("climbing", CLIMB)])
    assert room.of("hall/bob/imu/b", (8, 3)) == ("", 2)
    assert room.of("hall/ada/imu/span-1", (8, 3)) == ("", 5)  # in place of its own three
    room.take(kept("climbing", CLIMB, "bob", name="b"))
    assert "MB already" in room.of("hall/carl/imu/c", (8, 3))[0]
    room.take(kept("climbing", CLIMB[:0], "bob", name="b"))
    assert room.of("hall/carl/imu/c", (8, 3)) == ("", 2)


def test_names_are_checked_and_bounded(tmp_path: Path) -> None:
    manifest = student(tmp_path).manifest
    odd = [example("a,b", 0), example("Unknown", 1), example("walking", 2), example("x" * 70, 3)]
    faults = anchor_stream(manifest, odd).faults
    assert sorted(faults) == ["hall/ada/imu/0", "hall/ada/imu/1", "hall/ada/imu/3"]
    own = [example(f"name {at}", at) for at in range(MOST_LABELS + 2)]
    assert len(anchor_stream(manifest, own).faults) == 2
    devices = [example(f"name {at}", at, ("hall", f"d{at}")) for at in range(MOST_NEW + 3)]
    assert sorted(anchor_stream(manifest, devices).faults) == [
        f"hall/ada/imu/{at}" for at in range(MOST_NEW, MOST_NEW + 3)
    ]


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(6)))
def test_the_order_of_examples_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    one = student(tmp_path_factory.mktemp("student"))
    both = np.stack([CLIMB, ROW])
    scores, features = one.score_with_features(both)
    examples = [
        Example(
            f"hall/ada/imu/{at}", ("hall", "ada"), f"name {at % 3}", at, features[[at % 2]], both
        )
        for at in range(6)
    ]
    senders = [("hall", "ada")] * 2
    (_, first), (_, second) = (
        next(anchor_stream(one.manifest, some).parts(senders, scores, both))
        for some in (examples, [examples[at] for at in order])
    )
    assert first.labels == second.labels
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-6)
