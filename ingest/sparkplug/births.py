"""Births: which metrics a node or a device has, and the streams derived from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest.errors import RefusalReason
from ingest.sparkplug.counters import SHOWN_NAMES, Faults
from ingest.sparkplug.names import StreamMapping
from ingest.sparkplug.nodes import Device, Factors, Node, Plan
from ingest.sparkplug.notices import notice_of
from ingest.sparkplug.wire import TEMPLATE, DataType, Metric, Payload

__all__ = ["announce", "plan_streams", "session_number", "with_members"]

_NUMBERS = frozenset(map(int, DataType))


def session_number(payload: Payload) -> int | None:
    """Return the `bdSeq` of a birth or a death; None: it has none."""
    for metric in payload.metrics:
        if metric.name == "bdSeq" and isinstance(metric.value, int):
            return int(metric.value)
    return None


def with_members(device: Device, name: str, metric: Metric) -> Iterator[tuple[str, Metric]]:
    """Yield a metric and the members of its Template by name; a null Template has null members."""
    yield name, metric
    for member in metric.members:
        yield f"{name}/{member.name}", member
    if metric.is_null and device.types.get(name) == TEMPLATE:
        for wanted in device.wanted:
            if wanted.startswith(f"{name}/"):
                yield wanted, Metric(wanted, ts_ms=metric.ts_ms, is_null=True)


def announce(
    node: Node, device: Device, payload: Payload, streams: Sequence[StreamMapping], faults: Faults
) -> None:
    """Replace the metrics and plans of a device by those of its birth, and discard its values."""
    device.discard_current()
    device.types, device.aliases, device.is_online = {}, {}, True
    for metric in payload.metrics:
        if metric.name is None:
            faults.add(RefusalReason.not_sparkplug, "a metric of the birth has no name")
            continue
        device.types[metric.name] = metric.datatype or 0
        for member in metric.members:
            device.types[f"{metric.name}/{member.name}"] = member.datatype or 0
        if metric.alias is not None:
            device.aliases[metric.alias] = metric.name
    plan_streams(node, device, streams, faults)


def plan_streams(
    node: Node, device: Device, streams: Sequence[StreamMapping], faults: Faults
) -> None:
    """Plan the streams of a device: those whose metrics are all in its birth."""
    path = "/".join(part for part in (node.group, node.node, device.name) if part)
    device.plans = tuple(
        Plan(stream.name, tuple(stream.metrics), stream.metric_names, _factors(stream))
        for stream in streams
        if stream.fits(path) and _has_all(device, stream, faults)
    )
    device.wanted = frozenset(metric for plan in device.plans for metric in plan.metrics)
    device.notice = None if device.plans else notice_of(path, device, streams)


def _factors(stream: StreamMapping) -> Factors | None:
    """Return scale and offset of each channel; None: all values stay as they are."""
    found = tuple(each.factors for each in stream.metrics.values())
    return None if set(found) == {(1.0, 0.0)} else found


def _has_all(device: Device, stream: StreamMapping, faults: Faults) -> bool:
    """Whether a device has all metrics of a stream; having only some of them is a fault."""
    lacking = [metric for metric in stream.metric_names if metric not in device.types]
    if len(lacking) == len(stream.metrics):
        return False
    odd = [m for m in stream.metric_names if device.types.get(m, 1) not in _NUMBERS]
    for metric in odd:
        detail = (
            f"{stream.name}: {metric} has datatype {device.types[metric]}, which is not a number"
        )
        faults.add(RefusalReason.wrong_type, detail)
    if lacking:
        detail = f"{stream.name}: the birth has no {', '.join(lacking[:SHOWN_NAMES])}"
        faults.add(RefusalReason.missing_channel, detail)
    return not lacking and not odd
