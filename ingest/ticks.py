"""Which partitions need ticks, and which tick goes with a load. Pure: times are parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

__all__ = ["HeardPartitions", "TickRhythm"]


class TickRhythm:
    """When each partition last got a tick.

    A partition that gets messages gets a tick behind them, one in half a beat at most, so that its
    windows close without an append of their own. Any other partition where devices wait gets one
    after half of the longest interval, if a load is written then; else it gets one of its own.

    Args:
        partitions: Returns the partitions where devices wait for ticks now.
        beat_ms: Milliseconds from one load to the next.
        tick_ms: Longest interval.
    """

    def __init__(self, partitions: Callable[[], Sequence[int]], beat_ms: int, tick_ms: int) -> None:
        self._partitions = partitions
        self._least_s = beat_ms / 2000
        self._most_s = tick_ms / 2000
        self._ticked_s: dict[int, float] = {}  # partition -> when

    def due(self, now_s: float, heard: Collection[int] = ()) -> list[int]:
        """Return the partitions that get a tick now.

        Args:
            now_s: Monotonic time.
            heard: Partitions of which messages are written now.
        """
        found = []
        for partition in self._partitions():
            ticked_s = self._ticked_s.get(partition)
            least_s = self._least_s if partition in heard else self._most_s
            if ticked_s is None or now_s - ticked_s >= least_s:
                found.append(partition)
        return found

    def ticked(self, partitions: Collection[int], now_s: float) -> None:
        """Note that partitions get a tick."""
        self._ticked_s.update(dict.fromkeys(partitions, now_s))


class HeardPartitions:
    """When each partition last got readings from this bridge."""

    def __init__(self) -> None:
        self._heard_s: dict[int, float] = {}  # partition -> when
        self._connected_s: float | None = None

    def heard(self, partitions: Iterable[int], now_s: float) -> None:
        """Note that readings of partitions are in the log."""
        self._heard_s.update(dict.fromkeys(partitions, now_s))

    def connected(self, now_s: float) -> None:
        """Note a connection."""
        self._connected_s = now_s

    def within(self, quiet_ms: int, now_s: float, partitions: int) -> list[int]:
        """Return the partitions whose devices may have fallen silent and need ticks, ascending.

        These are the partitions that got readings within the last `quiet_ms`. For `quiet_ms` after
        a connect it is all partitions, because devices may have fallen silent since an earlier
        process of this bridge heard them.

        Args:
            quiet_ms: Longest silence that matters, milliseconds.
            now_s: Monotonic time.
            partitions: Number of partitions.
        """
        since_s = now_s - quiet_ms / 1000
        if self._connected_s is not None and self._connected_s >= since_s:
            return list(range(partitions))
        return sorted(n for n, at_s in self._heard_s.items() if at_s >= since_s)
