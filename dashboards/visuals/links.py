"""Uids of boards, and links to boards. Pure.

Uids never change, because bookmarks, alerts and links refer to them.
"""

from __future__ import annotations

__all__ = [
    "ACCOUNT_UID",
    "DEVICE_LINK",
    "DEVICE_UID",
    "FLEET_UID",
    "FORECAST_LINK",
    "FORECAST_UID",
    "MODEL_UID",
    "PIPELINE_UID",
    "ROLLOUT_UID",
    "link_to",
]

FLEET_UID = "kpstream-fleet"
DEVICE_UID = "kpstream-device"
MODEL_UID = "kpstream-model"
FORECAST_UID = "kpstream-forecast"
ROLLOUT_UID = "kpstream-rollout"
PIPELINE_UID = "kpstream-pipeline"
ACCOUNT_UID = "kpstream-account"


def link_to(uid: str, **variables: str) -> str:
    """The address of a board with variables set, keeping the time range and the data source.

    >>> link_to("kpstream-device", device="${__data.fields.Device}")
    '/d/kpstream-device?var-datasource=${datasource}&${__url_time_range}&var-device=${__data.fields.Device}'
    """
    selected = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{uid}?var-datasource=${{datasource}}&${{__url_time_range}}{selected}"


DEVICE_LINK = (
    "Open the device",
    link_to(DEVICE_UID, site="${__data.fields.Site}", device="${__data.fields.Device}"),
)
"""Heading and address of a link to the device of a table row with the columns Site and Device."""

FORECAST_LINK = (
    "Open the forecasts of the channel",
    link_to(
        FORECAST_UID,
        site="${__data.fields.Site}",
        device="${__data.fields.Device}",
        channel="${__data.fields.Channel}",
    ),
)
"""Heading and address of a link to the forecasts of the channel of a table row with the columns
Site, Device and Channel."""
