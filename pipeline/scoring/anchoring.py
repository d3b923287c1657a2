"""Anchors of a stream: which hold for which device, and what they do to a batch of scores. Pure.

Labelled windows of a device are **examples** of their label, for this device or for all devices of
its stream. Examples of one label and one such scope together give one anchor (`models.anchors`). A
device has those of its own and those of the stream; of two with one label its own one holds.

Everything is bounded: labels by `MOST_LABELS` of a device or of the stream, and new names by
`MOST_NEW` of a stream, because each becomes a field in every store.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from models.anchors import Anchor, Anchors, AnchorSpace, anchor_of
from models.manifest import Manifest
from models.tasks.classes import UNKNOWN, ClassesDecoding, ClassScores
from models.tasks.fields import ClassLabel, fold_label

__all__ = [
    "MOST_LABELS",
    "MOST_NEW",
    "AnchorsOf",
    "Example",
    "StreamAnchors",
    "anchor_stream",
]

MOST_LABELS = 8
"""Labels with examples of one device, and as many for all devices of a stream."""
MOST_NEW = 16
"""Names in one stream that its student does not know."""
_CLASS_LABEL = TypeAdapter(ClassLabel)

Device = tuple[str, str]
"""Site and device."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Labelled windows of one span.

    Attributes:
        key: Site, device, stream and id of the label, joined by `/`.
        device: Site and device for which they hold; None: all devices of the stream.
        label: What people call it.
        recv_ms: When the label was received, epoch milliseconds.
        features: Features of the windows, [n, size].
        windows: The windows, [n, length, channels] in raw units.
    """

    key: str
    device: Device | None
    label: str
    recv_ms: int
    features: NDArray[np.float32]
    windows: NDArray[np.float32]


class StreamAnchors:
    """The anchors of one stream, in the space of one student.

    Attributes:
        manifest: The manifest of the student; only its own scores may be given to `answer`.
        faults: Key of an example to why it has no effect.
    """

    def __init__(
        self,
        manifest: Manifest,
        shared: Anchors | None,
        own: Mapping[Device, Anchors],
        faults: Mapping[str, str],
    ) -> None:
        """Prepare; see `anchor_stream`."""
        self.manifest = manifest
        self.faults = faults
        self._shared = shared
        self._own = own

    def __len__(self) -> int:
        """Number of devices with examples of their own, and 1 if there are some for all."""
        return len(self._own) + (self._shared is not None)

    def parts(
        self, senders: Sequence[Device], scores: ClassScores, windows: NDArray[np.float32]
    ) -> Iterator[tuple[NDArray[np.intp], ClassScores]]:
        """Rows with their scores, grouped by the anchors that hold for them.

        Args:
            senders: Site and device of each row.
            scores: Scores of the student, with features.
            windows: The windows, [n, length, channels] in raw units.
        """
        groups: dict[Device | None, list[int]] = {}
        for row, sender in enumerate(senders):
            groups.setdefault(sender if sender in self._own else None, []).append(row)
        for device, rows in groups.items():
            chosen = np.array(rows, dtype=np.intp)
            some = scores if len(rows) == len(scores) else scores.take(chosen)
            anchors = self._shared if device is None else self._own[device]
            yield chosen, some if anchors is None else anchors.answer(some, windows[chosen])


AnchorsOf = Callable[[Manifest], StreamAnchors | None]
"""Finds the anchors for the student with this manifest; None if there are none."""


def anchor_stream(
    manifest: Manifest, examples: Iterable[Example], elsewhere: Iterable[str] = ()
) -> StreamAnchors:
    """Place the anchors of a stream; the order of the examples does not matter.

    Where a bound is exceeded, the labels received first hold, and the others are faults. A new name
    is written in lower case, because a store may take two spellings for one field.

    Args:
        manifest: Manifest of the student, with features.
        examples: Those of the stream, with features of this student.
        elsewhere: Labels of students of other streams, whose spelling a new name gets.

    Raises:
        ValueError: The student has no features, or some are of another size.
    """
    decoding = cast(ClassesDecoding, manifest.decoding)
    if decoding.features is None:
        msg = f"{manifest.name} v{manifest.version} has no features"
        raise ValueError(msg)
    space = AnchorSpace(decoding.labels, decoding.features)
    names = {fold_label(label): label for label in decoding.labels}
    spelled = {fold_label(label): label for label in elsewhere}
    faults: dict[str, str] = {}
    scopes: dict[Device | None, dict[str, list[NDArray[np.float64]]]] = {}
    for example in sorted(examples, key=lambda each: (each.recv_ms, each.key)):
        fault = _fault(example, names, scopes.get(example.device, {}), len(decoding.labels))
        if fault is not None:
            faults[example.key] = fault
            continue
        folded = fold_label(example.label)
        name = names.setdefault(folded, spelled.get(folded, _lower(example.label)))
        found = scopes.setdefault(example.device, {}).setdefault(name, [])
        found.append(space.vectors(example.features, example.windows))
    anchors = {
        device: {
            name: anchor_of(name, np.concatenate(parts), is_shared=device is None)
            for name, parts in labels.items()
        }
        for device, labels in scopes.items()
    }
    shared = anchors.pop(None, {})
    own = {device: _placed(space, {**shared, **labels}) for device, labels in anchors.items()}
    together = _placed(space, shared) if shared else None
    placed = {device: each for device, each in own.items() if device is not None}
    return StreamAnchors(manifest, together, placed, faults)


def _placed(space: AnchorSpace, anchors: Mapping[str, Anchor]) -> Anchors:
    return space.place([*anchors.values()])


def _fault(
    example: Example, names: Mapping[str, str], scope: Mapping[str, object], known: int
) -> str | None:
    name = names.get(fold_label(example.label))
    if name is None:
        try:
            _CLASS_LABEL.validate_python(_lower(example.label))  # it may be longer
        except ValidationError as exc:
            why = exc.errors(include_url=False, include_context=False)[0]["msg"]
            return f"{example.label!r} cannot be the name of a class: {why}"
        if fold_label(example.label) == UNKNOWN:
            return f"{UNKNOWN!r} is the label of windows that resemble no class"
        if len(names) - known >= MOST_NEW:
            return f"the stream has {MOST_NEW} new names from examples already"
    if name not in scope and len(scope) >= MOST_LABELS:
        return f"{MOST_LABELS} labels have examples here already: revoke some"
    return None


def _lower(label: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", label).lower())
