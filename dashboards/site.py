"""All that Grafana shall have, in one object: data source, folder, boards, alert rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.alerts.alert import Group
from dashboards.alerts.rules import alert_groups
from dashboards.boards.account import account_board
from dashboards.boards.activity import activity_board
from dashboards.boards.device import device_board
from dashboards.boards.fleet import fleet_board
from dashboards.boards.model import model_board
from dashboards.boards.pipeline import pipeline_board
from dashboards.visuals.board import SOURCE_UID, TAG, Board
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import SOURCE_TYPE
from dashboards.visuals.views import Json

__all__ = ["HOURLY_BUCKET", "MAX_SERIES", "SiteDashboards", "Source", "is_uid", "site_dashboards"]

HOURLY_BUCKET = "kpstream-hourly"
"""Default name of the bucket of hours; a test compares it with `pipeline.stores.influxlayout`."""


MAX_SERIES = 10_000
"""Series that an answer may have: an alert has one per device."""


def is_uid(uid: str) -> bool:
    """Whether Grafana takes it as a uid of ours: 1 to 40 of a-z A-Z 0-9 - _.

    >>> is_uid("kpstream-fleet"), is_uid("a/b"), is_uid("x" * 41), is_uid("")
    (True, False, False, False)
    """
    return re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) is not None


@dataclass(frozen=True, slots=True)
class Source:
    """Grafana's data source for one site's InfluxDB.

    Attributes:
        uid: boards choose it at first, alerts ask it.
        name: as listed in Grafana.
        url: where Grafana's server finds InfluxDB.
        org, bucket: of InfluxDB.
    """

    uid: str = SOURCE_UID
    name: str = TAG
    url: str = "http://127.0.0.1:8086"
    org: str = "kpstream"
    bucket: str = "kpstream"

    def json(self) -> Json:
        """The data source as Grafana's API takes it, without the token."""
        return {
            "uid": self.uid,
            "name": self.name,
            "type": SOURCE_TYPE,
            "access": "proxy",
            "url": self.url,
            "basicAuth": False,
            "jsonData": {
                "version": "Flux",
                "organization": self.org,
                "defaultBucket": self.bucket,
                "maxSeries": MAX_SERIES,
            },
        }


@dataclass(frozen=True, slots=True)
class SiteDashboards:
    """What a site shows.

    Attributes:
        boards: uid -> board.
        groups: alert rules.
        source: what boards and alerts ask.
        folder_uid, folder_title: where boards and rules are.
        org_id: Grafana's organisation.
    """

    boards: Mapping[str, Board]
    groups: Sequence[Group]
    source: Source = field(default_factory=Source)
    folder_uid: str = TAG
    folder_title: str = TAG
    org_id: int = 1

    def board_json(self, uid: str) -> Json:
        """One board, with this site's data source as its first choice."""
        found = self.boards[uid].json()
        source = found["templating"]["list"][0]
        source["current"] |= {"text": self.source.name, "value": self.source.uid}
        return found

    def group_json(self, group: Group) -> Json:
        """One group of rules, as the provisioning API takes it."""
        return {
            "title": group.name,
            "folderUid": self.folder_uid,
            "interval": group.interval_s,
            "rules": [
                rule.api_json(
                    self.boards,
                    org_id=self.org_id,
                    folder_uid=self.folder_uid,
                    group=group.name,
                    source_uid=self.source.uid,
                )
                for rule in group.rules
            ],
        }


def site_dashboards(
    limits: Limits | None = None,
    *,
    source: Source | None = None,
    hourly_bucket: str = HOURLY_BUCKET,
    folder_uid: str = TAG,
    folder_title: str = TAG,
    org_id: int = 1,
) -> SiteDashboards:
    """The six boards and all alerts of a site."""
    limits = limits or Limits()
    boards = (
        fleet_board(limits),
        device_board(limits, hourly_bucket),
        activity_board(limits),
        model_board(limits),
        pipeline_board(limits),
        account_board(limits),
    )
    return SiteDashboards(
        {board.uid: board for board in boards},
        alert_groups(limits),
        source or Source(),
        folder_uid,
        folder_title,
        org_id,
    )
