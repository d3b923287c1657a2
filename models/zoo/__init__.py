"""The students that ship with kpstream, one artifact directory each.

`STARTERS` are what a gateway with an empty registry begins with, one for a stream. The others are
there to be chosen: `kpstream models zoo` lists them, `kpstream models add NAME` installs one. Names
that end in `-int8` are the same student with weights of eight bits.

>>> all((zoo_path(name) / "manifest.json").is_file() for name in list_zoo())
True
>>> set(STARTERS) <= set(list_zoo())
True
"""

from __future__ import annotations

from pathlib import Path

from models.errors import NameRefused

__all__ = ["STARTERS", "list_zoo", "zoo_path"]

STARTERS = ("rul-fd001", "har-waist")
"""The students of the streams `engine` and `imu` until others are published."""


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
