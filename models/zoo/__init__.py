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

from pathlib import Path

from models.errors import NameRefused

__all__ = ["STARTERS", "list_zoo", "zoo_path"]

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
    if name not in list_zoo():
        msg = f"no student {name!r} ships with kpstream; choose one of: {', '.join(list_zoo())}"
        raise NameRefused(msg)
    return Path(__file__).parent / name
