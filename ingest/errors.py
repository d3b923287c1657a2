"""Errors of `ingest`, and the reasons for which messages are refused.

```
IngestError
├── RefusedMessage     a message is invalid: it becomes a dead letter with its reason
├── LogUnavailable     the log does not confirm: nothing is acknowledged, the caller retries
├── MqttError          the MQTT client cannot carry out a request
├── MappingInvalid     a mapping file is unusable (`mapping`, `sparkplug`)
├── RecordingError     a recorded data set cannot be read (`recordings`)
├── TlsError           a file for TLS is unusable, or TLS with a server fails (`tls`)
└── BrokerError        the local broker does not start (`mqtt.broker`)
```

Bad input is data; a broken dependency is an exception that stops the pipeline. A `RefusedMessage`
never propagates further than the function that writes the dead letter.
"""

from __future__ import annotations

from enum import Enum

__all__ = [
    "IngestError",
    "LogUnavailable",
    "MappingInvalid",
    "MqttError",
    "RecordingError",
    "RefusalReason",
    "RefusedMessage",
]


class RefusalReason(str, Enum):
    """Reason why a message, or some of its readings, became a dead letter. The value is stored."""

    bad_topic = "bad_topic"
    """The MQTT topic is not `{prefix}/{site}/{device}/{stream}` with valid names."""
    not_json = "not_json"
    """The body is not UTF-8 JSON (`NaN` and `Infinity` literals are not JSON)."""
    wrong_shape = "wrong_shape"
    """None of the three forms: missing or unknown key, ragged columns, bad channel name."""
    wrong_type = "wrong_type"
    """A value is not a number, or a time is not a 64-bit integer (`true`, `null`, "1", `1.5`)."""
    not_finite = "not_finite"
    """A value cannot be represented as a finite float32."""
    too_large = "too_large"
    """A message has more bytes or more channels than allowed."""
    too_many_readings = "too_many_readings"
    """A message has more readings than allowed."""
    empty = "empty"
    """No bytes, no channels or no readings."""
    clock_unset = "clock_unset"
    """An event time before the year 2000: the device's clock was never set."""
    future = "future"
    """Event times are too far ahead of the receive time: the device's clock is wrong."""
    missing_channel = "missing_channel"
    """The message lacks a channel that the model of this stream needs."""
    no_model = "no_model"
    """No model scores this stream."""
    late = "late"
    """Older than the device's watermark: kept on the topic `late`, not as a dead letter."""
    mapping = "mapping"
    """A message does not fit the mapping file that describes its device: mend the file or the
    device, then replay the dead letter."""
    not_sparkplug = "not_sparkplug"
    """A message on a Sparkplug topic is not a Sparkplug B payload, or violates its rules."""
    no_birth = "no_birth"
    """Sparkplug data without a valid birth: node, device or metric is unknown, or messages before
    it are missing. The node is asked for a new birth."""
    too_many_devices = "too_many_devices"
    """There is no room for the state of one more device or node (docs/limits.md)."""
    type_conflict = "type_conflict"
    """A field of the point has another type than the store has for it."""
    beyond_retention = "beyond_retention"
    """The point is older than the retention of the store."""
    refused_point = "refused_point"
    """The store refuses the point for another reason."""
    unreadable = "unreadable"
    """A log record (or one envelope in it) that no version of this software wrote."""

    def __str__(self) -> str:
        return self.value


class IngestError(Exception):
    """Root of the errors that `ingest` raises on purpose."""


class RefusedMessage(IngestError):
    """A message is invalid. Its sender is at fault, so it is dead-lettered, never retried.

    Attributes:
        reason: Group of counters and dead letters.
        detail: Human-readable explanation: the offending value and what would be right.
    """

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class LogUnavailable(IngestError):
    """The log did not confirm a record. Nothing may be acknowledged; append again later."""


class MqttError(IngestError):
    """The MQTT client cannot carry out a request; the message says why."""


class MappingInvalid(IngestError):
    """A mapping file is unusable; the message names the file, the places and what to do."""


class RecordingError(IngestError):
    """A recorded data set cannot be read; the message names the place and what to do."""
