"""Two machines side by side: how far apart their scores are, and what their gateways counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["LIMIT", "Trial", "largest_difference", "page"]

LIMIT = 1e-4
"""The largest difference that a score may have from that of x86-64."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one bundle in a clean root.

    Attributes:
        bundle: Name of the bundle.
        bytes: Size of the archive.
        faust: Kind of Faust's wheel.
        install_s: Seconds of the installation.
        score_s: Seconds for all windows of all students.
        scores: File with the scores.
        gateway: What the gateway counted.
    """

    bundle: str
    bytes: int
    faust: str
    install_s: float
    score_s: float
    scores: Path
    gateway: Mapping[str, Any]


def largest_difference(one: Path, other: Path) -> dict[str, tuple[float, int, int]]:
    """Per student: the largest difference of any number, windows, and answers that differ.

    An answer that differs is another winning class or another odd channel.
    """
    found: dict[str, tuple[float, int, int]] = {}
    with np.load(one) as first, np.load(other) as second:
        assert sorted(first.files) == sorted(second.files)
        for key in first.files:
            name = key.partition("/")[0]
            a, b = first[key], second[key]
            assert a.shape == b.shape, key
            largest, windows, changed = found.get(name, (0.0, 0, 0))
            if a.dtype.kind == "f":
                largest = max(largest, float(np.abs(a.astype(float) - b.astype(float)).max()))
            else:
                changed += int((a != b).sum())
            found[name] = (largest, max(windows, len(a)), changed)
    return found


def page(trials: Sequence[Trial], differences: Mapping[str, tuple[float, int, int]]) -> str:
    """The page of the results."""
    lines = [
        "# Bundles in clean roots",
        "",
        "Written by `python -m tests.bundle`. Each bundle was installed into a clean root of",
        "Debian 12 (debootstrap, with mosquitto) without any network. The root of aarch64 ran in",
        "qemu's emulation, so its times say nothing about a real machine.",
        "",
        "| bundle | size | Faust | install | 256 windows of each student | ready after |",
        "|---|---|---|---|---|---|",
        *(
            f"| {t.bundle} | {t.bytes / 1e6:.1f} MB | {t.faust} | {t.install_s:.0f} s | "
            f"{t.score_s:.0f} s | {t.gateway['ready_s']:.0f} s |"
            for t in trials
        ),
        "",
        "## A whole gateway",
        "",
        "mosquitto and `kpstream gateway` in the root; five engines of C-MAPSS FD001 by `kpstream",
        "replay`.",
        "",
        "| bundle | sent | received | windowed | missing | windows | scored | points | exit code |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_account(trial) for trial in trials),
        "",
    ]
    for trial in trials:
        lines += [
            f"`kpstream doctor` in {trial.bundle}:",
            "",
            "```",
            trial.gateway["doctor"],
            "```",
        ]
        lines += [""]
    if differences:
        lines += [
            "## Scores of both machines",
            "",
            f"256 real windows per student; no number may differ by more than {LIMIT:g}.",
            "",
            "| student | windows | largest difference | other class or channel |",
            "|---|---|---|---|",
            *(
                f"| {name} | {windows} | {largest:.2g} | {changed} |"
                for name, (largest, windows, changed) in sorted(differences.items())
            ),
            "",
        ]
    return "\n".join(lines)


def _account(trial: Trial) -> str:
    totals = trial.gateway["totals"]
    numbers = [trial.gateway["sent"]]
    numbers += [totals[name] for name in ("received", "windowed", "missing", "windows", "scored")]
    numbers += [trial.gateway["points"], trial.gateway["exit_code"]]
    return f"| {trial.bundle} | " + " | ".join(str(number) for number in numbers) + " |"
