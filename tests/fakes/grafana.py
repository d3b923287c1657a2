"""A local stand-in for the part of Grafana's HTTP API that the dashboards use.

It keeps boards with their versions, folders, data sources and alert rules in memory and answers
with Grafana's status codes and texts, taken from its documentation and source. It records in
`flaws` whatever a request does that the documentation does not describe: an unknown path, a missing
header, an unknown field, an invalid dashboard or rule. A test ends with `flaws == []`.

Options: `version` (answers that were recorded from older versions, see `UNKNOWN_RULE_FIXED`),
`role` of the token, `migrates` (a newer Grafana that changes boards when it reads them),
`provisioned` (uids that files own), `script` (answers to give instead), `before` (called once with
the next request, to change something in between).
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.grafana_checks import UID, dashboard_flaws, rule_flaws

Json = dict[str, Any]
Answer = tuple[int, Any]

TOKEN = "glsa_secret-token-that-must-not-leak"
NOT_FOUND = {"message": "Not found"}
UNKNOWN_RULE_FIXED = (11, 5, 2)
"""Before, a group with a rule of an unknown uid is answered with 500 (grafana/grafana, issue 98283,
pull request 99858; recorded from a pre-release of 9.4)."""
FOLDER_TOLD = (10, 0, 0)
"""Before, an Editor gets 403 for a folder that does not exist, and the field isPaused does not come
back (recorded from a pre-release of 9.4; when it changed was not tried)."""
_SOURCE_KEYS = {
    "uid", "name", "type", "access", "url", "basicAuth", "isDefault", "jsonData", "secureJsonData",
}  # fmt: skip


class FakeGrafana:
    """A Grafana at `url`, running inside a `with` block; the module lists its options."""

    def __init__(self, prefix: str = "") -> None:
        self.flaws: list[str] = []
        self.requests: list[str] = []
        self.writes: list[str] = []
        self.boards: dict[str, list[Json]] = {}
        self.folders: dict[str, Json] = {}
        self.sources: dict[str, Json] = {}
        self.secrets: dict[str, Json] = {}
        self.groups: dict[tuple[str, str], Json] = {}
        self.provenance: dict[str, str] = {}
        self.version = (12, 0, 0)
        self.role = "Admin"
        self.migrates = False
        self.provisioned: set[str] = set()
        self.script: list[Answer | bytes] = []
        self.before: Callable[[str], None] | None = None
        self._prefix = prefix
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}{prefix}"

    def __enter__(self) -> FakeGrafana:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def other_user_saves(self, uid: str, change: Callable[[Json], None], message: str = "") -> None:
        """Save a changed board, as a person does in Grafana."""
        board = copy.deepcopy(self.boards[uid][-1])
        change(board["model"])
        board |= {"message": message, "who": "alice", "version": board["version"] + 1}
        self.boards[uid].append(board)

    # ---------------------------------------------------------------------------------- routing

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> Answer | bytes:
        """Answer a request as Grafana does."""
        self.requests.append(f"{method} {target}")
        if self.before is not None:
            before, self.before = self.before, None
            before(f"{method} {target}")
        if self.script:
            return self.script.pop(0)
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key", "statusCode": 401}
        split = urlsplit(target)
        if not split.path.startswith(f"{self._prefix}/api/"):
            self.flaws.append(f"{method} {target}: outside of the API")
            return 404, NOT_FOUND
        path = split.path[len(self._prefix) + 4 :]
        data: Json = {}
        if method in ("POST", "PUT"):
            if headers.get("Content-Type", "").partition(";")[0] != "application/json":
                self.flaws.append(f"{method} {path}: Content-Type {headers.get('Content-Type')}")
            data = json.loads(body)
        elif body not in (b"", b"null"):
            self.flaws.append(f"{method} {path}: has a body")
        for route_method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if route_method == method and match:
                if method != "GET":
                    self.writes.append(f"{method} {path}")
                names = [unquote(part) for part in match.groups()]
                answer: Answer = action(self, *names, data, parse_qs(split.query))
                return answer
        self.flaws.append(f"{method} {path}: not documented")
        return 404, NOT_FOUND

    def _check_fields(self, what: str, data: Json, known: set[str]) -> None:
        unknown = sorted(set(data) - known)
        if unknown:
            self.flaws.append(f"{what}: fields {unknown} are not documented")

    # ----------------------------------------------------------------------------------- boards

    def get_board(self, uid: str, _data: Json, _query: Json) -> Answer:
        if uid not in self.boards:
            return 404, {"message": "Dashboard not found"}
        board = self.boards[uid][-1]
        model = copy.deepcopy(board["model"]) | {"id": board["id"], "version": board["version"]}
        if self.migrates:
            model["schemaVersion"] += 1
            for panel in model["panels"]:
                panel.setdefault("pluginVersion", "13.0.0")
                panel.setdefault("repeatDirection", "h")
        meta = {
            "type": "db",
            "version": board["version"],
            "folderUid": board["folder"],
            "updatedBy": board["who"],
            "provisioned": uid in self.provisioned,
            "url": f"/d/{uid}/x",
        }
        return 200, {"dashboard": model, "meta": meta}

    def save_board(self, data: Json, _query: Json) -> Answer:
        self._check_fields(
            "POST /dashboards/db", data, {"dashboard", "folderUid", "message", "overwrite"}
        )
        model = data.get("dashboard")
        if not isinstance(model, dict):
            return 400, {"message": "bad request data"}
        if not model.get("title"):
            return 400, {"status": "empty-name", "message": "Dashboard title cannot be empty"}
        uid = str(model.get("uid") or "")
        if len(uid) > 40:
            return 400, {"message": "uid too long, max 40 characters"}
        if not UID.fullmatch(uid):
            return 400, {"message": "uid contains illegal characters"}
        if len(data.get("message", "")) > 500:
            return 400, {"message": "message too long, max 500 characters"}
        if data.get("folderUid") not in self.folders:
            return 400, {"message": "folder not found"}
        if uid in self.provisioned:
            return 400, {"message": "Cannot save provisioned dashboard"}
        self.flaws += dashboard_flaws(model)
        saved = self.boards.get(uid, [])
        now = saved[-1]["version"] if saved else 0
        if saved and model.get("version", 0) != now and not data.get("overwrite"):
            message = "The dashboard has been changed by someone else"
            return 412, {"status": "version-mismatch", "message": message}
        kept = {key: item for key, item in model.items() if key not in ("id", "version")}
        board = {
            "id": saved[0]["id"] if saved else len(self.boards) + 1,
            "model": kept,
            "version": now + 1,
            "folder": data["folderUid"],
            "message": data.get("message", ""),
            "who": "sa-1-kpstream",
        }
        self.boards[uid] = [*saved, board]
        return 200, {
            "id": board["id"],
            "uid": uid,
            "url": f"/d/{uid}/x",
            "status": "success",
            "version": board["version"],
            "slug": "x",
            "folderUid": board["folder"],
        }

    def delete_board(self, uid: str, _data: Json, _query: Json) -> Answer:
        if self.boards.pop(uid, None) is None:
            return 404, {"message": "Dashboard not found"}
        return 200, {"title": uid, "message": f"Dashboard {uid} deleted", "id": 1}

    def list_versions(self, uid: str, _data: Json, query: Json) -> Answer:
        if uid not in self.boards:
            return 404, {"message": "Dashboard not found"}
        self._check_fields("versions", query, {"limit", "start"})
        limit = int(query.get("limit", ["0"])[0]) or None
        listed = [self._version(uid, board) for board in reversed(self.boards[uid])][:limit]
        for item in listed:
            if item["parentVersion"] == 0:
                item["message"] = "Initial save"  # Grafana hides the message here
        return 200, {"continueToken": "", "versions": listed} if self.migrates else listed

    def get_version(self, uid: str, number: str, _data: Json, _query: Json) -> Answer:
        for board in self.boards.get(uid, []):
            if board["version"] == int(number):
                return 200, self._version(uid, board) | {"data": board["model"]}
        return 404, {"message": "Dashboard version not found"}

    def _version(self, uid: str, board: Json) -> Json:
        return {
            "id": board["version"],
            "dashboardId": board["id"],
            "uid": uid,
            "parentVersion": board["version"] - 1,
            "restoredFrom": 0,
            "version": board["version"],
            "created": "2026-01-01T12:00:00Z",
            "createdBy": board["who"],
            "message": board["message"],
        }

    # ---------------------------------------------------------------------------------- folders

    def list_folders(self, _data: Json, query: Json) -> Answer:
        self._check_fields("GET /folders", query, {"limit"})
        return 200, list(self.folders.values())

    def get_folder(self, uid: str, _data: Json, _query: Json) -> Answer:
        if uid not in self.folders:
            if self.role == "Editor" and self.version < FOLDER_TOLD:
                text = "You'll need additional permissions to perform this action. Needed: "
                return 403, {"message": f"{text}folders:read", "title": "Access denied"}
            return 404, {"message": "folder not found", "status": "not-found"}
        return 200, self.folders[uid]

    def create_folder(self, data: Json, _query: Json) -> Answer:
        self._check_fields("POST /folders", data, {"uid", "title", "parentUid"})
        if not data.get("title"):
            return 400, {"message": "folder title cannot be empty"}
        if not UID.fullmatch(data.get("uid", "")):
            return 400, {"message": "uid contains illegal characters"}
        if data["uid"] in self.folders:
            return 409, {"message": "a folder/dashboard with the same uid already exists"}
        folder = {"id": len(self.folders) + 1, "uid": data["uid"], "title": data["title"]}
        self.folders[data["uid"]] = folder | {"version": 1, "canSave": True}
        return 200, self.folders[data["uid"]]

    def update_folder(self, uid: str, data: Json, _query: Json) -> Answer:
        self._check_fields("PUT /folders", data, {"title", "version", "overwrite"})
        if uid not in self.folders:
            return 404, {"message": "folder not found", "status": "not-found"}
        folder = self.folders[uid]
        if data.get("version") != folder["version"] and not data.get("overwrite"):
            message = "the folder has been changed by someone else"
            return 412, {"status": "version-mismatch", "message": message}
        folder |= {"title": data["title"], "version": folder["version"] + 1}
        return 200, folder

    def delete_folder(self, uid: str, _data: Json, query: Json) -> Answer:
        self._check_fields("DELETE /folders", query, {"forceDeleteRules"})
        if self.folders.pop(uid, None) is None:
            return 404, {"message": "folder not found", "status": "not-found"}
        self.boards = {k: v for k, v in self.boards.items() if v[-1]["folder"] != uid}
        self.groups = {k: v for k, v in self.groups.items() if k[0] != uid}
        return 200, {"message": "Folder deleted", "id": 1}

    # ----------------------------------------------------------------------------- data sources

    def get_source(self, uid: str, _data: Json, _query: Json) -> Answer:
        if uid not in self.sources:
            return 404, {"message": "Data source not found"}
        return 200, self.sources[uid]

    def create_source(self, data: Json, _query: Json) -> Answer:
        if refused := self._source_refused(data, "create"):
            return refused
        if any(data["name"] == other["name"] for other in self.sources.values()):
            return 409, {"message": "data source with the same name already exists"}
        if data.get("uid") in self.sources:
            return 409, {"message": "data source with the same uid already exists"}
        return self._keep_source(data, len(self.sources) + 1, 1, "Datasource added")

    def update_source(self, uid: str, data: Json, _query: Json) -> Answer:
        if refused := self._source_refused(data, "write"):
            return refused
        if uid not in self.sources:
            return 404, {"message": "Data source not found"}
        old = self.sources[uid]
        if old["readOnly"]:
            return 403, {"message": "Cannot update read-only data source"}
        return self._keep_source(data, old["id"], old["version"] + 1, "Datasource updated")

    def delete_source(self, uid: str, _data: Json, _query: Json) -> Answer:
        if self.sources.pop(uid, None) is None:
            return 404, {"message": "Data source not found"}
        return 200, {"message": "Data source deleted", "id": 1}

    def _source_refused(self, data: Json, action: str) -> Answer | None:
        self._check_fields("data source", data, _SOURCE_KEYS)
        if self.role != "Admin":
            needed = f"datasources:{action}"
            text = f"You'll need additional permissions to perform this action. Needed: {needed}"
            return 403, {"message": text, "title": "Access denied", "accessErrorId": "ACE1"}
        if not all(data.get(key) for key in ("name", "type", "access")):
            return 400, {"message": "bad request data"}
        if not re.match(r"https?://[^/]+", data.get("url", "")):
            return 400, {"message": "Validation error, invalid URL"}
        json_data, secrets = data.get("jsonData", {}), data.get("secureJsonData", {})
        if data["type"] == "influxdb" and json_data.get("version") != "Flux":
            self.flaws.append("jsonData.version of the data source is not Flux")
        if not all(isinstance(secret, str) and secret for secret in secrets.values()):
            self.flaws.append("secureJsonData contains values that are not texts")
        return None

    def _keep_source(self, data: Json, number: int, version: int, message: str) -> Answer:
        public = {key: item for key, item in data.items() if key != "secureJsonData"}
        secrets = self.secrets.setdefault(data["uid"], {})
        secrets |= data.get("secureJsonData", {})
        public.setdefault("isDefault", False)
        public |= {
            "id": number,
            "orgId": 1,
            "version": version,
            "readOnly": False,
            "user": "",
            "database": "",
            "withCredentials": False,
            "secureJsonFields": dict.fromkeys(secrets, True),
        }
        self.sources[data["uid"]] = public
        return 200, {"datasource": public, "id": number, "message": message, "name": data["name"]}

    # ------------------------------------------------------------------------------------ rules

    def get_group(self, folder: str, name: str, _data: Json, _query: Json) -> Answer:
        if (folder, name) not in self.groups:
            return 404, {"message": "rule group not found", "messageId": "alerting.alertRuleGroup"}
        return 200, self.groups[folder, name]

    def get_rule(self, uid: str, _data: Json, _query: Json) -> Answer:
        for group in self.groups.values():
            for rule in group["rules"]:
                if rule["uid"] == uid:
                    return 200, rule
        return 404, None

    def create_rule(self, data: Json, _query: Json) -> Answer:
        self.flaws += rule_flaws(data)
        if self.get_rule(data["uid"], {}, {})[0] == 200:
            return 409, {"message": "rule already exists"}
        if data["folderUID"] not in self.folders:
            return 400, _bad_rule("folder does not exist")
        key = (data["folderUID"], data["ruleGroup"])
        group = self.groups.setdefault(
            key, {"title": key[1], "folderUid": key[0], "interval": 60, "rules": []}
        )
        group["rules"].append(self._kept_rule(data, len(group["rules"]) + 1))
        return 201, data

    def save_group(self, folder: str, name: str, data: Json, _query: Json) -> Answer:
        self._check_fields("rule group", data, {"title", "folderUid", "interval", "rules"})
        interval = data.get("interval")
        if not isinstance(interval, int) or interval <= 0 or interval % 10:
            return 400, _bad_rule("interval should be a positive multiple of 10 seconds")
        if folder not in self.folders:
            return 400, _bad_rule("folder does not exist")
        for rule in data["rules"]:
            self.flaws += rule_flaws(rule)
            if self.version < UNKNOWN_RULE_FIXED and self.get_rule(rule["uid"], {}, {})[0] == 404:
                return 500, {"message": "failed to update rule group", "traceID": ""}
            if (rule["folderUID"], rule["ruleGroup"]) != (folder, name):
                self.flaws.append(f"rule {rule['title']}: wrong group or folder")
            owner = self.provenance.get(rule["uid"], "api")
            if owner != "api":
                text = f"cannot update with provided provenance 'api', needs '{owner}'"
                return 409, {"message": text, "messageId": "alerting.provenanceMismatch"}
        titles = [
            rule["title"]
            for key, group in {**self.groups, (folder, name): data}.items()
            for rule in group["rules"]
            if key[0] == folder
        ]
        if len(titles) != len(set(titles)):
            return 400, _bad_rule("a conflicting alert rule is found: title should be unique")
        rules = [self._kept_rule(rule, at) for at, rule in enumerate(data["rules"], 1)]
        self.groups[folder, name] = data | {"title": name, "folderUid": folder, "rules": rules}
        return 200, data

    def _kept_rule(self, rule: Json, number: int) -> Json:
        kept = copy.deepcopy(rule)
        if self.version < FOLDER_TOLD:
            kept.pop("isPaused", None)
        for part in kept["data"]:
            part["model"] = {"intervalMs": 1000, "maxDataPoints": 43_200} | part["model"]
        return kept | {
            "id": number,
            "orgID": 1,
            "updated": "2026-01-01T12:00:00Z",
            "provenance": "api",
            "notification_settings": None,
            "record": None,
            "keep_firing_for": "0s",
        }

    def _handler(fake) -> Callable[..., BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                found = fake.answer(self.command, self.path, self.headers, body)
                status, text = (200, found) if isinstance(found, bytes) else _sent(found)
                with suppress(OSError):  # the client has timed out
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json; charset=UTF-8")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _sent(answer: Answer) -> tuple[int, bytes]:
    status, page = answer
    return status, b"" if page is None else json.dumps(_as_go(page)).encode()


def _as_go(value: Any) -> Any:
    """The value as Go writes it: whole floats without a decimal point."""
    if isinstance(value, dict):
        return {key: _as_go(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_go(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bad_rule(detail: str) -> Json:
    return {"message": f"invalid alert rule: {detail}", "traceID": ""}


_NAME = r"([^/]+)"
_GROUP = rf"/v1/provisioning/folder/{_NAME}/rule-groups/{_NAME}"
_ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", rf"/dashboards/uid/{_NAME}", FakeGrafana.get_board),
    ("DELETE", rf"/dashboards/uid/{_NAME}", FakeGrafana.delete_board),
    ("GET", rf"/dashboards/uid/{_NAME}/versions", FakeGrafana.list_versions),
    ("GET", rf"/dashboards/uid/{_NAME}/versions/(\d+)", FakeGrafana.get_version),
    ("POST", r"/dashboards/db", FakeGrafana.save_board),
    ("GET", r"/folders", FakeGrafana.list_folders),
    ("GET", rf"/folders/{_NAME}", FakeGrafana.get_folder),
    ("PUT", rf"/folders/{_NAME}", FakeGrafana.update_folder),
    ("DELETE", rf"/folders/{_NAME}", FakeGrafana.delete_folder),
    ("POST", r"/folders", FakeGrafana.create_folder),
    ("GET", rf"/datasources/uid/{_NAME}", FakeGrafana.get_source),
    ("PUT", rf"/datasources/uid/{_NAME}", FakeGrafana.update_source),
    ("DELETE", rf"/datasources/uid/{_NAME}", FakeGrafana.delete_source),
    ("POST", r"/datasources", FakeGrafana.create_source),
    ("GET", rf"/v1/provisioning/alert-rules/{_NAME}", FakeGrafana.get_rule),
    ("POST", r"/v1/provisioning/alert-rules", FakeGrafana.create_rule),
    ("GET", _GROUP, FakeGrafana.get_group),
    ("PUT", _GROUP, FakeGrafana.save_group),
]
