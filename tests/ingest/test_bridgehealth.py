"""The time since which a silent connection means a silent device."""

from __future__ import annotations

import pytest

from ingest.bridgehealth import ConnectedSince

NOW_MS = 1_750_000_000_000


@pytest.mark.parametrize(("session_present", "grace_ms"), [(False, 0), (True, 2_000)])
def test_a_kept_session_may_still_hold_messages(session_present: bool, grace_ms: int) -> None:
    since = ConnectedSince(NOW_MS)
    assert since.ms is None
    since.on_connected(NOW_MS, session_present=session_present)
    assert since.ms == NOW_MS + grace_ms
    since.on_disconnected()
    since.on_tick(NOW_MS + 250, saturated=True)
    assert since.ms is None


@pytest.mark.parametrize(
    ("step_ms", "saturated", "moved_ms"),
    [
        (250, False, 0),
        (250, True, 250),
        (1_000, False, 0),
        (1_001, False, 1_001),
        (-60_000, False, -60_000),
    ],
)
def test_connected_since_moves_while_messages_may_wait_and_when_the_clock_is_set_back(
    step_ms: int, saturated: bool, moved_ms: int
) -> None:
    since = ConnectedSince(NOW_MS)
    since.on_connected(NOW_MS, session_present=False)
    since.on_tick(NOW_MS + step_ms, saturated=saturated)
    assert since.ms == NOW_MS + moved_ms


def test_saturation_never_shortens_the_grace_of_a_kept_session() -> None:
    since = ConnectedSince(NOW_MS)
    since.on_connected(NOW_MS, session_present=True)
    since.on_tick(NOW_MS + 250, saturated=True)
    assert since.ms == NOW_MS + 2_000
