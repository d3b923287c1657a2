"""Grafana's HTTP API: boards, folders, data sources and alert rules, by uid.

This is the only importer of grafana-api, a library of 2020 that sends a request with the right
authentication. The client corrects the rest: empty answers, exceptions of `requests` that the
library lets through, names in paths. It addresses everything by uid, because newer versions of
Grafana disable numeric ids.

It works with Grafana 9 to 13. The token belongs to a service account with the role Editor, or Admin
to create the data source too. Answers that differ between versions are handled where they arise:
a folder that an Editor may not know of (`folder`), rules that a group may not add (`save_group`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from dashboards.errors import (
    DashboardsError,
    GrafanaConflict,
    GrafanaDenied,
    GrafanaMissing,
    GrafanaRefused,
    GrafanaUnavailable,
)
from dashboards.visuals.views import Json
from ingest.extras import install_command
from ingest.secrettext import checked_secret, error_text, hide_secrets

__all__ = ["GrafanaClient", "Save"]

_RULES = "/v1/provisioning/alert-rules"
_MOST_FOLDERS = 1000
_FIRST_SAVE = "Initial save"
"""Message that the list of versions shows for the first version, whatever was given."""


@dataclass(frozen=True, slots=True)
class Save:
    """The last save of a board.

    Attributes:
        version: Number of the version.
        message: Message given with it; "" for none.
        who: Login of the user or service account.
        when: Time, as Grafana writes it.
    """

    version: int
    message: str
    who: str
    when: str


class GrafanaClient:
    """A client of one Grafana. Not thread-safe."""

    def __init__(
        self, url: str, token: SecretStr, *, timeout_s: float = 10.0, ca_file: str | None = None
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            url: Address, such as `https://grafana.example:3000/path`.
            token: Token of a service account; no message shows it.
            timeout_s: Maximum seconds to wait for a connection or an answer.
            ca_file: File of certificates to trust instead of those of the system.

        Raises:
            DashboardsError: The URL is invalid, or grafana-api is not installed.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = url.rpartition("@")[2]
            msg = f"invalid URL of Grafana {shown!r}: it must look like http://127.0.0.1:3000"
            raise DashboardsError(msg)
        try:
            secret = checked_secret(token).get_secret_value()
        except ValueError as exc:
            msg = f"KPSTREAM_GRAFANA_TOKEN {error_text(exc)}"
            raise DashboardsError(msg) from None
        try:
            from grafana_api.grafana_face import GrafanaFace
        except ImportError as exc:
            msg = f"grafana-api is not installed: run {install_command('site')}"
            raise DashboardsError(msg) from exc
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        prefix = parts.path.strip("/")
        self.url = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
        self.url += f"/{prefix}" if prefix else ""
        self._face = GrafanaFace(
            auth=secret,
            host=host,
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            verify=ca_file or True,
            timeout=timeout_s,
        )

    def close(self) -> None:
        """Close the connections."""
        self._face.api.s.close()

    # ------------------------------------------------------------------------------------ boards

    def board(self, uid: str) -> tuple[Json, Json] | None:
        """A board and its `meta`; None if there is none."""
        found = self._find(f"/dashboards/uid/{_quoted(uid)}")
        return None if found is None else (found["dashboard"], found["meta"])

    def last_save(self, uid: str) -> Save | None:
        """The last save of a board; None if Grafana does not disclose it."""
        path = f"/dashboards/uid/{_quoted(uid)}/versions"
        try:
            found = self._find(f"{path}?limit=1")
        except GrafanaDenied:
            return None
        versions = found.get("versions") if isinstance(found, dict) else found
        if not versions:
            return None
        last = versions[0]
        if last.get("message") == _FIRST_SAVE:
            try:
                last |= self._find(f"{path}/{int(last['version'])}") or {}
            except (GrafanaDenied, GrafanaUnavailable):
                return None
        return Save(
            version=int(last["version"]),
            message=str(last.get("message") or ""),
            who=str(last.get("createdBy") or "somebody"),
            when=str(last.get("created") or ""),
        )

    def save_board(
        self, board: Json, folder_uid: str, message: str, *, version: int | None, force: bool
    ) -> int:
        """Save a board and return its new version.

        Args:
            board: JSON of the board, with its uid.
            folder_uid: Uid of the folder of the board.
            message: Message for the list of versions.
            version: Version that this save replaces; None for a new board.
            force: Replace whatever version Grafana has.

        Raises:
            GrafanaConflict: Grafana has another version, or a provisioning file owns the board.
        """
        model = dict(board) | ({} if version is None else {"version": version})
        body = {
            "dashboard": model,
            "folderUid": folder_uid,
            "message": message,
            "overwrite": force,
        }
        return int(self._call("POST", "/dashboards/db", body)["version"])

    # ----------------------------------------------------------------------------------- folders

    def folder(self, uid: str) -> Json | None:
        """A folder; None if there is none.

        Grafana 9 denies an Editor a folder that does not exist; the list of folders then decides.
        """
        found: Json | None
        try:
            found = self._find(f"/folders/{_quoted(uid)}")
        except GrafanaDenied:
            listed = self._call("GET", f"/folders?limit={_MOST_FOLDERS}")
            if any(folder.get("uid") == uid for folder in listed):
                raise
            found = None
        return found

    def create_folder(self, uid: str, title: str) -> None:
        """Create a folder."""
        self._call("POST", "/folders", {"uid": uid, "title": title})

    def rename_folder(self, uid: str, title: str, version: int) -> None:
        """Change the title of a folder."""
        self._call("PUT", f"/folders/{_quoted(uid)}", {"title": title, "version": version})

    def delete_folder(self, uid: str) -> None:
        """Delete a folder with its boards and alert rules."""
        self._call("DELETE", f"/folders/{_quoted(uid)}?forceDeleteRules=true")

    # ------------------------------------------------------------------------------ data sources

    def source(self, uid: str) -> Json | None:
        """A data source without its secrets; None if there is none."""
        found: Json | None = self._find(f"/datasources/uid/{_quoted(uid)}")
        return found

    def create_source(self, source: Json) -> None:
        """Create a data source."""
        self._call("POST", "/datasources", source)

    def update_source(self, source: Json) -> None:
        """Update a data source."""
        self._call("PUT", f"/datasources/uid/{_quoted(source['uid'])}", source)

    def delete_source(self, uid: str) -> None:
        """Delete a data source."""
        self._call("DELETE", f"/datasources/uid/{_quoted(uid)}")

    # ------------------------------------------------------------------------------- alert rules

    def group(self, folder_uid: str, name: str) -> Json | None:
        """A group of alert rules; None if there is none."""
        found: Json | None = self._find(_group_path(folder_uid, name))
        return found

    def save_group(self, folder_uid: str, group: Json) -> None:
        """Replace a group of alert rules; Grafana deletes rules that it no longer holds.

        Rules that Grafana does not have are created one by one first, because before 11.5.2 it
        answers 500 to a group with a rule whose uid it does not know.
        """
        for rule in group["rules"]:
            if self._find(f"{_RULES}/{_quoted(rule['uid'])}") is None:
                self._call("POST", _RULES, rule)
        self._call("PUT", _group_path(folder_uid, group["title"]), group)

    # ---------------------------------------------------------------------------------- requests

    def _find(self, path: str) -> Any:
        try:
            return self._call("GET", path)
        except GrafanaMissing:
            return None

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        """Send one request and return the JSON of its answer; None for an empty answer.

        Raises:
            DashboardsError: The subclass that fits the failure.
        """
        from grafana_api.grafana_api import GrafanaException
        from requests.exceptions import JSONDecodeError, RequestException

        request = f"{method} {path.partition('?')[0]}"
        try:
            return getattr(self._face.api, method)(path, json=body)
        except GrafanaException as exc:
            raise _error_of(exc.status_code, exc.response, request, self.url) from exc
        except JSONDecodeError as exc:
            if not exc.doc:  # 202 and 204 have no body
                return None
            msg = f"{self.url} answers {request} with no JSON; check that this is Grafana's URL"
            raise GrafanaRefused(msg) from exc
        except TypeError as exc:  # grafana-api fails on an error whose body is a number or null
            msg = (
                f"{self.url} refuses {request} in a form that Grafana does not use; "
                "check that this is Grafana's URL"
            )
            raise GrafanaRefused(msg) from exc
        except RequestException as exc:
            why = error_text(exc, named=True)
            msg = f"Grafana at {self.url} does not answer {request}: {why}"
            raise GrafanaUnavailable(msg) from exc


def _error_of(status: int, response: Any, request: str, url: str) -> DashboardsError:
    """The error for an answer that is not 2xx, with Grafana's own reason."""
    reason = response.get("message", "") if isinstance(response, dict) else str(response or "")
    reason = hide_secrets(str(reason))
    text = f"Grafana at {url} answers {request} with {status}: {reason or 'no reason given'}"
    if status == 401:
        return GrafanaDenied(f"{text}. Check KPSTREAM_GRAFANA_TOKEN")
    if status == 403:
        return GrafanaDenied(
            f"{text}. Use a token with a sufficient role; if a provisioning file owns it, "
            "change the file"
        )
    if status == 404:
        return GrafanaMissing(text)
    if status in (409, 412):
        return GrafanaConflict(text)
    if status == 400 and "provisioned" in reason.lower():
        return GrafanaConflict(f"{text}. A provisioning file owns it: change or remove the file")
    if status >= 500 or status == 429:
        return GrafanaUnavailable(text)
    return GrafanaRefused(text)


def _group_path(folder_uid: str, name: str) -> str:
    return f"/v1/provisioning/folder/{_quoted(folder_uid)}/rule-groups/{_quoted(name)}"


def _quoted(name: str) -> str:
    return quote(name, safe="")
