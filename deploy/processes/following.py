"""A gateway that follows a centre: its agent, its reports, and what the page shows of both.

Nothing here is imported, and nothing runs, unless `KPSTREAM_ROLLOUT_URL` is set. A problem of a
rollout is a notice; it never makes a gateway unready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from deploy.rollout.points import report_points
from deploy.rollout.report import GatewayReport, read_report_key
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.settings.settings import GatewaySettings
from deploy.updates.agent import RolloutAgent
from deploy.updates.fetch import Fetcher
from deploy.updates.memory import RolloutMemory
from deploy.updates.reporter import Reporter
from deploy.updates.reports import build_report, encode_bounded, rollout_measures, shown_phase
from deploy.updates.softwarememory import read_update
from ingest.clock import now_ms, steady_ms
from ingest.errors import LogUnavailable
from ingest.mqttsettings import endpoint_of
from ingest.secrettext import error_text
from ingest.settings import IngestSettings
from pipeline.points.accounts import AppendAccount, encode_points
from pipeline.scoring.students import Students
from pipeline.status.view import Measure, ReleaseStatus

__all__ = ["Following"]

log = logging.getLogger(__name__)


class Following:
    """The part of a gateway process that follows a centre.

    The memory is read, and the start counted, when it is made; `rejected` then says which students
    must not run, `follow` takes the students, and `prepare` goes back from one that crashes the
    process. Only then may students be loaded.
    """

    def __init__(
        self, rollout: RolloutSettings, settings: GatewaySettings, ingest: IngestSettings
    ) -> None:
        """Read what is remembered; nothing runs before `run`."""
        self._rollout, self._settings = rollout, settings
        self.memory = RolloutMemory(settings.state_dir / "rollout.json")
        self.memory.begin()
        self.agent: RolloutAgent | None = None
        self._students: Students | None = None
        self._key, self._key_problem = _report_key(rollout)
        client_id = f"kpstream-rollout-{settings.own_name}"
        endpoint = rollout.own_endpoint(client_id) or endpoint_of(ingest, client_id)
        self.reporter = Reporter(endpoint, settings.own_name, self._note)
        self._is_changed = True

    def rejected(self) -> dict[str, str]:
        """Digests of students that must not run, with the reasons."""
        return self.memory.rejected()

    def follow(self, students: Students) -> None:
        """Take the students of the process."""
        rollout, folder = self._rollout, self._settings.state_dir / "rollout"
        source = Fetcher(
            rollout.url or "",
            rollout.root_file or folder / "root.json",
            folder,
            lambda: now_ms() // 1000,
            ca_file=rollout.ca_file,
        )
        self._students = students
        self.agent = RolloutAgent(rollout, self._settings.own_name, students, source, self.memory)
        self.agent.on_change = self._note_change

    async def run(self, append: AppendAccount | None) -> None:
        """Follow and report until cancelled.

        Args:
            append: Appends points for InfluxDB to the log; None without InfluxDB.
        """
        if self.agent is None:
            return
        self.reporter.start()
        following = asyncio.ensure_future(self.agent.run())
        try:
            await self._report(append)
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await self.reporter.stop()

    def end(self) -> None:
        """Note a clean stop, after `run` was cancelled."""
        if self.agent is not None:
            self.agent.end()

    # -- what it shows ----------------------------------------------------------------------

    def release_of(self, name: str) -> ReleaseStatus | None:
        """The release that a student follows; None if it follows none."""
        progress = self.memory.progress(name)
        if progress is None:
            return None
        return ReleaseStatus(
            number=progress.release,
            version=progress.version,
            phase=shown_phase(progress),
            since_ms=progress.since_s * 1000,
            reason=progress.reason,
        )

    def status(self) -> dict[str, Any]:
        """What `/health` says of it."""
        if self.agent is None:
            return {"centre": "off"}
        index, plan = self.agent.index, self.agent.plan
        return {
            "centre": plan.state,
            "detail": plan.detail,
            "index_made_s": 0 if index is None else index.made_s,
            "reports": self._report_problem() or "ok",
            "reports_confirmed": self.reporter.published_total,
            "memory": self.memory.problem or "ok",
            "notices": list(self.notices()),
            "students": {
                name: {
                    "release": progress.release,
                    "version": progress.version,
                    "phase": shown_phase(progress),
                    "reason": progress.reason,
                }
                for name in self.memory.names()
                if (progress := self.memory.progress(name)) is not None
            },
        }

    def notices(self) -> Sequence[str]:
        """What a person should see, although the gateway is ready."""
        found = [self.memory.problem, self._report_problem()]
        if self.agent is not None and self.agent.plan.state not in ("ok", "away"):
            found.append(f"the centre is not followed: {self.agent.plan.detail}")
        for name in self.memory.names():
            progress = self.memory.progress(name)
            if progress is not None and progress.phase == "failed":
                version, number = progress.version, progress.release
                found.append(f"release {number} of {name} v{version} failed: {progress.reason}")
        return [text for text in found if text]

    def measures(self) -> list[Measure]:
        """Numbers for `/metrics`."""
        return [] if self.agent is None else rollout_measures(self.agent)

    # -- inside -----------------------------------------------------------------------------

    def _note(self, payload: bytes) -> None:
        if self.agent is not None:
            self.agent.note(payload)

    def _note_change(self) -> None:
        self._is_changed = True

    def _report_problem(self) -> str:
        return self._key_problem or self.reporter.problem

    async def _report(self, append: AppendAccount | None) -> None:
        due_ms = steady_ms()
        while True:
            if self._is_changed or steady_ms() >= due_ms:
                self._is_changed = False
                due_ms = steady_ms() + 1000 * self._rollout.report_s
                try:
                    await self._send(await asyncio.to_thread(self._build), append)
                except Exception:  # a rollout never ends the process
                    log.exception("a report could not be made; please report this")
            self.reporter.tick()
            await asyncio.sleep(1.0)

    def _build(self) -> GatewayReport:
        assert self.agent is not None  # noqa: S101 - its caller has one
        assert self._students is not None  # noqa: S101 - its caller has them
        return build_report(
            self.agent,
            self._students.models.statuses(),
            gateway=self._settings.own_name,
            group=self._rollout.group,
            state_dir=self._settings.state_dir,
            sent_s=now_ms() // 1000,
            update=read_update(self._rollout.update_dir),
        )

    async def _send(self, report: GatewayReport, append: AppendAccount | None) -> None:
        if not self._key_problem:
            self.reporter.offer(encode_bounded(report, self._key))
        if append is None:
            return
        try:
            for value in encode_points(report_points(report, report.sent_s)):
                await append(value)
        except LogUnavailable as exc:  # the next report supersedes it
            log.info("the state of the rollout could not be appended to the log: %s", exc)


def _report_key(rollout: RolloutSettings) -> tuple[bytes | None, str]:
    if rollout.report_key_file is None:
        return None, ""
    try:
        return read_report_key(rollout.report_key_file), ""
    except (OSError, ValueError) as exc:
        problem = f"no report is sent, because its key cannot be read: {error_text(exc)}"
        log.error("%s", problem)
        return None, problem
