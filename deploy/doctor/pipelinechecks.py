"""Checks of the pipeline: log, models, results, InfluxDB, the running gateway.

They open files for reading and do not keep the log's lock, so that they do not disturb a running
gateway. `deploy.doctor.findings` defines a check.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.doctor.findings import Finding, size_text, unreadable
from deploy.doctor.rolloutchecks import rollout_notices
from ingest.secrettext import error_text, hide_secrets
from ingest.statefile import open_regular
from pipeline.settings import PipelineSettings

if TYPE_CHECKING:
    from models.artifact import Artifact
    from models.session import Student

__all__ = [
    "check_console",
    "check_influx",
    "check_log",
    "check_models",
    "check_results",
    "log_holder",
]

_MOST_MAPPING_FAULTS = 5
_ON_DEMAND_BYTES = 512 * 1024 * 1024
_REFUSED_ADVICE = (
    "gateways keep their running student; publish it again, or promote another version"
)
_MOST_BYTES = 8 * 1024 * 1024  # of a page of the console


def log_holder(path: Path) -> str | None:
    """Return the pid of the process that holds the log, or None; takes the lock only briefly.

    Raises:
        OSError: The lock cannot be read, so this is not known.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        with os.fdopen(open_regular(lock, os.O_RDONLY), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().decode("ascii", "replace").strip() or "of unknown number"
    except FileNotFoundError:
        return None
    return None


def check_log(path: Path, *, deep: bool = False) -> list[Finding]:
    """Check that the log file is sound, and report its size and the backlog of each group.

    Args:
        path: Log file.
        deep: Also read a file of more than 512 MiB from end to end.
    """
    from pipeline.errors import LogError
    from pipeline.log.contentcheck import check_counts, check_pages, check_records
    from pipeline.log.file import connect
    from pipeline.log.inspection import inspect_log
    from pipeline.log.state import read_state

    if not path.exists():
        try:
            inspect_log(path, check_bytes=0)
        except LogError as exc:
            return [Finding("log", "fail", str(exc))]
        text = f"{path} does not exist yet; the gateway creates it at its first start"
        return [Finding("log", "ok", text)]
    size_bytes = path.stat().st_size
    is_checked = deep or size_bytes <= _ON_DEMAND_BYTES
    holder = log_holder(path)
    try:
        if is_checked and holder is None:
            inspect_log(path, check_bytes=size_bytes)
        elif is_checked:
            check_pages(path)
            check_counts(path)
        if is_checked:
            check_records(path)
        with closing(connect(path, durability="full", read_only=True)) as db:
            state = read_state(db, 0)
    except LogError as exc:
        return [Finding("log", "fail", str(exc))]
    except Exception as exc:  # only the log's files handle SQLite's errors
        advice = "run doctor as the gateway's user; if it fails there too, repair the log"
        return [Finding("log", "fail", f"{path} cannot be read: {error_text(exc)}", advice)]
    ends = {
        name: sum(part.next_offset for part in topic.partitions)
        for name, topic in sorted(state.topics.items())
        if not topic.compacted
    }
    offsets = ", ".join(f"{name} {end}" for name, end in ends.items()) or "no topics"
    sound = "sound, " if is_checked else ""
    used = f"in use by process {holder}" if holder else "in use by no process"
    text = f"{path} {size_text(size_bytes)}, {sound}{used}, end offsets: {offsets}"
    backlogs: dict[str, int] = {}
    parts = {part.slot: part for part in state.partitions()}
    for group, offsets_of in state.groups.items():
        backlogs[group] = sum(
            max(0, parts[slot].next_offset - max(at.offset, parts[slot].earliest))
            for slot, at in offsets_of.items()
            if slot in parts
        )
    found = [Finding("log", "ok", text), *_backlog(backlogs)]
    if not is_checked:
        text = f"{path} may be damaged: it is large, so it was not read from end to end"
        found.append(Finding("log", "unknown", text, "to read it: kpstream doctor --deep"))
    return found


def _backlog(backlogs: Mapping[str, int]) -> list[Finding]:
    if not backlogs:
        return []
    text = "records to read: " + ", ".join(
        f"{group} {count}" for group, count in sorted(backlogs.items())
    )
    if max(backlogs.values()) <= 10_000:
        return [Finding("groups", "ok", text)]
    advice = "normal after a long outage; if it keeps growing, see `parts` of the console's /ready"
    return [Finding("groups", "warn", text, advice)]


def check_models(
    root: Path, memory: Path | None = None, rejected: Mapping[str, str] | None = None
) -> list[Finding]:
    """Read, verify, load and self-test the students, and tell who scores each stream and why.

    Args:
        root: The registry.
        memory: File that remembers which versions ran last; None: not compared.
        rejected: Digests of versions that failed on this gateway, with the reasons.
    """
    from models.errors import ModelError
    from models.registry import Registry
    from models.trial import try_student
    from pipeline.scoring.memory import read_ran
    from pipeline.scoring.rollover import load_student
    from pipeline.scoring.scorers import find_scorers
    from pipeline.scoring.students import lost_students

    def load(artifact: Artifact) -> Student:
        try_student(artifact)
        return load_student(artifact)

    registry = Registry(root)
    names, odd = registry.names(), registry.odd_entries()
    advice = "gateways skip it: move it out of the registry"
    findings = [Finding("models", "warn", entry, advice) for entry in odd]
    lost = lost_students(registry, read_ran(memory))
    for name, ran in sorted(lost.items()):
        text = f"{name} v{ran.version} ran last, but {root} no longer has it"
        advice = "put its folder back, or choose another student (`kpstream models add`)"
        findings.append(Finding("models", "fail", text, advice))
    if not names and not lost:
        text = f"{root} is empty; the gateway adds the starter students at its first start"
        return [*findings, Finding("models", "ok", text)]
    found = find_scorers(registry, memory, rejected, load)
    untold = set()
    for name in names:
        try:
            pointer = registry.read_stable(name)
            gap = None if pointer is None else registry.history_gap(name, pointer)
        except ModelError:
            continue  # it is among the refused ones
        except OSError as exc:
            untold.add(name)
            findings.append(unreadable(exc, "models", f"{name}: "))
            continue
        if pointer is None:
            text = f"{name} has versions {registry.list_versions(name)} but none is stable"
            advice = f"kpstream models promote {name} VERSION"
            findings.append(Finding("models", "warn", text, advice))
        if gap is not None:
            findings.append(Finding("models", "warn", f"{name}: {gap}"))
    for one in found.refused:
        if one.name in names and one.name not in untold:
            title = one.name if one.version is None else f"{one.name} v{one.version}"
            findings.append(Finding("models", "fail", f"{title}: {one.reason}", _REFUSED_ADVICE))
    for each in found.scorers:
        text = f"{each.name} v{each.version} scores {each.stream!r}, self-test passed: {each.why}"
        findings.append(Finding("models", "ok", text))
    return findings


def check_results(path: Path) -> list[Finding]:
    """Check that the results file is readable; report its size and points per measurement."""
    from pipeline.console.queries import counts
    from pipeline.errors import SinkError
    from pipeline.stores.resultsfile import ResultsFile

    if not path.exists():
        text = f"{path} does not exist yet; the gateway creates it at its first start"
        return [Finding("results", "ok", text)]
    try:
        with closing(ResultsFile(path, read_only=True)) as results:
            points, size_bytes = counts(results), results.size_bytes()
    except SinkError as exc:
        return [Finding("results", "fail", str(exc))]
    held = ", ".join(f"{name} {count}" for name, count in points.items()) or "none yet"
    return [Finding("results", "ok", f"{path} {size_text(size_bytes)}, points: {held}")]


def check_influx(settings: PipelineSettings, *, timeout_s: float = 5.0) -> list[Finding]:
    """Check that InfluxDB, if configured, would accept points; writes none."""
    from pipeline.errors import SinkError
    from pipeline.stores.influx import influx_connection
    from pipeline.stores.influxclient import InfluxClient

    if settings.influx_url is None:
        return []
    org, bucket = settings.influx_org, settings.influx_bucket
    advices = {
        401: "check KPSTREAM_PIPELINE_INFLUX_TOKEN",
        403: f"check that the token may write to bucket {bucket!r}",
        404: f"check that organisation {org!r} and bucket {bucket!r} exist, or create them",
    }
    try:
        connection = replace(influx_connection(settings), timeout_ms=round(timeout_s * 1000))
        with InfluxClient(connection) as client:
            answer = client.write(bucket, b"\n")
    except SinkError as exc:
        advice = "scores wait in the log; check KPSTREAM_PIPELINE_INFLUX_*"
        return [Finding("influx", "fail", str(exc), advice)]
    status = answer.status
    said = f"InfluxDB answers {status}{_message_of(answer.json)}"
    if status in advices:
        return [Finding("influx", "fail", said, advices[status])]
    if status >= 500 or status == 429:
        return [Finding("influx", "warn", f"{said}; the gateway tries again")]
    if status != 204 and not answer.json:
        text = f"{connection.shown} is not an InfluxDB ({status} {answer.text[:80]!r})"
        advice = "correct KPSTREAM_PIPELINE_INFLUX_URL; an https port needs https://"
        return [Finding("influx", "fail", text, advice)]
    # An empty write stores nothing. Both 204, and 400 for the empty body, prove write access.
    if status in (204, 400):
        text = f"InfluxDB accepts points for bucket {bucket!r} of {org!r}"
        return [Finding("influx", "ok", text)]
    return [Finding("influx", "unknown", f"{said}: cannot tell whether it accepts points")]


def _message_of(page: object) -> str:
    """Return the message of InfluxDB's answer in brackets, if it has one."""
    message = page.get("message") if isinstance(page, Mapping) else None
    return f" ({hide_secrets(str(message))[:200]})" if message else ""


def check_console(url: str, *, is_expected: bool | None, timeout_s: float = 5.0) -> list[Finding]:
    """Ask the gateway's console for `/ready`.

    Args:
        url: URL of the console.
        is_expected: Whether a gateway runs here, so that no answer is a failure; None: not known.
        timeout_s: Limit for the answer.
    """
    status, body = _ask(f"{url.rstrip('/')}/ready", timeout_s)
    if status is None and is_expected is None:
        text = f"nothing answers at {url}; cannot tell whether a gateway runs here"
        return [Finding("gateway", "unknown", text, "run doctor as the gateway's user")]
    if status is None and not is_expected:
        advice = "start it: kpstream gateway"
        return [
            Finding("gateway", "warn", f"no gateway is running; nothing answers at {url}", advice)
        ]
    if status is None:
        advice = "wait if it is starting; otherwise set KPSTREAM_GATEWAY_CONSOLE_PORT to its port"
        return [Finding("gateway", "fail", f"the gateway does not answer at {url}: {body}", advice)]
    try:
        page = json.loads(body)
        problems = "; ".join(map(str, page["problems"]))
        is_ready = status == 200 and bool(page["ready"])
    except (ValueError, KeyError, TypeError):
        text = f"{url} is not a kpstream gateway (status {status})"
        advice = "another program uses the port: set KPSTREAM_GATEWAY_CONSOLE_PORT"
        return [Finding("gateway", "fail", text, advice)]
    if not is_ready:
        advice = "wait if it has just started; otherwise see its log"
        return [Finding("gateway", "fail", f"not ready: {problems or 'no reason given'}", advice)]
    return [Finding("gateway", "ok", f"ready, console at {url}"), *_notices(page)]


def _notices(page: Mapping[str, Any]) -> list[Finding]:
    """Report on the centre, the broker, mappings, Sparkplug devices, stray topics."""
    parts = page.get("parts")
    names = ("sparkplug", "bridge", "rollout", "mappings")
    sparkplug, bridge, rollout, mappings = (
        part if isinstance(part, dict) else {}
        for part in map((parts if isinstance(parts, dict) else {}).get, names)
    )
    found = [*rollout_notices(rollout)]
    kept = page.get("notices")
    for text in kept if isinstance(kept, list) else ():
        advice = "docs/delivery.md, What a broker announces"
        found.append(Finding("session", "warn", str(text), advice))
    found += _mapping_faults(mappings)
    notices, count = sparkplug.get("notices"), sparkplug.get("without_stream")
    if isinstance(notices, list) and notices:
        text = f"{count} nodes or devices match no stream: " + "; ".join(map(str, notices[:5]))
        advice = "correct the mapping (docs/sparkplug.md); all of them: `sparkplug` in /health"
        found.append(Finding("sparkplug", "warn", text, advice))
    stray = bridge.get("stray_topics")
    if isinstance(stray, dict) and stray:
        shapes = sorted(stray.items(), key=lambda item: -int(item[1]))[:5]
        text = "messages on topics of another form: " + ", ".join(f"{k} {v}" for k, v in shapes)
        advice = "they are dead letters: kpstream dead-letters list"
        found.append(Finding("topics", "warn", text, advice))
    return found


def _mapping_faults(mappings: Mapping[str, Any]) -> Iterator[Finding]:
    """Report mapping files that the gateway does not use as they are, whatever ours are set to."""
    in_force = _table(mappings.get("in_force"))
    for name, fault in list(_table(mappings.get("faults")).items())[:_MOST_MAPPING_FAULTS]:
        if name in in_force:
            text = f"the gateway uses the last good version of {name}: {fault}"
        else:
            text = f"the gateway does not read {name}: {fault}" if name else str(fault)
        advice = (
            "mend the file; the gateway reads it again within seconds (docs/mapping-at-work.md)"
        )
        yield Finding("mappings", "warn", text, advice)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _ask(url: str, timeout_s: float) -> tuple[int | None, str]:
    """Return status and body of a GET; status None if nothing answers, 0 if it is not HTTP."""
    if not url.startswith(("http://", "https://")):
        return None, f"{url!r} is not an http URL"
    request = urllib.request.Request(url)  # noqa: S310 checked above
    # Ignore the machine's proxy, because the console is local.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return int(response.status), response.read(_MOST_BYTES).decode("utf-8", "replace")
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read(_MOST_BYTES).decode("utf-8", "replace")
    except http.client.HTTPException as exc:
        return 0, f"not HTTP: {error_text(exc, named=True)}"
    except urllib.error.URLError as exc:
        return None, hide_secrets(str(exc.reason))
    except (OSError, ValueError) as exc:
        return None, error_text(exc)
