"""Whether there is a reason to train: `train-redistill --if-needed` asks before it trains.

A reason is one of these; without any, the run ends with `NO_REASON` and changes nothing:

- no student scores the stream, or only one that shipped and has never seen these data;
- the data are others than those that the running student learned from (by their digest), such as
  after new labels;
- the running student is older than `--max-age-days`;
- a gateway has judged that the stream has drifted from what the running student learned
  (`pipeline.drift`), by the results file of `--drift`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from models.artifact import Artifact
from pipeline.drift.reasons import reasons_in_results
from pipeline.errors import SinkError
from pipeline.stores.resultsfile import ResultsFile
from training.errors import TrainingError

__all__ = ["NO_REASON", "When", "find_reasons", "look_for_reasons", "read_drift"]

NO_REASON = 8
"""Exit code of a run with --if-needed that had no reason to train."""

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class When:
    """When a run trains.

    Attributes:
        if_needed: Train only if there is a reason.
        max_age_days: Age of the running student that is a reason; None: no age is.
        drift: Results file of a gateway that watches for drift; None: drift is no reason.
    """

    if_needed: bool = False
    max_age_days: float | None = None
    drift: Path | None = None


def find_reasons(
    running: Artifact | None,
    digest: str,
    now_ms: int,
    max_age_days: float | None = None,
    drift: Sequence[str] = (),
) -> list[str]:
    """Find the reasons to train, each a sentence.

    Args:
        running: The running student; None for none.
        digest: Digest of the data to train on.
        now_ms: The time, epoch milliseconds.
        max_age_days: Age of the running student that is a reason; None: no age is.
        drift: What has drifted from the running student; see `read_drift`.
    """
    if running is None:
        return ["No student scores the stream."]
    manifest = running.manifest
    title = f"{manifest.name} v{manifest.version}"
    found = []
    if manifest.lineage.data_digest != digest:
        found.append(
            f"The data are others than those that {title} learned from ({manifest.lineage.data})."
        )
    age_days = (now_ms - manifest.lineage.created_ms) / _DAY_MS
    if max_age_days is not None and age_days > max_age_days:
        found.append(
            f"{title} is {age_days:.1f} days old, more than {max_age_days:g} (--max-age-days)."
        )
    return [*found, *(f"The stream has drifted: {text}." for text in drift)]


def read_drift(path: Path, running: Artifact | None) -> list[str]:
    """What a gateway says has drifted from the running student.

    Args:
        path: Its results file.
        running: The running student; what another version drifted from says nothing about it.

    Raises:
        TrainingError: The file cannot be read.
    """
    if running is None:
        return []
    manifest = running.manifest
    try:
        results = ResultsFile(path, read_only=True)
        try:
            reasons = reasons_in_results(results)
        finally:
            results.close()
    except SinkError as exc:
        msg = f"--drift: {exc}"
        raise TrainingError(msg) from exc
    return [
        f"{reason.text} (gateway {reason.gateway})"
        if reason.is_whole
        else f"{reason.site}/{reason.device}: {reason.text} (gateway {reason.gateway})"
        for reason in reasons
        if (reason.stream, reason.version) == (manifest.stream, manifest.version)
    ]


def look_for_reasons(
    console: Console, when: When, running: Artifact | None, digest: str, now_ms: int
) -> list[str] | None:
    """Find the reasons to train and say them; none is an empty list, and None if nobody asked."""
    if not when.if_needed:
        return None
    drift = [] if when.drift is None else read_drift(when.drift, running)
    reasons = find_reasons(running, digest, now_ms, when.max_age_days, drift)
    for reason in reasons:
        console.print(f"Reason to train: {reason}", soft_wrap=True, markup=False)
    if not reasons:
        console.print("No reason to train: same data, no age, no drift. Nothing was done.")
    return reasons
