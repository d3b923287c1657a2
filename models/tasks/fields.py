"""Field types of manifests and decodings: strict, finite in float32, printable.

One rule for names on the way from the manifest to a stored column:

- Models, streams and channels are names (`is_name`), because a device's message carries them.
- A class is a `ClassLabel`: it becomes part of a field's name (`p_LABEL`), in a column of the
  results file and in a line of InfluxDB. Both must be able to write it.
- Within one manifest, no two names differ by case only: SQLite takes them for one column.
- Counts are limited: at most `MAX_CHANNELS` channels and `MAX_LABELS` classes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    StringConstraints,
    model_serializer,
)

__all__ = [
    "MAX_CHANNELS",
    "MAX_LABELS",
    "NAME_PATTERN",
    "ClassLabel",
    "Count",
    "Decoding",
    "EpochMs",
    "Float32",
    "Frozen",
    "Growing",
    "Label",
    "Name",
    "Place",
    "Sha256",
    "Text",
    "fold_label",
    "is_name",
    "require_unique",
]

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A name of a model, stream or channel; the same rule as `ingest.topics.is_name`."""
_NAME = re.compile(NAME_PATTERN[1:-1])
MAX_CHANNELS = 256
MAX_LABELS = 128
"""The results file keeps four times as many fields of a measurement, for students over time."""
_NOT_IN_A_FIELD = frozenset('\\",=')
_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        msg = f"{text!r} contains control characters or surrounding blanks"
        raise ValueError(msg)
    return text


def _writable(text: str) -> str:
    odd = sorted(_NOT_IN_A_FIELD & set(text))
    if odd:
        msg = f"{text!r} contains {odd[0]!r}, which the name of a stored field may not"
        raise ValueError(msg)
    return text


Float32 = Annotated[float, Strict(), Field(ge=-_MAX_FLOAT32, le=_MAX_FLOAT32)]
"""A number that is finite in float32."""
Count = Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)]
Place = Annotated[int, Strict(), Field(ge=0, lt=MAX_CHANNELS)]
"""A place among channels."""
EpochMs = Annotated[int, Strict(), Field(ge=0, lt=2**53)]
Name = Annotated[str, StringConstraints(strict=True, pattern=NAME_PATTERN)]
Label = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=64), AfterValidator(_printable)
]
ClassLabel = Annotated[Label, AfterValidator(_writable)]
"""A class; see above."""
Text = Annotated[str, StringConstraints(strict=True, max_length=4000)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]


def fold_label(label: str) -> str:
    """One name for spellings of a class that a store would take for one, or a reader.

    Case, underscores for blanks, and the ways in which Unicode writes a letter do not count.

    >>> fold_label("Walking upstairs") == fold_label("WALKING_UPSTAIRS")
    True
    """
    composed = unicodedata.normalize("NFC", label).casefold()
    return unicodedata.normalize("NFC", composed).replace("_", " ")


class Frozen(BaseModel):
    """A part of a manifest: immutable, no unknown fields, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Growing(Frozen):
    """A part with fields that were added later; they default to None and None is not written.

    Manifests written before such a field existed keep their bytes, and older gateways read
    manifests that do not use it.
    """

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return {name: value for name, value in fields.items() if value is not None}


class Decoding(Growing):
    """The interpretation of a graph's output; each task has a subclass.

    A subclass narrows `kind` and `output` to one literal each and adds its own fields.
    """

    kind: str
    output: str

    def misfit(self, channels: tuple[str, ...], length: int, rate_hz: float | None) -> str | None:
        """The contradiction to channels, window length and rate of the manifest, or None."""
        return None


def is_name(text: str) -> bool:
    r"""Whether the whole text is a name; unlike a search, it does not overlook a final newline.

    >>> is_name("acc_x"), is_name("acc x"), is_name("acc\n")
    (True, False, False)
    """
    return _NAME.fullmatch(text) is not None


def require_unique(field: str, names: tuple[str, ...]) -> None:
    """Raise ValueError if a name occurs twice, also in another case."""
    folded = [name.casefold() for name in names]
    doubled = sorted({name for name in names if folded.count(name.casefold()) > 1})
    if doubled:
        msg = f"{field} names {', '.join(map(repr, doubled))} more than once, case aside"
        raise ValueError(msg)
