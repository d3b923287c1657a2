"""A centre in a folder for tests, without passphrases unless a test gives one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deploy.rollout.ceremony import RootKeys, set_up
from deploy.rollout.keys import Keys
from deploy.rollout.repository import CentreRepository
from ingest.clock import now_ms
from models.artifact import Artifact
from models.dummy import write_dummy

__all__ = ["dummy_artifact", "make_centre", "now_s", "root_bytes", "root_keys", "root_signers"]


def now_s() -> int:
    """The time that a client of The Update Framework compares with."""
    return now_ms() // 1000


def root_keys(folder: Path, count: int = 1, threshold: int = 1) -> RootKeys:
    """New root keys without a passphrase."""
    return RootKeys(count, threshold, folder, lambda _: None)


def root_signers(*places: Path) -> Keys:
    """Root keys without a passphrase from files and folders."""
    return Keys(places, lambda _: None)


def make_centre(
    folder: Path, clock: Callable[[], int] = now_s, count: int = 1, threshold: int = 1
) -> CentreRepository:
    """A centre with its root keys in `{folder}/root`."""
    repository = CentreRepository(folder, clock, lambda: None)
    set_up(repository, root_keys(folder / "root", count, threshold))
    return repository


def root_bytes(repository: CentreRepository) -> bytes:
    """The first root, which gateways pin."""
    return (repository.folder.metadata / "1.root.json").read_bytes()


def dummy_artifact(
    folder: Path, name: str = "dummy-rul", version: int = 1, seed: int = 0
) -> Artifact:
    """A small student."""
    return write_dummy(folder / f"{name}-{version}-{seed}", name=name, version=version, seed=seed)
