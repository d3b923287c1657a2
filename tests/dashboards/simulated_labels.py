"""Labels of the simulated site: one of each kind, one that was moved, one that was revoked."""

from __future__ import annotations

from ingest.labels import LabelRecord
from tests.dashboards.simulated_site import START_MS
from tests.fakes.recordings import label


def site_labels() -> list[LabelRecord]:
    """Records in the order in which they were received."""
    at_ms, engine = START_MS + 60_000, {"site": "hangar"}
    records = [
        label("engine-01", "a", "failed", at_ms, by="Ada", **engine),
        label("engine-01", "b", "replaced", at_ms + 1000, label="bearing", **engine),
        label("engine-01", "c", "wrong", at_ms + 2000, **engine),
        label("engine-01", "c", "wrong", at_ms + 2000, revoked=True, **engine),
        label("engine-01", "d", "span", at_ms, at_ms + 9000, label="test", recv_ms=1, **engine),
        label(
            "engine-01", "d", "span", at_ms + 3000, at_ms + 9000, label="run", recv_ms=2, **engine
        ),
    ]
    return [*records, label("engine-02", "e", "confirmed", at_ms, **engine)]
