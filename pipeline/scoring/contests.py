"""Challengers beside the students that run: in shadow before they take over, on probation after.

A contest compares two students of one stream on the same windows. The challenger is always the one
that is judged: in shadow the champion runs, on probation the challenger does, and the champion (by
then the former one) watches. Which of the two it is follows from the student that runs.

Promises:

- Scoring never waits. `on_scored` hands windows over and returns; the comparison runs in a thread
  that takes a small share of a core. When that is busy, windows are skipped and counted.
- What a student answers in a contest is never a score and raises no alert. One window a second,
  that over which the two differ most, becomes a point of the measurement `shadow`.
- A challenger on probation that fails, fails once. The former champion takes over in memory and
  scores the very batch (`rescue`), so no window is lost, and none has two scores.
- A window that neither student can score is no fault of the challenger.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.secrettext import error_text
from models.artifact import Artifact
from models.errors import Misfit
from models.manifest import check_fit
from models.session import Student
from models.tasks.columns import row_of
from models.tasks.contract import Scores
from models.tasks.registry import find_task
from pipeline.errors import LineFull, PointError, SinkError
from pipeline.points.points import Point, shadow_point
from pipeline.scoring.batch import Scorer
from pipeline.scoring.evidence import Comparison, Evidence
from pipeline.scoring.thresholds import Thresholds
from pipeline.status.view import ChallengerStatus
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["Contest", "Contests", "Line", "TakeBack"]

log = logging.getLogger(__name__)

_MOST_ERROR = 300
"""Characters of an error in a reason; ONNX Runtime writes long ones."""
_MOST_WAITING = 64
_SHOWN_MS = 1000
"""Shortest time between two points of a contest."""
_MOST_WAITING_BYTES = 1_000_000

TakeBack = Callable[[Student, Student, str], bool]
"""Lets the former student (second) take over from the failed one (first) at once, with the reason;
False if the failed one no longer runs. See `ModelWatch.take_back`."""


class Line(Protocol):
    """Where comparisons are made: a `pipeline.quiet.QuietThread`, or a test."""

    def submit(self, work: Callable[[], None]) -> Any:
        """Put work in the line.

        Raises:
            LineFull: The line is full.
        """


class Contest:
    """One challenger against one champion; thread-safe.

    Attributes:
        champion: The reference: the student that runs, or on probation the one that ran before.
        challenger: The student that is judged.
        started_ms: Beginning of the comparison, epoch milliseconds.
        skipped_total: Windows that were not compared, because the thread was busy.
        failed: Why the challenger has failed; None while it has not.
    """

    def __init__(
        self, champion: Student, challenger: Student, thresholds: Thresholds, started_ms: int
    ) -> None:
        """Prepare a comparison of two students that fit each other."""
        self.champion = champion
        self.challenger = challenger
        self.thresholds = thresholds
        self.started_ms = started_ms
        self.skipped_total = 0
        self.failed: str | None = None
        manifest = champion.manifest
        answer = find_task(manifest.task).answer
        self._comparison = Comparison(answer, manifest.decoding)
        self._evidence = Evidence()
        self._shape = (manifest.window.length, len(manifest.channels))
        size = 4 * self._shape[0] * self._shape[1]
        self._most = max(1, min(_MOST_WAITING, _MOST_WAITING_BYTES // size))
        self._waiting: list[WindowBatch] = []
        self._shown_ms = started_ms
        self._lock = Lock()
        self._champion_first = True

    def evidence(self) -> Evidence:
        """What is known so far."""
        return self._evidence

    def offer(self, windows: WindowBatch) -> bool:
        """Keep some of the windows for the next comparison.

        Returns:
            True if none was waiting, so that a comparison has to be asked for.
        """
        size = len(windows)
        if windows.values.shape[1:] != self._shape:
            return False
        with self._lock:
            room = self._most - sum(map(len, self._waiting))
            taken = min(size, room)
            self.skipped_total += size - taken
            was_empty = not self._waiting
            if taken:  # evenly, because neighbours are often of one device
                rows = np.linspace(0, size - 1, taken).astype(np.intp)
                self._waiting.append(windows if taken == size else windows.take(rows))
            return was_empty and taken > 0

    def withdraw(self) -> None:
        """Skip the windows that wait, because no comparison can be asked for."""
        with self._lock:
            self.skipped_total += sum(map(len, self._waiting))
            self._waiting = []

    def compare(self, now_ms: int) -> tuple[str | None, Point | None]:
        """Let both students score the waiting windows; for one thread at a time.

        Returns:
            Why the challenger is unhealthy, or None; and the point of the window over which the two
            differ most, if the last one is a second old.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if not waiting or self.failed is not None:
            return None, None
        windows = np.concatenate([batch.values for batch in waiting])
        # In turn, so that a warm cache helps one as often as the other.
        self._champion_first = not self._champion_first
        order = (self.champion, self.challenger)
        answers: dict[Student, tuple[Scores | str, float]] = {}
        for student in order if self._champion_first else reversed(order):
            answers[student] = _timed(student, windows)
        (reference, reference_s), (judged, judged_s) = (answers[student] for student in order)
        if isinstance(reference, str):
            self.skipped_total += len(windows)
            return None, None
        if isinstance(judged, str):
            return f"it failed over windows that the other student scored: {judged}", None
        self._comparison.add(windows, reference, judged, (reference_s, judged_s))
        self._evidence = self._comparison.evidence()
        reason = self._evidence.verdict(self.thresholds)
        if reason is None and now_ms - self._shown_ms < _SHOWN_MS:
            return None, None
        self._shown_ms = now_ms
        return reason, self._most_apart(waiting, reference, judged)

    def _most_apart(
        self, batches: Sequence[WindowBatch], reference: Scores, judged: Scores
    ) -> Point | None:
        manifest = self.champion.manifest
        answer = find_task(manifest.task).answer
        apart = answer.disagreement(reference, judged, manifest.decoding)
        apart = np.where(reference.valid & judged.valid, apart, -1.0)
        place = int(np.argmax(apart))
        if apart[place] < 0:
            return None
        field = answer.headline_field
        texts = [
            _shown(row_of(answer.columns(scores), place).get(field))
            for scores in (judged, reference)
        ]
        senders = [sender for batch in batches for sender in batch.senders]
        ends = np.concatenate([batch.end_ms for batch in batches])
        return shadow_point(
            (*senders[place], manifest.stream),
            manifest.name,
            versions=(self.challenger.manifest.version, manifest.version),
            disagreement=float(apart[place]),
            answers=(texts[0], texts[1]),
            end_ms=int(ends[place]),
        )


class Contests:
    """The contests of a process, at most one for each model. Thread-safe.

    Args:
        running: Stream to the student that scores it now.
        load: Turns a checked artifact into a tested student.
        take_back: Lets the former student take over at once.
        line: Where comparisons are made.
        now_ms: Processing time, epoch milliseconds.

    Attributes:
        on_failed: Called once for each challenger that fails, with the name of the model and the
            reason, after the former champion took over if the challenger was running. It is called
            in the scoring thread or in that of the comparisons, and must return at once.
        on_compared: Called with the points of the measurement `shadow` in the thread of the
            comparisons, which waits for it; it may raise, and the point is left out then.
    """

    def __init__(
        self,
        running: Mapping[str, Student],
        load: Callable[[Artifact], Student],
        take_back: TakeBack,
        line: Line,
        now_ms: Callable[[], int],
    ) -> None:
        """Prepare; no thread works before the first contest."""
        self.on_failed: Callable[[str, str], None] = lambda _name, _reason: None
        self.on_compared: Callable[[Point], None] = lambda _point: None
        self._running = running
        self._load = load
        self._take_back = take_back
        self._line = line
        self._now_ms = now_ms
        self._contests: dict[str, Contest] = {}
        self._lock = Lock()

    # -- for the agent of the rollout -------------------------------------------------------

    def start_shadow(self, name: str, artifact: Artifact, thresholds: Thresholds) -> None:
        """Compare a new student with the one that runs; blocks while it is tried and loaded.

        A comparison of the same two students goes on, with the new thresholds.

        Raises:
            ModelError: The student is refused, or does not fit the running one.
            OSError: It cannot be tried now; ask again later.
        """
        champion = self._runs(name)
        if champion.digest == artifact.digest:
            msg = f"{name} v{artifact.manifest.version} runs already: there is nothing to compare"
            raise Misfit(msg)
        check_fit(champion.manifest, artifact.manifest)
        self._start(name, champion, artifact, thresholds)

    def start_probation(self, name: str, former: Artifact, thresholds: Thresholds) -> None:
        """Watch the running student with the one that ran before it, which is loaded if needed.

        A comparison of the same two students, begun in shadow, goes on with the new thresholds.

        Raises:
            ModelError: The former student is refused, or does not fit the running one.
            OSError: It cannot be tried now; ask again later.
        """
        judged = self._runs(name)
        if judged.digest == former.digest:
            msg = f"{name} v{former.manifest.version} runs: it cannot watch itself"
            raise Misfit(msg)
        check_fit(judged.manifest, former.manifest)
        self._start(name, judged, former, thresholds, judge_running=True)

    def stop(self, name: str) -> None:
        """End the contest of a model, if there is one; its evidence is forgotten."""
        with self._lock:
            self._contests.pop(name, None)

    def evidence(self, name: str) -> Evidence | None:
        """What is known of the challenger; None without a contest."""
        contest = self._contests.get(name)
        return None if contest is None else contest.evidence()

    def failed(self, name: str) -> str | None:
        """Why the challenger has failed; None while it has not, or without a contest."""
        contest = self._contests.get(name)
        return None if contest is None else contest.failed

    # -- for scoring ------------------------------------------------------------------------

    def on_scored(self, batches: Sequence[WindowBatch]) -> None:
        """Hand windows to the comparisons; never raises, never waits."""
        for contest in [*self._contests.values()]:
            if contest.failed is not None:
                continue
            stream = contest.champion.manifest.stream
            offered = [contest.offer(batch) for batch in batches if batch.stream == stream]
            if any(offered):
                try:
                    self._line.submit(lambda contest=contest: self._compare(contest))  # type: ignore[misc]
                except LineFull:
                    contest.withdraw()

    def rescue(
        self,
        failed: Scorer,
        windows: NDArray[np.float32],
        scores: Scores | None,
        error: str,
    ) -> tuple[Scorer, Scores] | None:
        """Let the former champion score a batch over which a student on probation has failed.

        Args:
            failed: The student that runs.
            windows: The finite windows among [n, length, channels] are those it has to score.
            scores: What it gave; None if it raised.
            error: What it raised; "" if it gave scores.

        Returns:
            The former champion, which runs from now on, and its scores; None if the student is not
            on probation, or if the former champion cannot score these windows either.
        """
        contest = self._contests.get(failed.manifest.name)
        if contest is None or contest.challenger is not failed or contest.failed is not None:
            return None
        instead, _ = _timed(contest.champion, windows)
        if isinstance(instead, str):
            return None
        reason = f"it failed while it scored: {error[:_MOST_ERROR]}"
        if scores is not None:
            lost = int((instead.valid & ~scores.valid).sum())
            if not lost:
                return None
            reason = (
                f"it gave no finite score to {lost} of {len(windows)} windows, which "
                f"v{contest.champion.manifest.version} scored"
            )
        self._fail(contest, reason)
        return contest.champion, instead

    # -- for the watch over the registry ----------------------------------------------------

    def loaded(self, digest: str) -> Student | None:
        """A student of a contest, which need not be loaded and tried again to take over."""
        for contest in [*self._contests.values()]:
            for student in (contest.champion, contest.challenger):
                if student.digest == digest:
                    return student
        return None

    def on_swap(self, student: Student) -> None:
        """Note that a student has taken over; a third one becomes the reference."""
        name = student.manifest.name
        with self._lock:
            contest = self._contests.get(name)
            if contest is None:
                return
            if student not in (contest.champion, contest.challenger):
                self._contests[name] = Contest(
                    student, contest.challenger, contest.thresholds, self._now_ms()
                )
                return
        if student is contest.challenger and contest.failed is not None:
            # It failed in shadow in the moment in which it took over.
            self._take_back(contest.challenger, contest.champion, contest.failed)

    def status(self, name: str) -> ChallengerStatus | None:
        """The challenger as the page and `/metrics` show it; None without a contest."""
        contest = self._contests.get(name)
        if contest is None:
            return None
        manifest = contest.challenger.manifest
        evidence = contest.evidence()
        return ChallengerStatus(
            version=manifest.version,
            digest=contest.challenger.digest,
            against=contest.champion.manifest.version,
            is_running=self._is_running(contest),
            since_ms=contest.started_ms,
            windows=evidence.windows,
            skipped=contest.skipped_total,
            failed=contest.failed,
            evidence=evidence.figures(),
        )

    # -- inside -----------------------------------------------------------------------------

    def _runs(self, name: str) -> Student:
        for student in [*self._running.values()]:
            if student.manifest.name == name:
                return student
        msg = f"no student of {name} runs here: there is nothing to compare with"
        raise Misfit(msg)

    def _start(
        self,
        name: str,
        running: Student,
        artifact: Artifact,
        thresholds: Thresholds,
        *,
        judge_running: bool = False,
    ) -> None:
        other = self.loaded(artifact.digest) or self._load(artifact)
        champion, challenger = (other, running) if judge_running else (running, other)
        with self._lock:
            known = self._contests.get(name)
            if known is not None and (known.champion, known.challenger) == (champion, challenger):
                known.thresholds = thresholds
                return
            self._contests[name] = Contest(champion, challenger, thresholds, self._now_ms())

    def _is_running(self, contest: Contest) -> bool:
        stream = contest.challenger.manifest.stream
        return self._running.get(stream) is contest.challenger

    def _compare(self, contest: Contest) -> None:
        try:
            reason, point = contest.compare(self._now_ms())
            if point is not None:
                self._show(point)
        except Exception:  # a comparison must not end the thread, nor go unseen
            log.exception("a comparison of students failed; please report this")
            return
        if reason is not None:
            self._fail(contest, reason)

    def _show(self, point: Point) -> None:
        try:
            self.on_compared(point)
        except (PointError, SinkError) as exc:
            log.info("a comparison of students is not stored: %s", exc)

    def _fail(self, contest: Contest, reason: str) -> None:
        name = contest.challenger.manifest.name
        with self._lock:
            if self._contests.get(name) is not contest or contest.failed is not None:
                return
            contest.failed = reason
        challenger, champion = contest.challenger, contest.champion
        was_running = self._take_back(challenger, champion, reason)
        log.error(
            "%s v%d is unhealthy%s: %s",
            name,
            challenger.manifest.version,
            f", v{champion.manifest.version} scores again" if was_running else "",
            reason,
        )
        self.on_failed(name, reason)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _timed(student: Student, windows: NDArray[np.float32]) -> tuple[Scores | str, float]:
    """The scores or what was raised, and the CPU time, which other load does not change."""
    started = time.thread_time()
    try:
        found: Scores | str = student.score(windows)
    except Exception as exc:  # whatever it raises, it is the student that is judged
        found = error_text(exc, named=True)[:_MOST_ERROR]
    return found, time.thread_time() - started
