"""Points: everything that can be built can be stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.errors import PointError
from pipeline.points.lines import to_line
from pipeline.points.points import Point, device_point, gateway_point, rollout_point


@pytest.mark.parametrize(
    "parts",
    [
        {"fields": ()},
        {"fields": (("rul", math.nan),)},
        {"fields": (("rul", math.inf),)},
        {"fields": (("rul", None),)},
        {"fields": (("rul", np.float32(1)),)},
        {"fields": (("n", 2**63),)},
        {"fields": (("state", "\ud800"),)},
        {"fields": (("", 1),)},
        {"fields": (("a\nb", 1),)},
        {"tags": (("site", ""),)},
        {"tags": (("site", "a\nb"),)},
        {"tags": (("", "a"),)},
        {"measurement": ""},
        {"measurement": "#rul"},
        {"measurement": "a\nb"},
        {"time_ns": 2**63},
    ],
)
def test_a_point_that_a_store_would_drop_or_misread_cannot_be_built(parts: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "measurement": "rul",
        "tags": (),
        "fields": (("rul", 1.0),),
        "time_ns": 0,
    }
    with pytest.raises(PointError):
        Point(**(whole | parts))


def test_account_points() -> None:
    device = device_point("plant-7", "press-2", "engine", {"received": 10, "late": 1}, 17)
    assert to_line(device) == (
        "device,device=press-2,site=plant-7,stream=engine late=1i,received=10i 17000000"
    )
    gateway = gateway_point("gw-1", "worker", {"rss_bytes": 9, "ready": 1}, 17)
    assert to_line(gateway) == "gateway,gateway=gw-1,role=worker ready=1i,rss_bytes=9i 17000000"
    mark = rollout_point("gw-1", "rul-fd001", "engine", "swapped", 2, "v1 -> v2", 17)
    assert to_line(mark) == (
        "rollout,event=swapped,gateway=gw-1,model=rul-fd001,stream=engine "
        'text="v1 -> v2",version=2i 17000000'
    )
