"""Asks a broker whether it answers MQTT 5, on a connection of its own."""

from __future__ import annotations

from ingest.mqtt.endpoint import Endpoint
from ingest.mqtt.probe import Probe, StepFailed
from ingest.mqtt.reasons import UNSUPPORTED_VERSION
from ingest.patience import REACH_S
from ingest.tls import TlsError

__all__ = ["answers_version_5"]


async def answers_version_5(endpoint: Endpoint, *, timeout_s: float = REACH_S) -> bool | None:
    """Return whether the broker answers a CONNECT of MQTT 5.

    Args:
        endpoint: Address and credentials.
        timeout_s: Limit for every step.

    Returns:
        False: it ended the connection without an answer, or refused the version. None: not known,
        because it could not be reached or stayed silent.
    """
    try:
        async with Probe(endpoint, "5", "version") as probe:
            reason, _ = await probe.connect(timeout_s)
    except StepFailed as exc:
        return None if exc.kind in ("silent", "tls") else False
    except (OSError, ValueError, TlsError):
        return None
    return reason.code != UNSUPPORTED_VERSION
