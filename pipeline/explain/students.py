"""Students that explain: versions of the registry, loaded apart from those that score.

A score is explained by the version that gave it, which need not run any more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from models.artifact import MANIFEST_FILE
from models.errors import ModelError
from models.registry import Registry
from models.session import Student
from pipeline.errors import NoStudent

__all__ = ["ExplainingStudents"]

_KEPT = 4
"""Students kept in memory; each is a few megabytes."""


class ExplainingStudents:
    """Loads versions of a registry and keeps the last few. Thread-safe.

    Args:
        registry: Folder of the registry; only read.
    """

    def __init__(self, registry: Path) -> None:
        self._registry = Registry(registry)
        self._kept: OrderedDict[tuple[str, int, int], Student] = OrderedDict()
        self._lock = threading.Lock()

    def student(self, model: str, version: int) -> Student:
        """The student of a version; the stable one if the registry does not have it any more.

        Compare `Student.manifest.version` with what was asked for.

        Raises:
            NoStudent: The registry has neither, or what it has cannot be loaded.
        """
        with self._lock:
            try:
                return self._load(model, version)
            except (ModelError, OSError) as exc:
                try:
                    pointer = self._registry.read_stable(model)
                    if pointer is None:
                        raise NoStudent(f"the registry has no {model}") from exc  # noqa: EM102
                    return self._load(model, pointer.version)
                except (ModelError, OSError) as worse:
                    msg = f"neither {model} v{version} nor its stable version loads: {worse}"
                    raise NoStudent(msg) from worse

    def _load(self, model: str, version: int) -> Student:
        # A registry that was made anew has another student of this name and version.
        stamp = (self._registry.version_path(model, version) / MANIFEST_FILE).stat().st_mtime_ns
        key = (model, version, stamp)
        student = self._kept.get(key)
        if student is None:
            student = self._kept[key] = Student(self._registry.read(model, version))
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return student
