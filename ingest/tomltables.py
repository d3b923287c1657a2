"""Files in TOML that a user writes: strict tables, and every fault of a file with its place."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from ingest.topics import is_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Name", "Table", "fault_list", "parse_toml", "table_faults"]

_LABELS = ("function-", "literal[", "constrained-")


class Table(BaseModel):
    """A table of a file: nothing is converted in silence, and unknown keys are faults."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _name(text: str) -> str:
    if not is_name(text):
        rule = "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
        msg = f"{text[:80]!r} is not a name: {rule}"
        raise ValueError(msg)
    return text


Name = Annotated[str, AfterValidator(_name)]
"""A text that names a site, a device, a stream or a channel."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse the text of a file.

    Raises:
        ValueError: It is not TOML; the message says where.
    """
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except RecursionError as exc:
        msg = "its tables are nested too deeply"
        raise ValueError(msg) from exc
    return table


def table_faults(
    exc: ValidationError,
    tables: Mapping[str, type[BaseModel]],
    inside: Sequence[int | str] = (),
) -> Iterator[str]:
    """Yield each fault of a file with its place.

    Args:
        exc: What pydantic found.
        tables: The tables by the key before them ("" for the whole file), to name the right keys.
        inside: Where in the file the checked part is.
    """
    for fault in exc.errors(include_url=False):
        loc = fault["loc"]
        steps = [*inside, *(step for step in loc if not _is_label(step, tables))]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"no such key{_nearest(steps, tables)}"
        elif fault["type"] == "missing":
            message = "is missing"
        elif fault["type"] == "too_short":
            message = "must not be empty"
        yield f"{'.'.join(map(str, steps)) or 'the file'}: {message}"


def fault_list(what: str, faults: Iterable[str]) -> str:
    """Return one text for all faults of a file.

    >>> print(fault_list("the mapping plug.toml", ["time.form: is missing"]))
    the mapping plug.toml is invalid:
      time.form: is missing
    """
    return f"{what} is invalid:" + "".join(f"\n  {fault}" for fault in dict.fromkeys(faults))


def _is_label(step: int | str, tables: Mapping[str, type[BaseModel]]) -> bool:
    """Whether pydantic put a step into a place that the file does not have (a form of a union)."""
    if not isinstance(step, str):
        return False
    is_form = step in ("str", "FromMessage", "[key]") or step.startswith(_LABELS)
    return is_form or any(step == table.__name__ for table in tables.values())


def _nearest(steps: Sequence[int | str], tables: Mapping[str, type[BaseModel]]) -> str:
    """Return `; did you mean ...?`, or the keys that there are."""
    *before, key = [step for step in steps if isinstance(step, str)]
    found = next((tables[step] for step in reversed(before) if step in tables), tables.get(""))
    if found is None:
        return ""
    known = [field.alias or name for name, field in found.model_fields.items()]
    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
