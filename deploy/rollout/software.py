"""The bundles of the gateways' software in the repository of a centre."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from tuf.api.metadata import TargetFile

from deploy.gateway.bundle import open_bundle
from deploy.gateway.errors import SourceInvalid
from deploy.rollout.errors import ReleaseRefused
from deploy.rollout.metadata import SignedState, target_path
from deploy.rollout.release import (
    MAX_BUNDLE_BYTES,
    SOFTWARE,
    SignedBundle,
    SoftwareRelease,
    bundle_target,
)

__all__ = ["KEPT_BUNDLES", "bundle_file", "bundles_of", "without_old_bundles"]

KEPT_BUNDLES = 12
"""Bundles that stay, besides those that the release names: four versions for three machines."""


def bundle_file(archive: Path) -> TargetFile:
    """Check a bundle in full, and describe it as a target.

    Raises:
        ReleaseRefused: It is no bundle, is damaged, or its version cannot be published.
        OSError: It cannot be read.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            bundle = open_bundle(archive, Path(scratch) / "bundle")
    except SourceInvalid as exc:
        msg = f"{archive.name}: {exc}"
        raise ReleaseRefused(msg) from exc
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", bundle.version) is None:
        msg = f"the version {bundle.version} cannot be published: give it one without + and !"
        raise ReleaseRefused(msg)
    if archive.stat().st_size > MAX_BUNDLE_BYTES:
        msg = f"{archive.name} has more than {MAX_BUNDLE_BYTES:,} bytes: make it smaller"
        raise ReleaseRefused(msg)
    name = bundle_target(bundle.version, bundle.machine, bundle.python)
    return TargetFile.from_file(name, str(archive), ["sha256"])


def bundles_of(state: SignedState, version: str) -> list[SignedBundle]:
    """The signed bundles of a version, sorted by name.

    Raises:
        ReleaseRefused: None is published.
    """
    pattern = re.compile(rf"{SOFTWARE}/kpstream-{re.escape(version)}-[A-Za-z0-9_]+-py[0-9]+\.tar")
    found = [
        SignedBundle(target=name, sha256=file.hashes["sha256"], size=file.length)
        for name, file in sorted(state.targets.targets.items())
        if pattern.fullmatch(name)
    ]
    if not found:
        msg = (
            f"no bundle of kpstream {version} is published: run `kpstream centre publish-bundle` "
            "with its archives first"
        )
        raise ReleaseRefused(msg)
    return found


def without_old_bundles(
    state: SignedState, repository: Path, software: SoftwareRelease | None
) -> dict[str, TargetFile]:
    """The targets without the bundles that were published first and that no release names."""
    targets = dict(state.targets.targets)
    ages = {
        name: path.stat().st_mtime_ns if path.exists() else 0
        for name, file in targets.items()
        if name.startswith(f"{SOFTWARE}/")
        for path in (target_path(repository, file),)
    }
    named = {bundle.target for bundle in ([] if software is None else software.bundles)}
    for name in sorted(ages, key=lambda each: ages[each])[: -(KEPT_BUNDLES - 1)]:
        if name not in named:
            del targets[name]
    return targets
