"""The starter students that ship with kpstream, one artifact directory each.

>>> all((zoo_path(name) / "manifest.json").is_file() for name in list_zoo())
True
"""

from __future__ import annotations

from pathlib import Path

from models.errors import NameRefused

__all__ = ["list_zoo", "zoo_path"]


def list_zoo() -> list[str]:
    """Names of the shipped students, sorted."""
    here = Path(__file__).parent
    return sorted(path.parent.name for path in here.glob("*/manifest.json"))


def zoo_path(name: str) -> Path:
    """Directory of a shipped student, for `models.artifact.read_artifact`.

    Raises:
        NameRefused: nothing of this name ships.
    """
    if name not in list_zoo():
        msg = f"no student {name!r} ships with kpstream; there are: {', '.join(list_zoo())}"
        raise NameRefused(msg)
    return Path(__file__).parent / name
