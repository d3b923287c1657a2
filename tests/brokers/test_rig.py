"""The verdict on two sessions: what the broker forgot, and what the gateway says of it."""

from __future__ import annotations

import pytest

from tests.brokers.rig import Sessions


@pytest.mark.parametrize(
    ("control_kept", "gateway_kept", "reported", "text"),
    [
        (True, True, 0, ""),
        (None, None, 0, ""),
        (False, False, 1, "the gateway reports the forgotten session"),
        # mosquitto writes its sessions to disk now and then: the younger one is forgotten alone.
        (False, True, 0, "the broker forgot the session of the control subscriber"),
        # Forgotten at the first connect, kept at the next one.
        (True, True, 1, "the gateway reports the forgotten session"),
    ],
)
def test_a_session_that_the_broker_forgot_is_no_fault_of_ours_if_it_is_said(
    control_kept: bool | None, gateway_kept: bool | None, reported: int, text: str
) -> None:
    sessions = Sessions(control_kept, gateway_kept, reported)
    assert not sessions.is_broken
    assert "; ".join(sessions.texts) == text


@pytest.mark.parametrize(
    ("control_kept", "gateway_kept", "reported", "word"),
    [
        (False, False, 0, "says nothing of the forgotten session"),
        (None, False, 0, "says nothing of the forgotten session"),
        (True, False, 1, "the session of the gateway alone"),  # we asked for none
    ],
)
def test_a_loss_that_is_not_said_and_a_session_that_only_we_lose_are_ours(
    control_kept: bool | None, gateway_kept: bool | None, reported: int, word: str
) -> None:
    sessions = Sessions(control_kept, gateway_kept, reported)
    assert sessions.is_broken
    assert word in "; ".join(sessions.texts)
