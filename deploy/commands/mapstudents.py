"""Which student of the registry would score a stream, or what the stream lacks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.units import UnitMismatch, UnknownUnit, convert

if TYPE_CHECKING:
    from pathlib import Path

    from models.manifest import Manifest

__all__ = ["StreamFacts", "StudentFit", "fits_of", "read_students"]

_ANY_UNIT = ("1", "-", "")
_SLOWEST = 0.5
"""Share of the student's rate below which a stream cannot serve it (see docs/rate.md)."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a trial has found about a stream.

    Attributes:
        stream: Name of the stream.
        units: Unit in which each channel leaves the mapping; None if the mapping states none.
        rate_hz: Readings per second of a device; None if too few were seen.
    """

    stream: str
    units: Mapping[str, str | None]
    rate_hz: float | None


@dataclass(frozen=True, slots=True)
class StudentFit:
    """One student beside one stream.

    Attributes:
        student: Name and version.
        scores_stream: Whether it scores streams of this name.
        lacks: What the stream lacks, one sentence each; empty if the student would score it.
        doubts: What may make its scores wrong, one sentence each.
    """

    student: str
    scores_stream: bool
    lacks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def read_students(root: Path) -> tuple[list[Manifest], list[str]]:
    """Return the students that a gateway with this registry would run, and why others would not.

    An empty registry gets the starter students when its gateway starts, so they are returned.
    """
    from models.registry import Registry
    from models.zoo import STARTERS, zoo_manifest
    from pipeline.scoring.scorers import find_scorers

    registry = Registry(root)
    if not registry.names():
        return [zoo_manifest(name) for name in STARTERS], []
    found = find_scorers(registry)
    students = [registry.read(one.name, one.version, one.digest).manifest for one in found.scorers]
    faults = [f"{one.name} is refused: {one.reason}" for one in found.refused]
    return students, faults


def fits_of(facts: StreamFacts, students: Sequence[Manifest]) -> list[StudentFit]:
    """Compare a stream with the students of its name.

    Without one, students of other streams whose channels the stream has are returned, because then
    only the name of the stream is wrong.
    """
    own = [each for each in students if each.stream == facts.stream]
    if own:
        return [_fit(facts, each) for each in own]
    others = [each for each in students if set(each.channel_names) <= facts.units.keys()]
    return [
        StudentFit(
            f"{each.name} v{each.version}",
            scores_stream=False,
            lacks=(f'it scores the stream {each.stream}: write stream = "{each.stream}"',),
        )
        for each in others
    ]


def _fit(facts: StreamFacts, student: Manifest) -> StudentFit:
    missing = [name for name in student.channel_names if name not in facts.units]
    lacks = [f"the channels {', '.join(missing)} are missing"] if missing else []
    doubts: list[str] = []
    for channel in student.channels:
        if channel.name in facts.units and channel.unit not in _ANY_UNIT:
            doubts += _unit_doubts(channel.name, facts.units[channel.name], channel.unit)
    wanted = student.rate_hz
    if wanted is not None and facts.rate_hz is None:
        doubts.append(f"its rate is {wanted:.4g} Hz; too few readings to tell that of the stream")
    elif wanted is not None and facts.rate_hz is not None and facts.rate_hz < wanted * _SLOWEST:
        doubts.append(
            f"{facts.rate_hz:.3g} Hz is below half of its rate of {wanted:.4g} Hz: let the device "
            "send more often"
        )
    return StudentFit(f"{student.name} v{student.version}", True, tuple(lacks), tuple(doubts))


def _unit_doubts(channel: str, unit: str | None, wanted: str) -> list[str]:
    if unit == wanted:
        return []
    if unit is None:
        return [f'{channel} must be in {wanted}: write unit = "..." (its unit) and to = "{wanted}"']
    try:
        scale, offset = convert(unit, wanted)
    except UnknownUnit:
        return [f"{channel} is in {unit} and must be in {wanted}: no table compares the two"]
    except UnitMismatch as exc:
        return [f"{channel} is in {unit} and must be in {wanted}: {exc}"]
    if abs(scale - 1) < 1e-12 and offset == 0:
        return []
    return [f'{channel} is in {unit}: write to = "{wanted}"']
