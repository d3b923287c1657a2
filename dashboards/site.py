"""Everything that Grafana shows of a site: data source, folder, boards, alert rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dashboards.alerts.alert import Group
from dashboards.alerts.rules import alert_groups
from dashboards.boards.account import account_board
from dashboards.boards.device import device_board
from dashboards.boards.fleet import fleet_board
from dashboards.boards.model import model_board
from dashboards.boards.pipeline import pipeline_board
from dashboards.boards.registry import panels_of
from dashboards.boards.rollout import rollout_board
from dashboards.visuals.board import Board
from dashboards.visuals.limits import Limits
from dashboards.visuals.panels import SOURCE_TYPE
from dashboards.visuals.variables import SOURCE_NAME, SOURCE_UID
from dashboards.visuals.views import Json
from models.tasks.contract import Task
from models.tasks.registry import tasks as known_tasks
from pipeline.stores.influxlayout import HOURLY_BUCKET

__all__ = [
    "FOLDER",
    "MAX_SERIES",
    "DataSource",
    "SiteDashboards",
    "is_uid",
    "site_dashboards",
]

FOLDER = "kpstream"
"""Default uid and title of the folder with boards and alert rules."""

MAX_SERIES = 10_000
"""Maximum series of one answer; an alert has one series per device."""


def is_uid(uid: str) -> bool:
    """Whether Grafana accepts the uid: 1 to 40 characters of a-z A-Z 0-9 - _.

    >>> is_uid("kpstream-fleet"), is_uid("a/b"), is_uid("x" * 41), is_uid("")
    (True, False, False, False)
    """
    return re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid) is not None


@dataclass(frozen=True, slots=True)
class DataSource:
    """Grafana's data source for the InfluxDB of a site.

    Attributes:
        uid: Uid; boards select it at first and alerts query it.
        name: Name in Grafana's list.
        url: Address of InfluxDB as Grafana's server reaches it.
        org: InfluxDB organisation.
        bucket: InfluxDB bucket of scores and accounts.
    """

    uid: str = SOURCE_UID
    name: str = SOURCE_NAME
    url: str = "http://127.0.0.1:8086"
    org: str = "kpstream"
    bucket: str = "kpstream"

    def json(self) -> Json:
        """The data source as Grafana's API accepts it, without the token."""
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
    """Boards and alert rules of a site.

    Attributes:
        boards: Boards by uid.
        groups: Groups of alert rules.
        source: Data source that boards and alerts query.
        folder_uid: Uid of the folder with boards and rules.
        folder_title: Title of the folder.
        org_id: Grafana's organisation.
    """

    boards: Mapping[str, Board]
    groups: Sequence[Group]
    source: DataSource = field(default_factory=DataSource)
    folder_uid: str = FOLDER
    folder_title: str = FOLDER
    org_id: int = 1

    def board_json(self, uid: str) -> Json:
        """One board, with the data source of the site selected."""
        found = self.boards[uid].json()
        source = found["templating"]["list"][0]
        source["current"] |= {"text": self.source.name, "value": self.source.uid}
        return found

    def group_json(self, group: Group) -> Json:
        """One group of rules, as the provisioning API accepts it."""
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
    tasks: Sequence[Task] | None = None,
    source: DataSource | None = None,
    hourly_bucket: str = HOURLY_BUCKET,
    folder_uid: str = FOLDER,
    folder_title: str = FOLDER,
    org_id: int = 1,
) -> SiteDashboards:
    """The boards and alerts of a site: the general ones, and those of its tasks.

    A task without panels of its own (`dashboards.boards.registry`) appears on the general boards.

    Args:
        limits: Limits of colours and alerts.
        tasks: Tasks of the site; None for all known tasks.
        source: Data source of the boards and alerts.
        hourly_bucket: InfluxDB bucket of the hours.
        folder_uid: Uid of the folder.
        folder_title: Title of the folder.
        org_id: Grafana's organisation.
    """
    limits = limits or Limits()
    tasks = known_tasks() if tasks is None else tasks
    panels = panels_of(tasks, limits, hourly_bucket)
    boards = (
        fleet_board(tasks, panels, limits),
        device_board(tasks, panels, limits, hourly_bucket),
        *(of_task.board for of_task in panels if of_task.board),
        model_board(tasks, panels, limits),
        rollout_board(limits),
        pipeline_board(limits),
        account_board(tasks, limits),
    )
    rules = [rule for of_task in panels for rule in of_task.rules]
    return SiteDashboards(
        {board.uid: board for board in boards},
        alert_groups(limits, tasks, rules),
        source or DataSource(),
        folder_uid,
        folder_title,
        org_id,
    )
