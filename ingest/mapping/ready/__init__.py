"""Ready mapping files for devices that many people have; `kpstream map list` shows them.

>>> "tasmota" in ready_names(), ready_path("tasmota").name
(True, 'tasmota.toml')
>>> about("tasmota").startswith("Tasmota: ")
True
"""

from __future__ import annotations

from pathlib import Path

from ingest.errors import MappingInvalid

__all__ = ["about", "ready_names", "ready_path"]

_HERE = Path(__file__).parent


def ready_names() -> list[str]:
    """Names of the ready files, sorted."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def ready_path(name: str) -> Path:
    """File of a ready mapping.

    Raises:
        MappingInvalid: There is none of this name.
    """
    if name not in ready_names():
        msg = f"there is no ready mapping {name!r}; there are {', '.join(ready_names())}"
        raise MappingInvalid(msg)
    return _HERE / f"{name}.toml"


def about(name: str) -> str:
    """The first line of a ready file: what it is for."""
    first, _, _ = ready_path(name).read_text(encoding="utf-8").partition("\n")
    return first.removeprefix("# ")
