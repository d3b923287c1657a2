"""Labelled windows of recorded series, cut as the stream cuts them, and splits by group.

Pure numpy, on the slicing of `models.features`; tests/training/test_windows.py proves that the
stream (`pipeline.windows.windower`, which training may not import) cuts the same windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.features import pad_front, slice_windows
from training.errors import DataSetError

__all__ = [
    "WindowSet",
    "digest_windows",
    "fold_groups",
    "hold_out_groups",
    "join_windows",
    "slice_labelled",
    "slice_series",
]


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Labelled windows, each in one group (an engine, a person).

    Attributes:
        windows: `[num_windows, length, channels]` float32 in the units of the sensors (unscaled).
        labels: `[num_windows]` int64; a capped whole number (RUL in cycles) or the class index.
        groups: `[num_windows]` int64; the windows of one group are never on both sides of a split.
    """

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.windows.ndim != 3 or not len(self.windows) == len(self.labels) == len(self.groups):
            msg = (
                "a window set needs windows [n, length, channels] with n labels and n groups, not "
                f"{self.windows.shape}, {self.labels.shape}, {self.groups.shape}"
            )
            raise DataSetError(msg)

    def __len__(self) -> int:
        return len(self.labels)

    def of_groups(self, groups: NDArray[np.int64]) -> WindowSet:
        """Return the windows of these groups, in their order."""
        return self.where(np.isin(self.groups, groups))

    def without_groups(self, groups: NDArray[np.int64]) -> WindowSet:
        """Return the windows of all other groups, in their order."""
        return self.where(~np.isin(self.groups, groups))

    def where(self, chosen: NDArray[np.bool_]) -> WindowSet:
        """Return the windows for which `chosen` `[num_windows]` is true."""
        return replace(
            self,
            windows=self.windows[chosen],
            labels=self.labels[chosen],
            groups=self.groups[chosen],
        )


def slice_series(
    series: NDArray[np.float32], length: int, hop: int, *, pad_short: bool = False
) -> NDArray[np.float32]:
    """Cut one series `[readings, channels]` into windows `[num_windows, length, channels]`.

    Window i holds the readings `[i * hop, i * hop + length)`; a remainder shorter than `length`
    gives no window. With `pad_short`, a series shorter than one window gives one window, padded in
    front by repeating the first reading.

    >>> slice_series(np.arange(5, dtype=np.float32)[:, None], 3, 2)[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]
    """
    if pad_short and 0 < len(series) < length:
        return pad_front(series, length)[None]
    return np.ascontiguousarray(slice_windows(series, length, hop))


def slice_labelled(
    series: NDArray[np.float32],
    labels: NDArray[np.int64],
    group: int,
    length: int,
    hop: int,
) -> WindowSet:
    """Cut one run of labelled readings without gaps; a window has its most frequent label.

    Args:
        series: Readings `[readings, channels]`.
        labels: Labels `[readings]`, counted from 0.
        group: Group of all windows.
        length: Readings in a window.
        hop: Distance between the starts of two windows.

    >>> made = slice_labelled(np.zeros((5, 1), "f4"), np.array([0, 0, 1, 1, 1]), 7, 3, 2)
    >>> made.labels.tolist(), made.groups.tolist()
    ([0, 1], [7, 7])
    """
    windows = slice_series(series, length, hop)
    cut = slice_series(labels[:, None].astype(np.float32), length, hop)[:, :, 0].astype(np.int64)
    most = np.array([np.bincount(row).argmax() for row in cut], dtype=np.int64)
    return WindowSet(windows, most, np.full(len(most), group, dtype=np.int64))


def join_windows(parts: Sequence[WindowSet]) -> WindowSet:
    """Join window sets in their order.

    Raises:
        DataSetError: There is no part, or no part has a window.
    """
    if not sum(len(part) for part in parts):
        msg = "no recording is long enough for one window: use longer recordings"
        raise DataSetError(msg)
    return WindowSet(
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )


def digest_windows(windows: WindowSet) -> str:
    """Compute the SHA-256 over windows, labels and groups; the same on every machine."""
    digest = hashlib.sha256()
    for array, kind in ((windows.windows, "<f4"), (windows.labels, "<i8"), (windows.groups, "<i8")):
        content = np.ascontiguousarray(array, dtype=kind)
        digest.update(str(content.shape).encode("ascii"))
        digest.update(content.tobytes())
    return digest.hexdigest()


def hold_out_groups(groups: NDArray[np.int64], share: float, seed: int) -> NDArray[np.int64]:
    """Draw the held-out groups: about `share` of all, at least one, never all; sorted.

    The draw depends on the set of group ids and the seed only, so the same data set with the same
    split seed always holds out the same engines or persons. This makes a new student comparable
    with one that was trained months ago.

    Raises:
        DataSetError: There are fewer than two groups.

    >>> hold_out_groups(np.array([1, 1, 2, 3, 4, 5]), 0.2, seed=0)
    array([3])
    """
    names = np.unique(groups)
    if len(names) < 2:
        msg = (
            f"the data have {len(names)} group(s), and a split needs at least two groups: add "
            "recordings of other engines or persons"
        )
        raise DataSetError(msg)
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    return np.sort(np.random.default_rng(seed).permutation(names)[:count])


def fold_groups(groups: NDArray[np.int64], folds: int, seed: int) -> list[NDArray[np.int64]]:
    """Draw the groups of every fold, so that each group is in one of them.

    >>> [fold.tolist() for fold in fold_groups(np.array([1, 1, 2, 3, 4]), 2, seed=0)]
    [[3, 1], [2, 4]]
    """
    return np.array_split(np.random.default_rng(seed).permutation(np.unique(groups)), folds)
