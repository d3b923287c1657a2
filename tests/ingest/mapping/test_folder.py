"""Which mapping files are in force: a broken one never replaces a good one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ingest.decoders import Claim
from ingest.errors import MappingInvalid
from ingest.mapping.folder import MappingFolder, read_folder
from ingest.topicfilters import TopicSet

RESERVED = [Claim("KPSTREAM_INGEST_MQTT_PREFIX", [TopicSet("sensors/#")])]
JOIN = "\n[join]\nmax_age_ms = 2000\nemit = 'power'\n"


def text(topic: str, *, channels: str = "power = 'P'", more: str = "", devices: str = "") -> str:
    chosen = f"devices = {devices}\n" if devices else ""
    head = f"topic = '{topic}'\nsite = 'hall'\ndevice = '{{device}}'\nstream = 'meter'\n{chosen}"
    return f"{head}{more}\n[channels]\n{channels}\n"


class World:
    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "files"
        self.kept = tmp_path / "state" / "mappings"
        self.path.mkdir()

    def write(self, name: str, content: str) -> None:
        (self.path / f"{name}.toml").write_text(content)

    def start(self, *, is_shared: bool = False) -> MappingFolder:
        return MappingFolder(self.path, self.kept, RESERVED, is_shared=is_shared)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_start_with_good_files_brings_all_of_them_into_force(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    world.write("doors", text("door/{device}"))
    folder = world.start()
    assert list(folder.in_force) == ["doors", "plugs"]
    assert folder.filters == ["door/+", "tele/+/SENSOR"]
    assert folder.faults == {}


def test_a_start_names_every_fault_of_every_file(world: World) -> None:
    world.write("a", "topic = 3\n")
    world.write(
        "b", text("tele/{device}/SENSOR", channels="power = { path = 'P', unit = 'furlong' }")
    )
    world.write("c", "not TOML")
    world.write("d", text("sensors/{device}"))
    (world.path / "e.toml").mkdir()
    (world.path / "f.toml").write_bytes(b"\xff\xfe")
    os.mkfifo(world.path / "g.toml")
    world.write("h", "x" * 300_000)
    with pytest.raises(MappingInvalid) as refused:
        world.start()
    told = str(refused.value)
    for name in "abcefgh":
        assert f"{name}.toml" in told
    assert "d.toml and KPSTREAM_INGEST_MQTT_PREFIX both claim 'sensors/+'" in told


def test_two_files_with_one_topic_are_refused_with_both_names(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    world.write("meters", text("tele/{device}/#"))
    with pytest.raises(MappingInvalid, match=r"plugs.toml and meters.toml|meters.toml and plugs"):
        world.start()


def test_files_for_different_devices_may_share_a_topic(world: World) -> None:
    world.write("plugs", text("z/{device}", devices="['plug-*']"))
    world.write("doors", text("z/{device}", devices="['door-*', 'window']"))
    assert list(world.start().in_force) == ["doors", "plugs"]
    world.write("windows", text("z/{device}", devices="['w*']"))
    with pytest.raises(MappingInvalid, match=r"doors.toml .*windows.toml|windows.toml .*doors"):
        MappingFolder(world.path, world.kept.with_name("other"), RESERVED)


def test_joins_are_refused_where_bridges_share_the_messages(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR") + JOIN)
    with pytest.raises(MappingInvalid, match="KPSTREAM_INGEST_MQTT_SHARED_GROUP"):
        world.start(is_shared=True)
    assert world.start().in_force


def test_a_missing_folder_is_refused_at_the_start(world: World) -> None:
    world.path.rmdir()
    with pytest.raises(MappingInvalid, match="check KPSTREAM_INGEST_MAPPINGS"):
        world.start()


def test_a_changed_file_is_taken_once_it_is_at_rest(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    folder = world.start()
    assert not folder.look()
    world.write("plugs", text("tele/{device}/STATE"))
    world.write("doors", text("door/{device}"))
    assert not folder.look()  # it may still be written
    assert folder.look()
    assert folder.filters == ["door/+", "tele/+/STATE"]
    assert not folder.look()
    (world.path / "doors.toml").unlink()
    folder.look()
    assert folder.look()
    assert list(folder.in_force) == ["plugs"]


def test_a_broken_file_never_replaces_a_good_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    folder = world.start()
    for broken in (
        "not TOML",
        text("sensors/{device}"),
        text("tele/{device}/SENSOR", more="nonsense = 1\nalso = 2"),
    ):
        caplog.clear()
        world.write("plugs", broken)
        assert not folder.reread()
        assert folder.filters == ["tele/+/SENSOR"]
        assert folder.in_force["plugs"].is_former
        assert list(folder.faults) == ["plugs"]
        for _ in range(3):
            folder.reread()
        errors = [each for each in caplog.records if each.levelno == logging.ERROR]
        assert len(errors) == 1  # said once
        assert "stays in force" in errors[0].message
    assert "nonsense" in folder.faults["plugs"]
    assert "also" in folder.faults["plugs"]
    again = world.start()  # also after a restart
    assert again.filters == ["tele/+/SENSOR"]
    assert again.in_force["plugs"].is_former
    world.write("plugs", text("tele/{device}/STATE"))
    assert again.reread()
    assert (again.faults, again.filters) == ({}, ["tele/+/STATE"])


def test_a_new_file_that_claims_a_topic_in_force_stays_out(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    folder = world.start()
    world.write("all", text("tele/{device}/#"))
    assert not folder.reread()
    assert list(folder.in_force) == ["plugs"]
    assert "both claim 'tele/+/SENSOR'" in folder.faults["all"]


def test_a_topic_may_move_from_one_file_to_another(world: World) -> None:
    world.write("a", text("tele/{device}/SENSOR"))
    world.write("b", text("tele/{device}/STATE"))
    folder = world.start()
    world.write("a", text("tele/{device}/STATE"))
    world.write("b", text("tele/{device}/SENSOR"))
    assert folder.reread()
    assert folder.faults == {}
    assert folder.in_force["a"].compiled.filters == ("tele/+/STATE",)


def test_a_folder_that_goes_away_changes_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    folder = world.start()
    away = world.path.rename(world.path.with_name("away"))
    assert not any((folder.look(), folder.look(), folder.reread()))
    assert folder.filters == ["tele/+/SENSOR"]
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    away.rename(world.path)
    folder.look()
    folder.look()
    assert folder.faults == {}


def test_a_removed_file_does_not_come_back_with_a_restart(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    world.write("doors", text("door/{device}"))
    world.start()
    (world.path / "doors.toml").unlink()
    assert list(world.start().in_force) == ["plugs"]
    assert [each.name for each in world.kept.iterdir()] == ["plugs.toml"]


def test_reading_a_folder_only_to_look_tells_files_and_faults(world: World) -> None:
    world.write("plugs", text("tele/{device}/SENSOR"))
    world.write("bad", "not TOML")
    files, faults = read_folder(world.path)
    assert [each.name for each in files] == ["plugs"]
    assert len(faults) == 1
    assert not world.kept.exists()


def test_the_folder_of_copies_is_not_the_folder_of_files(world: World) -> None:
    with pytest.raises(MappingInvalid, match="is for copies"):
        MappingFolder(world.path, world.path, RESERVED)
