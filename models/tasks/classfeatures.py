"""The features of a class student: its second output, and what known windows look like there.

With it a gateway places an **anchor** for an activity from a handful of labelled windows, without
training (`models.anchors`). Arrays are packed, because a manifest is read by people too.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, model_validator

from models.tasks.fields import Count, Float32, Frozen, Growing

__all__ = [
    "FARTHEST",
    "FEATURES",
    "MAX_FEATURES",
    "MAX_SAMPLE",
    "ClassFeatures",
    "LearnedWindows",
    "SampleStatistics",
    "pack_classes",
    "pack_floats",
    "pack_vectors",
]

FEATURES = "features"
"""Name of the output."""
MAX_FEATURES = 512
"""Most numbers of a feature."""
FARTHEST = 6.0
"""Largest standardised statistic: a few odd readings must not decide alone."""
MAX_SAMPLE = 1024
"""Most known windows in a manifest."""
_STEPS = 127
"""Steps of a component between 0 and 1: the error of 0.002 is a twentieth of what people differ."""

Packed = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=800_000)
]
"""Bytes in base64, one for each number."""
Weight = Annotated[Float32, Field(ge=0, le=1000)]


class SampleStatistics(Frozen):
    """Plain statistics of the known windows (`models.windowstatistics`), beside their features.

    Attributes:
        middle: Mean of each statistic among training windows, [statistics], packed (`pack_floats`).
        spread: Its standard deviation there, packed.
        values: Statistics of the sample in these units, limited to 6 of them, [n, statistics],
            packed (`pack_vectors`) after division by 6.
    """

    middle: Packed
    spread: Packed
    values: Packed

    def standardised(self, statistics: NDArray[np.floating]) -> NDArray[np.float64]:
        """Bring statistics [n, statistics] into these units."""
        middle, spread = _floats(self.middle), _floats(self.spread)
        found: NDArray[np.float64] = np.clip((statistics - middle) / spread, -FARTHEST, FARTHEST)
        return found

    def sample(self) -> NDArray[np.float64]:
        """The statistics of the sample, [n, statistics]."""
        found: NDArray[np.float64] = FARTHEST * _vectors(self.values, len(_floats(self.middle)))
        return found


class LearnedWindows(Frozen):
    """Windows of people that the student has learned from, in the space of its features.

    They tell how windows of one class and different people differ. Margins do not count them:
    what a student has learned lies closer together than what is new to it.

    Attributes:
        features: Features [n, size], packed (`pack_vectors`).
        classes: Their classes [n], packed (`pack_classes`).
        statistics: Their statistics, packed like `SampleStatistics.values`; "" without statistics.
    """

    features: Packed
    classes: Packed
    statistics: Packed


class ClassFeatures(Growing):
    """Output `features` [batch, size], vectors of length 1, and known windows in their space.

    Attributes:
        output: Name of the output.
        size: Numbers of a feature.
        centres: Means of the features of the classes, [classes, size], packed (`pack_vectors`).
        weights: For each class, how many example windows its centre counts for; more where it was
            learned from many people than where it was derived from a text.
        sample: Features of known windows [n, size], packed.
        sample_classes: Their classes [n], packed (`pack_classes`).
        sample_people: Their people [n], packed; a margin holds for people it was not found on.
        statistics: Statistics of the sample; without them, features alone decide.
        learned: Windows of other people, that the student has learned from; None: the sample is of
            them, or nobody has kept them.
        share: Share of known windows of other people that may get a name from examples, at most.
        sample_share: Share of the sample that may get it, so that `share` holds for the person who
            gave the examples.
        shared_share: The same for people who did not give them; None: `sample_share`.
        softness: Divides an anchor's lead over its margin, so that probabilities are calibrated.
    """

    output: Literal["features"]
    size: Annotated[Count, Field(le=MAX_FEATURES)]
    centres: Packed
    weights: Annotated[tuple[Weight, ...], Field(min_length=2)]
    sample: Packed
    sample_classes: Packed
    share: Annotated[Float32, Field(gt=0, lt=1)]
    sample_share: Annotated[Float32, Field(gt=0, lt=1)]
    softness: Annotated[Float32, Field(gt=0)]
    shared_share: Annotated[Float32, Field(gt=0, lt=1)] | None = None
    sample_people: Packed | None = None
    statistics: SampleStatistics | None = None
    learned: LearnedWindows | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ClassFeatures:
        classes, count = len(self.weights), len(_unpacked(self.sample_classes))
        if not classes <= count <= MAX_SAMPLE:
            msg = f"a sample of {count} windows; there are {classes} to {MAX_SAMPLE}"
            raise ValueError(msg)
        for name, rows in (("centres", classes), ("sample", count)):
            found = len(_unpacked(getattr(self, name)))
            if found != rows * self.size:
                msg = f"{name} has {found} numbers instead of {rows} times {self.size}"
                raise ValueError(msg)
        people = self.sample_people
        if people is not None and len(_unpacked(people)) != count:
            msg = f"sample_people has {len(_unpacked(people))} numbers for {count} windows"
            raise ValueError(msg)
        if self.statistics is not None:
            each = len(_floats(self.statistics.middle))
            sizes = len(_floats(self.statistics.spread)), len(_unpacked(self.statistics.values))
            if sizes != (each, each * count):
                msg = f"statistics has {sizes} numbers for {each} statistics of {count} windows"
                raise ValueError(msg)
        if max(_unpacked(self.sample_classes)) >= classes:
            msg = f"sample_classes has a class above the last one, {classes - 1}"
            raise ValueError(msg)
        self._check_learned(classes)
        return self

    def _check_learned(self, classes: int) -> None:
        if self.learned is None:
            return
        found = _unpacked(self.learned.classes)
        if not 1 <= len(found) <= MAX_SAMPLE or max(found) >= classes:
            msg = f"learned has {len(found)} windows, or a class above the last one, {classes - 1}"
            raise ValueError(msg)
        each = 0 if self.statistics is None else len(_floats(self.statistics.middle))
        sizes = len(_unpacked(self.learned.features)), len(_unpacked(self.learned.statistics))
        if sizes != (self.size * len(found), each * len(found)):
            msg = f"learned has {sizes} numbers for {len(found)} windows"
            raise ValueError(msg)

    def centre_vectors(self) -> NDArray[np.float64]:
        """The centres of the classes, [classes, size]."""
        return _vectors(self.centres, self.size)

    def sample_vectors(self) -> NDArray[np.float64]:
        """The features of the sample, [n, size]."""
        return _vectors(self.sample, self.size)

    def people(self) -> NDArray[np.int64]:
        """Person of each window of the sample, [n]; all of one where nobody has told."""
        if self.sample_people is None:
            return np.zeros(len(_unpacked(self.sample_classes)), dtype=np.int64)
        return np.frombuffer(_unpacked(self.sample_people), np.uint8).astype(np.int64)

    def learned_vectors(self) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Features [n, size] and statistics [n, statistics] of `learned`; n may be 0."""
        statistics = None
        if self.learned is None:
            found = np.empty((0, self.size))
            if self.statistics is not None:
                statistics = np.empty((0, len(_floats(self.statistics.middle))))
            return found, statistics
        if self.statistics is not None:
            count = len(_floats(self.statistics.middle))
            statistics = FARTHEST * _vectors(self.learned.statistics, count)
        return _vectors(self.learned.features, self.size), statistics

    def learned_labels(self) -> NDArray[np.int64]:
        """Class of each window of `learned`, [n]."""
        packed = "" if self.learned is None else self.learned.classes
        return np.frombuffer(_unpacked(packed), np.uint8).astype(np.int64)

    def sample_labels(self) -> NDArray[np.int64]:
        """Class of each window of the sample, [n]."""
        return np.frombuffer(_unpacked(self.sample_classes), np.uint8).astype(np.int64)


def pack_floats(values: NDArray[np.floating]) -> str:
    """Pack numbers [n] in four bytes each.

    >>> pack_floats(np.array([0.5]))
    'AAAAPw=='
    """
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def pack_vectors(vectors: NDArray[np.floating]) -> str:
    """Pack vectors [n, size] of components from -1 to 1, one byte each.

    >>> pack_vectors(np.array([[0.0, 1.0, -1.0]]))
    'AH+B'
    """
    steps = np.rint(np.clip(vectors, -1, 1) * _STEPS).astype(np.int8)
    return base64.b64encode(steps.tobytes()).decode("ascii")


def pack_classes(classes: NDArray[np.int64]) -> str:
    """Pack indices of classes, one byte each.

    >>> pack_classes(np.array([0, 1, 2]))
    'AAEC'
    """
    return base64.b64encode(classes.astype(np.uint8).tobytes()).decode("ascii")


def _vectors(packed: str, size: int) -> NDArray[np.float64]:
    steps = np.frombuffer(_unpacked(packed), np.int8).reshape(-1, size)
    return steps.astype(np.float64) / _STEPS


def _floats(packed: str) -> NDArray[np.float64]:
    data = _unpacked(packed)
    if len(data) % 4:
        msg = f"{len(data)} bytes are no numbers of four bytes"
        raise ValueError(msg)
    return np.frombuffer(data, "<f4").astype(np.float64)


def _unpacked(packed: str) -> bytes:
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error as exc:
        msg = f"no base64: {exc}"
        raise ValueError(msg) from exc
