"""The description file of recorded series of your own.

    name = "pumps"
    stream = "pump"
    files = ["pumps/*.csv"]          # relative to this file
    step_s = 600                     # one reading each 10 minutes
    period_s = 86400                 # the season; left out: none
    longest_gap_s = 1800             # shorter gaps are filled, longer ones cut the series
    device_column = "pump"           # left out: each file is one device, named by the file
    missing = ["", "NA", "-9999"]    # cells that hold no reading

    [time]
    column = "time"
    form = "iso"                     # or epoch_s, epoch_ms, or a pattern such as "%d.%m.%Y %H:%M"
    zone = "UTC"                     # for times that state no offset

    [[channels]]
    name = "flow"
    unit = "m3/h"
    column = "Flow [m3/h]"           # left out: the name

    [split]
    train = 0.7                      # shares of the time from the first to the last reading,
    validation = 0.1                 # the test part is the rest; or the dates at which
    # train_until = 2024-05-01T00:00:00Z           the parts end
    # validation_until = 2024-06-01T00:00:00Z

The parts of all devices end at the same times, because devices of one site share their weather and
their orders. Missing readings follow the rule of `training.datasets.missing`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from models.tasks.fields import Frozen, Label, Name, Text, require_unique
from training.errors import DataSetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Column", "Description", "Split", "TimeColumn", "read_description"]


class TimeColumn(Frozen):
    """The time column."""

    column: str
    form: str = "iso"
    zone: str = "UTC"


class Column(Frozen):
    """A channel and the column that holds it."""

    name: Label
    unit: Label
    column: str | None = None

    @property
    def header(self) -> str:
        """Name of the column in the files."""
        return self.name if self.column is None else self.column


class Split(Frozen):
    """The ends of the parts, as shares of the time or as dates."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    train_until: AwareDatetime | None = None
    validation_until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if self.train + self.validation > 1:
            msg = f"train {self.train} and validation {self.validation} are more than the whole"
            raise ValueError(msg)
        if (self.train_until is None) != (self.validation_until is None):
            msg = "train_until and validation_until belong together: give both or none"
            raise ValueError(msg)
        return self


class Description(Frozen):
    """The content of a description file."""

    name: Name
    stream: Name
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    step_s: Annotated[float, Field(ge=0.001, le=366 * 86_400)]
    time: TimeColumn
    channels: Annotated[tuple[Column, ...], Field(min_length=1, max_length=256)]
    title: Text = ""
    about: Text = ""
    terms: Text = "trained on readings of the operator"
    period_s: Annotated[float, Field(gt=0)] | None = None
    longest_gap_s: Annotated[float, Field(ge=0)] = 0.0
    device_column: str | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Annotated[str, Field(pattern=r"^[.,]$")] = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ("", "NA", "NaN", "nan", "null")
    split: Split = Split()

    @model_validator(mode="after")
    def _distinct(self) -> Description:
        require_unique("channels", tuple(channel.name for channel in self.channels))
        return self

    @property
    def step_ms(self) -> int:
        """Distance between two readings."""
        return round(1000 * self.step_s)

    @property
    def period(self) -> int:
        """Readings in a season; 1 for none."""
        return max(round((self.period_s or 0) / self.step_s), 1)


def read_description(path: Path) -> Description:
    """Read a description file.

    Raises:
        DataSetError: The file cannot be read, is not TOML, or has a wrong field; the message
            names it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return Description.model_validate(table)
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"cannot read the description {path}: {exc}"
        raise DataSetError(msg) from exc
    except tomllib.TOMLDecodeError as exc:
        msg = f"{path} is not TOML: {exc}"
        raise DataSetError(msg) from exc
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[:5]
        fields = "; ".join(
            f"{'.'.join(str(part) for part in error['loc']) or 'file'}: {error['msg']}"
            for error in first
        )
        msg = f"{path}: {fields}: see docs/howto/data-set.md for every field of a description"
        raise DataSetError(msg) from exc
