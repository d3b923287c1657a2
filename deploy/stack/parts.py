"""The parts of a site while they run: programs and steps, one object each, driven by `tick`.

`deploy.stack.supervisor` owns them and calls them from one thread; nothing here blocks but starting
a process. Looks and steps, which may, are asked in threads.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

from deploy.stack.sitestate import Row, State, born
from ingest.backoff import Backoff
from ingest.childprocess import tied_to_parent

__all__ = [
    "SECRETS",
    "Child",
    "Errand",
    "Look",
    "Program",
    "Step",
    "Watchdog",
    "inherited",
]

log = logging.getLogger(__name__)

SECRETS = frozenset(
    {
        "KPSTREAM_INGEST_MQTT_PASSWORD",
        "KPSTREAM_PIPELINE_INFLUX_TOKEN",
        "KPSTREAM_GRAFANA_TOKEN",
        "KPSTREAM_GRAFANA_INFLUX_TOKEN",
    }
)
"""Variables of our own environment that a program is given only where it is told so."""

_T = TypeVar("_T")
_LOG_BYTES = 20_000_000
_LOG_EVERY_S = 30.0


def inherited() -> dict[str, str]:
    """Our own environment without `SECRETS`: what every program that we start is given."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a program showed.

    Attributes:
        answers: It answered at all.
        ready: It does its job.
        words: Why not; when it is ready, what is worth telling.
        backlog: Records that wait for it; None: it has no such thing, or does not tell.
        progress: A number that changes whenever it gets ahead.
    """

    answers: bool
    ready: bool = False
    words: str = ""
    backlog: float | None = None
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Watchdog:
    """When a program that runs is ended, to be started again. None: never for this reason.

    Attributes:
        start_s: it has not answered once since its start.
        silent_s: it answered before and does not now.
        stall_s: it has a backlog and makes no progress.
    """

    start_s: float | None = 300.0
    silent_s: float | None = 60.0
    stall_s: float | None = None


@dataclass(frozen=True)
class Program:
    """A child process and how to look after it.

    Attributes:
        name: unique in the site.
        kind: a server, or a process of ours.
        rank: when it starts, see the module.
        folder: where it runs; None: where we do.
        ends: when it is stopped: those with the lowest number first, and the next once they ended.
        command: its command line; asked at every start, may raise with what is missing.
        env: its environment beside ours, which comes without `SECRETS`; asked at every start.
        log_path: where its output goes.
        port: what it listens on, to be shown.
        look: looks at it, within a few seconds; called in a thread, one at a time; never raises.
        stop_signal: what asks it to end.
        stop_s: how long it may take for that before it is killed.
        watchdog: when it is restarted though it runs.
    """

    name: str
    kind: Literal["server", "process"]
    rank: int
    command: Callable[[], Sequence[str]]
    log_path: Path
    look: Callable[[], Look]
    folder: Path | None = None
    ends: int = 0
    env: Callable[[], Mapping[str, str]] = dict
    port: int = 0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 30.0
    watchdog: Watchdog = field(default_factory=Watchdog)


@dataclass(frozen=True)
class Step:
    """A step of the set-up: tried until it succeeds, then done for good.

    Attributes:
        name: unique in the site.
        rank: when it is taken, see the module.
        take: does it, safe to repeat, and tells what was done; raises when it can't. In a thread.
    """

    name: str
    rank: int
    take: Callable[[], str]


class _Asked(Generic[_T]):
    """One question at a time to something that may block: in a thread that holds no exit up."""

    def __init__(self, ask: Callable[[], _T], name: str) -> None:
        self._ask = ask
        self._name = name
        self._future: Future[_T] | None = None

    def begin(self) -> None:
        """Ask, unless an answer is still to come."""
        if self._future is None:
            future = self._future = Future[_T]()
            threading.Thread(
                target=self._answer_to, args=[future], name=self._name, daemon=True
            ).start()

    def forget(self) -> None:
        """Whatever comes back belongs to the past."""
        self._future = None

    def answer(self) -> Future[_T] | None:
        """What came back since the question; then there is none any more."""
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        return future

    def _answer_to(self, future: Future[_T]) -> None:
        try:
            future.set_result(self._ask())
        except BaseException as exc:  # for who reads the answer
            future.set_exception(exc)


class Errand:
    """A step on its way.

    Attributes:
        was_ready: It has succeeded.
    """

    def __init__(self, step: Step, backoff: Backoff) -> None:
        self.step = step
        self.rank = step.rank
        self.was_ready = False
        self._backoff = backoff
        self._asked = _Asked(step.take, f"step-{step.name}")
        self._failures = 0
        self._due_s = 0.0
        self._state: State = "waiting"
        self._since_ms = _now_ms()
        self._words = ""

    def row(self) -> Row:
        """How it is now."""
        return Row(
            self.step.name, "step", self._state, None, None, 0, self._since_ms, 0, self._words, ""
        )

    def tick(self, now_s: float, excused: bool) -> None:
        """Go on with it; called again and again until it is done."""
        if self.was_ready:
            return
        answer = self._asked.answer()
        if answer is not None:
            error = answer.exception()
            if error is None:
                self.was_ready = True
                self._become("done", answer.result())
                return
            self._failures += 1
            self._due_s = now_s + self._backoff.delay_ms(self._failures) / 1000
            self._become("not ready", _one_line(str(error) or repr(error)))
            log.warning("%s failed, is tried again: %s", self.step.name, error)
        if now_s >= self._due_s:
            if self._state == "waiting":
                self._become("starting", "")
            self._asked.begin()

    def _become(self, state: State, words: str) -> None:
        if state != self._state:
            log.info("%s: %s -> %s", self.step.name, self._state, state)
            self._state, self._since_ms = state, _now_ms()
        self._words = words


class Child:
    """A program on its way.

    Attributes:
        was_ready: It has been ready once.
        state: See `deploy.stack.sitestate.State`.
    """

    def __init__(self, program: Program, backoff: Backoff, look_every_s: float) -> None:
        self.program = program
        self.rank = program.rank
        self.was_ready = False
        self.state: State = "waiting"
        self._backoff = backoff
        self._look_every_s = look_every_s
        self._looking = _Asked(program.look, f"look-{program.name}")
        self._process: subprocess.Popen[bytes] | None = None
        self._born: int | None = None
        self._log_from = 0
        self._log_checked_s = 0.0
        self._failures = self._restarts = 0
        self._begun = False
        self._start_at_s = self._kill_at_s = self._look_at_s = 0.0
        self._reason = ""  # why we end it ourselves
        self._since_ms = _now_ms()
        self._words = self._last_end = ""
        self._answered = False
        self._answered_s = self._ready_s = self._moved_s = 0.0
        self._progress: float | None = None

    def row(self) -> Row:
        """How it is now."""
        pid = self._process.pid if self._process is not None else None
        program = self.program
        return Row(
            program.name,
            program.kind,
            self.state,
            pid,
            self._born if pid is not None else None,
            self._restarts,
            self._since_ms,
            program.port,
            self._words or (f"before: {self._last_end}" if self._last_end else ""),
            str(program.log_path),
        )

    # -- while the site is up -----------------------------------------------------------------

    def tick(self, now_s: float, excused: bool) -> None:
        """Start it when it is time to, note its end, look at it; called again and again.

        Args:
            now_s: The time, monotonic seconds.
            excused: It can't make progress now, whatever it does.
        """
        process = self._process
        if process is None:
            if now_s >= self._start_at_s:
                self._start(now_s)
        elif process.poll() is not None:
            self._note_end(process.returncode, now_s)
        elif self._reason:
            if now_s >= self._kill_at_s:
                process.kill()
        else:
            self._take_looks(now_s)
            self._watch(now_s, excused)
            self._trim_log(now_s)

    def _start(self, now_s: float) -> None:
        program = self.program
        try:
            command, env = program.command(), {**inherited(), **program.env()}
            program.log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log_from = _size(program.log_path)
            with program.log_path.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 (a command line of ours)
                    tied_to_parent(command),
                    env=env,
                    cwd=program.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except Exception as exc:
            # Whatever it is: the others run on, and it is shown and tried again.
            log.warning("%s can't be started: %s", program.name, exc)
            self._wait_for_next(_one_line(str(exc)), now_s)
            return
        self._born = born(self._process.pid)
        if self._begun:
            self._restarts += 1
        self._begun = True
        self._answered = False
        self._answered_s = self._moved_s = now_s
        self._progress = None
        self._ready_s = 0.0
        self._look_at_s = now_s
        self._looking.forget()
        self._become("starting", "")

    def _note_end(self, code: int, now_s: float) -> None:
        assert self._process is not None  # noqa: S101 - the caller looked
        # What it said before somebody killed it is not why it ended.
        said = "" if code == -signal.SIGKILL else self._last_line()
        words = self._reason or (f"{_how(code)}: {said}" if said else _how(code))
        log.warning("%s ended, %s", self.program.name, words)
        self._process = None
        self._reason = ""
        self._looking.forget()
        self._wait_for_next(words, now_s)

    def _wait_for_next(self, words: str, now_s: float) -> None:
        self._failures += 1
        self._last_end = words
        self._start_at_s = now_s + self._backoff.delay_ms(self._failures) / 1000
        self._become("restarting", words)

    def _take_looks(self, now_s: float) -> None:
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + self._look_every_s
            self._looking.begin()
        answer = self._looking.answer()
        if answer is None:
            return
        error = answer.exception()
        look = Look(False, words=f"a look failed: {error!r}") if error else answer.result()
        if look.answers:
            self._answered, self._answered_s = True, now_s
        if look.progress != self._progress or not look.backlog:
            self._progress, self._moved_s = look.progress, now_s
        if look.ready:
            self.was_ready = True
            self._ready_s = self._ready_s or now_s
            if (now_s - self._ready_s) * 1000 >= self._backoff.reset_after_ms:
                self._failures = 0
            self._become("ready", look.words)
            return
        self._ready_s = 0.0
        if not self._answered or (look.answers and self.state == "starting"):
            self._become("starting", look.words)
        elif look.answers:
            self._become("not ready", look.words)
        else:
            self._become("silent", look.words or "does not answer")

    def _watch(self, now_s: float, excused: bool) -> None:
        dog = self.program.watchdog
        silence_s = now_s - self._answered_s
        still_s = now_s - self._moved_s
        if not self._answered and dog.start_s is not None and silence_s >= dog.start_s:
            self._end(f"ended by the watchdog: no answer {silence_s:.0f} s after its start", now_s)
        elif self._answered and dog.silent_s is not None and silence_s >= dog.silent_s:
            self._end(f"ended by the watchdog: silent for {silence_s:.0f} s", now_s)
        elif dog.stall_s is not None and still_s >= dog.stall_s:
            if excused:
                self._moved_s = now_s
            else:
                words = f"ended by the watchdog: a backlog and no progress for {still_s:.0f} s"
                self._end(words, now_s)

    def _end(self, reason: str, now_s: float) -> None:
        log.warning("%s is %s", self.program.name, reason)
        self.ask_to_end(now_s)
        self._reason = reason
        self._become("stopping", reason)

    def _become(self, state: State, words: str) -> None:
        if state != self.state:
            log.info("%s: %s -> %s", self.program.name, self.state, state)
            self.state, self._since_ms = state, _now_ms()
        self._words = words

    # -- on the way down ----------------------------------------------------------------------

    def ask_to_end(self, now_s: float) -> None:
        """Send it the signal that asks; a frozen one is woken for it."""
        if self._process is None:
            self._become("ended", self._words)
            return
        for number in (self.program.stop_signal, signal.SIGCONT):
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
        self._kill_at_s = now_s + self.program.stop_s
        self._become("stopping", "")

    def has_ended(self, now_s: float) -> bool:
        """Whether it has; kills it when its time is over."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            if now_s >= self._kill_at_s:
                log.warning("%s did not end when asked and is killed", self.program.name)
                self._process.kill()
                self._process.wait()
            else:
                return False
        self._process = None
        self._become("ended", "")
        return True

    def kill(self) -> None:
        """At once."""
        if self._process is not None:
            self._process.kill()

    # -- its log ------------------------------------------------------------------------------

    def _last_line(self) -> str:
        """The last thing it said since its start that is no part of a stack trace."""
        with suppress(OSError), self.program.log_path.open("rb") as file:
            file.seek(max(self._log_from, _size(self.program.log_path) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
            told = [line for line in lines if line.strip() and not line[0].isspace()]
            return _one_line(told[-1]) if told else ""
        return ""

    def _trim_log(self, now_s: float) -> None:
        """Keep the log within bounds; its writer appends, so it can be cut under its hands."""
        if now_s - self._log_checked_s < _LOG_EVERY_S:
            return
        self._log_checked_s = now_s
        path = self.program.log_path
        if _size(path) > _LOG_BYTES:
            with suppress(OSError):
                shutil.copyfile(path, path.with_name(path.name + ".1"))
                os.truncate(path, 0)
                self._log_from = 0


def _how(code: int) -> str:
    """How a process ended, in words.

    >>> _how(1), _how(-9)
    ('exit code 1', 'killed by SIGKILL')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
