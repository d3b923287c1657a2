"""A Sparkplug edge node: births, data by exception under aliases, deaths, answers to NCMD.

`EdgeNode` builds the messages (pure); `tests/e2e` and others send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.sparkplug.wire import DataType, Metric, decode_sparkplug, encode_sparkplug

Message = tuple[str, bytes]
Values = Mapping[str, "float | None"]

_FIELDS = {DataType.Float: "float_value", DataType.Double: "double_value"}


@dataclass
class EdgeNode:
    """One node with its devices.

    `devices` maps a device's name ("" is the node itself) to its metrics' present values. All
    metrics are Double unless `types` says otherwise.
    """

    group: str
    node: str
    devices: dict[str, dict[str, float | None]]
    types: dict[str, DataType] = field(default_factory=dict)
    use_aliases: bool = True
    bdseq: int = 0
    seq: int = 0

    def topic(self, kind: str, device: str = "") -> str:
        return f"spBv1.0/{self.group}/{kind}/{self.node}" + (f"/{device}" if device else "")

    def births(self, ts_ms: int) -> list[Message]:
        """NBIRTH and the DBIRTH of every device; a new session has a new `bdseq`."""
        self.seq = -1
        bdseq = Metric("bdSeq", None, ts_ms, 4, field="long_value", value=self.bdseq)
        rebirth = Metric(
            "Node Control/Rebirth", None, ts_ms, 11, False, False, "boolean_value", False
        )
        text = Metric("Properties/Hardware", 900, ts_ms, 12, field="string_value", value="x")  # type: ignore[arg-type]
        found = []
        for device, values in {"": self.devices.get("", {}), **self.devices}.items():
            metrics = [
                self._metric(device, name, v, ts_ms, birth=True) for name, v in values.items()
            ]
            head = [] if device else [bdseq, rebirth, text]
            kind = "DBIRTH" if device else "NBIRTH"
            found.append((self.topic(kind, device), self._encode(ts_ms, head + metrics)))
        return found

    def data(self, device: str, ts_ms: int, values: Values, *, historical: bool = False) -> Message:
        """A message with the changes; live values become the current ones."""
        if not historical:
            self.devices[device].update(values)
        metrics = [
            self._metric(device, name, value, ts_ms, historical=historical)
            for name, value in values.items()
        ]
        return self.topic("DDATA" if device else "NDATA", device), self._encode(ts_ms, metrics)

    def ddeath(self, device: str, ts_ms: int) -> Message:
        return self.topic("DDEATH", device), self._encode(ts_ms, [])

    def ndeath(self, ts_ms: int) -> Message:
        bdseq = Metric("bdSeq", None, ts_ms, 4, field="long_value", value=self.bdseq)
        return self.topic("NDEATH"), encode_sparkplug(ts_ms, [bdseq])

    def _encode(self, ts_ms: int, metrics: list[Metric]) -> bytes:
        self.seq = (self.seq + 1) % 256
        return encode_sparkplug(ts_ms, metrics, self.seq)

    def _metric(
        self,
        device: str,
        name: str,
        value: float | None,
        ts_ms: int,
        *,
        birth: bool = False,
        historical: bool = False,
    ) -> Metric:
        datatype = self.types.get(name, DataType.Double)
        alias = None
        if self.use_aliases:  # unique over the whole node
            devices = list(self.devices)
            alias = 100 * devices.index(device) + list(self.devices[device]).index(name)
        filled = None if value is None else _FIELDS.get(datatype, "int_value")
        if datatype > DataType.Boolean:
            filled, value = "string_value", str(value)  # type: ignore[assignment]
        return Metric(
            name if birth or alias is None else None,
            alias,
            ts_ms,
            int(datatype) if birth else None,
            historical,
            value is None,
            filled,
            value,
        )


def compressed(
    body: bytes,
    algorithm: str | None,
    *,
    ts_ms: int | None = None,
    seq: int | None = None,
    uuid: str = "SPBV1.0_COMPRESSED",
) -> bytes:
    """A payload with another, compressed one as its body, field by field."""
    found = b"" if ts_ms is None else b"\x08" + _varint(ts_ms)
    if algorithm is not None:
        metric = b"\x0a\x09algorithm\x20\x0c" + _field(15, algorithm.encode())
        found += _field(2, metric)
    if seq is not None:
        found += b"\x18" + _varint(seq)
    return found + _field(4, uuid.encode()) + _field(5, body)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def template(name: str, members: bytes, *, alias: int = 0, is_definition: bool = False) -> bytes:
    """A metric of the datatype Template, ready to be a field of a payload."""
    flag = b"\x28\x01" if is_definition else b""
    head = (_field(1, name.encode()) if name else b"") + (
        b"\x10" + _varint(alias) if alias else b""
    )
    return _field(2, head + b"\x20\x13" + _field(18, members + flag))


def is_rebirth(topic: str, payload: bytes) -> bool:
    """Whether a message asks for births."""
    metrics = decode_sparkplug(payload).metrics
    return "/NCMD/" in topic and any(
        m.name == "Node Control/Rebirth" and m.value is True for m in metrics
    )
