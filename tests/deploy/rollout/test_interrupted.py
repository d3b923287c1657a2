"""A command of the centre that is killed anywhere: the repository verifies, the next one goes on.

Killed at every change to the disk, and with SIGKILL at any moment.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.rollout.ceremony import renew_root, rotate_online, rotate_root, set_up
from deploy.rollout.changes import add_release, pause_release
from deploy.rollout.release import Plan, ReleaseIndex
from deploy.rollout.repository import CentreRepository, Lifetimes
from deploy.rollout.transfer import export_repository, import_repository
from tests.fakes.centre import (
    dummy_artifact,
    make_centre,
    now_s,
    root_bytes,
    root_keys,
    root_signers,
)
from tests.fakes.crash import Killed, killed_at
from tests.fakes.tufclient import fetch_index

DAY_S = 86_400


@pytest.fixture(autouse=True)
def _fsync_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process loses nothing that it has written; only a power cut needs the disk."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def centre_in(folder: Path, lifetimes: Lifetimes | None = None) -> CentreRepository:
    return CentreRepository(folder / "centre", now_s, lambda: None, lifetimes)


def released(folder: Path) -> None:
    artifact = dummy_artifact(folder)
    centre = centre_in(folder)
    centre.publish(artifact)

    def change(index: ReleaseIndex) -> ReleaseIndex:
        return add_release(
            index,
            name=artifact.manifest.name,
            version=1,
            digest=artifact.digest,
            plan=Plan(),
            now_s=1,
            gateways=[],
        )

    centre.write_index(change)


def paused(folder: Path) -> None:
    centre_in(folder).write_index(lambda index: pause_release(index, "dummy-rul", "test"))


def renewed(folder: Path) -> None:
    centre_in(folder, Lifetimes(targets=900, snapshot=900, timestamp=900)).refresh_timestamp()


def exported(folder: Path) -> None:
    export_repository(centre_in(folder).folder, folder / "stick")


def imported(folder: Path) -> None:
    import_repository(centre_in(folder).folder, folder / "stick")


def rotated_root(folder: Path) -> None:
    centre = centre_in(folder)
    rotate_root(centre, root_keys(folder / "new-root", 3, 2), root_signers(folder / "centre/root"))


def prepare_import(folder: Path) -> None:
    """A centre put back from a backup, beside a copy of what it signed since."""
    shutil.copytree(folder / "centre", folder / "backup")
    rotate_online(centre_in(folder), "targets", root_signers(folder / "centre/root"))
    paused(folder)
    exported(folder)
    shutil.rmtree(folder / "centre")
    (folder / "backup").rename(folder / "centre")


@dataclass(frozen=True)
class Scenario:
    act: Callable[[Path], object]
    check: Callable[[CentreRepository], bool]
    prepare: Callable[[Path], object] = lambda folder: None
    begin: Callable[[Path], object] = released


def role_keys(centre: CentreRepository, role: str) -> int:
    return len(centre.state().root.roles[role].keyids)


def rotation(role: str) -> Scenario:
    def act(folder: Path) -> None:
        rotate_online(centre_in(folder), role, root_signers(folder / "centre/root"))

    def check(centre: CentreRepository) -> bool:
        state = centre.state()
        (keyid,) = state.root.roles[role].keyids
        return bool(centre.signers(state.root, role)) and state.root.version >= 3 and bool(keyid)

    return Scenario(act, check)


SCENARIOS = {
    "init": Scenario(
        lambda folder: make_centre(folder / "centre", count=3, threshold=2),
        lambda centre: centre.index().releases == (),
        begin=lambda folder: None,
    ),
    "release": Scenario(
        released,
        lambda centre: [each.number for each in centre.index().releases] == [1],
        begin=lambda folder: None,
        prepare=lambda folder: make_centre(folder / "centre"),
    ),
    "pause": Scenario(paused, lambda centre: centre.index().releases[0].state == "paused"),
    "refresh": Scenario(
        renewed,
        lambda centre: centre.state().timestamp.expires.timestamp() > now_s() + 86_400 * 500,
    ),
    "rotate timestamp": rotation("timestamp"),
    "rotate targets": rotation("targets"),
    "rotate root": Scenario(
        rotated_root,
        lambda centre: role_keys(centre, "root") == 3 and centre.state().root.version == 2,
    ),
    "renew root": Scenario(
        lambda folder: renew_root(centre_in(folder), root_signers(folder / "centre/root")),
        lambda centre: centre.state().root.version >= 2,
    ),
    "export": Scenario(exported, lambda centre: True, prepare=lambda folder: None),
    "import": Scenario(
        imported,
        lambda centre: centre.index().releases[0].state == "paused",
        prepare=prepare_import,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_at_any_change_leaves_a_repository_that_verifies(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    template = tmp_path / "template"
    template.mkdir()
    if scenario.begin is released:
        make_centre(template / "centre")
        released(template)
    scenario.prepare(template)
    kills = 0
    while True:
        folder = tmp_path / f"{kills}"
        shutil.copytree(template, folder)
        first = folder / "centre/repository/metadata/1.root.json"
        root = first.read_bytes() if first.exists() else None
        if root is not None:
            fetch_index(folder / "centre/repository", folder / "gateway", root)
        try:
            with killed_at(kills, folder):
                scenario.act(folder)
        except Killed:
            kills += 1
        else:
            break
        if root is not None:  # a gateway that knows the state before, and a new one
            fetch_index(folder / "centre/repository", folder / "gateway", root)
            fetch_index(folder / "centre/repository", folder / "newcomer", root)
        scenario.act(folder)
        centre = centre_in(folder)
        assert scenario.check(centre), f"after a kill at change {kills - 1}"
        for state in ("gateway", "newcomer"):
            fetch_index(folder / "centre/repository", folder / state, root_bytes(centre))
        if (folder / "stick").exists():
            fetch_index(folder / "stick", folder / "gateway", root_bytes(centre))
        assert not [*folder.glob("centre/*.next.json"), *folder.glob("centre/ceremony.json")]
        assert not [*(folder / "centre/repository").rglob(".*.tmp")]
        shutil.rmtree(folder)
    assert kills > 5


@pytest.mark.slow
def test_a_copy_is_taken_over_where_folders_cannot_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, the repository is away; the next command puts it there."""
    monkeypatch.setattr("deploy.rollout.transfer._exchanged", lambda new, old: False)
    template = tmp_path / "template"
    make_centre(template / "centre")
    released(template)
    prepare_import(template)
    kills = gaps = 0
    while True:
        folder = tmp_path / f"{kills}"
        shutil.copytree(template, folder)
        try:
            with killed_at(kills, folder):
                imported(folder)
        except Killed:
            kills += 1
        else:
            break
        centre = centre_in(folder)
        gaps += not centre.folder.metadata.exists()
        with centre.locked():
            fetch_index(centre.folder.repository, folder / "gateway", root_bytes(centre))
        imported(folder)
        assert centre.index().releases[0].state == "paused"
        shutil.rmtree(folder)
    assert gaps == 1


def test_a_new_version_that_a_gateway_may_have_seen_is_not_made_again(tmp_path: Path) -> None:
    """Killed between the complete new timestamp and its rename, then another change."""
    make_centre(tmp_path / "centre")
    released(tmp_path)
    centre = centre_in(tmp_path)
    seen: list[bytes] = []
    move = type(centre.folder)._move

    def die(folder: object, name: str, path: Path) -> None:
        seen.append((tmp_path / "centre" / name).read_bytes())
        raise Killed

    type(centre.folder)._move = die  # type: ignore[method-assign]
    try:
        with pytest.raises(Killed):
            paused(tmp_path)
    finally:
        type(centre.folder)._move = move  # type: ignore[method-assign]
    with centre.locked():
        pass
    assert (centre.folder.metadata / "timestamp.json").read_bytes() == seen[0]
    assert centre.index().releases[0].state == "paused"


WORK = """
import sys
from pathlib import Path
from deploy.rollout.repository import CentreRepository
from tests.fakes.centre import now_s
centre = CentreRepository(Path(sys.argv[1]), now_s, lambda: None)
print("ready", flush=True)
for number in range(int(sys.argv[2]), 100_000):
    release = centre.index().releases[0].model_copy(update={"reason": f"change {number}"})
    centre.write_index(lambda index: index.model_copy(update={"releases": (release,)}))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_no_change_that_was_told(tmp_path: Path) -> None:
    make_centre(tmp_path / "centre")
    released(tmp_path)
    centre = centre_in(tmp_path)
    chance = random.Random(1)
    told = 0
    for _ in range(12):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path / "centre"), str(told + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(1, 4)):
                told = int(worker.stdout.readline())
            chance_ms = chance.randrange(0, 30)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(chance_ms / 1000)
            worker.send_signal(signal.SIGKILL)
            told = max([told, *map(int, worker.stdout.read().split())])
        index = fetch_index(centre.folder.repository, tmp_path / "gateway", root_bytes(centre))
        assert int(index.releases[0].reason.split()[1]) >= told
    assert set_up(centre, root_keys(tmp_path / "centre/root")) is False
