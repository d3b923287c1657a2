"""Convert the metrics of a message to readings in the canonical form. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest.errors import RefusalReason, RefusedMessage
from ingest.payloads import MAX_FLOAT32, YEAR_2000_MS, encode_payload
from ingest.sparkplug.counters import SHOWN_NAMES, Faults
from ingest.sparkplug.nodes import Device, Plan, Values
from ingest.sparkplug.wire import Metric, number
from ingest.topics import Address

__all__ = ["Columns", "Update", "canonical_messages", "readings_of", "updates_of"]

_INT64_MAX = 2**63 - 1
_BODY_CELLS = 8000  # of one canonical body: below the limits of `ingest.payloads`

Columns = dict[Plan, "tuple[list[int], list[list[float]]]"]
"""Event times and rows of the readings, by stream."""
Update = tuple["int | None", str, "float | None"]
"""Event time, name of the metric, value."""


def updates_of(
    device: Device,
    metrics: Iterable[tuple[str, Metric]],
    sent_ms: int | None,
    faults: Faults,
    *,
    in_birth: bool = False,
) -> list[Update]:
    """Return time, name and value of metrics; an unusable value becomes None and a fault.

    Args:
        device: Datatypes of its birth.
        metrics: Metrics with their names.
        sent_ms: Time of the message, for metrics without one.
        faults: Collects the faults.
        in_birth: The metrics are those of a birth, which may lack values and times.
    """
    found: list[Update] = []
    for name, metric in metrics:
        value: float | None = None
        datatype = device.types[name]
        if metric.datatype not in (None, 0, datatype):
            detail = f"{name}: datatype {metric.datatype} here, {datatype} in the birth"
            faults.add(RefusalReason.wrong_type, detail)
        elif not metric.is_null and (not in_birth or metric.field is not None):
            try:
                value = number(metric, datatype)
            except RefusedMessage as exc:
                faults.add(exc.reason, f"{name}: {exc.detail}")
        ts_ms = sent_ms if metric.ts_ms is None else metric.ts_ms
        if ts_ms is None or not YEAR_2000_MS <= ts_ms <= _INT64_MAX:
            if not in_birth:
                shown = "no timestamp" if ts_ms is None else f"timestamp {ts_ms}"
                faults.add(RefusalReason.clock_unset, f"{name}: {shown}: set the node's clock")
            ts_ms = None
        found.append((ts_ms, name, value))
    return found


def readings_of(
    device: Device, updates: Sequence[Update], values: Values, faults: Faults
) -> Columns:
    """Apply updates to `values` in time order; return each stream's reading at each time."""
    by_time: dict[int, Values] = {}
    for ts_ms, name, value in updates:
        if ts_ms is None:
            values[name] = value
        else:
            by_time.setdefault(ts_ms, {})[name] = value
    columns: Columns = {}
    for ts_ms in sorted(by_time):
        changed = by_time[ts_ms]
        values.update(changed)
        for plan in device.plans:
            if changed.keys().isdisjoint(plan.metrics):
                continue
            row = [values.get(metric) for metric in plan.metrics]
            if None in row:
                _add_missing(plan, row, values, faults)
                continue
            numbers = _converted(plan, row, faults)  # type: ignore[arg-type]  # none of them is None
            if numbers is not None:
                times, rows = columns.setdefault(plan, ([], []))
                times.append(ts_ms)
                rows.append(numbers)
    return columns


def canonical_messages(device: Device, columns: Columns) -> list[tuple[Address, bytes]]:
    """Return addresses and canonical bodies of readings, each body within the limits."""
    messages = []
    for plan, (ts_ms, rows) in columns.items():
        address = Address(device.site, device.device, plan.stream)
        most = max(1, _BODY_CELLS // len(plan.channels))
        for at in range(0, len(ts_ms), most):
            part = zip(*rows[at : at + most], strict=True)
            values = dict(zip(plan.channels, part, strict=True))
            messages.append((address, encode_payload(ts_ms[at : at + most], values)))
    return messages


def _converted(plan: Plan, row: list[float], faults: Faults) -> list[float] | None:
    """Return the numbers of the channels; None, and a fault, if one is no finite float32."""
    if plan.factors is None:
        return row
    numbers = [
        value * scale + offset for value, (scale, offset) in zip(row, plan.factors, strict=True)
    ]
    for channel, found in zip(plan.channels, numbers, strict=True):
        if not -MAX_FLOAT32 <= found <= MAX_FLOAT32:
            detail = f"{plan.stream}: {channel} has no finite float32 in the unit of the channel"
            faults.add(RefusalReason.not_finite, detail)
            return None
    return numbers


def _add_missing(plan: Plan, row: Sequence[float | None], values: Values, faults: Faults) -> None:
    lacking = [m for m, value in zip(plan.metrics, row, strict=True) if value is None]
    shown = ", ".join(lacking[:SHOWN_NAMES])
    if all(metric in values for metric in lacking):
        faults.add(RefusalReason.missing_channel, f"{plan.stream}: {shown} has no value now")
    else:
        detail = f"{plan.stream}: {shown} was not sent again since messages went missing"
        faults.add(RefusalReason.no_birth, detail)
