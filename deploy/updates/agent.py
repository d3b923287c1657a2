"""The agent of a gateway: it fetches releases, and takes each student through its phases.

```
note, interval -> Fetcher (thread, child process) -> index ---.
                                                               >-- decide (phases) -> memory -> act
registry, running students, contests --------------------------'
```

`tick` runs every second in a worker thread, reads memory and two file stamps a student, and never
waits for the centre: a fetch, and a student that is being loaded, have threads of their own. What
is decided is remembered durably before it is done. An error of the agent never stops scoring.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Literal, Protocol

from deploy.rollout.release import Release, ReleaseIndex
from deploy.rollout.report import Evidence, FetchState, encode_note
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.supervisor.background import BackgroundCall
from deploy.updates.facts import Facts, Followed, release_of, tell
from deploy.updates.fetchplan import FetchPlan
from deploy.updates.memory import RolloutMemory, move_author
from deploy.updates.phases import Decision, decide
from deploy.updates.progress import Progress
from deploy.updates.pruning import prune
from ingest.clock import now_ms, steady_ms
from ingest.secrettext import error_text
from models.errors import (
    ArtifactError,
    ArtifactMissing,
    DigestMismatch,
    ModelError,
    VersionTaken,
)
from models.manifest import Manifest

__all__ = ["Followed", "ReleaseSource", "RolloutAgent"]

log = logging.getLogger(__name__)

TICK_S = 1.0
_END_S = 5.0
RETRY_MS = 30_000
"""Pause before a student that could not be fetched or loaded is tried again."""
STEP_RETRY_MS = 5_000
"""Pause before a step is tried again, such as a move of the pointer on a full disk."""


class ReleaseSource(Protocol):
    """Where releases come from; see `deploy.updates.fetch.Fetcher`. Both calls block."""

    def fetch_index(self) -> ReleaseIndex:
        """Return the newest index; raises `FetchFailed`."""

    def fetch_student(self, release: Release) -> tuple[bytes, bytes]:
        """Return the bytes of manifest and graph; raises `FetchFailed`."""


class RolloutAgent:
    """Follows a centre; see the module.

    Args:
        settings: Limits of this gateway.
        gateway: Name of this gateway.
        students: The students of this process.
        source: Where releases come from.
        memory: What is remembered, after `RolloutMemory.begin`.
        now_s: The time, epoch seconds.
        steady: Monotonic milliseconds.

    Attributes:
        on_change: Called in the thread of `tick` when a report would differ.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        gateway: str,
        students: Followed,
        source: ReleaseSource,
        memory: RolloutMemory,
        *,
        now_s: Callable[[], int] = lambda: now_ms() // 1000,
        steady: Callable[[], int] = steady_ms,
    ) -> None:
        """Prepare; nothing runs before `tick`."""
        self.on_change: Callable[[], None] = lambda: None
        self.memory = memory
        self.plan = FetchPlan(settings.interval_s)
        self.facts = Facts(settings, gateway, students, memory, now_s, steady)
        self._registry, self._models = students.registry, students.models
        self._contests = students.contests
        self._source, self._now_s, self._steady = source, now_s, steady
        self._index: ReleaseIndex | None = None
        self._told_state: FetchState = "ok"
        self._wanted: dict[str, Release] = {}
        self._fetching = BackgroundCall(self._fetch, "rollout-fetch")
        self._loading = BackgroundCall(self._load, "rollout-load")
        self._load_job: tuple[Literal["shadow", "watch"], str, Progress] | None = None
        self._wake: Callable[[], None] = lambda: None
        self._ticking = Lock()
        self._is_ended = False
        students.contests.on_failed = self._note_failed

    # -- running ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Go back from a student that crashes the gateway; call it before students are loaded."""
        for name in self.memory.names():
            progress = self.memory.progress(name)
            if progress is not None and (progress.is_crashing or progress.move == "back"):
                self._judge_safely(name)

    async def run(self) -> None:
        """Follow the centre until cancelled."""
        loop, wake = asyncio.get_running_loop(), asyncio.Event()

        def wake_up() -> None:
            loop.call_soon_threadsafe(wake.set)

        self._wake = wake_up
        try:
            while True:
                try:
                    await asyncio.to_thread(self.tick)
                except Exception:  # a rollout never ends the process
                    log.exception("a step of the rollout failed; please report this")
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wake.wait(), TICK_S)
                wake.clear()
        finally:
            self._wake = lambda: None

    def end(self) -> None:
        """Note a clean stop, after `run` was cancelled; a step that is under way may finish."""
        if not self._ticking.acquire(timeout=_END_S):
            log.warning("a step of the rollout still runs; this stop counts as an unexpected end")
            return
        self._is_ended = True
        self._ticking.release()
        self.memory.end({name: self.facts.elapsed_s(name) for name in self.memory.names()})

    def note(self, payload: bytes) -> None:
        """Look at the centre soon, unless the note is about the index that is known.

        Nothing else follows from a note, and not much from many, see `FetchPlan`.
        """
        if self._index is None or payload != encode_note(self._index.made_s):
            self.plan.note(self._steady())

    def tick(self) -> None:
        """Take what the threads have finished, decide for every student, and act."""
        with self._ticking:
            if not self._is_ended:
                self._tick()

    def _tick(self) -> None:
        self._take_fetched()
        self._take_loaded()
        names = {release.name for release in self._releases()} | {*self.memory.names()}
        for name in sorted(names):
            self._judge_safely(name)
        if self.plan.is_due(self._steady(), has_wanted=bool(self._wanted)):
            self._fetching.start()

    # -- state ------------------------------------------------------------------------------

    @property
    def index(self) -> ReleaseIndex | None:
        """The newest verified index of this process; None before the first one."""
        return self._index

    def evidence(self, name: str, progress: Progress) -> Evidence:
        """What is measured of the student of a release; what was measured, if nothing is now."""
        status = self._contests.status(name)
        if status is None or status.digest != progress.digest:
            return progress.evidence
        return Evidence.model_validate(dict(status.evidence))

    def _note_failed(self, _name: str, _reason: str) -> None:
        """Decide soon; called in the scoring thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._wake()

    def _releases(self) -> tuple[Release, ...]:
        return () if self._index is None else self._index.releases

    # -- the thread that fetches ------------------------------------------------------------

    def _fetch(self) -> ReleaseIndex | dict[str, Manifest | Exception]:
        """Fetch the index, or the students that are wanted."""
        if self.plan.wants_index:
            return self._source.fetch_index()
        done: dict[str, Manifest | Exception] = {}
        for name, release in sorted(self._wanted.copy().items()):
            try:
                done[name] = self._registry.add_verified(
                    *self._source.fetch_student(release)
                ).manifest
            except Exception as exc:  # the others are fetched all the same
                done[name] = exc
        return done

    def _take_fetched(self) -> None:
        call = self._fetching.take_result()
        if call is None:
            return
        now = self._steady()
        error = call.exception()
        if error is not None:
            self.plan.failed(error, now)
        elif isinstance(found := call.result(), ReleaseIndex):
            self.plan.succeeded(now)
            self._index = found
        else:
            for name, result in found.items():
                self._take_student(name, self._wanted.pop(name, None), result)
            failures = [each for each in found.values() if isinstance(each, Exception)]
            self.plan.fetched(failures, now)
        self._tell_centre()
        self.on_change()

    def _tell_centre(self) -> None:
        """Log the state of the centre when it has changed."""
        state, before = self.plan.state, self._told_state
        self._told_state = state
        if state != before:
            text = f"the centre is not followed: {self.plan.detail}"
            log.warning("%s", "the centre is followed again" if state == "ok" else text)

    def _take_student(
        self, name: str, release: Release | None, result: Manifest | Exception
    ) -> None:
        if release is None:
            return
        seen = self.facts.seen(name)
        if isinstance(result, Manifest):
            seen.manifest, seen.manifest_digest, seen.waits = result, release.digest, ""
            self.memory.note_added(name, release.version)
        elif isinstance(result, VersionTaken):
            seen.taken = (release.digest, str(result))
        elif isinstance(result, ArtifactError) and not self._is_damaged(release):
            seen.unfit = (release.digest, str(result))
        else:
            seen.waits = error_text(result)
            seen.retry_ms = self._steady() + RETRY_MS

    def _is_damaged(self, release: Release) -> bool:
        """Whether the registry has this version, but cannot read it."""
        if release.version not in self._registry.list_versions(release.name):
            return False
        try:
            self._registry.read(release.name, release.version)
        except ModelError:
            return True
        return False

    # -- the thread that loads --------------------------------------------------------------

    def _load(self) -> None:
        """Load a student for a comparison; blocks for seconds if it is tried for the first time."""
        if self._load_job is None:
            return
        kind, name, progress = self._load_job
        if kind == "shadow":
            artifact = self._registry.read(name, progress.version, progress.digest)
            self._contests.start_shadow(name, artifact, progress.thresholds)
        elif (former := progress.former) is not None:
            artifact = self._registry.read(name, former.version, former.digest)
            self._contests.start_probation(name, artifact, progress.thresholds)

    def _take_loaded(self) -> None:
        call = self._loading.take_result()
        if call is None or self._load_job is None:
            return
        (kind, name, progress), self._load_job = self._load_job, None
        error, seen = call.exception(), self.facts.seen(name)
        if error is None:
            seen.waits = ""
            return
        text = error_text(error)
        if kind == "shadow" and isinstance(error, (ArtifactMissing, DigestMismatch)):
            seen.manifest_digest = ""  # it is damaged here, and fetched once more
        elif kind == "shadow" and isinstance(error, ArtifactError):
            seen.unfit = (progress.digest, text)
            return
        seen.waits, seen.retry_ms = text, self._steady() + RETRY_MS
        tell(seen, f"{name}: the comparison could not start: {text}")

    def _start_loading(
        self, kind: Literal["shadow", "watch"], name: str, progress: Progress
    ) -> None:
        if self._load_job is None and self._steady() >= self.facts.seen(name).retry_ms:
            self._load_job = (kind, name, progress)
            self._loading.start()

    # -- judging ----------------------------------------------------------------------------

    def _judge_safely(self, name: str) -> None:
        try:
            self._judge(name)
        except Exception as exc:  # the other students and scoring go on
            seen = self.facts.seen(name)
            if isinstance(exc, (ModelError, OSError)):
                tell(seen, f"{name}: a step of the rollout failed: {error_text(exc)}")
            else:
                log.exception("a step of the rollout of %s failed; please report this", name)
            seen.waits, seen.retry_ms = error_text(exc), self._steady() + STEP_RETRY_MS

    def _judge(self, name: str) -> None:
        case = self.facts.case(name, self._index, self.plan.no_moves(self._steady()))
        before, decision = case.progress, decide(case)
        after = self._kept(name, decision, before)
        seen = self.facts.seen(name)
        if decision.action == "take_over" and self._steady() < seen.retry_ms:
            return
        try:
            self.memory.save(name, after)
        except OSError as exc:
            # What goes back goes back all the same: the registry's history remembers it, too.
            if decision.action != "fall_back":
                raise
            tell(seen, error_text(exc))
        if after != before:
            _log_change(name, before, after)
            self.facts.note_phase(name, after)
            self.on_change()
        self._act(name, decision, after)

    def _kept(self, name: str, decision: Decision, before: Progress | None) -> Progress | None:
        """The progress to remember, with the evidence of a phase that ends, or why it waits."""
        after, seen = decision.progress, self.facts.seen(name)
        if after is None or before is None:
            return after
        if after.phase != before.phase:
            evidence = self.evidence(name, before)
            return after.model_copy(update={"evidence": evidence})
        if decision.action in ("fetch", "shadow") and seen.waits:
            return after.enter(after.phase, self._now_s(), seen.waits)
        return after

    def _act(self, name: str, decision: Decision, progress: Progress | None) -> None:
        action = decision.action
        if action == "stop":
            self._contests.stop(name)
        if progress is None:
            return
        if progress.phase == "failed":
            self._models.reject(progress.digest, progress.reason)
        if action == "fetch":
            self._want(name)
        elif action == "shadow":
            self._models.readmit(progress.digest)
            self._start_loading("shadow", name, progress)
        elif action == "watch":
            self._start_loading("watch", name, progress)
        elif action == "take_over":
            self._models.readmit(progress.digest)
            self._take_over(name, progress)
        elif action == "fall_back":
            self._fall_back(name, progress)
        if not progress.move:
            prune(self._registry, self.memory, name, progress, self.facts.seen(name).moves)

    def _want(self, name: str) -> None:
        release = release_of(self._index, name)
        if release is not None and self._steady() >= self.facts.seen(name).retry_ms:
            self._wanted[name] = release

    def _take_over(self, name: str, progress: Progress) -> None:
        try:
            self._registry.read(name, progress.version, progress.digest)
            author = move_author(progress.release)
            self._registry.set_stable(name, progress.version, author)
        except ArtifactError as exc:
            self.facts.seen(name).unfit = (progress.digest, error_text(exc))
        self._judge_safely(name)  # the pointer has moved, or has not

    def _fall_back(self, name: str, progress: Progress) -> None:
        seen = self.facts.seen(name)
        if self._steady() < seen.retry_ms or progress.former is None:
            return
        author = move_author(progress.release) + " aborted"
        if progress.phase == "failed":
            author = move_author(progress.release, progress.reason)
        former = progress.former
        self._registry.read(name, former.version, former.digest)
        self._registry.set_stable(name, former.version, author)
        self._contests.stop(name)
        self._judge_safely(name)


def _log_change(name: str, before: Progress | None, after: Progress | None) -> None:
    if after is None:
        log.info("%s follows no release any more", name)
        return
    if before is not None and (before.phase, before.release) == (after.phase, after.release):
        return
    level = logging.ERROR if after.phase == "failed" else logging.INFO
    why = f": {after.reason}" if after.reason else ""
    text = "release %d of %s v%d: %s%s"
    log.log(level, text, after.release, name, after.version, after.phase, why)
