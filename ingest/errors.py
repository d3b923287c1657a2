"""What can go wrong on the way from a sensor to the log.

```
IngestError
├── RefusedMessage     the message itself is at fault: it becomes a dead letter with its reason
├── LogUnavailable     the log does not confirm: nothing is acknowledged, the caller retries
├── MqttError          the MQTT client cannot do what it was asked for
├── TlsError           a file for TLS is unusable, or TLS with a server fails (`tls`)
└── BrokerError        the local broker does not start (`mqtt.broker`)
```

Bad input is data, a broken dependency is an exception that stops the line: a `RefusedMessage` never
travels further than the function that writes the dead letter.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["IngestError", "LogUnavailable", "MqttError", "RefusalReason", "RefusedMessage"]


class RefusalReason(str, Enum):
    """Why a message (or some of its readings) became a dead letter. The value is what is stored."""

    bad_topic = "bad_topic"
    """The MQTT topic is not `{prefix}/{site}/{device}/{stream}` with valid names."""
    not_json = "not_json"
    """The body is not UTF-8 JSON (`NaN` and `Infinity` literals are not JSON)."""
    wrong_shape = "wrong_shape"
    """None of the three forms: missing or unknown key, ragged columns, bad channel name."""
    wrong_type = "wrong_type"
    """A value is not a number, or a time is not a 64-bit integer (`true`, `null`, "1", `1.5`)."""
    not_finite = "not_finite"
    """A value has no finite float32."""
    too_large = "too_large"
    """More bytes or more channels than a message may have."""
    too_many_readings = "too_many_readings"
    """More readings than a message may have."""
    empty = "empty"
    """No bytes, no channels or no readings."""
    clock_unset = "clock_unset"
    """An event time before the year 2000: the device's clock was never set."""
    future = "future"
    """Event times further ahead of the receive time than the limit: the device's clock is wrong."""
    missing_channel = "missing_channel"
    """The model of this stream needs a channel that the message does not carry."""
    no_model = "no_model"
    """No model scores this stream."""
    late = "late"
    """Behind the device's watermark: kept on the topic `late`, not among the dead letters."""
    not_sparkplug = "not_sparkplug"
    """A message on a Sparkplug topic that is no Sparkplug B payload, or breaks its rules."""
    no_birth = "no_birth"
    """Sparkplug data that no birth explains (unknown node, device or metric, or messages are
    missing before it); the node is asked for a new birth."""
    type_conflict = "type_conflict"
    """A point with a field of another type than the store has for it."""
    beyond_retention = "beyond_retention"
    """A point older than the store keeps any."""
    refused_point = "refused_point"
    """A point that the store refuses for another reason of its own."""
    unreadable = "unreadable"
    """A log record (or one envelope in it) that no version of this software wrote."""

    def __str__(self) -> str:
        return self.value


class IngestError(Exception):
    """Root of everything `ingest` raises on purpose."""


class RefusedMessage(IngestError):
    """A message that cannot be taken; its sender's fault, so it is dead-lettered, never retried.

    Attributes:
        reason: One of `RefusalReason`, what counters and dead letters are grouped by.
        detail: For a person: the offending value and what would be right.
    """

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class LogUnavailable(IngestError):
    """The log did not confirm a record. Nothing may be acknowledged; append again later."""


class MqttError(IngestError):
    """The MQTT client cannot do what it was asked for; the message says why."""
