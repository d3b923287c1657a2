"""A program while the site runs: start, health checks, watchdog, restarts, stop, log file.

`deploy.supervisor.supervisor` calls every method from one thread. Nothing here blocks except the
start of a process; health checks, which may block, run in threads.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from deploy.supervisor.background import BackgroundCall
from deploy.supervisor.healthcheck import HealthCheck
from deploy.supervisor.program import Program, inherited_environment
from deploy.supervisor.sitestate import Row, State, one_line, process_start_time
from ingest.backoff import Backoff
from ingest.childprocess import tied_to_parent
from ingest.clock import now_ms
from ingest.secrettext import error_text

__all__ = ["RunningProgram", "describe_exit"]

log = logging.getLogger(__name__)

_LOG_BYTES = 20_000_000
_LOG_EVERY_S = 30.0


class RunningProgram:
    """Keeps one program running.

    Attributes:
        program: The program.
        rank: Its start order.
        was_ready: Whether it has been ready once.
        state: See `deploy.supervisor.sitestate.State`.
    """

    def __init__(self, program: Program, backoff: Backoff, check_every_s: float) -> None:
        """Prepare; nothing starts before the first :meth:`tick`.

        Args:
            program: The program to run.
            backoff: Pauses between restarts.
            check_every_s: Seconds between two health checks.
        """
        self.program = program
        self.rank = program.rank
        self.was_ready = False
        self.state: State = "waiting"
        self._backoff = backoff
        self._check_every_s = check_every_s
        self._check = BackgroundCall(program.check, f"check-{program.name}")
        self._process: subprocess.Popen[bytes] | None = None
        self._process_start_time: int | None = None
        self._log_from = 0
        self._log_checked_s = 0.0
        self._failures = self._restarts = 0
        self._has_started = False
        self._start_at_s = self._kill_at_s = self._check_at_s = 0.0
        self._stop_reason = ""  # why the watchdog stops it
        self._since_ms = now_ms()
        self._detail = self._last_end = ""
        self._has_answered = False
        self._answered_s = self._ready_s = self._moved_s = 0.0
        self._progress: float | None = None

    def row(self) -> Row:
        """Return the current state."""
        pid = self._process.pid if self._process is not None else None
        program = self.program
        return Row(
            program.name,
            program.kind,
            self.state,
            pid,
            self._process_start_time if pid is not None else None,
            self._restarts,
            self._since_ms,
            program.port,
            self._detail or (f"before: {self._last_end}" if self._last_end else ""),
            str(program.log_path),
        )

    # -- while the site is up -----------------------------------------------------------------

    def tick(self, now_s: float, excused: bool) -> None:
        """Start the program when it is due, notice its end, check its health; called repeatedly.

        Args:
            now_s: Monotonic seconds.
            excused: The program cannot make progress now, for reasons outside it.
        """
        process = self._process
        if process is None:
            if now_s >= self._start_at_s:
                self._start(now_s)
        elif process.poll() is not None:
            self._note_end(process.returncode, now_s)
        elif self._stop_reason:
            if now_s >= self._kill_at_s:
                process.kill()
        else:
            self._check_health(now_s)
            self._apply_watchdog(now_s, excused)
            self._trim_log(now_s)

    def _start(self, now_s: float) -> None:
        program = self.program
        try:
            command, env = program.command(), {**inherited_environment(), **program.env()}
            program.log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log_from = _size(program.log_path)
            with program.log_path.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 (our own command line)
                    tied_to_parent(command),
                    env=env,
                    cwd=program.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except Exception as exc:
            # Any failure is shown and retried; the other programs keep running.
            log.warning("%s cannot be started: %s", program.name, exc)
            self._schedule_restart(one_line(error_text(exc)), now_s)
            return
        self._process_start_time = process_start_time(self._process.pid)
        if self._has_started:
            self._restarts += 1
        self._has_started = True
        self._has_answered = False
        self._answered_s = self._moved_s = now_s
        self._progress = None
        self._ready_s = 0.0
        self._check_at_s = now_s
        self._check.discard()
        self._change("starting", "")

    def _note_end(self, code: int, now_s: float) -> None:
        assert self._process is not None  # noqa: S101 - the caller has checked
        # The last line before a SIGKILL does not explain the end.
        last_line = "" if code == -signal.SIGKILL else self._last_line()
        ended = describe_exit(code)
        reason = self._stop_reason or (f"{ended}: {last_line}" if last_line else ended)
        log.warning("%s ended, %s", self.program.name, reason)
        self._process = None
        self._stop_reason = ""
        self._check.discard()
        self._schedule_restart(reason, now_s)

    def _schedule_restart(self, reason: str, now_s: float) -> None:
        self._failures += 1
        self._last_end = reason
        self._start_at_s = now_s + self._backoff.delay_ms(self._failures) / 1000
        self._change("restarting", reason)

    def _check_health(self, now_s: float) -> None:
        if now_s >= self._check_at_s:
            self._check_at_s = now_s + self._check_every_s
            self._check.start()
        result = self._check.take_result()
        if result is None:
            return
        error = result.exception()
        check = (
            HealthCheck(False, detail=f"the health check failed: {error_text(error, named=True)}")
            if error
            else result.result()
        )
        if check.answers:
            self._has_answered, self._answered_s = True, now_s
        if check.progress != self._progress or not check.backlog:
            self._progress, self._moved_s = check.progress, now_s
        if check.ready:
            self.was_ready = True
            self._ready_s = self._ready_s or now_s
            if (now_s - self._ready_s) * 1000 >= self._backoff.reset_after_ms:
                self._failures = 0
            self._change("ready", check.detail)
            return
        self._ready_s = 0.0
        if not self._has_answered or (check.answers and self.state == "starting"):
            self._change("starting", check.detail)
        elif check.answers:
            self._change("not ready", check.detail)
        else:
            self._change("silent", check.detail or "does not answer")

    def _apply_watchdog(self, now_s: float, excused: bool) -> None:
        limits = self.program.watchdog
        silent_s = now_s - self._answered_s
        stalled_s = now_s - self._moved_s
        if not self._has_answered and limits.start_s is not None and silent_s >= limits.start_s:
            self._restart(f"no answer {silent_s:.0f} s after its start", now_s)
        elif self._has_answered and limits.silent_s is not None and silent_s >= limits.silent_s:
            self._restart(f"silent for {silent_s:.0f} s", now_s)
        elif limits.stall_s is not None and stalled_s >= limits.stall_s:
            if excused:
                self._moved_s = now_s
            else:
                self._restart(f"a backlog and no progress for {stalled_s:.0f} s", now_s)

    def _restart(self, cause: str, now_s: float) -> None:
        reason = f"ended by the watchdog: {cause}"
        log.warning("%s is %s", self.program.name, reason)
        self.request_stop(now_s)
        self._stop_reason = reason
        self._change("stopping", reason)

    def _change(self, state: State, detail: str) -> None:
        if state != self.state:
            log.info("%s: %s -> %s", self.program.name, self.state, state)
            self.state, self._since_ms = state, now_ms()
        self._detail = detail

    # -- while the site stops -----------------------------------------------------------------

    def request_stop(self, now_s: float) -> None:
        """Send the stop signal; a frozen process is resumed so that it can receive it."""
        if self._process is None:
            self._change("ended", self._detail)
            return
        for number in (self.program.stop_signal, signal.SIGCONT):
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
        self._kill_at_s = now_s + self.program.stop_s
        self._change("stopping", "")

    def has_ended(self, now_s: float) -> bool:
        """Whether the process has ended; kills it once `stop_s` is over."""
        if self._process is None:
            return True
        if self._process.poll() is None:
            if now_s >= self._kill_at_s:
                log.warning(
                    "%s did not end within %.0f s and is killed",
                    self.program.name,
                    self.program.stop_s,
                )
                self._process.kill()
                self._process.wait()
            else:
                return False
        self._process = None
        self._change("ended", "")
        return True

    def kill(self) -> None:
        """Kill the process at once."""
        if self._process is not None:
            self._process.kill()

    # -- its log ------------------------------------------------------------------------------

    def _last_line(self) -> str:
        """Return the last line of output since the start that is not part of a stack trace."""
        with suppress(OSError), self.program.log_path.open("rb") as file:
            file.seek(max(self._log_from, _size(self.program.log_path) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
            messages = [line for line in lines if line.strip() and not line[0].isspace()]
            return one_line(messages[-1]) if messages else ""
        return ""

    def _trim_log(self, now_s: float) -> None:
        """Keep the log within bounds; truncating it is safe because the program appends."""
        if now_s - self._log_checked_s < _LOG_EVERY_S:
            return
        self._log_checked_s = now_s
        path = self.program.log_path
        if _size(path) > _LOG_BYTES:
            with suppress(OSError):
                shutil.copyfile(path, path.with_name(path.name + ".1"))
                os.truncate(path, 0)
                self._log_from = 0


def describe_exit(code: int) -> str:
    """Describe how a process ended.

    >>> describe_exit(1), describe_exit(-9)
    ('exit code 1', 'killed by SIGKILL')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
