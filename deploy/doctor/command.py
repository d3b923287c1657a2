"""``kpstream doctor``: checks whether this machine can be a gateway, and whether the gateway works.

Each check prints one line with its finding and one line of advice if needed. A `?` marks what a
check could not find out. The exit code is 1 if a check failed and 0 otherwise, so that a timer can
call it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from deploy.doctor import machinechecks, pipelinechecks, tlschecks
from deploy.doctor.brokercheck import broker_check
from deploy.doctor.brokerchecks import check_broker
from deploy.doctor.findings import Finding, unreadable
from deploy.doctor.mappingchecks import check_mappings
from deploy.doctor.rolloutchecks import check_rollout, rejected_here
from deploy.doctor.streamchecks import check_streams
from deploy.processes.bridging import known_versions
from deploy.settings.brokeraddress import broker_settings
from deploy.settings.doc import env_name, settings_classes
from deploy.settings.errors import SETTINGS_ADVICE, InvalidSettings, settings_problems
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.settings.settings import GatewaySettings
from ingest.errors import MappingInvalid
from ingest.secrettext import error_text
from ingest.settings import IngestSettings
from ingest.sparkplug.names import read_mapping
from pipeline.settings import PipelineSettings

__all__ = ["diagnose", "doctor", "render"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "cyan"}
_INDENT = " " * 16


@click.command()
@click.option("--mqtt", metavar="HOST:PORT", help="MQTT broker; default: from the settings.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="State folder of the gateway.")
@click.option("--console-port", type=click.IntRange(1, 65535), help="Port of the console page.")
@click.option("--deep", is_flag=True, help="Also read a large log from end to end.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(
    mqtt: str | None, state_dir: Path | None, console_port: int | None, deep: bool, as_json: bool
) -> None:
    """Check broker, log, models, results, console, clock, disk, memory; change nothing.

    Exit code 1: a check failed.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    own = {"state_dir": state_dir, "console_port": console_port}
    try:
        settings = GatewaySettings(**{k: v for k, v in own.items() if v is not None})  # type: ignore[arg-type]
        ingest, pipeline = IngestSettings(**broker_settings(mqtt)), PipelineSettings()  # type: ignore[arg-type]
        rollout = RolloutSettings()
    except InvalidSettings as exc:
        problems = "; ".join(settings_problems(exc))
        findings: Iterable[Finding] = [Finding("settings", "fail", problems, SETTINGS_ADVICE)]
    else:
        findings = diagnose(settings, ingest, pipeline, rollout, deep=deep)
    sys.exit(_report_json(findings) if as_json else _report(findings))


def diagnose(
    settings: GatewaySettings,
    ingest: IngestSettings,
    pipeline: PipelineSettings,
    rollout: RolloutSettings | None = None,
    *,
    deep: bool = False,
) -> Iterator[Finding]:
    """Run every check in the order of the data flow, and yield each finding at once.

    A check that raises an error becomes a finding itself, and the other checks still run.

    Args:
        settings: Settings of the gateway.
        ingest: Settings of its bridge.
        pipeline: Settings of its agents and stores.
        rollout: Settings of the centre that it follows; None: it follows none.
        deep: Also read a large log from end to end.
    """
    known = [env_name(cls, field) for cls in settings_classes() for field in cls.model_fields]
    url = f"http://{_dialable(settings.console_host)}:{settings.console_port}"
    runs: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("packages", machinechecks.check_packages),
        ("settings", lambda: machinechecks.check_environment(known, os.environ)),
        ("tls", lambda: tlschecks.check_certificates(ingest, pipeline)),
        ("tls", lambda: tlschecks.check_clear_text(ingest, pipeline)),
        ("broker", lambda: _check_broker(ingest, settings.state_dir)),
        ("log", lambda: pipelinechecks.check_log(settings.log_path, deep=deep)),
        (
            "models",
            lambda: pipelinechecks.check_models(
                settings.registry_path,
                settings.state_dir / "running.json",
                rejected_here(rollout, settings.state_dir),
            ),
        ),
        (
            "results",
            lambda: pipelinechecks.check_results(pipeline.results_path(settings.state_dir)),
        ),
        (
            "streams",
            lambda: check_streams(
                pipeline.results_path(settings.state_dir), settings.registry_path
            ),
        ),
        ("rollout", lambda: () if rollout is None else check_rollout(rollout, settings.state_dir)),
        ("influx", lambda: pipelinechecks.check_influx(pipeline)),
        (
            "gateway",
            lambda: pipelinechecks.check_console(url, is_expected=_is_running(settings.log_path)),
        ),
        ("clock", machinechecks.check_clock),
        ("disk", lambda: machinechecks.check_disk(settings.state_dir)),
        ("access", lambda: machinechecks.check_access(settings.state_dir)),
        ("memory", machinechecks.check_memory),
    ]
    for name, run in runs:
        try:
            yield from run()
        except OSError as exc:
            yield unreadable(exc, name)
        except Exception as exc:  # a broken check must not hide the findings of the others
            advice = "please report this"
            text = f"the check itself failed: {error_text(exc, named=True)}"
            yield Finding(name, "fail", text, advice)


def render(finding: Finding) -> str:
    """Format a finding: its text, its table, its advice.

    >>> print(render(Finding("disk", "warn", "1.0 GB free", "free some")))
    warn  disk      1.0 GB free
                    -> free some
    >>> from deploy.doctor.findings import Row
    >>> row = Row("Receive Maximum", "20", "at most 20 at a time")
    >>> print(render(Finding("broker", "unknown", "slow", rows=(row,))))
    ?     broker    slow
                      Receive Maximum  20  at most 20 at a time
    """
    state = "?" if finding.state == "unknown" else finding.state
    lines = [f"{state:<6}{finding.name:<10}{finding.text}"]
    name_width = max((len(row.name) for row in finding.rows), default=0)
    value_width = max((len(row.value) for row in finding.rows), default=0)
    lines += [
        f"{_INDENT}  {row.name:<{name_width}}  {row.value:<{value_width}}  {row.meaning}"
        for row in finding.rows
    ]
    if finding.advice:
        lines.append(f"{_INDENT}-> {finding.advice}")
    return "\n".join(lines)


def _report(findings: Iterable[Finding]) -> int:
    counts = dict.fromkeys(_COLOURS, 0)
    for finding in findings:
        counts[finding.state] += 1
        state, rest = render(finding).split(" ", 1)
        click.echo(click.style(state, fg=_COLOURS[finding.state]) + " " + rest)
    warnings = f"{counts['warn']} warning{'' if counts['warn'] == 1 else 's'}"
    click.echo(
        f"\n{counts['ok']} ok, {warnings}, {counts['fail']} failed, {counts['unknown']} unknown (?)"
    )
    return int(counts["fail"] > 0)


def _report_json(findings: Iterable[Finding]) -> int:
    listed = list(findings)
    failed = any(finding.state == "fail" for finding in listed)
    report = {"ok": not failed, "findings": [asdict(finding) for finding in listed]}
    click.echo(json.dumps(report, indent=2))
    return int(failed)


def _check_broker(ingest: IngestSettings, state_dir: Path) -> Iterator[Finding]:
    mapping = None
    if ingest.sparkplug is not None:
        try:
            mapping = read_mapping(ingest.sparkplug)
        except MappingInvalid as exc:
            yield Finding("sparkplug", "fail", str(exc))
    filters: list[str] = []
    if ingest.mappings is not None:
        findings, filters = check_mappings(ingest.mappings, ingest, mapping)
        yield from findings
    known = known_versions(ingest, state_dir).read()
    yield from check_broker(broker_check(ingest, known, mapping, filters))


def _is_running(log_path: Path) -> bool | None:
    """Whether a gateway has the log open; None: not known."""
    try:
        return pipelinechecks.log_holder(log_path) is not None
    except OSError:
        return None


def _dialable(host: str) -> str:
    """Return the address to connect to, also for a server that listens on every address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    return f"[{host}]" if ":" in host else host
