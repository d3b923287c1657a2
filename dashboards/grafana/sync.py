"""Compare Grafana with the dashboards of a site, push them, or pull Grafana's versions.

`compare` reads everything once and changes nothing; `push` compares and then writes the
differences. A second push changes nothing.

A push writes a digest of the board into the message of its version. A board is the same if its last
version carries the digest of the board in the code, so additions by a newer Grafana do not count as
differences. A board that another user saved last is compared by content and not overwritten unless
forced: `push` refuses before it writes anything. Grafana keeps every version. A board that a
provisioning file owns is never written; `push` refuses, whether it is forced or not.

A server may leave out a field that has its default value, so an absent field equals null, false, 0
and an empty text, list or object, everywhere but in boards.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from dashboards.alerts.alert import Group
from dashboards.errors import GrafanaConflict, GrafanaMissing
from dashboards.grafana.client import GrafanaClient, Save
from dashboards.grafana.provision import canonical, write
from dashboards.site import SiteDashboards
from dashboards.visuals.views import Json

__all__ = ["Difference", "State", "compare", "pull", "push"]

State = Literal["same", "missing", "different"]

_PUSH_MESSAGE = "kpstream push "
_BOARD_SERVER_KEYS = ("id", "version")
_RULE_SERVER_KEYS = ("id", "orgID", "updated", "provenance")
_RULE_FOREIGN_KEYS = ("notification_settings", "record")
_TOKEN_DIGEST = "kpstreamTokenDigest"  # noqa: S105 (a name)

_OWNED = "a provisioning file owns it: change the file, or remove it and push again"
_CONFLICT_ADVICE = (
    "If another user has just saved it, check `kpstream dashboards diff` and push again; "
    "`--force` overwrites it. If a provisioning file owns it, change it by files only"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One data source, folder, board or group of alerts, compared with Grafana.

    Attributes:
        kind: `data source`, `folder`, `board` or `alerts`.
        name: Uid; of alerts the name of the group.
        state: Result of the comparison.
        lines: Unified diff from Grafana's version to the code; may be empty.
        other_save: Another user's save since the last push, "" without one; a push then needs
            force.
        is_owned: Whether a provisioning file owns it, so that no push can write it.
        write: Writes the version of the code; True forces.
    """

    kind: str
    name: str
    state: State
    lines: tuple[str, ...]
    other_save: str
    write: Callable[[bool], None]
    is_owned: bool = False

    def __str__(self) -> str:
        outcomes = {"same": "matches the code", "missing": "missing", "different": "differs"}
        why = _OWNED if self.is_owned and self.state != "same" else self.other_save
        return f"{self.kind} {self.name}: {outcomes[self.state]}" + (f" ({why})" if why else "")


def compare(
    client: GrafanaClient, site: SiteDashboards, source_token: SecretStr | None = None
) -> list[Difference]:
    """Compare everything of a site with Grafana, in the order in which a push creates it.

    Args:
        client: Client of the Grafana.
        site: Boards, alerts and data source of the code.
        source_token: InfluxDB token for the data source; None if the data source is managed
            elsewhere; it must then exist.

    Raises:
        GrafanaMissing: There is no data source, and no token to create it with.
    """
    return [
        _compare_source(client, site, source_token),
        _compare_folder(client, site),
        *(_compare_board(client, site, uid) for uid in site.boards),
        *(_compare_group(client, site, group) for group in site.groups),
    ]


def push(
    client: GrafanaClient,
    site: SiteDashboards,
    source_token: SecretStr | None = None,
    *,
    force: bool = False,
) -> Iterator[Difference]:
    """Create missing items and update differing ones; yield each item once it matches.

    Args:
        client: Client of the Grafana.
        site: Boards, alerts and data source of the code.
        source_token: InfluxDB token for the data source, as in `compare`.
        force: Overwrite boards that another user saved since the last push.

    Raises:
        GrafanaConflict: A provisioning file owns a board that differs, or another user saved a
            board since the last push and `force` is False; nothing is written in both cases. Or a
            user saved it during the push, or a provisioning file owns something else.
    """
    items = compare(client, site, source_token)
    owned = [str(item) for item in items if item.is_owned and item.state == "different"]
    if owned:
        listed = "\n  ".join(owned)
        msg = f"Grafana has boards that differ from the code:\n  {listed}\nNothing was written"
        raise GrafanaConflict(msg)
    conflicts = [str(item) for item in items if item.other_save and item.state == "different"]
    if conflicts and not force:
        msg = (
            "boards were changed in Grafana since the last push:\n  "
            + "\n  ".join(conflicts)
            + "\n"
            "Nothing was written. `kpstream dashboards diff` shows the changes, `pull` writes them "
            "to JSON files, `push --force` overwrites them (Grafana keeps the old versions)"
        )
        raise GrafanaConflict(msg)
    for item in items:
        if item.state != "same":
            try:
                item.write(force)
            except GrafanaConflict as exc:
                msg = f"{item.kind} {item.name} was not written: {exc}. {_CONFLICT_ADVICE}"
                raise GrafanaConflict(msg) from exc
        yield item


def pull(client: GrafanaClient, site: SiteDashboards, folder: Path) -> list[Path]:
    """Write Grafana's versions of the site's boards and alerts as normalised JSON.

    Returns:
        Files below `json/` and `alerts/` that are new or changed.
    """
    files: dict[str, str] = {}
    for uid in site.boards:
        board_and_meta = client.board(uid)
        if board_and_meta is not None:
            files[f"json/{uid}.json"] = canonical(_without(board_and_meta[0], _BOARD_SERVER_KEYS))
    for group in site.groups:
        current = client.group(site.folder_uid, group.name)
        if current is not None:
            rules = [_without(rule, _RULE_SERVER_KEYS) for rule in current["rules"]]
            name = group.name.replace(" ", "-")
            files[f"alerts/{name}.json"] = canonical(current | {"rules": rules})
    return write(files, folder)


def _compare_board(client: GrafanaClient, site: SiteDashboards, uid: str) -> Difference:
    wanted = site.board_json(uid)
    message = _PUSH_MESSAGE + _digest(canonical(wanted))

    def save_to_grafana(force: bool) -> None:
        client.save_board(wanted, site.folder_uid, message, version=version, force=force)

    board_and_meta = client.board(uid)
    version: int | None = None
    if board_and_meta is None:
        return Difference("board", uid, "missing", (), "", save_to_grafana)
    current, meta = board_and_meta
    version = int(current.get("version", 0))
    moved = str(meta.get("folderUid") or "") != site.folder_uid
    save = client.last_save(uid)
    if save is not None and save.version == version and save.message == message:
        lines: tuple[str, ...] = ()
    else:
        lines = _diff(_without(current, _BOARD_SERVER_KEYS), wanted, uid)
    if moved:
        lines = (
            f"in folder {meta.get('folderUid') or 'root'!r} instead of {site.folder_uid!r}",
            *lines,
        )
    state: State = "different" if lines else "same"
    is_owned = bool(meta.get("provisioned"))
    other_save = "" if is_owned else _other_save(save)
    return Difference("board", uid, state, lines, other_save, save_to_grafana, is_owned)


def _other_save(save: Save | None) -> str:
    if save is None or save.message.startswith(_PUSH_MESSAGE):
        return ""
    return f"version {save.version} was saved by {save.who} at {save.when}"


def _compare_group(client: GrafanaClient, site: SiteDashboards, group: Group) -> Difference:
    wanted = site.group_json(group)

    def save_to_grafana(_force: bool) -> None:
        client.save_group(site.folder_uid, wanted)

    current = client.group(site.folder_uid, group.name)
    if current is None:
        return Difference("alerts", group.name, "missing", (), "", save_to_grafana)
    lines = _diff(_compared_parts(current, wanted), _compared_parts(wanted, wanted), group.name)
    return Difference(
        "alerts", group.name, "different" if lines else "same", lines, "", save_to_grafana
    )


def _compared_parts(group: Json, wanted: Json) -> Json:
    """The parts of a group to compare: the keys of the code, and options that change its effect."""
    keys = (set(wanted["rules"][0]) | set(_RULE_FOREIGN_KEYS)) - set(_RULE_SERVER_KEYS)
    rules = [
        _without_defaults({key: rule[key] for key in keys if key in rule})
        for rule in group["rules"]
    ]
    return {
        "interval": group["interval"],
        "rules": sorted(rules, key=lambda rule: str(rule.get("uid"))),
    }


def _compare_folder(client: GrafanaClient, site: SiteDashboards) -> Difference:
    uid, title = site.folder_uid, site.folder_title
    current = client.folder(uid)

    def save_to_grafana(_force: bool) -> None:
        if current is None:
            client.create_folder(uid, title)
        else:
            client.rename_folder(uid, title, int(current.get("version", 1)))

    if current is None:
        return Difference("folder", uid, "missing", (), "", save_to_grafana)
    lines = _diff({"title": current["title"]}, {"title": title}, uid)
    return Difference("folder", uid, "different" if lines else "same", lines, "", save_to_grafana)


def _compare_source(
    client: GrafanaClient, site: SiteDashboards, token: SecretStr | None
) -> Difference:
    uid = site.source.uid
    current = client.source(uid)
    if token is None:
        if current is None:
            msg = (
                f"Grafana has no data source with the uid {uid}: set KPSTREAM_GRAFANA_INFLUX_TOKEN "
                "(a token that may read the buckets) so that push creates it, or create it in "
                "Grafana"
            )
            raise GrafanaMissing(msg)
        return Difference("data source", uid, "same", (), "", lambda _force: None)
    wanted = site.source.json()
    wanted["jsonData"][_TOKEN_DIGEST] = _digest(f"{uid} {token.get_secret_value()}")

    def save_to_grafana(_force: bool) -> None:
        body = wanted | {"secureJsonData": {"token": token.get_secret_value()}}
        if current is None:
            client.create_source(body)
        else:
            kept = {"isDefault": bool(current.get("isDefault"))}
            body["jsonData"] = current["jsonData"] | wanted["jsonData"]
            client.update_source(body | kept)

    if current is None:
        return Difference("data source", uid, "missing", (), "", save_to_grafana)
    found = _without_defaults(_counterparts(current, wanted))
    lines = _diff(found, _without_defaults(wanted), uid)
    return Difference(
        "data source", uid, "different" if lines else "same", lines, "", save_to_grafana
    )


def _counterparts(current: Any, wanted: Any) -> Any:
    """The parts of `current` that have a counterpart in `wanted`."""
    if isinstance(wanted, dict) and isinstance(current, dict):
        return {key: _counterparts(current.get(key), item) for key, item in wanted.items()}
    return current


def _without_defaults(value: Any) -> Any:
    """The value without the fields that a server may leave out, because they have their default."""
    if isinstance(value, dict):
        kept = {key: _without_defaults(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in (None, False, "", [], {})}
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    return value


def _without(value: Json, keys: tuple[str, ...]) -> Json:
    return {key: item for key, item in value.items() if key not in keys}


def _diff(current: Any, wanted: Any, name: str) -> tuple[str, ...]:
    before, after = canonical(current).splitlines(), canonical(wanted).splitlines()
    return tuple(
        difflib.unified_diff(before, after, f"Grafana/{name}", f"code/{name}", lineterm="", n=2)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
