"""The machine and the versions that a benchmark was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

__all__ = ["describe_machine", "machine_lines"]

_PACKAGES = ("faust-streaming", "onnxruntime", "paho-mqtt", "numpy", "orjson", "aiohttp")


def describe_machine() -> dict[str, Any]:
    """Processor, memory, system, load and versions of this machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def machine_lines(machine: dict[str, Any]) -> list[str]:
    """The same for people: two lines."""
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}, "
        f"load {machine['load_before']:.1f} before",
        ", ".join(f"{k} {v}" for k, v in machine["versions"].items()),
    ]
