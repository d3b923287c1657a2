"""Two machines side by side: how far apart their scores are, and what their gateways counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import read_artifact
from models.session import Student
from models.zoo import zoo_path

__all__ = ["LIMIT", "Comparison", "Trial", "compare_scores", "last_bit_change", "page"]

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far apart two machines score one student.

    Attributes:
        student: Its name.
        windows: Windows that were compared.
        largest: Largest difference of any number.
        beyond: Windows with a number that differs by more than `LIMIT`.
        changed: Winning classes and oddest channels that differ.
        last_bit: How far its scores move on x86-64 if inputs change by their last bit.
    """

    student: str
    windows: int
    largest: float
    beyond: int
    changed: int
    last_bit: float


def compare_scores(one: Path, other: Path, last_bit: Mapping[str, float]) -> list[Comparison]:
    """Compare the scores of two machines, student by student.

    Args:
        one: Scores of x86-64.
        other: Scores of the other machine.
        last_bit: What `last_bit_change` measured.
    """
    largest: dict[str, NDArray[np.float64]] = {}
    changed: dict[str, int] = {}
    with np.load(one) as first, np.load(other) as second:
        assert sorted(first.files) == sorted(second.files)
        for key in first.files:
            name = key.partition("/")[0]
            a, b = first[key], second[key]
            assert a.shape == b.shape, key
            if a.dtype.kind == "f":
                apart = _apart(a, b)
                largest[name] = np.maximum(largest.get(name, apart), apart)
            else:
                changed[name] = changed.get(name, 0) + int((a != b).sum())
    return [
        Comparison(
            name,
            len(apart),
            float(apart.max()),
            int((apart > LIMIT).sum()),
            changed.get(name, 0),
            last_bit[name],
        )
        for name, apart in sorted(largest.items())
    ]


def last_bit_change(windows: Path, rounds: int = 8) -> dict[str, float]:
    """How far the scores of each student move here if input values change by their last bit.

    No machine can be closer to another than that. A student in eight bits rounds what it computes,
    so that the last bit of an input can decide between two neighbouring steps.
    """
    random = np.random.default_rng(0)
    found = {}
    with np.load(windows) as arrays:
        for name in arrays.files:
            student = Student(read_artifact(zoo_path(name)))
            exact = student.score(arrays[name]).values
            moved = 0.0
            for _ in range(rounds):
                towards = random.choice([-np.inf, np.inf], arrays[name].shape).astype(np.float32)
                values = student.score(np.nextafter(arrays[name], towards)).values
                moved = max(moved, float(_apart(values, exact).max()))
            found[name] = moved
    return found


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """The largest difference of any number of each window."""
    apart: NDArray[np.float64] = np.abs(a.astype(np.float64) - b).reshape(len(a), -1).max(axis=1)
    return apart


def page(trials: Sequence[Trial], comparisons: Sequence[Comparison]) -> str:
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
    if comparisons:
        lines += [
            "## Scores of both machines",
            "",
            f"256 real windows per student; no number may differ by more than {LIMIT:g}. The last",
            "column is a control on x86-64 alone: how far the scores move if every input value",
            "changes by its last bit.",
            "",
            "| student | windows | largest difference | windows beyond the limit "
            "| other class or channel | last bit of the input |",
            "|---|---|---|---|---|---|",
            *(
                f"| {each.student} | {each.windows} | {each.largest:.2g} | {each.beyond} | "
                f"{each.changed} | {each.last_bit:.2g} |"
                for each in comparisons
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
