"""How a number of a device becomes the number of a channel, as a mapping file says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from ingest.errors import IngestError
from ingest.tomltables import Table
from ingest.units import convert, dimension

__all__ = ["Conversion", "FiniteNumber"]

FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]


def _unit(text: str) -> str:
    try:
        dimension(text)
    except IngestError as exc:
        raise ValueError(str(exc)) from exc
    return text


_Unit = Annotated[str, AfterValidator(_unit)]


class Conversion(Table):
    """The number is `sign * scale * value + offset` in `unit`, then converted to `to`.

    >>> Conversion(unit="degC", to="K", scale=0.1).factors
    (0.1, 273.15)
    """

    unit: _Unit | None = Field(default=None, description="unit of the value")
    to: _Unit | None = Field(default=None, description="unit of the channel; default: `unit`")
    scale: FiniteNumber = 1.0
    offset: FiniteNumber = 0.0
    sign: Literal[1, -1] = 1

    @model_validator(mode="after")
    def _conversion_exists(self) -> Conversion:
        if self.to is not None:
            if self.unit is None:
                msg = f"to = {self.to!r} needs the unit in which the values come: add unit"
                raise ValueError(msg)
            try:
                convert(self.unit, self.to)
            except IngestError as exc:
                raise ValueError(str(exc)) from exc
        if self.scale == 0:
            msg = "scale = 0 makes every value the same; leave it out, or give the factor"
            raise ValueError(msg)
        return self

    @property
    def unit_factors(self) -> tuple[float, float]:
        """Scale and offset from `unit` to `to`."""
        if self.unit is None or self.to is None:
            return 1.0, 0.0
        return convert(self.unit, self.to)

    @property
    def factors(self) -> tuple[float, float]:
        """Scale and offset from the value to the number of the channel."""
        scale, offset = self.unit_factors
        return self.sign * self.scale * scale, self.offset * scale + offset
