"""What a bundle is made for: a machine and a Python, on a Linux with the C library of Debian 12."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags

from deploy.bundle.errors import TargetUnknown

__all__ = ["GLIBC", "MACHINES", "PYTHONS", "Target"]

MACHINES = ("x86_64", "aarch64")
"""Machines that bundles are made for, as `uname -m` names them."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
"""Versions of Python that bundles are made for."""

GLIBC = (2, 36)
"""The newest C library that a wheel may ask for: that of Debian 12 and Raspberry Pi OS 12."""

# The first glibc with a manylinux tag, and the names from before these had numbers (PEP 600).
_OLDEST_MINOR = {"x86_64": 5, "aarch64": 17}
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True)
class Target:
    """A machine and a Python.

    Attributes:
        machine: As `uname -m` names it.
        python: Version as `3.11`.
    """

    machine: str
    python: str

    def __post_init__(self) -> None:
        for name, value, known in (
            ("machine", self.machine, MACHINES),
            ("Python", self.python, PYTHONS),
        ):
            if value not in known:
                msg = (
                    f"no bundle is made for the {name} {value!r}; choose one of {', '.join(known)}"
                )
                raise TargetUnknown(msg)

    @property
    def platforms(self) -> list[str]:
        """Platforms whose wheels run there, the best first.

        >>> Target("aarch64", "3.11").platforms[:2]
        ['manylinux_2_36_aarch64', 'manylinux_2_35_aarch64']
        >>> Target("aarch64", "3.11").platforms[-2:]
        ['manylinux2014_aarch64', 'linux_aarch64']
        """
        names = []
        for minor in range(GLIBC[1], _OLDEST_MINOR[self.machine] - 1, -1):
            names.append(f"manylinux_{GLIBC[0]}_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                names.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return [*names, f"linux_{self.machine}"]

    @property
    def tags(self) -> frozenset[Tag]:
        """Tags of the wheels that run there."""
        major, minor = map(int, self.python.split("."))
        abi = f"cp{major}{minor}"
        platforms = self.platforms
        return frozenset(
            [
                *cpython_tags((major, minor), [abi], platforms),
                *compatible_tags((major, minor), abi, platforms),
            ]
        )

    def concerns(self, marker: Marker | None, extra: str = "") -> bool:
        """Whether a marker is true there, in any release of this Python.

        Args:
            marker: The marker; None is always true.
            extra: Extra of the package that has the requirement.

        >>> Target("aarch64", "3.10").concerns(Marker("python_full_version < '3.10.4'"))
        True
        >>> Target("aarch64", "3.11").concerns(Marker("platform_machine == 'x86_64'"))
        False
        """
        return marker is None or any(
            marker.evaluate({**environment, "extra": extra}) for environment in self._environments
        )

    @property
    def _environments(self) -> tuple[Mapping[str, str], ...]:
        """What markers see in the first release and in the newest possible one."""
        fixed = {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_version": self.python,
            "sys_platform": "linux",
        }
        return tuple(
            {**fixed, "python_full_version": full, "implementation_version": full}
            for full in (f"{self.python}.0", f"{self.python}.99")
        )

    def bundle_name(self, version: str) -> str:
        """Name of a bundle of this version of kpstream, without `.tar`.

        >>> Target("aarch64", "3.11").bundle_name("0.3.0")
        'kpstream-0.3.0-aarch64-py311'
        """
        return f"kpstream-{version}-{self.machine}-py{self.python.replace('.', '')}"
