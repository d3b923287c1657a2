"""How a motion sensor is mounted, per device: a rotation of its windows before they are scored.

A student learned from sensors that were all worn alike. `find_mounting` measures how another one is
worn from some seconds of standing and walking; `Mountings` keeps the answer in the state folder and
turns every window of the device. Resampling and averaging are linear, so turning a window equals
turning each of its readings.

The measurement, in two steps:

1. **Tilt.** In the quietest stretch the acceleration is gravity alone. The rotation takes its
   direction to the one that the student has learned from: the middle of training of the vector
   whose length hardly changes (`models.seen.VectorLength`).
2. **Heading.** Gravity says nothing about turns about the vertical. Of the turns by steps of 15
   degrees the one is taken by which the student is surest that the rest is walking; without a class
   of walking, or if no turn is clearly better, there is none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.secrettext import error_text
from ingest.sharedstate import SharedState
from ingest.statefile import StateFileUnusable, reason_of
from ingest.topics import are_names
from models.manifest import Manifest
from models.seen import VectorLength
from pipeline.errors import MountingError
from pipeline.windows.devices import Plans
from pipeline.windows.windowbatch import WindowBatch

__all__ = ["FILE_NAME", "Mounting", "Mountings", "Scores", "find_mounting"]

log = logging.getLogger(__name__)

FILE_NAME = "mountings.json"
"""Name of the file in the state folder."""
_Key = tuple[str, str, str]
_Matrix = NDArray[np.float64]
_MOST = 50_000
_STEADY = 0.5
"""A vector whose 0.1 % quantile of length is above this share of the 99.9 % one holds gravity."""
_QUIET = 0.05
"""Deviation of gravity in the quietest stretch, as a share of its length, that is quiet."""
_RIGHT_LENGTH = 0.15
_STEP_DEG = 15
_CLEARLY = 0.1
"""Gain in mean log probability of walking from which on a heading is taken."""


class Scores(Protocol):
    """Scores windows."""

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities `[n, classes]` of raw windows `[n, length, channels]`."""


@dataclass(frozen=True, slots=True)
class Mounting:
    """The rotation of one device.

    Attributes:
        rotation: Rows of the matrix that takes a vector of the device to one of the student.
        vectors: Names of the three channels of each vector that is turned.
        at_ms: When it was measured, epoch milliseconds.
        tilt_deg: Angle between gravity as it came and as the student knows it.
        heading_deg: Turn about the vertical after that.
    """

    rotation: tuple[tuple[float, float, float], ...]
    vectors: tuple[tuple[str, str, str], ...]
    at_ms: int
    tilt_deg: float
    heading_deg: float = 0.0

    def turn(
        self, values: NDArray[np.float32], channels: Sequence[str]
    ) -> NDArray[np.float32] | None:
        """Turned readings `[..., channels]`; None if a channel of a vector is missing."""
        place = {name: at for at, name in enumerate(channels)}
        turned: NDArray[np.float32] = values.copy()
        matrix = np.array(self.rotation, dtype=np.float32)
        for vector in self.vectors:
            if not place.keys() >= set(vector):
                return None
            columns = [place[name] for name in vector]
            turned[..., columns] = values[..., columns] @ matrix.T
        turned.flags.writeable = False
        return turned


class Mountings:
    """The mountings of one gateway; cheap while the file does not change and for other devices."""

    def __init__(self, folder: Path, plans: Plans) -> None:
        """Prepare.

        Args:
            folder: The state folder of the gateway.
            plans: Finds how a stream is windowed: the channels of its windows.
        """
        self._file = SharedState(folder / FILE_NAME)
        self._plans = plans
        self._mountings: dict[_Key, Mounting] = {}
        self._odd: set[_Key] = set()

    def read(self) -> Mapping[_Key, Mounting]:
        """All mountings; those of before, with one line in the log, while the file is unusable."""
        if self._file.has_changed():
            try:
                self._mountings = _mountings(self._file.read())
            except _UNUSABLE as exc:
                log.warning("%s; the mountings stay as they are", self._said(exc))
        return self._mountings

    def known(self) -> Mapping[_Key, Mounting]:
        """All mountings that the file has now.

        Raises:
            MountingError: The file is unusable.
        """
        try:
            return _mountings(self._file.read())
        except _UNUSABLE as exc:
            raise MountingError(self._said(exc)) from exc

    def turn(self, batches: Sequence[WindowBatch]) -> Sequence[WindowBatch]:
        """Turn the windows of devices that have a mounting; called for each batch."""
        mountings = self.read()
        return [self._turned(batch, mountings) for batch in batches] if mountings else batches

    def turn_values(
        self, device: _Key, values: NDArray[np.float32], channels: Sequence[str]
    ) -> NDArray[np.float32]:
        """Readings of a device `[..., channels]` as its student gets them."""
        mounting = self.read().get(device)
        turned = None if mounting is None else mounting.turn(values, channels)
        return values if turned is None else turned

    def put(self, device: _Key, mounting: Mounting) -> None:
        """Keep the mounting of a device, in place of any earlier one.

        Raises:
            MountingError: The file cannot be read or written, or is full.
        """

        def change(found: dict[_Key, Mounting]) -> None:
            if device not in found and len(found) >= _MOST:
                msg = f"{self._file.path} has {_MOST:,} mountings: remove some"
                raise MountingError(msg)
            found[device] = mounting

        self._change(change)

    def remove(self, device: _Key) -> bool:
        """Forget the mounting of a device; whether it had one.

        Raises:
            MountingError: The file cannot be read or written.
        """
        gone: list[Mounting | None] = []
        self._change(lambda found: gone.append(found.pop(device, None)))
        return gone[0] is not None

    def _turned(self, batch: WindowBatch, mountings: Mapping[_Key, Mounting]) -> WindowBatch:
        plan = self._plans(batch.stream)
        windows: dict[_Key, list[int]] = {}
        for at, (site, device) in enumerate(batch.senders):
            if (key := (site, device, batch.stream)) in mountings:
                windows.setdefault(key, []).append(at)
        if plan is None or not windows:
            return batch
        values = batch.values.copy()
        for key, which in windows.items():
            turned = mountings[key].turn(values[which], plan.channels)
            if turned is None:
                self._note_odd(key)
            else:
                values[which] = turned
        values.flags.writeable = False
        return replace(batch, values=values)

    def _note_odd(self, device: _Key) -> None:
        if device not in self._odd:
            self._odd.add(device)
            log.warning(
                "%s is scored as it comes: its student lacks channels of the mounting; run "
                "`kpstream mount` again",
                "/".join(device),
            )

    def _change(self, change: Callable[[dict[_Key, Mounting]], object]) -> None:
        try:
            with self._file.changing() as values:
                found = _mountings(values)
                change(found)
                values.clear()
                values["devices"] = {"/".join(each): _row(m) for each, m in found.items()}
        except _UNUSABLE as exc:
            raise MountingError(self._said(exc)) from exc
        except OSError as exc:
            msg = f"cannot change {self._file.path}: {error_text(exc)}"
            raise MountingError(msg) from exc

    def _said(self, exc: Exception) -> str:
        return f"{self._file.path} is unusable ({reason_of(exc)}): move the file away"


def find_mounting(
    values: NDArray[np.float32],
    windows: NDArray[np.float32],
    manifest: Manifest,
    scores: Scores | None,
    now_ms: int,
    *,
    still: int,
) -> Mounting:
    """Measure how a device is mounted.

    Args:
        values: Readings `[n, channels]` of standing still and walking, in order, raw units.
        windows: The same, cut as the student needs them, `[m, length, channels]`.
        manifest: Manifest of the student of the stream.
        scores: Scores windows, to find the heading; None: the heading is left alone.
        now_ms: Time of the measurement, epoch milliseconds.
        still: Readings of the stretch in which the device is still at least.

    Raises:
        MountingError: The student has no vector with gravity, the device was not still, or its
            acceleration is not as long as gravity; the message says what to do.
    """
    names = list(manifest.channel_names)
    gravity, vectors = _vectors(manifest)
    columns = [names.index(name) for name in gravity.channels]
    felt = _quietest(values[:, columns].astype(np.float64), still, gravity)
    seen = manifest.seen
    if seen is None:
        raise _no_gravity(manifest)
    known = np.array([seen.middle[at] for at in columns], dtype=np.float64)
    upright = _between(felt, known)
    heading = 0.0
    if scores is not None and len(windows):
        heading = _heading(windows, names, vectors, upright, known, manifest, scores)
    rotation = _about(known, heading) @ upright
    cosine = float(felt @ known / np.linalg.norm(felt) / np.linalg.norm(known))
    return Mounting(
        _rows(rotation),
        vectors,
        now_ms,
        round(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), 1),
        heading,
    )


def _vectors(manifest: Manifest) -> tuple[VectorLength, tuple[tuple[str, str, str], ...]]:
    """The vector that holds gravity, and the channels of all vectors."""
    seen = manifest.seen
    if seen is None or seen.least_spread is None:
        raise _no_lengths(manifest)
    lengths = seen.lengths or ()
    steady = [each for each in lengths if each.low > _STEADY * each.high]
    if not steady:
        raise _no_gravity(manifest)
    names = [(x, y, z) for x, y, z in (each.channels for each in lengths)]
    return max(steady, key=lambda each: each.low / each.high), tuple(names)


def _no_lengths(manifest: Manifest) -> MountingError:
    return MountingError(
        f"the manifest of {manifest.name} v{manifest.version} does not tell how long the vectors "
        "of its training were: publish a version whose manifest does, for a student that ships "
        f"with kpstream by `kpstream models add {manifest.name}`, and run the command again once "
        "that version has scored the device"
    )


def _no_gravity(manifest: Manifest) -> MountingError:
    return MountingError(
        f"{manifest.name} v{manifest.version} reads no acceleration with gravity (three channels "
        "_x, _y, _z whose length hardly changes in training), so there is nothing to mount"
    )


def _quietest(gravity: _Matrix, still: int, known: VectorLength) -> _Matrix:
    """Mean acceleration of the quietest stretch."""
    if len(gravity) < 2 * still:
        msg = (
            f"{len(gravity)} readings are too few: stand still for some seconds, then walk for "
            "ten, and run the command again"
        )
        raise MountingError(msg)
    view = np.lib.stride_tricks.sliding_window_view(gravity, still, axis=0)
    spread = view.std(axis=2).max(axis=1)
    best = int(spread.argmin())
    felt: _Matrix = view[best].mean(axis=1)
    length = float(np.linalg.norm(felt))
    if abs(length - known.middle) > _RIGHT_LENGTH * known.middle:
        msg = (
            f"the acceleration at rest is {length:.3g}, and its student has learned from "
            f"{known.middle:.3g}: correct the unit in the mapping of the device first"
        )
        raise MountingError(msg)
    if spread[best] > _QUIET * known.middle:
        msg = (
            "the device was never still: stand upright without moving for some seconds, then walk, "
            "and run the command again"
        )
        raise MountingError(msg)
    return felt


def _heading(
    windows: NDArray[np.float32],
    names: Sequence[str],
    vectors: tuple[tuple[str, str, str], ...],
    upright: _Matrix,
    known: _Matrix,
    manifest: Manifest,
    scores: Scores,
) -> float:
    """The turn about the vertical, in degrees, by which the student is surest of walking."""
    labels = [str(label).lower() for label in getattr(manifest.decoding, "labels", ())]
    walking = [at for at, label in enumerate(labels) if label in ("walking", "walk")]
    if not walking:
        return 0.0
    found = {}
    for angle in range(0, 360, _STEP_DEG):
        turn = Mounting(_rows(_about(known, angle) @ upright), vectors, 0, 0.0)
        turned = turn.turn(windows, names)
        if turned is None:
            return 0.0
        probability = scores(np.ascontiguousarray(turned))[:, walking[0]].astype(np.float64)
        found[float(angle)] = float(np.sort(np.log(probability + 1e-3))[len(windows) // 2 :].mean())
    best = max(found, key=lambda angle: found[angle])
    return best if found[best] > found[0.0] + _CLEARLY else 0.0


def _between(start: _Matrix, end: _Matrix) -> _Matrix:
    """The smallest rotation that takes one direction to another."""
    a, b = start / np.linalg.norm(start), end / np.linalg.norm(end)
    axis, cosine = np.cross(a, b), float(a @ b)
    if np.linalg.norm(axis) < 1e-9:
        if cosine > 0:
            return np.eye(3)
        axis = np.cross(a, np.eye(3)[int(np.abs(a).argmin())])  # half a turn about any level axis
    return _about(axis, float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), cosine))))


def _about(axis: _Matrix, angle_deg: float) -> _Matrix:
    """Rotation about an axis (Rodrigues' formula)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(angle_deg)
    turn: _Matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return turn


def _rows(matrix: _Matrix) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in matrix)


_UNUSABLE = (StateFileUnusable, KeyError, TypeError, AttributeError, ValueError)


def _mountings(values: Mapping[str, Any]) -> dict[_Key, Mounting]:
    """The mountings in the object of the file; raises one of `_UNUSABLE`."""
    return dict(map(_entry, values["devices"].items())) if values else {}


def _row(mounting: Mounting) -> dict[str, Any]:
    return {name: getattr(mounting, name) for name in Mounting.__slots__}


def _entry(item: tuple[str, Any]) -> tuple[_Key, Mounting]:
    site, device, stream = item[0].split("/")
    row = dict(item[1])
    matrix = np.array(row["rotation"], dtype=np.float64)
    is_rotation = matrix.shape == (3, 3) and np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    vectors = tuple((str(x), str(y), str(z)) for x, y, z in row["vectors"])
    if not (are_names((site, device, stream)) and is_rotation and type(row["at_ms"]) is int):
        msg = f"{item[0]!r:.80} has no valid rotation"
        raise ValueError(msg)
    tilt, heading = float(row["tilt_deg"]), float(row["heading_deg"])
    return (site, device, stream), Mounting(_rows(matrix), vectors, row["at_ms"], tilt, heading)
