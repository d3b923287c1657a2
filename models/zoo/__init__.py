"""The students that ship with kpstream, one artifact directory each.

A gateway with an empty registry starts with the `STARTERS`, one per stream. `kpstream models zoo`
lists the others, and `kpstream models add NAME` installs one. A name that ends in `-int8` is the
same student with weights of eight bits.

>>> all((zoo_path(name) / "manifest.json").is_file() for name in list_zoo())
True
>>> set(STARTERS) <= set(list_zoo())
True
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.artifact import MANIFEST_FILE
from models.errors import NameRefused
from models.manifest import Manifest, decode_manifest

__all__ = ["STARTERS", "list_zoo", "zoo_digest", "zoo_manifest", "zoo_path"]

STARTERS = ("rul-fd001", "har-waist", "forecast-transformer")
"""The students of the streams `engine`, `imu` and `transformer` until others are published."""


def list_zoo() -> list[str]:
    """Names of the shipped students, sorted."""
    here = Path(__file__).parent
    return sorted(path.parent.name for path in here.glob("*/manifest.json"))


def zoo_path(name: str) -> Path:
    """Directory of a shipped student, for `models.artifact.read_artifact`.

    Raises:
        NameRefused: No student of this name ships with kpstream.
    """
    here = Path(__file__).parent
    if name != Path(name).name or not (here / name / MANIFEST_FILE).is_file():
        msg = f"no student {name!r} ships with kpstream; choose one of: {', '.join(list_zoo())}"
        raise NameRefused(msg)
    return here / name


def zoo_manifest(name: str) -> Manifest:
    """Manifest of a shipped student; the graph is not read.

    Raises:
        NameRefused: No student of this name ships with kpstream.
    """
    return decode_manifest((zoo_path(name) / MANIFEST_FILE).read_bytes())


def zoo_digest(name: str) -> str:
    """Digest of a shipped student, see `models.artifact.Artifact`; the graph is not read.

    Raises:
        NameRefused: No student of this name ships with kpstream.
    """
    return hashlib.sha256((zoo_path(name) / MANIFEST_FILE).read_bytes()).hexdigest()
