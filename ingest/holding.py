"""Messages held back while this machine's clock is behind: kept as they came, not acknowledged.

The bridge offers every message to `Holding`. From the first message on that `ingest.clockjudge`
does not attribute to its device's clock, all messages wait, in the order of arrival. Nothing is
checked, decoded or acknowledged then, so the broker keeps the messages too, and sends no more than
it may (back-pressure, as when the log is full). Once the clock is right, `release` takes the held
messages in their order, received now.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ingest.bridgehealth import clock_problem
from ingest.clockjudge import Verdict
from ingest.intake import Intake
from ingest.mqtt.packets import Oversized

__all__ = ["HeldMessage", "Holding"]

log = logging.getLogger(__name__)


class HeldMessage(NamedTuple):
    """A message as it came, with what its acknowledgement needs.

    `oversized` is what is left of a message above the limit; its head is the payload. `is_dup` and
    `is_retained` are MQTT's flags.
    """

    epoch: int
    packet_id: int
    qos: int
    topic: str
    payload: bytes
    oversized: Oversized | None = None
    is_dup: bool = False
    is_retained: bool = False


class Holding:
    """The gate between the connection and the intake.

    Attributes:
        held_total: Messages that had to wait so far.
        size_bytes: Bytes of the payloads of those that wait.
    """

    def __init__(
        self,
        intake: Intake,
        now_ms: Callable[[], int],
        settle: Callable[[Callable[[int], bool]], bool],
    ) -> None:
        """Prepare.

        Args:
            intake: Takes the messages.
            now_ms: The time, epoch milliseconds.
            settle: Lets a pending step of the clock count (`ingest.clock.MachineClock.settle`).
        """
        self.held_total = self.size_bytes = 0
        self._intake = intake
        self._now_ms = now_ms
        self._settle = settle
        self._line: deque[HeldMessage] = deque()
        self._is_alarm = False

    def __len__(self) -> int:
        """Return the number of messages that wait."""
        return len(self._line)

    @property
    def problem(self) -> str | None:
        """What is wrong with this machine's clock; None while it is right or only suspected."""
        if not self._is_alarm:
            return None
        now_ms = self._now_ms()
        return clock_problem(now_ms, self._intake.judge.behind_ms(now_ms))

    def offer(
        self,
        epoch: int,
        packet_id: int,
        qos: int,
        topic: str,
        payload: bytes,
        recv_ms: int,
        *,
        is_dup: bool,
        is_retained: bool,
    ) -> None:
        """Give a message to the intake, or hold it back; see `HeldMessage` for the arguments."""
        intake = self._intake
        if not self._line and intake.take(
            topic, payload, recv_ms, qos, is_dup=is_dup, is_retained=is_retained
        ):
            if qos:
                intake.load.add_ack(epoch, packet_id)
            return
        flags = (is_dup, is_retained)
        self._hold(HeldMessage(epoch, packet_id, qos, topic, payload, None, *flags), recv_ms)

    def offer_oversized(self, epoch: int, oversized: Oversized, recv_ms: int) -> None:
        """Give what is left of a message above the limit to the intake, or hold it back."""
        packet_id, qos, topic, head, _ = oversized
        message = HeldMessage(epoch, packet_id, qos, topic, head, oversized)
        if self._line or not self._take(message, recv_ms):
            self._hold(message, recv_ms)

    def _hold(self, message: HeldMessage, recv_ms: int) -> None:
        if self._line and message.oversized is None:
            self._intake.hear(message.topic, message.payload, recv_ms)
        self.held_total += 1
        self.size_bytes += len(message.payload)
        self._line.append(message)

    def release(self) -> bool:
        """Take the held messages whose time has come, and report a clock that is wrong.

        Returns:
            Whether a message was taken.
        """
        if not self._line:
            return False
        was_alarm = self._is_alarm
        if was_alarm:
            self._settle(self._intake.judge.agrees)
        now_ms, before = self._now_ms(), len(self._line)
        while self._line and self._take(self._line[0], now_ms, again=True):
            self.size_bytes -= len(self._line.popleft().payload)
        self._is_alarm = bool(self._line) and self._intake.verdict is Verdict.machine
        if self._is_alarm and not was_alarm:
            log.error("%s", self.problem)
        if was_alarm and not self._line:
            log.warning("this machine's clock agrees with the devices again: messages are taken")
        return len(self._line) < before

    def drop(self, which: Callable[[HeldMessage], bool]) -> list[HeldMessage]:
        """Give up and return messages that the broker delivers again."""
        dropped = [message for message in self._line if which(message)]
        self._line = deque(message for message in self._line if not which(message))
        self.size_bytes = sum(len(message.payload) for message in self._line)
        self._is_alarm &= bool(self._line)
        return dropped

    def _take(self, message: HeldMessage, recv_ms: int, *, again: bool = False) -> bool:
        """Take a message into the load; False if it has to wait for the right time."""
        intake, taken = self._intake, True
        if message.oversized is not None:
            intake.take_oversized(message.oversized, recv_ms)
        else:
            taken = intake.take(
                message.topic,
                message.payload,
                recv_ms,
                message.qos,
                again=again,
                is_dup=message.is_dup,
                is_retained=message.is_retained,
            )
        if taken and message.qos:
            intake.load.add_ack(message.epoch, message.packet_id)
        return taken
