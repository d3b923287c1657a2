"""The power fails at every system call that writes: fetching, adding, activating a student.

After each cut a new start finds a student that is verified, the old or the new one, and the next
fetch completes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.rollout.release import Release
from deploy.updates.fetch import Fetcher
from models.registry import Registry
from models.session import Student
from tests.fakes.powercut import EXIT_CODE, LOSSES, copied, run_until_cut
from tests.fakes.rolloutworld import World, in_process, world_of

NAME = "dummy-rul"


class Gateway:
    """A gateway's folders, and what it does with a release."""

    def __init__(self, world: World, folder: Path) -> None:
        self.folders = (folder / "state", folder / "registry")
        self.registry = Registry(folder / "registry")
        self.fetcher = Fetcher(
            world.url,
            world.folder / "root.json",
            folder / "state" / "rollout",
            lambda: world.now_s,
            child=in_process,
        )

    def follow(self) -> None:
        """Fetch the newest release, and have it run."""
        (release,) = self.fetcher.fetch_index().releases
        self.take(release)

    def take(self, release: Release) -> None:
        added = self.registry.add_verified(*self.fetcher.fetch_student(release))
        self.registry.set_stable(NAME, added.manifest.version, who=f"release {release.number}")

    def running(self) -> tuple[int, str]:
        """What a new start runs: version and digest, with all checks of the registry."""
        pointer = self.registry.read_stable(NAME)
        assert pointer is not None
        artifact = self.registry.read(NAME, pointer.version, pointer.digest)
        return artifact.manifest.version, artifact.digest


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_power_cut_at_any_write_leaves_a_verified_student(tmp_path: Path, loss: str) -> None:
    with world_of(tmp_path / "centre", "folder") as world:
        before = Gateway(world, tmp_path / "before")
        before.follow()
        old = before.running()
        new = (2, world.publish(2).digest)

        def gateway() -> Gateway:
            return Gateway(world, copied(tmp_path / "before", tmp_path / "gateway"))

        undisturbed = gateway()
        code, calls = run_until_cut(undisturbed.follow, undisturbed.folders, 0, loss)
        assert (code, undisturbed.running()) == (0, new)
        assert calls > 50  # fetching, adding and activating write at least that often
        seen = set()
        for cut_at in range(1, calls + 1):
            cut = gateway()
            code, _ = run_until_cut(cut.follow, cut.folders, cut_at, loss)
            assert code == EXIT_CODE, cut_at
            found = cut.running()
            assert found in (old, new), cut_at
            seen.add(found)
            cut.follow()
            assert cut.running() == new, cut_at
        assert seen == {old, new}
        for version, digest in (old, new):
            Student(undisturbed.registry.read(NAME, version, digest)).self_test()
