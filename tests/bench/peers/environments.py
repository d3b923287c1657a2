"""Environments of the peers: one for each, made from PyPI with pinned versions and kept."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["DEFAULT_FOLDER", "PEERS", "find_peer", "peer_python", "peer_versions"]

DEFAULT_FOLDER = Path.home() / ".cache/kpstream/bench"

PEERS = {
    "paho": ("paho-mqtt",),
    "bytewax": ("bytewax==0.21.1",),
    "quix": ("quixstreams==3.28.1",),
    "faust": ("faust-streaming", "aiokafka"),
    "py-spy": ("py-spy==0.4.1",),
}
"""Environment -> its packages; one without a version has that of this environment."""

_SHARED = ("numpy", "onnxruntime", "orjson")
"""In every environment, in the versions of this one: the network must cost everybody the same."""


def peer_python(peer: str, folder: Path = DEFAULT_FOLDER) -> Path:
    """The interpreter of a peer's environment, which is made when it is missing.

    Raises:
        subprocess.CalledProcessError: A package cannot be installed.
    """
    home = folder / "environments" / peer
    python = home / "bin/python"
    packages = _pinned(peer)
    done = home / "installed.txt"
    wanted = "\n".join(packages) + "\n"
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        done.write_text(wanted, encoding="utf-8")
    return python


def peer_versions(peer: str) -> str:
    """What is installed for a peer, for people."""
    return ", ".join(package.replace("==", " ") for package in _pinned(peer)[: len(PEERS[peer])])


def find_peer(program: str) -> str | None:
    """A peer that is a program of its own, on PATH."""
    return shutil.which(program)


def _pinned(peer: str) -> list[str]:
    shared = () if peer == "py-spy" else _SHARED
    return [
        package if "==" in package else f"{package}=={importlib.metadata.version(package)}"
        for package in (*PEERS[peer], *shared)
    ]
