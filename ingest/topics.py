"""Names: log topics, MQTT topics, device keys, and the partition of a device.

A device belongs to **one** partition, with all its streams, so that its readings keep their order
and one worker has all of its state. The partition function is Kafka's own (murmur2), so that the
gateway's log, aiokafka, Faust and any other Kafka client choose the same partition for a device.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from ingest.errors import RefusalReason, RefusedMessage

__all__ = [
    "ACCOUNTS",
    "DEAD_LETTERS",
    "EXAMPLES",
    "LABELS",
    "LABELS_PREFIX",
    "LATE",
    "LOG_TOPICS",
    "MAX_RECORD_BYTES",
    "MQTT_PREFIX",
    "NOTE_TOPIC",
    "READINGS",
    "REPORTS_FILTER",
    "SCORES",
    "SHARED_GROUP",
    "SPARKPLUG_PREFIX",
    "Address",
    "are_names",
    "device_key",
    "former_subscriptions",
    "is_name",
    "murmur2",
    "parse_topic",
    "partition_of",
    "probe_address",
    "readable_name",
    "report_topic",
    "subscription",
    "topic_shape",
]

READINGS = "readings"
"""Log topic of readings and ticks (`ingest.blocks`)."""
SCORES = "scores"
"""Log topic of score records (see `pipeline.points.points`)."""
LATE = "late"
"""Log topic of late readings: older than the watermark when they arrived."""
DEAD_LETTERS = "dead-letters"
"""Log topic of refused input (see `ingest.deadletter`)."""
ACCOUNTS = "accounts"
"""Log topic of accounts of processes and devices (see `pipeline.points.accounts`)."""
LABELS = "labels"
"""Log topic of labels (see `ingest.labels`); it keeps the newest record of each label."""
EXAMPLES = "examples"
"""Log topic of a site: windows of labels that are examples (`pipeline.scoring.examples`)."""
LOG_TOPICS = (READINGS, SCORES, LATE, DEAD_LETTERS, ACCOUNTS, LABELS)

MAX_RECORD_BYTES = 8_000_000
"""Limit of one record in Kafka. It is far larger than one message of a device, because a dead
letter may encode numbers with more digits than the device sent, and window state grows with the
lateness."""

MQTT_PREFIX = "sensors"
"""Default first level(s) of the MQTT topics; a setting of the bridge."""

LABELS_PREFIX = "labels"
"""Default first level(s) of the MQTT topics of labels; a setting of the bridge."""

NOTE_TOPIC = "gateways/note"
"""MQTT topic on which a centre says that there is something new; never trusted (retained)."""
REPORTS_FILTER = "gateways/+/report"
"""MQTT filter for the reports of all gateways."""

SPARKPLUG_PREFIX = "spBv1.0/"
"""Prefix of the MQTT topics of Sparkplug B."""

SHARED_GROUP = "kpstream"
"""Default group in which the bridges of a site share its messages."""

_PROBE = "kpstream-doctor"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHAPE_LEVELS = 8
_NAME_RULE = "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"


class Address(NamedTuple):
    """Sender of a message: site, device, stream."""

    site: str
    device: str
    stream: str

    def mqtt_topic(self, prefix: str = MQTT_PREFIX) -> str:
        """Return the MQTT topic of this address.

        >>> Address("plant-7", "press-2", "engine").mqtt_topic()
        'sensors/plant-7/press-2/engine'
        """
        return f"{prefix}/{self.site}/{self.device}/{self.stream}"

    @property
    def is_probe(self) -> bool:
        """Whether this is an address of `probe_address`, from which no readings come."""
        return self.device == _PROBE and self.stream == "probe"


def probe_address(site: str | None = None) -> Address:
    """Return the address on which `kpstream doctor` publishes one message.

    A filter that takes the readings of the site takes the message, too. Bridges acknowledge it and
    keep nothing of it, so it disturbs nobody.

    >>> probe_address("plant-7").mqtt_topic(), probe_address().is_probe
    ('sensors/plant-7/kpstream-doctor/probe', True)

    Args:
        site: Site that the bridge takes; None: it takes all.
    """
    return Address(site or "kpstream", _PROBE, "probe")


def is_name(name: str) -> bool:
    """Whether `name` may name a site, a device, a stream or a channel.

    >>> is_name("acc_x"), is_name("../etc"), is_name("a" * 65)
    (True, False, False)
    """
    return _NAME.fullmatch(name) is not None


def readable_name(*parts: str) -> str:
    """Return a name for texts that are no names: their readable characters, and a hash of them.

    The hash keeps two texts from becoming one name. At most 64 characters.

    >>> readable_name("Sparkplug B Devices"), readable_name("°")
    ('Sparkplug-B-Devices-a8b5b5e3', 'x-1ee6c7ed')
    """
    digest = hashlib.sha256("/".join(parts).encode("utf-8", "replace")).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", ".".join(parts)).strip("-_")[:54].rstrip("-_")
    return f"{readable}-{digest}" if readable else f"x-{digest}"


@lru_cache(maxsize=256)
def are_names(names: tuple[str, ...]) -> bool:
    """Whether all of `names` are names; cached, because a device sends the same ones again."""
    return all(map(is_name, names))


def parse_topic(topic: str, prefix: str = MQTT_PREFIX) -> Address:
    """Parse the address in an MQTT topic `{prefix}/{site}/{device}/{stream}`.

    >>> parse_topic("sensors/plant-7/press-2/engine")
    Address(site='plant-7', device='press-2', stream='engine')

    Raises:
        RefusedMessage: `bad_topic`, if the topic has another prefix, another number of levels, or a
            level that is not a name.
    """
    if not topic.startswith(f"{prefix}/"):
        detail = f"topic {topic[:200]!r} does not begin with {prefix + '/'!r}"
        raise RefusedMessage(RefusalReason.bad_topic, detail)
    levels = topic[len(prefix) + 1 :].split("/")
    if len(levels) != 3:
        detail = f"topic {topic[:200]!r} is not {prefix}/{{site}}/{{device}}/{{stream}}"
        raise RefusedMessage(RefusalReason.bad_topic, detail)
    for level, name in zip(("site", "device", "stream"), levels, strict=True):
        if not is_name(name):
            detail = f"{level} {name[:80]!r} is not a name ({_NAME_RULE})"
            raise RefusedMessage(RefusalReason.bad_topic, detail)
    return Address(*levels)


def subscription(prefix: str = MQTT_PREFIX, site: str | None = None) -> str:
    """Return the MQTT filter for everything below `prefix`, or below a site.

    It takes topics with too few and too many levels too, so that `parse_topic` refuses them and
    they become dead letters. A filter with one `+` per level would leave them to the broker, which
    confirms them to the device and discards them.

    >>> subscription(), subscription("sensors", "plant-7")
    ('sensors/#', 'sensors/plant-7/#')
    """
    return f"{prefix}/#" if site is None else f"{prefix}/{site}/#"


def report_topic(gateway: str) -> str:
    """MQTT topic of the report of a gateway (retained).

    >>> report_topic("press-hall-1")
    'gateways/press-hall-1/report'
    """
    return f"gateways/{gateway}/report"


def former_subscriptions(prefix: str = MQTT_PREFIX) -> tuple[str, ...]:
    """Return the filters that earlier versions subscribed to, with and without the default group.

    >>> former_subscriptions()
    ('sensors/+/+/+', '$share/kpstream/sensors/+/+/+')
    """
    levels = f"{prefix}/+/+/+"
    return levels, f"$share/{SHARED_GROUP}/{levels}"


def topic_shape(topic: str) -> str:
    """Return the first level of a topic and its number of levels; few shapes cover many topics.

    >>> topic_shape("machines/hall/press-2/T24"), topic_shape("sensors"), topic_shape("a b/c")
    ('machines/+/+/+', 'sensors', '?/+')
    >>> topic_shape("a" + "/b" * 40)
    'a/+/+/+/+/+/+/+/#'
    """
    first, *rest = topic.split("/", _SHAPE_LEVELS)
    shape = [first if is_name(first) else "?", *["+"] * len(rest)]
    if len(rest) == _SHAPE_LEVELS:
        shape[-1] = "#"
    return "/".join(shape)


@lru_cache(maxsize=65_536)
def device_key(site: str, device: str) -> bytes:
    """Return the log key of a device; all its streams share it, and so a partition.

    >>> device_key("plant-7", "press-2")
    b'plant-7/press-2'
    """
    return f"{site}/{device}".encode()


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of `key`, exactly as Kafka's default partitioner computes it.

    >>> partition_of(b"plant-7/press-2", 4) in range(4)
    True

    Raises:
        ValueError: `partitions` is not positive.
    """
    if partitions < 1:
        msg = f"{partitions} partitions: a topic has at least one"
        raise ValueError(msg)
    return (murmur2(key) & 0x7FFF_FFFF) % partitions


def murmur2(data: bytes) -> int:
    """Return Kafka's 32-bit murmur2, unsigned (`org.apache.kafka.common.utils.Utils.murmur2`).

    >>> murmur2(b"foobar") - 2**32  # Kafka's own test vector, there as a signed int
    -790332482
    """
    m = 0x5BD1_E995
    length = len(data)
    h = 0x9747_B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & 0xFFFF_FFFF
        k = (k ^ (k >> 24)) * m & 0xFFFF_FFFF
        h = (h * m & 0xFFFF_FFFF) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & 0xFFFF_FFFF
    h = (h ^ (h >> 13)) * m & 0xFFFF_FFFF
    return h ^ (h >> 15)
