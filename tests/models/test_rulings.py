"""Hold, pin and rejected versions: one table of what they allow, and where they come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import acceptance
from models.acceptance import promote, publish_stable, require_releasable
from models.dummy import write_dummy
from models.errors import Held, Rejected
from models.registry import Registry
from models.rulings import Ruling, Rulings, add_ruling, count_damaged_rulings, read_rulings
from models.trial import Trial

NAME = "dummy-rul"


class Clock:
    now = 0

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def passes(_artifact) -> Trial:
    return Trial(1.0, 0.1)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Versions 1, 2 and 3; 2 is stable, and 3 never was."""
    registry = Registry(tmp_path / "registry", now_ms=Clock())
    for seed in (1, 2, 3):
        registry.publish(made(tmp_path, seed), stable=seed < 3)
    return registry


def made(folder: Path, seed: int, name: str = NAME) -> Path:
    return write_dummy(folder / f"{name}-{seed}", name=name, seed=seed).path


def rule(registry: Registry, what: str, version: int | None = None, name: str = NAME) -> None:
    ruling = Ruling(ts_ms=registry.now_ms(), who="eva", what=what, version=version, reason="why")
    add_ruling(registry.folder(name), ruling)


# Rulings, then what is refused: a new student, promotion up to v3, rollback to v1, release of v2
# (the stable one), of v3, of v1, retirement.
NOTHING = (False,) * 7
TABLE = [
    ((), NOTHING),
    ((("hold", None),), (True, True, False, False, True, False, True)),
    ((("hold", None), ("unhold", None)), NOTHING),
    ((("pin", 2),), (True, True, True, False, True, True, True)),
    ((("pin", 2), ("unpin", None)), NOTHING),
    ((("hold", None), ("pin", 2), ("unhold", None)), (True, True, True, False, True, True, True)),
    ((("reject", 3),), (False, False, False, False, True, False, False)),
    ((("reject", 3), ("readmit", 3)), NOTHING),
]


@pytest.mark.parametrize("action", range(7))
@pytest.mark.parametrize(("rulings", "refused"), TABLE)
def test_what_a_ruling_allows(registry: Registry, tmp_path: Path, rulings, refused, action) -> None:
    for what, version in rulings:
        rule(registry, what, version)
    actions = (
        lambda: publish_stable(registry, made(tmp_path, 4), trial=passes),
        lambda: promote(registry, NAME, 3, trial=passes),
        lambda: promote(registry, NAME, 1, trial=passes),
        lambda: require_releasable(registry, NAME, 2),
        lambda: require_releasable(registry, NAME, 3),
        lambda: require_releasable(registry, NAME, 1),
        lambda: acceptance.retire(registry, NAME),
    )
    if not refused[action]:
        actions[action]()
        return
    with pytest.raises((Held, Rejected), match=rf"`kpstream models \w+ {NAME}"):
        actions[action]()
    assert registry.read_stable(NAME).version == 2
    assert registry.list_versions(NAME) == [1, 2, 3]


def test_a_held_student_is_not_replaced_under_another_name(
    registry: Registry, tmp_path: Path
) -> None:
    rule(registry, "hold")
    other = made(tmp_path, 5, name="other")
    with pytest.raises(Held, match=f"{NAME} is held since .* by eva: why; .* unhold {NAME}"):
        publish_stable(registry, other, replace=True, trial=passes)
    assert registry.names() == [NAME]


def test_a_move_back_rejects_what_it_leaves_until_somebody_wants_it_again(
    registry: Registry, tmp_path: Path
) -> None:
    def rejected() -> set[int]:
        return set(read_rulings(registry.folder(NAME)).rejected)

    promote(registry, NAME, 3, trial=passes)
    assert rejected() == set()
    registry.set_stable(NAME, 1)  # by whatever way
    assert rejected() == {3}, "2 was superseded, not rejected"
    with pytest.raises(
        Rejected, match=r"v3 was rejected \(rolled back to v1 .*promote dummy-rul 3"
    ):
        publish_stable(registry, made(tmp_path, 3), trial=passes)
    publish_stable(registry, made(tmp_path, 4), trial=passes)
    assert rejected() == {3}
    promote(registry, NAME, 3, trial=passes)
    assert rejected() == {4}, "3 runs again, and 4 was left for it"
    rule(registry, "readmit", 4)
    assert rejected() == set()
    publish_stable(registry, made(tmp_path, 4), trial=passes)


def test_equal_bytes_are_equal_whatever_name_version_and_origin_say(
    registry: Registry, tmp_path: Path
) -> None:
    rule(registry, "reject", 3)
    same = write_dummy(tmp_path / "same", name=NAME, seed=3, version=7)
    with pytest.raises(Rejected):
        publish_stable(registry, same.path, trial=passes)


def test_a_damaged_line_is_counted_and_left_out(registry: Registry) -> None:
    rule(registry, "hold")
    path = registry.folder(NAME) / "rulings.jsonl"
    path.write_bytes(path.read_bytes() + b'{"ts_ms": 5, "who"')
    assert count_damaged_rulings(registry.folder(NAME)) == 1
    rule(registry, "pin", 2)
    found = read_rulings(registry.folder(NAME))
    assert (found.held is not None, found.pinned.version) == (True, 2)
    assert count_damaged_rulings(registry.folder(NAME)) == 1


def test_a_clock_that_goes_back_changes_no_order(registry: Registry) -> None:
    folder = registry.folder(NAME)
    add_ruling(folder, Ruling(ts_ms=9_000, who="eva", what="hold"))
    add_ruling(folder, Ruling(ts_ms=1, who="eva", what="unhold"))
    assert read_rulings(folder) == Rulings()
