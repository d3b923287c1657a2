"""A block: the readings of many messages of one stream, as columns.

Messages of one stream that have the same channels travel together from the bridge to the windows.
A block keeps the order of arrival; a sender is a device with its site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block"]


@dataclass(frozen=True, slots=True)
class Block:
    """Readings of `m` messages with `n` readings in all; every message has at least one.

    Attributes:
        stream: The group of channels.
        channels: Names of the channels, in the order of the columns.
        senders: Site and device of each sender, without repetition.
        sender: Index into `senders` of each message, int32 `[m]`.
        recv_ms: Time at which the bridge received each message, epoch ms, int64 `[m]`.
        counts: Number of readings of each message, int64 `[m]`; their sum is `n`.
        ts_ms: Event times as sent, message after message, int64 `[n]`.
        values: Finite numbers as sent, float64 `[n, channels]`.
    """

    stream: str
    channels: tuple[str, ...]
    senders: tuple[tuple[str, str], ...]
    sender: NDArray[np.int32]
    recv_ms: NDArray[np.int64]
    counts: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]
