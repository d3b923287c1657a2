"""What a run leaves in the folder of --out if it ends before it trains."""

from __future__ import annotations

from pathlib import Path

from training.runpage import LOOK

__all__ = ["look_only"]


def look_only(folder: Path) -> str:
    """The page of a run that has left nothing else."""
    assert [path.name for path in folder.iterdir()] == [LOOK]
    return (folder / LOOK).read_text(encoding="utf-8")
