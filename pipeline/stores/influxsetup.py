"""Set up an InfluxDB: create missing buckets, tasks and tokens of the layout, correct others.

Safe to repeat: correct parts stay untouched, others are changed, and every change is reported.
Nothing that contains points is ever deleted. A shorter retention, by which InfluxDB deletes old
points, must be allowed explicitly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from ingest.secrettext import checked_secret
from pipeline.errors import SinkMisconfigured
from pipeline.stores.influxclient import Answer, InfluxClient
from pipeline.stores.influxlayout import Bucket, InfluxTask, Layout, Token, rollup_flux, rollups

__all__ = ["Change", "Ensured", "aggregate", "ensure_layout"]

Action = Literal["created", "changed", "removed", "kept", "refused"]

_ADVICE = {
    401: "the token is not accepted; use the operator token for the set-up",
    403: "the token lacks a permission; use the operator token for the set-up",
}
# This text marks the tasks of kpstream in every InfluxDB that has been set up, so it keeps the path
# of the release that first wrote it.
_OURS = "made by kpstream, which undoes changes: see pipeline/influxlayout.py"
_PAGE = 100
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Change:
    """One part of the layout, and the action taken.

    >>> print(Change("bucket", "kpstream", "created", "keeps 30 days"))
    bucket 'kpstream' created: keeps 30 days
    """

    what: str
    name: str
    action: Action
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.name!r} {self.action}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Ensured:
    """The outcome of a set-up: every part with its action, and the tokens by name."""

    changes: tuple[Change, ...]
    tokens: Mapping[str, SecretStr]

    @property
    def differs(self) -> bool:
        """Whether any part differed from the layout."""
        return any(change.action != "kept" for change in self.changes)


def ensure_layout(
    client: InfluxClient, layout: Layout, *, dry_run: bool = False, may_shorten: bool = False
) -> Ensured:
    """Create missing parts of a layout and correct those that differ; see the module.

    Args:
        client: Client with a token that has all permissions in its organisation.
        layout: The layout to reach.
        dry_run: Only report the changes; `tokens` then has existing tokens only.
        may_shorten: Allow a shorter retention, by which InfluxDB deletes older points.

    Raises:
        SinkMisconfigured: The token lacks a permission, or the organisation does not exist.
        SinkUnavailable: InfluxDB does not answer; call again, finished parts are kept.
    """
    return _Setup(client, dry_run, may_shorten).ensure(layout)


def aggregate(client: InfluxClient, layout: Layout, start_ms: int, stop_ms: int) -> None:
    """Compute all hours between two times again, one day per query.

    For times that the InfluxDB tasks no longer cover, after an outage of more than three days.

    Args:
        client: Client with a token that reads the bucket of scores and writes that of hours.
        layout: The layout; its first two buckets are those of scores and hours.
        start_ms: First time, epoch milliseconds; its whole hour is computed.
        stop_ms: Last time, epoch milliseconds; likewise.

    Raises:
        SinkUnavailable: InfluxDB does not answer; call again, hours overwrite themselves.
    """
    source, target = (bucket.name for bucket in layout.buckets[:2])
    at, end = start_ms // _HOUR_MS * _HOUR_MS, -(-stop_ms // _HOUR_MS) * _HOUR_MS
    while at < end:
        until = min(at + 24 * _HOUR_MS, end)
        for rollup in rollups():
            first, last = (f"time(v: {ms}000000)" for ms in (at, until))
            client.query(rollup_flux(rollup, first, last, source, target))
        at = until


class _Setup:
    def __init__(self, client: InfluxClient, dry_run: bool, may_shorten: bool) -> None:
        self._client = client
        self._dry_run = dry_run
        self._may_shorten = may_shorten
        self._changes: list[Change] = []
        self._buckets: dict[str, str] = {}
        self._tokens: dict[str, SecretStr] = {}

    def ensure(self, layout: Layout) -> Ensured:
        self._org = self._find_org()
        for bucket in layout.buckets:
            self._ensure_bucket(bucket)
        self._ensure_tasks(layout)
        for token in layout.tokens:
            self._ensure_token(token)
        return Ensured(tuple(self._changes), self._tokens)

    # -- buckets ------------------------------------------------------------------------------

    def _find_org(self) -> str:
        org = self._client.connection.org
        for found in self._call("GET", "/orgs").json.get("orgs", []):
            if org in (found["id"], found["name"]):
                return str(found["id"])
        message = (
            f"{self._client.where} has no organisation {org!r} that this token may see; "
            "use the operator token for the set-up"
        )
        raise SinkMisconfigured(message)

    def _ensure_bucket(self, bucket: Bucket) -> None:
        # With the organisation in the query, InfluxDB answers 404 where there is none.
        named = self._call("GET", "/buckets", query={"name": bucket.name}).json["buckets"]
        found = [there for there in named if there["orgID"] == self._org]
        keeps = _kept(bucket.retention_s)
        rules = [{"type": "expire", "everySeconds": bucket.retention_s}]
        if not found:
            wish = {
                "orgID": self._org,
                "name": bucket.name,
                "description": bucket.about,
                "retentionRules": rules if bucket.retention_s else [],
            }
            made = self._change("bucket", bucket.name, "created", keeps, "POST", "/buckets", wish)
            if made is not None:
                self._buckets[bucket.name] = made["id"]
            return
        there = found[0]
        self._buckets[bucket.name] = there["id"]
        now_s = sum(rule.get("everySeconds", 0) for rule in there["retentionRules"])
        path = f"/buckets/{there['id']}"
        if now_s == bucket.retention_s:
            self._note("bucket", bucket.name, "kept", keeps)
        elif bucket.retention_s and not 0 < now_s < bucket.retention_s and not self._may_shorten:
            detail = f"{_kept(now_s)}; {bucket.retention_s / 86_400:g} would delete older points"
            self._note("bucket", bucket.name, "refused", detail)
        else:
            detail = f"{_kept(now_s)} -> {keeps}"
            self._change(
                "bucket", bucket.name, "changed", detail, "PATCH", path, {"retentionRules": rules}
            )

    # -- tasks --------------------------------------------------------------------------------

    def _ensure_tasks(self, layout: Layout) -> None:
        names = {task.name for task in layout.tasks}
        found = {
            task["name"]: task
            for task in self._tasks()
            if task["name"] in names or task.get("description") == _OURS
        }
        for task in layout.tasks:
            self._ensure_task(task, found.pop(task.name, None))
        for name, stale in sorted(found.items()):
            path = f"/tasks/{stale['id']}"
            self._change("task", name, "removed", "not in the layout", "DELETE", path)

    def _ensure_task(self, task: InfluxTask, there: Mapping[str, Any] | None) -> None:
        wish = {
            "orgID": self._org,
            "flux": task.flux,
            "status": "active",
            "description": _OURS,
        }
        if there is None:
            self._change("task", task.name, "created", "runs by the clock", "POST", "/tasks", wish)
        elif there["flux"].strip() != task.flux.strip() or there["status"] != "active":
            detail = "its Flux differs" if there["status"] == "active" else "it was switched off"
            path = f"/tasks/{there['id']}"
            self._change("task", task.name, "changed", detail, "PATCH", path, wish)
        else:
            state = there.get("lastRunStatus") or "not run yet"
            error = there.get("lastRunError")
            self._note("task", task.name, "kept", f"{state}: {error}" if error else state)

    def _tasks(self) -> Iterator[Mapping[str, Any]]:
        query = {"orgID": self._org, "limit": str(_PAGE)}
        while True:
            page = self._call("GET", "/tasks", query=query).json.get("tasks", [])
            yield from page
            if len(page) < _PAGE:
                return
            query["after"] = page[-1]["id"]

    # -- tokens -------------------------------------------------------------------------------

    def _ensure_token(self, token: Token) -> None:
        rights = {("read", name) for name in token.read} | {("write", name) for name in token.write}
        may = ", ".join(f"{action}s {name}" for action, name in sorted(rights))
        wanted = {(action, self._buckets.get(name, name)) for action, name in rights}
        found = self._call("GET", "/authorizations", query={"orgID": self._org}).json
        right = None
        for there in found.get("authorizations", []):
            if there["description"] != token.name:
                continue
            if right is None and _rights(there) == wanted and there["status"] == "active":
                right = there
                continue
            path = f"/authorizations/{there['id']}"
            self._change("token", token.name, "removed", "other rights", "DELETE", path)
        if right is None:
            wish = {
                "orgID": self._org,
                "description": token.name,
                "permissions": [self._permission(*right) for right in sorted(wanted)],
            }
            right = self._change(
                "token", token.name, "created", may, "POST", "/authorizations", wish
            )
        else:
            self._note("token", token.name, "kept", may)
        if right is not None:
            self._tokens[token.name] = checked_secret(right["token"])

    def _permission(self, action: str, bucket_id: str) -> dict[str, Any]:
        resource = {"type": "buckets", "id": bucket_id, "orgID": self._org}
        return {"action": action, "resource": resource}

    # -- requests -----------------------------------------------------------------------------

    def _note(self, what: str, name: str, action: Action, detail: str) -> None:
        self._changes.append(Change(what, name, action, detail))

    def _change(
        self,
        what: str,
        name: str,
        action: Action,
        detail: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Make a change, except in a dry run, note it, and return the answer."""
        made = None if self._dry_run else self._call(method, path, body).json
        self._note(what, name, action, detail)
        return made

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        answer = self._client.call(method, path, body, query)
        if not 200 <= answer.status < 300:
            advice = {400: answer.message, 404: answer.message, 422: answer.message, **_ADVICE}
            where = f"{self._client.where}: {method} {path}"
            raise answer.as_error(where, advice)
        return answer


def _rights(authorization: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The rights of a token, comparable; a right beyond one bucket equals no wanted right."""
    rights = set()
    for permission in authorization["permissions"]:
        resource = permission["resource"]
        what = resource.get("id", "") if resource["type"] == "buckets" else resource["type"]
        rights.add((permission["action"], what))
    return rights


def _kept(retention_s: int) -> str:
    return f"keeps {retention_s / 86_400:g} days" if retention_s else "keeps for ever"
