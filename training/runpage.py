"""The page of a run: what it found, decided and published, kept for whoever reads it later.

It is written as a whole for every end of a run, and once at its begin, so that a killed run shows
too. A run that trains has it as `report.html` in its folder. One that ends before, such as a look
without a reason, writes `look.html` into the folder of --out, or else a page per task and data in
`~/.local/state/kpstream/runs/looks`; so it never replaces what a training has found.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import write_durably
from models.errors import ModelError
from models.manifest import Manifest
from training.centre import NOT_RELEASED
from training.datasets.contract import DataSet
from training.datasets.series import SeriesSet
from training.decision import HELD, NOT_BETTER, REJECTED, format_gain, headline_title
from training.evaluate import MEASURE_TITLES
from training.forecast_gate import HeldOutTime
from training.reasons import NO_REASON
from training.report import rule_for
from training.runfolder import INTERRUPTED, UNFINISHED, runs_folder
from training.running import Running
from training.runpagehtml import (
    Tone,
    format_facts,
    format_page,
    format_picture,
    format_table,
    format_texts,
)

__all__ = ["FAILED", "LOOK", "PAGE", "RunPage"]

PAGE = "report.html"
"""The page of a run that trains, in its folder."""
LOOK = "look.html"
"""The page of a run that ended before a training, in the folder of --out."""
FAILED = 2
"""Exit code: wrong usage or data, or something cannot be written."""

_PLOT = "result.png"
_CONTINUES = "Run the same command again: it continues after the finished passes."
_ENDS: Mapping[int, tuple[Tone, str, str]] = {
    NOT_BETTER: (
        "quiet",
        "Not better: nothing was published",
        "Nothing: what runs stays as it is. More groups, more labels or another recipe can help.",
    ),
    UNFINISHED: ("careful", "Out of time", _CONTINUES),
    HELD: (
        "careful",
        "Held: nothing was published",
        "To run the new student, end the hold (kpstream models unhold NAME) or the pin "
        "(kpstream models unpin NAME) and run the same command again.",
    ),
    REJECTED: (
        "careful",
        "Equal to a rejected version: nothing was published",
        "Nothing, unless the rejection was a mistake: kpstream models readmit NAME VERSION.",
    ),
    NO_REASON: ("quiet", "No reason to train", "Nothing: what runs stays as it is."),
    INTERRUPTED: ("careful", "Stopped by a person", _CONTINUES),
    FAILED: ("bad", "Failed", "Mend what the message says and run the same command again."),
}
_CRASHED: tuple[Tone, str, str] = (
    "bad",
    "Failed unexpectedly",
    "Read the traceback in the output of the command, and report it.",
)


@dataclass
class RunPage:
    """What is known of a run so far.

    Attributes:
        command: The command, as a person types it.
        key: Task and data: the name of the page where neither a run folder nor --out is known.
        out: The folder of --out.
        began_ms: When the run began, epoch milliseconds.
        if_needed: Whether it looks for a reason first.
        reasons: Why it trains, by --if-needed; None if nobody asked, or before that.
        fairness: What the comparison favours.
    """

    command: str
    key: str
    out: Path | None
    began_ms: int
    if_needed: bool = False
    reasons: list[str] | None = None
    fairness: str = ""
    _folder: Path | None = None
    _data: dict[str, str] = field(default_factory=dict)
    _running: str = ""
    _groups: str = ""
    _gain: str = ""
    _manifest: Manifest | None = None
    _line: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where the page is written."""
        if self._folder is not None:
            return self._folder / PAGE
        if self.out is not None:
            return self.out.absolute() / LOOK
        digest = hashlib.sha256(self.key.encode("utf-8")).hexdigest()[:8]
        return runs_folder() / "looks" / f"{digest}.html"

    def describe_data(self, data: DataSet) -> None:
        """Keep what the data of a task with labels are."""
        self._groups = f"held-out {data.group_word}s"
        self._gain = f"gain per {data.group_word}, {data.error_unit} [90 %]"
        self._data = {
            "data set": data.title,
            "stream": data.stream,
            "channels": ", ".join(f"{one.name} ({one.unit})" for one in data.channels),
            "windows": f"{len(data.train)}, each of {data.length} readings",
            f"{data.group_word}s": str(len(np.unique(data.train.groups))),
            "digest": data.digest,
        }

    def describe_series(self, known: SeriesSet, held_out: HeldOutTime, error_unit: str) -> None:
        """Keep what the data of a forecast are, without their test part."""
        self._groups = "blocks of held-out time"
        self._gain = f"gain per block, {error_unit} [90 %]"
        blocks, hours = len(np.unique(held_out.blocks)), held_out.block_ms / 3_600_000
        self._data = {
            "data set": known.title,
            "stream": known.stream,
            "channels": ", ".join(f"{one.name} ({one.unit})" for one in known.channels),
            "devices": str(len(known.devices)),
            "readings": str(sum(end for _, end, _ in known.borders)),
            "held-out windows": str(len(held_out.windows)),
            "blocks": f"{blocks} of {hours:g} hours",
            "digest": known.digest,
        }

    def describe_running(self, running: Running | None) -> None:
        """Keep which student runs."""
        none = "No student scores this stream."
        self._running = none if running is None else f"{running.title}, because {running.why}."

    def open(self, folder: Path) -> None:
        """The run trains in this folder from now on; its page says so until it ends.

        Raises:
            OSError: The page cannot be written.
            ModelError: Its temporary file cannot be opened.
        """
        self.path.unlink(missing_ok=True)  # a look before this run
        self._folder = folder
        began: tuple[Tone, str, str]
        began = ("careful", "Training", "Wait for the end: this page is replaced then.")
        text = "If no process works on it any more, it was killed: the same command continues."
        self._write(began, "", text)

    def judge(self, manifest: Manifest, line: Mapping[str, Any]) -> None:
        """Keep the new student and the last line of the log (`training.publication`)."""
        self._manifest, self._line = manifest, line

    def finish(self, code: int, message: str = "") -> str:
        """Write the page for the end of the run.

        Args:
            code: Exit code.
            message: Why it failed; "" if it did not.

        Returns:
            A sentence with its path, or why there is none.
        """
        try:
            self._write(self._end(code), str(code), message)
        except OSError as exc:
            return f"No report: {self.path} cannot be written ({exc.strerror or exc})."
        except ModelError as exc:  # of `write_durably`, which opens no link and no full disk
            return f"No report: {exc}."
        return f"Report: {self.path}"

    def _end(self, code: int) -> tuple[Tone, str, str]:
        """Tone, title and next step of an end."""
        version = self._line.get("published_version")
        name = "" if self._manifest is None else self._manifest.name
        if version is None:
            if code == 0:
                step = "To run it, add --publish to the command."
                return "good", "Better, but not published: --publish was not given", step
            tone, title, step = _ENDS.get(code, _CRASHED)
            return tone, title, step.replace("NAME", name or "NAME")
        title = f"Published {name} v{version}"
        if code == NOT_RELEASED:
            step = "Mend what the centre says, then run the release that the output names."
            return "bad", f"{title}, but not released by the centre", step
        if code != 0:
            return "bad", f"{title}, then failed", "Mend what the message says."
        step = "A gateway of this registry takes it by itself; after --replace, restart it."
        if version > 1:
            step += f" To go back: kpstream models rollback {name} --reason TEXT"
        return "good", title, step

    def _write(self, end: tuple[Tone, str, str], code: str, message: str) -> None:
        tone, title, step = end
        now_ms = time.time_ns() // 1_000_000
        plot = self.path.with_name(_PLOT)
        sections = {
            "Message": [format_texts([message])] if message else [],
            "Next step": [format_texts([step])],
            "Reason": [format_texts(self._why())],
            "Decision": self._decision(),
            "Held-out figures": self._figures(),
            "Learning curve and held-out scores": (
                [format_picture(plot.read_bytes(), "Learning curve and held-out scores")]
                if self._line and plot.exists()
                else []
            ),
            "Data": [format_facts(self._data)] if self._data else [],
            "Run": [format_facts(self._run(now_ms, code))],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        subtitle = f"{self.key.splitlines()[0]}, {_format_time(now_ms)}"
        write_durably(self.path, format_page(title, subtitle, tone, sections))

    def _why(self) -> list[str]:
        if self.reasons:
            return [f"Reason to train: {reason}" for reason in self.reasons]
        if self.reasons == []:
            return ["None: same data, no age, no drift."]
        if self.if_needed:
            return ["Not known: the run ended before it could look for one."]
        return ["Not looked for: the command has no --if-needed."]

    def _decision(self) -> list[str]:
        if not self._line:
            return []
        fairness = f"Fairness: {self.fairness}." if self.fairness else ""
        rule = f"Rule: {rule_for(self._groups)}"
        return [
            format_texts([self._line["reason"]]),
            format_texts([fairness, rule], soft=True),
        ]

    def _figures(self) -> list[str]:
        """Measures of the new student and of everything that it has to beat."""
        if self._manifest is None:
            return []
        manifest, line = self._manifest, self._line
        keys = [key for key in line["result"] if key != "windows"]
        header = ["student", *(MEASURE_TITLES.get(key, key) for key in keys)]
        title = headline_title(manifest)
        header += [self._gain, f"gain in {title}", "gain needed"]
        own = [
            f"new ({manifest.name})",
            *(_number(line["result"][key]) for key in keys),
            "",
            "",
            "",
        ]
        rows = []
        for name, rival in line["rivals"].items():
            gain, low, high = (_number(value) for value in rival["gain"])
            rows.append(
                [
                    name,
                    *(_number(rival.get(key)) for key in keys),
                    f"{gain} [{low}, {high}]",
                    format_gain(manifest, rival["headline_gain"]),
                    format_gain(manifest, rival["smallest_gain"]),
                ]
            )
        for name, measures in (line.get("baselines") or {}).items():
            if name not in line["rivals"]:
                cells = [_number(measures.get(key)) for key in keys]
                rows.append([name, *cells, "does not count", "", ""])
        note = (
            "A gain above 0 favours the new student; the gain that is needed is the smallest one "
            f"in {title} that matters."
        )
        windows = line["result"].get("windows")
        texts = [f"{windows:g} windows that the new student has never seen."] if windows else []
        table = format_table(header, [*rows, own], frozenset([len(rows)]))
        return [format_texts(texts), table, format_texts([note], soft=True)]

    def _run(self, now_ms: int, code: str) -> dict[str, str]:
        line, manifest = self._line, self._manifest
        trained = line.get("training_seconds")
        size = "" if manifest is None else f", {manifest.onnx.size_bytes} bytes"
        latency = (
            f"{line['p50_ms']:.3f} ms a window (p50), {line['p99_ms']:.3f} ms (p99){size}"
            if line
            else ""
        )
        return {
            "command": self.command,
            "running student": self._running,
            "run folder": "" if self._folder is None else str(self._folder),
            "begin": _format_time(self.began_ms),
            "end": _format_time(now_ms) if code else "not yet",
            "duration": f"{(now_ms - self.began_ms) / 1000:.0f} s"
            + (f", {trained:.0f} s of them training" if trained is not None else ""),
            "new student": latency,
            "exit code": code,
        }


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def _format_time(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ms / 1000))
