"""Which student a user means by a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import VersionMissing
from models.lookup import find_student
from models.registry import Registry
from models.zoo import zoo_path


def test_a_folder_comes_first_then_the_registry_and_then_what_ships(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    assert find_student("har-waist", registry).path == zoo_path("har-waist")
    registry.publish(zoo_path("har-waist"), stable=True)
    found = find_student("har-waist", registry)
    assert registry.root in found.path.parents
    assert find_student("har-waist", registry, found.manifest.version).digest == found.digest
    assert find_student(str(zoo_path("har-waist")), registry).path == zoo_path("har-waist")


def test_an_unknown_name_is_told_with_all_there_are(tmp_path: Path) -> None:
    with pytest.raises(VersionMissing, match=r"no student 'nobody'.*manifest\.json.*har-waist"):
        find_student("nobody", Registry(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(VersionMissing, match="no folder with a manifest"):
        find_student(str(tmp_path / "empty"), Registry(tmp_path / "registry"))
