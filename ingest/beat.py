"""When a load of the bridge is closed and written. Pure: times are parameters.

A durable write costs about the same for one message as for fifty, and so does everything after it.
A load therefore waits for more messages, within one **beat**. It closes

- one beat after the load before it, or a fifth of a beat after its first message if that is later;
- a fifth of a beat after its first message if that is still alone then: a lone message does not
  wait long, whatever came before it;
- at once with `BEAT_MESSAGES` messages;
- at once when the **window** is full. A broker sends so many messages before it waits for
  acknowledgements, and does not say how many. The most that have been unacknowledged on this
  connection are taken for it, and at least `LEAST_WINDOW`, the smallest default of brokers. Seven
  eighths of it count as full. So a broker that waits is not left to wait, and one that allows more
  raises the window by sending more. In MQTT 3.1.1 the window stays `LEAST_WINDOW`, because
  there mosquitto 2.0.11 sends between 20 and 41 where 20 are set
  (`findings/mosquitto-exceeds-receive-maximum.sh`).

A window that is too large shows when nothing more has come for half a beat; it is then corrected.
A broker that sends even fewer than `LEAST_WINDOW` (mosquitto with max_inflight_messages 1) shows by
the same number of messages in `_STALLS` loads in a row that end in silence, a lone one each time
soon after the acknowledgement. This number is the window then, until more have come.
"""

from __future__ import annotations

__all__ = ["BEAT_MESSAGES", "LEAST_WINDOW", "Beat"]

BEAT_MESSAGES = 48
LEAST_WINDOW = 20
"""What mosquitto sends in MQTT 3.1.1 before it waits (its default of max_inflight_messages)."""
_FIRST_WAIT = 0.2  # of a beat
_STALLS = 5


class Beat:
    """The rhythm of one bridge.

    Args:
        beat_ms: Milliseconds from one load to the next; 0: every load closes at once.
        least_window: Window of a new connection.

    Attributes:
        window: Most messages that were unacknowledged on this connection.
        is_burst: Whether the window was full when the last load was closed, or shortly before: the
            broker sends more as soon as that load is acknowledged.
    """

    def __init__(self, beat_ms: int, least_window: int = LEAST_WINDOW) -> None:
        self.window = self._least_window = least_window
        self.is_burst = False
        self._learns = True
        self._beat_s = beat_ms / 1000
        self._closed_s = self._heard_s = 0.0
        self._first_s = self._due_s = 0.0  # of the load
        self._is_new = True
        self._was_full = False  # since the last load was closed
        self._full = least_window  # fewest messages that may fill the window
        self._stalled_at = self._stalls = 0

    @property
    def rest_s(self) -> float:
        """Seconds for which the socket may be left alone after a read that brought little."""
        return self._beat_s / 4

    def on_connected(self, *, learns: bool = True) -> None:
        """Note a new connection: the window of its broker is not known.

        Args:
            learns: Whether the window follows what the broker sends (MQTT 5).
        """
        self._learns = learns
        self.window = self._full = self._least_window
        self._was_full = False
        self._stalls = 0

    def closes_now(self, messages: int, unacknowledged: int, now_s: float) -> bool:
        """Return whether the load is to be closed now, after messages have arrived.

        Args:
            messages: Messages in the load.
            unacknowledged: Messages that the broker has sent on this connection and that wait for
                their acknowledgement.
            now_s: Monotonic time.
        """
        self._heard_s = now_s
        if self._is_new:
            self._first_s, self._due_s, self._is_new = now_s, now_s, False
        if unacknowledged > self._full:
            self._full = self._least_window
            self.window = max(self.window, self._full)
        is_full = unacknowledged >= max(self._full, self.window * 7 // 8)
        if self._learns:
            self.window = max(self.window, unacknowledged)
        self._was_full = self._was_full or is_full
        return is_full or messages >= BEAT_MESSAGES or not self._beat_s

    def wait_s(self, messages: int) -> float:
        """Return how much longer a load is to wait, when the last wait is over; 0: it is closed.

        Args:
            messages: Messages in it; it waits a second time only if it had one and has more now.
        """
        due_s = self._first_s + _FIRST_WAIT * self._beat_s
        if messages > 1:
            due_s = max(due_s, self._closed_s + self._beat_s)
        waited_s, self._due_s = self._due_s, max(self._due_s, due_s)
        return self._due_s - waited_s

    def timed_out(self, unacknowledged: int, now_s: float) -> None:
        """Note that a load closes because it is due, and correct a window that is too large."""
        silent = (now_s - self._heard_s) / self._beat_s if self._beat_s else 0.0
        is_alone = unacknowledged == 1 and self._first_s - self._closed_s <= self._beat_s / 8
        if not unacknowledged or silent < (0.75 * _FIRST_WAIT if is_alone else 0.5):
            self._stalls = 0
        else:
            self._stalls = self._stalls + 1 if unacknowledged == self._stalled_at else 1
            self._stalled_at = unacknowledged
            if self._stalls >= _STALLS:
                self._full = min(self._full, unacknowledged)
        if silent >= 0.5 or self._full < self._least_window:
            self.window = min(self.window, max(self._full, unacknowledged))

    def closed(self, now_s: float) -> None:
        """Note that a load was closed."""
        self._closed_s, self._is_new = now_s, True
        self.is_burst, self._was_full = self._was_full, False
