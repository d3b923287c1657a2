"""What the steps of the battery share: one broker, one gateway, and the verdict on the messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.brokers.broker import Broker
from tests.brokers.clients import Control, Devices, wait_for
from tests.brokers.plant import BrokerPlant
from tests.e2e.devices import payload

__all__ = ["Result", "Rig", "Row", "Sessions", "Size", "kill_under_load", "wait_quiet"]

Result = tuple[str, str, dict[str, Any]]
"""Verdict, text and numbers of a step."""

_QUIET_S = 6.0
_REDELIVERY_S = 35.0
"""Longest pause before a broker sends an unacknowledged message again (NATS: 30 s)."""


@dataclass(frozen=True, slots=True)
class Size:
    """Messages of the steps.

    Attributes:
        load: Around each kill, and while the gateway is off.
        queue: Sent to a session without a client.
        simulate_s: Duration of `kpstream simulate`, seconds.
        engines: Engines of `kpstream simulate`, which publish at the same moment.
        settle_s: Longest wait for messages that have not arrived, seconds.
    """

    load: int = 120
    queue: int = 2500
    simulate_s: float = 25.0
    engines: int = 150
    settle_s: float = 100.0


@dataclass(frozen=True, slots=True)
class Row:
    """Result of one step with one broker."""

    broker: str
    step: str
    verdict: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Sessions:
    """What became of two persistent sessions that the broker should have had at a connect.

    The sessions are separate: a broker that writes them to disk now and then may forget the younger
    one alone.

    Attributes:
        control_kept: Session Present of the control subscriber; None: it has not connected.
        gateway_kept: Session Present of the gateway's last connect; None: it has not connected.
        reported: Sessions that the gateway has reported as lost meanwhile.
    """

    control_kept: bool | None
    gateway_kept: bool | None
    reported: int

    @property
    def is_broken(self) -> bool:
        """Whether the gateway hides a loss, or lost the session where another client kept its own.

        A session that was kept last may have been forgotten at a connect before.
        """
        is_hidden = self.gateway_kept is False and not self.reported
        return is_hidden or (self.gateway_kept is False and self.control_kept is True)

    @property
    def texts(self) -> tuple[str, ...]:
        """What to say of the sessions in the row."""
        found = []
        if self.control_kept is False and self.gateway_kept:
            found.append("the broker forgot the session of the control subscriber")
        if self.control_kept and self.gateway_kept is False:
            found.append("the broker forgot the session of the gateway alone")
        if self.reported:
            found.append("the gateway reports the forgotten session")
        elif self.gateway_kept is False:
            found.append("the gateway says nothing of the forgotten session")
        return tuple(found)


@dataclass
class Rig:
    """One broker, one gateway, the control subscriber; what the steps share."""

    broker: Broker
    folder: Path
    size: Size
    plant: BrokerPlant
    version: str
    sent: set[str] = field(default_factory=set)
    t0_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000 - 60_000)

    def messages(self, kind: str, first: int, count: int) -> Iterator[tuple[str, bytes]]:
        """One reading a message, each of a device of its own."""
        for number in range(first, first + count):
            yield f"sensors/matrix/{kind}-{number}/imu", payload(number, 1, self.t0_ms)

    def windowed(self) -> dict[str, int]:
        """Readings that the gateway has in its windows, by MQTT topic."""
        return {
            f"sensors/{site}/{device}/{stream}": account["windowed"]
            for (site, device, stream), account in self.plant.accounts().items()
        }

    def judge(
        self, devices: Devices, control: Control, lost_before: int = 0
    ) -> tuple[str, str, dict[str, Any]]:
        """Wait until everything confirmed has arrived; tell our losses from the broker's.

        Args:
            devices: What was published.
            control: The control subscriber, online again.
            lost_before: Sessions that this gateway process had reported as lost before the step.
        """
        # A broker does not owe what it has not confirmed.
        flushed = devices.flush()
        due = set(devices.confirmed)
        wait_for(lambda: due <= self.windowed().keys(), self.size.settle_s, poll_s=1.5)
        wait_quiet(control, len(due), _REDELIVERY_S)
        found = self.windowed()
        ours, theirs = due - found.keys(), due - control.topics.keys()
        doubled = sum(1 for topic in due if found.get(topic, 0) > 1)
        health = self.plant.mqtt_health()
        sessions = Sessions(
            control_kept=control.session_present[-1] if control.session_present else None,
            gateway_kept=(health.get("announced") or {}).get("session_present"),
            reported=health.get("sessions_lost", 0) - lost_before,
        )
        numbers = {
            "confirmed": len(due),
            "lost": len(ours),
            "control_lost": len(theirs),
            "doubled": doubled,
            "session_kept": sessions.control_kept,
            "gateway_session_kept": sessions.gateway_kept,
            "sessions_lost": sessions.reported,
        }
        text = f"{len(due) - len(ours):,} of {len(due):,}"
        if doubled:
            text += f", {doubled} twice"
        if theirs:
            text += f"; the control subscriber lost {len(theirs):,} of its own"
        if not flushed:
            text += "; the broker did not confirm all messages"
        text += "".join(f"; {each}" for each in sessions.texts)
        verdict = "held"
        if doubled or (ours and not theirs) or sessions.is_broken:
            verdict = "BROKEN"
        elif ours or theirs or sessions.control_kept is False:
            verdict = "broker"
        return verdict, text, numbers


def kill_under_load(rig: Rig, kind: str) -> Result:
    """Kill the gateway under load; it is away for a while, then back.

    Args:
        rig: The gateway runs.
        kind: Name of the devices, which differs from that of other steps.
    """
    devices = Devices(rig.broker.port, f"devices-{kind}")
    control = Control(rig.broker.port, "sensors/#", rig.version, f"control-{kind}").online()
    load = rig.size.load
    devices.publish_all(rig.messages(kind, 0, load), pause_s=0.01)
    rig.plant.kill_gateway()
    control.break_off()
    devices.publish_all(rig.messages(kind, load, load), pause_s=0.002)
    devices.flush()
    control.online()
    rig.plant.start_gateway()
    result = rig.judge(devices, control)
    devices.close()
    control.break_off()
    return result


def wait_quiet(control: Control, topics: int | None, quiet_s: float = _QUIET_S) -> None:
    """Wait until messages on so many topics have arrived, or none has for some seconds."""
    count, since = -1, time.monotonic()

    def quiet() -> bool:
        nonlocal count, since
        if topics is not None and len(control.topics) >= topics:
            return True
        if (found := sum(control.topics.values())) != count:
            count, since = found, time.monotonic()
        return time.monotonic() - since > quiet_s

    wait_for(quiet, 300)
