"""What a bundle holds beside its wheels; `build` writes it and `check` compares it."""

from __future__ import annotations

from collections.abc import Sequence

from packaging.requirements import Requirement

from deploy.bundle.wheels import Wheel

__all__ = [
    "EXTRAS",
    "REQUIREMENTS_FILE",
    "SBOM_FILE",
    "faust_kind",
    "requirements_text",
    "wanted_package",
]

EXTRAS = ("gateway", "rollout")
"""Extras of kpstream whose needs are in a bundle."""

SBOM_FILE = "sbom.cdx.json"
"""The bill of materials."""

REQUIREMENTS_FILE = "requirements.txt"
"""Every wheel with its digest, for pip."""

_INSTALL = "pip install --no-index --find-links wheels --require-hashes -r requirements.txt"


def wanted_package() -> Requirement:
    """What a bundle installs."""
    return Requirement(f"kpstream[{','.join(EXTRAS)}]")


def faust_kind(wheels: Sequence[Wheel]) -> str:
    """Whether the wheel of Faust has its compiled parts: `compiled`, `pure`, or `missing`."""
    found = [wheel for wheel in wheels if wheel.name == "faust-streaming"]
    if not found:
        return "missing"
    return "compiled" if found[0].machines else "pure"


def requirements_text(wheels: Sequence[Wheel]) -> str:
    """Content of the file for pip: every wheel but that of pip, by its digest."""
    lines = [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
        for wheel in sorted(wheels, key=lambda wheel: wheel.name)
        if wheel.name != "pip"
    ]
    return f"# {_INSTALL}\n" + "".join(lines)
